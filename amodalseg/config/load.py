"""YAML files and ``key=value`` arguments -> plain dataclasses, with one clear line for every mistake.

Later layers win: schema defaults < ``base:`` files in order < the file < arguments. A layer that gives ``model.name``,
``data.name`` or ``val.name`` another value starts that section afresh, because its keys belong to another dataclass.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from amodalseg.config import schema
from amodalseg.errors import UserError

T = TypeVar("T")
SECTIONS: dict[str, dict[str, type]] = {"model": schema.MODELS, "data": schema.DATA, "val": schema.DATA}
"""Sections whose ``name`` picks their dataclass."""


def load_config(kind: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """Read one experiment.

    Args:
        kind: ``TrainConfig`` or ``EvalConfig``.
        path: YAML file; its ``base:`` names further files, relative to itself.
        overrides: ``key.sub=value`` arguments.

    Returns:
        An instance of ``kind``, complete and checked.

    Raises:
        UserError: a file that is missing or no YAML; a key that does not exist (the nearest one is named); a value of
            the wrong type; a choice that is none (the choices are listed); values that are missing (all are listed).
    """
    layers = [*_read_layers(Path(path), ()), ("the command line", _read_overrides(overrides))]
    return build(kind, layers)


def build(kind: type[T], layers: Sequence[tuple[str, dict[str, Any]]]) -> T:
    """Merge (origin, plain dict) layers into ``kind``; the checks of ``load_config``."""
    config = _skeleton(kind, layers)
    known = sorted(_keys(config))
    for origin, layer in layers:
        fresh = _start_afresh(config, layer)
        for key in fresh:
            config[key] = OmegaConf.structured(SECTIONS[key][layer[key]["name"]])
        known = sorted({*known, *_keys(config)})
        _refuse_unknown(layer, config, known, origin)
        try:
            config.merge_with(OmegaConf.create(layer))
        except OmegaConfBaseException as error:
            raise UserError(f"{origin}: {error.full_key or ''}: {_first_line(error)}") from error
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"these values are missing, give them in the file or as key=value: {', '.join(missing)}")
    try:
        result: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'configuration'}: {_first_line(error)}") from error
    _check(result, "")
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration dataclass as nested plain dicts and lists."""
    return dataclasses.asdict(config)


