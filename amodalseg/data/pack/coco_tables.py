"""Photos and categories of COCO files being written: their ids, entries, and the location of photos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg.atomic import write_whole
from amodalseg.data.images import read_bytes, save_png
from amodalseg.data.readers.coco_amodal import KEY
from amodalseg.data.views import picture_key
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, FilePart, Picture

MANY = 2000
"""Number of objects, or photos, from which on progress is shown."""

Entry = dict[str, Any]


class Categories:
    """Categories of the files. A name without an id gets one, as does a missing category, since COCO requires one."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._known: dict[tuple[int | None, str | None], int] = {}
        self._taken: set[int] = set()

    def number(self, record: AmodalRecord) -> tuple[int, Entry]:
        """The id of an object's category in the files, and the record's own fields where they differ from these."""
        pair = record.category_id, record.category
        name = record.category or ("object" if record.category_id is None else str(record.category_id))
        if pair not in self._known:
            wanted = record.category_id
            number = _reserve_id(
                self._taken, wanted if wanted is not None and wanted > 0 else None, len(self.entries) + 1
            )
            self._known[pair] = number
            self.entries.append({"id": number, "name": name, "supercategory": ""})
        number = self._known[pair]
        differ = {"category_id": (record.category_id, number), "category": (record.category, name)}
        return number, {key: own for key, (own, file) in differ.items() if own != file}


class Photos:
    """Photos of the files: where they are, or where they are written.

    Attributes:
        numbers: image id in the file of each photo.
        folder: of the photos, relative to the json files; set by ``entries``.
    """

    def __init__(self, out: Path, split: str) -> None:
        self.home, self.wholes, self.beside = out / "images" / split, out / "whole" / split, out / "annotations"
        self.numbers: dict[tuple[str, ...], int] = {}
        self.folder = ""
        self._taken: set[int] = set()
        self._entries: list[Entry] = []
        self._paths: list[Path] = []

    def number(self, record: AmodalRecord) -> int:
        """The id of an object's photo; a photo that is not a file is written at its first occurrence."""
        key = picture_key(record)
        if key not in self.numbers:
            text = record.image_id
            wanted = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
            number = self.numbers[key] = _reserve_id(self._taken, wanted, len(self.numbers) + 1)
            where = self._file(record.image, self.home / "drawn" / f"{number:012d}")
            self._paths.append(Path(os.path.abspath(where)))
            size = {"height": record.height, "width": record.width}
            self._entries.append({"id": number, "file_name": "", **size, KEY: {"image_id": text}})
        return self.numbers[key]

    def whole(self, picture: Picture, number: int, copy: bool) -> str:
        """The path of the picture of a whole object, relative to the json files."""
        target = self.wholes / f"{number:012d}"
        path = self._file(picture, target)
        if copy and isinstance(picture, Path):
            path = target.with_suffix(picture.suffix)
            _copy(picture, path)
        return _relative_to(self.beside, path)

    def entries(self, copy: bool) -> list[Entry]:
        """The file's ``images``; ``copy``: photos that are files are copied to ``home`` first."""
        home = Path(os.path.abspath(self.home))
        outside = [path for path in self._paths if home not in path.parents]
        common = _common_folder(outside or self._paths)
        if copy and outside:
            for path in tqdm(outside, desc="copying photos", unit="photo", disable=len(outside) < MANY):
                _copy(path, home / path.relative_to(common))
            self._paths = [path if home in path.parents else home / path.relative_to(common) for path in self._paths]
        common = home if copy or not outside else _common_folder(self._paths)
        self.folder = _relative_to(self.beside, common)
        for entry, path in zip(self._entries, self._paths, strict=True):
            entry["file_name"] = path.relative_to(common).as_posix()
        return self._entries

    def _file(self, picture: Picture, target: Path) -> Path:
        if isinstance(picture, np.ndarray):
            target = target.with_suffix(".png")
            save_png(target, picture)
        elif isinstance(picture, FilePart):
            target = target.with_suffix(Path(picture.name).suffix)
            _copy(picture, target)
        else:
            return picture
        return target


def _reserve_id(taken: set[int], wanted: int | None, start: int) -> int:
    """Reserve an unused number: the wanted one if possible, else the next from ``start``."""
    number = wanted if wanted is not None and wanted not in taken else start
    while number in taken:
        number += 1
    taken.add(number)
    return number


def _copy(picture: Picture, target: Path) -> None:
    assert not isinstance(picture, np.ndarray)
    try:
        data = read_bytes(picture)
    except OSError as error:
        raise UserError(f"cannot read the image {picture}: {error.strerror}") from error
    write_whole(target, data)


def _common_folder(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in paths]))


def _relative_to(folder: Path, path: Path) -> str:
    plain, real = os.path.abspath(folder), os.path.realpath(folder)
    target = os.path.abspath(path) if plain == real else os.path.realpath(path)  # '..' refers to a link's target
    try:
        return Path(os.path.relpath(target, real)).as_posix()
    except ValueError:  # on another drive: there is no relative path
        return str(path)
