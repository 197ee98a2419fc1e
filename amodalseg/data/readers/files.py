"""File handling shared by all readers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amodalseg.atomic import read_regular
from amodalseg.errors import UserError

Keys = Mapping[str, tuple[type, ...]]
"""Keys of a json object and the types that their values may have; () is any."""
ID = (int, str)
NONE: Keys = MappingProxyType({})
LARGEST = 2**63
WORDS = {
    int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "an object", bool: "true or false",
    type(None): "null",
}  # fmt: skip


def load_json(path: Path) -> Any:
    """Read a json file.

    Raises:
        UserError: the file is missing, is a folder, or is not json (with line and column); an object in it has the
            same key twice, with different values.
    """
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.extend(key for key, value in pairs if found[key] != value)
        return found

    try:
        content = json.loads(read_regular(path), object_pairs_hook=unique)
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: give the json file in it") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path} is broken json at {place}: {error.msg}; was it copied completely?") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not json: byte {error.start} is not text") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} is broken json: nested too deeply, or a number of thousands of digits") from error
    if twice:
        raise UserError(
            f"{path}: the key '{twice[0]}' occurs twice in one object, with different values ({len(twice)} such "
            "keys): it is unclear which one is meant; remove one of each"
        )
    return content


def require(entry: Any, keys: Keys, where: str, optional: Keys = NONE) -> None:
    """Check that a json object has its keys, with values of the right types.

    Args:
        entry: the value that should be the object.
        keys: that it must have.
        where: the file and the position in it, for the message.
        optional: keys that it may have.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{where} must be a json object with {_quoted(keys)}, not a {type(entry).__name__}")
    missing = [key for key in keys if key not in entry]
    if missing:
        raise UserError(f"{where} lacks {_quoted(missing)}")
    for key, types in (*keys.items(), *optional.items()):
        if types and key in entry and not isinstance(entry[key], types):
            wanted, got = " or ".join(map(_word, types)), _word(type(entry[key]))
            raise UserError(f"{where}: '{key}' must be {wanted}, not {got}")
        if types and key in entry and type(entry[key]) is int and abs(entry[key]) > LARGEST:
            raise UserError(f"{where}: '{key}' is a whole number beyond 64 bits")


def by_id(entries: list[Any], keys: Keys, kind: str, source: Path, optional: Keys = NONE) -> dict[Any, dict[str, Any]]:
    """Index json objects by their ``id``.

    Args:
        entries: the list in the file.
        keys, optional: as in ``require``; ``id`` is among the keys.
        kind: what they are, for the messages.
        source: the file, for the messages.

    Raises:
        UserError: a key is missing, a value is of a wrong type, or ids occur twice.
    """
    found: dict[Any, dict[str, Any]] = {}
    twice = []
    for place, entry in enumerate(entries):
        require(entry, keys, f"{source}: {kind} number {place + 1}", optional)
        if entry["id"] in found:
            twice.append(entry["id"])
        found[entry["id"]] = entry
    texts = {str(key) for key in found}
    both = [key for key in found if isinstance(key, int) and str(key) in found] if len(texts) < len(found) else []
    if both:
        raise UserError(
            f"{source}: {len(both)} {kind} ids occur both as a number and as text: {_some(both)}; make them unique"
        )
    if twice:
        raise UserError(f"{source}: {len(twice)} {kind} ids occur more than once: {_some(twice)}; make them unique")
    return found


def check_join(annotations: Iterable[dict[str, Any]], images: dict[Any, Any], source: Path) -> None:
    """Check that every annotation refers to an image of the file.

    Ids that are a text on one side and a number on the other are joined: ``images`` gets the other form as a key too.

    Raises:
        UserError: an annotation's image is not among them.
    """
    lost = []
    joined: dict[Any, Any] = {}
    for annotation in annotations:
        key = annotation["image_id"]
        if key in images or key in joined:
            continue
        other = other_form(key)
        if other in images:
            joined[key] = other
        else:
            lost.append(annotation["id"])
    if joined:
        key, other = next(iter(joined.items()))
        warnings.warn(
            f"{source}: {_word(type(key))} as image_id of annotations, {_word(type(other))} as id of images ({key!r} "
            f"and {other!r}): {len(joined)} image ids are treated as the same",
            stacklevel=3,
        )
        images.update({key: images[other] for key, other in joined.items()})
    if lost:
        raise UserError(
            f"{source}: annotation without image: the image_id of {len(lost)} annotations is not among the file's "
            f"images (annotation ids {_some(lost)})"
        )


