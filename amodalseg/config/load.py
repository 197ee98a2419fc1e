"""YAML files and ``key=value`` arguments -> plain dataclasses, with one clear line for every mistake.

Later layers win: schema defaults < ``base:`` files in order < the file < arguments. A layer that gives ``model.name``,
``data.name`` or ``val.name`` another value resets that section, because its keys belong to another dataclass.
``sets.NAME`` is a section like ``data``: a layer that gives its ``name`` creates it, ``sets.NAME=null`` removes it.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from amodalseg.config import schema
from amodalseg.config.check import check_values
from amodalseg.config.own_photos import with_own_photos
from amodalseg.config.shipped import find_config, nearest_shipped
from amodalseg.config.yaml_file import check_interpolations, read_yaml
from amodalseg.errors import UserError

T = TypeVar("T")
SECTIONS: dict[str, dict[str, type]] = {"model": schema.MODELS, "data": schema.DATA, "val": schema.DATA}
"""Sections whose ``name`` selects their dataclass."""
MOST_BASES = 20
"""Maximum number of files that one ``base`` names, and length of a chain of such files."""
SETS = "sets"
"""Section with any number of data sets, each a section like ``data`` whose ``name`` selects its dataclass."""


def load_config(kind: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """Read one experiment.

    Args:
        kind: ``TrainConfig`` or ``EvalConfig``.
        path: YAML file, or the name of a shipped one (``photos_tiny``); its ``base:`` names further files, relative to
            itself.
        overrides: ``key.sub=value`` arguments.

    Returns:
        An instance of ``kind``, complete and checked.

    Raises:
        UserError: a file that is missing or not YAML; a key that does not exist (the nearest one is named); a value of
            the wrong type, outside its range or not among the choices; values that are missing (all are listed).
    """
    file = find_config(kind, path)
    hint = "" if file.exists() else nearest_shipped(kind, path)
    if hint:
        raise UserError(f"no configuration file at {path}{hint}")
    layers = [*_read_layers(file, ()), ("the command line", read_overrides(overrides))]
    if not issubclass(kind, schema.TrainConfig):
        return build(kind, layers)
    config = build(kind, with_own_photos(layers))
    if config.trainer.max_steps is not None and any(item.startswith("trainer.max_epochs=") for item in overrides):
        raise UserError(
            f"trainer.max_epochs has no effect beside trainer.max_steps={config.trainer.max_steps}: "
            "give trainer.max_steps=null too"
        )
    return config


def build(kind: type[T], layers: Sequence[tuple[str, dict[str, Any]]]) -> T:
    """Merge (origin, plain dict) layers into ``kind``; the checks of ``load_config``."""
    config = _skeleton(kind, layers)
    for origin, content in layers:
        check_interpolations(content, origin)
        layer = _update_sets(config, copy.deepcopy(content), origin)
        _reset_sections(config, layer)
        _refuse_misplaced(layer, config, sorted(_keys(config)), origin)
        try:
            config.merge_with(OmegaConf.create(layer))
        except OmegaConfBaseException as error:
            raise UserError(f"{origin}: {_where(error)}{_first_line(error)}") from error
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"these values are missing, give them in the file or as key=value: {', '.join(missing)}")
        result: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(f"{_where(error)}{_first_line(error)}") from error
    check_values(result)
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration dataclass as nested plain dicts and lists."""
    return dataclasses.asdict(config)