def to_yaml(config: Any) -> str:
    """A configuration dataclass as a YAML file that ``load_config`` reads back to an equal one."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


# ---------------------------------------------------------------------------------------------------------- reading


def _read_layers(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise UserError(f"no configuration file at {path}")
    if path.resolve() in above:
        raise UserError(f"{path}: 'base' leads back to a file that names it")
    try:
        content = yaml.load(path.read_text(), _Loader) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold 'key: value' lines, not a {type(content).__name__}")
    bases = content.pop("base", [])
    for base in [bases] if isinstance(bases, str) else bases:
        yield from _read_layers(path.parent / base, (*above, path.resolve()))
    yield str(path), content


def _read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    for item in overrides:
        if "=" not in item or item.startswith(("-", "=")):
            raise UserError(f"'{item}' is no key=value argument")
    try:
        plain = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"an argument cannot be read: {_first_line(error)}") from error
    return plain  # type: ignore[return-value]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, as in every other language."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:float"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)

# ------------------------------------------------------------------------------------------------- schema and layers


def _skeleton(kind: type, layers: Sequence[tuple[str, dict[str, Any]]]) -> DictConfig:
    config = OmegaConf.structured(kind)
    for section, choices in SECTIONS.items():
        if section not in set(config):
            continue
        name = next(
            (layer[section]["name"] for _, layer in layers if isinstance(layer.get(section), dict)
             and "name" in layer[section]), None,
        )  # fmt: skip
        if name is None:
            raise UserError(f"{section}.name is missing; choose one of: {', '.join(choices)}")
        if name not in choices:
            raise UserError(f"{section}.name={name} is unknown; choose one of: {', '.join(choices)}")
        config[section] = OmegaConf.structured(choices[name])
    return config


def _start_afresh(config: DictConfig, layer: dict[str, Any]) -> list[str]:
    fresh = []
    for section, choices in SECTIONS.items():
        content = layer.get(section)
        if section in set(config) and isinstance(content, dict) and "name" in content:
            if content["name"] not in choices:
                raise UserError(f"{section}.name={content['name']} is unknown; choose one of: {', '.join(choices)}")
            if content["name"] != config[section].name:
                fresh.append(section)
    return fresh


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        node: Any = config._get_node(key)
        if OmegaConf.is_dict(node) and not OmegaConf.is_missing(config, key):
            yield from _keys(node, f"{prefix}{key}.")


def _refuse_unknown(layer: dict[str, Any], config: DictConfig, known: list[str], origin: str, prefix: str = "") -> None:
    for key, value in layer.items():
        full = f"{prefix}{key}"
        if full == "override":
            continue  # checked against each model's own configuration
        if key not in set(config):
            near = difflib.get_close_matches(full, known, n=1, cutoff=0.0)
            same_leaf = [name for name in known if name.rpartition(".")[2] == str(key)]
            hint = near[0] if not same_leaf else difflib.get_close_matches(full, same_leaf, n=1, cutoff=0.0)[0]
            raise UserError(f"{origin}: there is no option '{full}'; did you mean '{hint}'?")
        node = config._get_node(key)
        if isinstance(value, dict) and OmegaConf.is_dict(node):
            _refuse_unknown(value, node, known, origin, f"{full}.")  # type: ignore[arg-type]


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


# ----------------------------------------------------------------------------------------------------------- values

_LIMITS: dict[str, tuple[float, float]] = {
    "rate_min": (0, 1), "rate_max": (0, 1), "unoccluded": (0, 1), "flip": (0, 1), "color": (0, 1), "grayscale": (0, 1),
    "modal_jitter": (0, 1), "drop_path": (0, 1), "dropout": (0, 1), "ema": (0, 1), "threshold": (0, 1), "eta": (0, 1),
    "min_area": (0, 1), "max_area": (0, 1), "batch_size": (1, 1e9), "num_workers": (0, 1e4), "steps": (1, 10_000),
    "num_objects": (1, 1e12), "size": (32, 1e5), "dim": (16, 1e5), "max_steps": (1, 1e12), "max_epochs": (1, 1e9),
    "every_steps": (1, 1e12), "val_every_steps": (1, 1e12), "accumulate": (1, 1e9), "num_nodes": (1, 1e6),
    "lr": (0, 1e3), "block": (1, 1e5), "upsample": (1, 2), "expand": (1e-3, 1e3), "margin": (1e-3, 1e3),
    "max_side": (32, 1e6), "max_occluders": (1, 100), "warmup_steps": (0, 1e12), "clip": (0, 1e9),
}  # fmt: skip


def _check(config: Any, prefix: str) -> None:
    for spec in dataclasses.fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        if dataclasses.is_dataclass(value):
            _check(value, f"{key}.")
        choices = spec.metadata.get("choices")
        if choices and value not in choices:
            raise UserError(f"{key}={value} is no choice; choose one of: {', '.join(choices)}")
        if spec.name in _LIMITS and isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = _LIMITS[spec.name]
            if not low <= value <= high:
                raise UserError(f"{key}={value} is out of range: it must be between {low:g} and {high:g}")
    if hasattr(config, "rate_min") and config.rate_min >= config.rate_max:
        raise UserError(f"{prefix}rate_min={config.rate_min} must be below {prefix}rate_max={config.rate_max}")
    if isinstance(config, schema.WindowConfig) and config.size % 32:
        raise UserError(
            f"{prefix}size={config.size} must be a multiple of 32, for instance {-(-config.size // 32) * 32}"
        )