def other_form(key: Any) -> Any:
    """A number id as text, or a text id as a number; None for text that is not a number."""
    if isinstance(key, str):
        plain = key.removeprefix("-").isdecimal() and len(key) < 20 and str(int(key)) == key
        return int(key) if plain else None
    return str(key)


def is_crowd(entry: dict[str, Any]) -> bool:
    """Whether an annotation is marked as a crowd, in any of the forms that tools write."""
    value = entry.get("iscrowd")
    return value.strip().lower() in ("1", "true") if isinstance(value, str) else bool(value)


def photo_path(folder: Path, name: str, outside: bool = False) -> Path:
    """The path of a photo named in a file.

    Backslashes separate folders, as on Windows. A name that starts with the folder's own name, as some tools write it,
    is tried without it too.

    Args:
        folder: of the photos.
        name: ``file_name`` in the file.
        outside: allow names outside of the folder: absolute ones, and ``..``.

    Raises:
        UserError: a name that is not a valid file name, or lies outside of the folder.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the photo's name {name!r:.200} is not a valid file name") from error
    if "\0" in name or not name.strip("./\\ "):
        raise UserError(f"the photo's name {name!r:.200} is not a valid file name")
    if "\\" in name and (outside or ".." not in name) and (folder / name).is_file():
        return folder / name  # a name with a backslash in it
    parts = name.replace("\\", "/").split("/")
    if not outside and (".." in parts or parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":")):
        here = f"; {folder / parts[-1]} is there" if parts[-1] and (folder / parts[-1]).is_file() else ""
        raise UserError(
            f"the photo '{name:.300}' lies outside of {folder}{here}: correct its file_name, or allow such names "
            "(--outside, data.outside=true)"
        )
    path = folder.joinpath("/".join(parts))
    if len(parts) > 1 and parts[0] == folder.name and not path.is_file():
        inner = folder.joinpath(*parts[1:])
        return inner if inner.is_file() else path
    return path


def photo_paths(
    folder: Path, images: Mapping[Any, Mapping[str, Any]], source: Path, skip_broken: bool, outside: bool
) -> dict[Any, Path]:
    """The paths of the photos of a file.

    Args:
        folder: of the photos.
        images: of the file, by id, with ``file_name``.
        source: the file, for messages.
        skip_broken: warn about names that ``photo_path`` refuses, and leave them out, instead of raising.
        outside: as in ``photo_path``.

    Raises:
        UserError: ``photo_path`` refuses names; the message gives their number.
    """
    paths: dict[Any, Path] = {}
    refused: dict[Any, str] = {}
    for key, entry in images.items():
        try:
            paths[key] = photo_path(folder, entry["file_name"], outside)
        except UserError as error:
            refused[key] = str(error)
    if refused:
        text = f"{source}: {next(iter(refused.values()))} ({len(refused)} such images, ids {_some(list(refused))})"
        if not skip_broken:
            raise UserError(f"{text}; or leave their objects out with data.skip_broken=true")
        warnings.warn(f"{text}: their objects are left out (data.skip_broken=true)", stacklevel=3)
    return paths


def missing_photos(folder: Path, paths: Iterable[Path], skip_broken: bool) -> set[Path]:
    """Find missing photos.

    Args:
        folder: where they should be.
        paths: the photos that are needed.
        skip_broken: warn instead of raising.

    Returns:
        The missing ones, to be left out.

    Raises:
        UserError: the folder is missing, or photos are and ``skip_broken`` is off.
    """
    if not folder.is_dir():
        raise UserError(f"no image folder at {folder}")
    needed = sorted(set(paths))
    missing = [path for path in needed if not path.is_file()]
    if missing:
        text = f"no image file at {missing[0]} ({len(missing)} of {len(needed)} photos are missing)"
        if not skip_broken:
            raise UserError(f"{text}; complete {folder}, or leave them out with skip_broken=true")
        warnings.warn(f"{text}: their objects are left out", stacklevel=3)
    return set(missing)


def _word(kind: type) -> str:
    return WORDS.get(kind, f"a {kind.__name__}")  # pickles hold tuples, bytes and arrays too


def _quoted(keys: Collection[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys)


def _some(ids: list[Any]) -> str:
    return ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")