def own_options(config: Any, options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The part of nested options that a model's configuration has; options of other models only are left out.

    Raises:
        UserError: an option that no model has; a name with dots instead of nested options.
    """
    if not isinstance(options, dict):
        raise UserError(f"options are a dict, nested as in {{'post': {{'threshold': 0.4}}}}, not {options!r:.60}")
    own = {spec.name: getattr(config, spec.name) for spec in dataclasses.fields(config)}
    kept: dict[str, Any] = {}
    for key, value in options.items():
        full = f"{prefix}{key}"
        if "." in str(key):
            raise UserError(f"'{key}' is one key with dots in it; write it nested, {_nested(full)}")
        if key in own:
            section = dataclasses.is_dataclass(own[key]) and isinstance(value, dict)
            kept[key] = own_options(own[key], value, f"{full}.") if section else value
            continue
        every = sorted({name for kind in schema.MODELS.values() for name in _keys(OmegaConf.structured(kind))})
        if full not in every:
            raise UserError(f"no model has the option '{full}'; did you mean '{_nearest(full, every)}'?")
    return kept


def to_yaml(config: Any) -> str:
    """A configuration dataclass as a YAML file that ``load_config`` reads back to an equal one."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


# ---------------------------------------------------------------------------------------------------------- reading


def _read_layers(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    content = _read_yaml(path)
    if path.resolve() in above or len(above) > MOST_BASES:
        raise UserError(f"{path}: 'base' forms a cycle, or a chain of more than {MOST_BASES} files")
    bases = content.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases) or len(bases) > MOST_BASES:
        raise UserError(f"{path}: 'base' must be the name of a file, or a list of names, not {bases}")
    other = next((base for base in bases if not base.endswith((".yaml", ".yml"))), None)
    if other is not None:  # otherwise any file of the machine could be read
        raise UserError(f"{path}: 'base' names {other!r:.200}, which is not a configuration: these end in .yaml")
    for base in bases:
        yield from _read_layers(path.parent / base, (*above, path.resolve()))
    yield str(path), content


def _read_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold 'key: value' lines")
    return content


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``key.sub=value`` arguments as nested plain dicts."""
    for item in overrides:
        if "=" not in item or item.startswith(("-", "=")):
            raise UserError(f"'{item}' is not a key=value argument")
    try:
        plain = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"an argument cannot be read: {' '.join(str(error).split())}") from error
    return plain  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------- schema and layers


def _skeleton(kind: type, layers: Sequence[tuple[str, dict[str, Any]]]) -> DictConfig:
    config = OmegaConf.structured(kind)
    several = SETS in set(config) and any(layer.get(SETS) for _, layer in layers)
    for section in SECTIONS:
        if section == "data" and several:
            config[section] = None
            for origin, layer in layers:
                if layer.get(section) is not None:
                    raise UserError(f"{origin} gives {section}, but {SETS} is given too: give only one of them")
        elif section in set(config):
            contents = (layer.get(section) for _, layer in layers)
            names = (content["name"] for content in contents if isinstance(content, dict) and "name" in content)
            config[section] = OmegaConf.structured(_class_of(section, next(names, None)))
    return config


def _update_sets(config: DictConfig, layer: dict[str, Any], origin: str) -> dict[str, Any]:
    """Add, reset and remove data sets as a layer says. Returns: the layer without the removed ones."""
    if SETS not in set(config) or not isinstance(layer.get(SETS), dict):
        return layer
    known, kept = config[SETS], {}
    for key, content in layer[SETS].items():
        name, section = str(key), f"{SETS}.{key}"
        named = isinstance(content, dict) and "name" in content
        if "." in name or not name:
            raise UserError(f"{origin}: '{name}' is not a valid name in {SETS}; use letters, digits, _ and -")
        if name not in known and not named:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise UserError(f"{origin}: there is no data set '{section}'; {hint}to add it, give {section}.name=...")
        if content is None:
            del known[name]
            continue
        if named:
            chosen = _class_of(section, content["name"])
            if name not in known or known[name].name != content["name"]:
                known[name] = OmegaConf.structured(chosen)
        kept[name] = content
    return {**layer, SETS: kept}


def _reset_sections(config: DictConfig, layer: dict[str, Any]) -> None:
    for section in SECTIONS:
        content = layer.get(section)
        if section in set(config) and isinstance(content, dict) and "name" in content:
            chosen = _class_of(section, content["name"])
            if content["name"] != config[section].name:
                config[section] = OmegaConf.structured(chosen)


def _class_of(section: str, name: Any) -> type:
    choices = SECTIONS.get(section, schema.DATA)
    if name is None:
        raise UserError(f"{section}.name is missing; choose one of: {', '.join(choices)}")
    if not isinstance(name, str) or name not in choices:
        raise UserError(f"invalid value for {section}.name: {name} (choose from {', '.join(choices)})")
    return choices[name]


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        node: Any = config._get_node(key)
        if OmegaConf.is_dict(node) and not OmegaConf.is_missing(config, key):
            yield from _keys(node, f"{prefix}{key}.")


def _refuse_misplaced(layer: dict[str, Any], config: Any, known: list[str], origin: str, prefix: str = "") -> None:
    # names that the schema does not know: checked against each model's own configuration, or packs of data with shares
    free = prefix == "override." or (isinstance(config, DictConfig) and config._metadata.element_type is float)
    for key, value in layer.items():
        full = f"{prefix}{key}"
        if "." in str(key):
            raise UserError(f"{origin}: '{key}' is one key with dots in it; write it nested, {_nested(full)}")
        if not free and key not in set(config):
            raise UserError(f"{origin}: there is no option '{full}'; did you mean '{_nearest(full, known)}'?")
        if not free:
            value = layer[key] = _coerced(config, key, value)
        if isinstance(value, str) and value == schema.REQUIRED and not OmegaConf.is_missing(config, key):
            raise UserError(f"{origin}: {full} has no value; give one, or leave the key out")
        section: Any = None if free else config._get_node(key)
        if not isinstance(value, dict) and (
            OmegaConf.is_dict(section) or (prefix == "override." and _is_section_of_models(key))
        ):
            raise UserError(f"{origin}: {full} is a section: give {full}.key=value, not {full}={value}")
        if OmegaConf.is_list(section) and (value is None or isinstance(value, dict)):
            raise UserError(f"{origin}: invalid value for {full}: {value} (a list is expected)")
        if OmegaConf.is_dict(section):
            _refuse_misplaced(value, section, known, origin, f"{full}.")
        elif OmegaConf.is_list(section) and isinstance(value, list):
            kind = section._metadata.element_type
            for place, entry in enumerate(value) if dataclasses.is_dataclass(kind) else ():
                if isinstance(entry, dict):
                    one, begin = OmegaConf.structured(kind), f"{full}.{place}."
                    _refuse_misplaced(entry, one, sorted(_keys(one, begin)), origin, begin)


def _nested(name: str) -> str:
    """A dotted name as nested YAML."""
    return name.replace(".", ": {") + ": ..." + "}" * name.count(".")


def _is_section_of_models(key: Any) -> bool:
    """Whether a name is that of a section in every model that has it."""
    found = [OmegaConf.structured(kind)._get_node(key) for kind in schema.MODELS.values() if hasattr(kind(), str(key))]
    return bool(found) and all(OmegaConf.is_dict(one) for one in found)


def _coerced(config: DictConfig, key: Any, value: Any) -> Any:
    """The value as its option expects it: ``off`` that YAML read as false, and a single value as a list of one."""
    kind = OmegaConf.get_type(config)
    spec = kind.__dataclass_fields__.get(key) if dataclasses.is_dataclass(kind) else None
    if value is False and spec and "off" in spec.metadata.get("choices", ()):
        return "off"
    single = isinstance(value, (int, float)) or (
        isinstance(value, str) and value != schema.REQUIRED and not value.startswith("${")  # may refer to a list
    )
    if single and OmegaConf.is_list(config._get_node(key)):
        return [value]
    return value


def _nearest(name: str, known: list[str]) -> str:
    same_leaf = [option for option in known if option.rpartition(".")[2] == name.rpartition(".")[2]]
    return difflib.get_close_matches(name, same_leaf or known, n=1, cutoff=0.0)[0]


def _where(error: OmegaConfBaseException) -> str:
    return f"{error.full_key}: " if error.full_key else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
