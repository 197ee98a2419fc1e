"""Pix2gestalt's training set (Ozguroglu et al. 2024): four folders of 256 x 256 PNG files.

| folder | file | field |
|---|---|---|
| ``occlusion`` | ``<id>_occlusion.png`` | image |
| ``visible_object_mask`` | ``<id>_visible_mask.png`` | modal |
| ``whole_mask`` | ``<id>_whole_mask.png`` | amodal |
| ``whole`` | ``<id>_whole.png`` | the whole object on white; may be missing |

Files are paired by id. Pairing the four sorted listings by position, as is often done, shifts every pair after the
first file that is missing.

Listing 3.3 million files takes minutes, so it is done once: the ids are stored in a file beside the data, or in the
user's cache folder if that cannot be written. This index holds names only. A folder's times change whenever a name in
it is added, removed or changed, so the index is valid as long as the times of the four folders are the same. ``mtime``
alone is not enough, because archives and copies restore it; ``ctime`` cannot be set.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.config.schema import Pix2gestaltData
from amodalseg.data.mask_files import read_mask_file
from amodalseg.data.readers.record import make_record
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

FOLDERS = {
    "occlusion": "_occlusion.png", "visible_object_mask": "_visible_mask.png", "whole_mask": "_whole_mask.png",
    "whole": "_whole.png",
}  # fmt: skip
"""Folder -> ending of its files. Only ``whole`` is optional."""
INDEX_NAME = "pix2gestalt.index"
FORMAT = 1
SETTLED = 2.0
"""Seconds without change before an index is stored: the time resolution of some file systems."""


class Pix2gestalt:
    """The data set as a source: ids are held in memory (some 20 bytes each), files are read on access.

    Args:
        root: the folder that holds the four folders.
        split: of the records.
        entries: array of (``id``: bytes, ``whole``: bool, whether there is a picture of the whole object).
        fix_subset: as in ``make_record``.
    """

    def __init__(self, root: Path, split: str, entries: np.ndarray, fix_subset: str = "keep") -> None:
        self.root, self.split, self.entries, self.fix_subset = root, split, entries, fix_subset

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Read the masks of one object. Raises UserError: a file is missing or broken, or masks differ in size."""
        code, whole = self.entries[index].item()
        name = os.fsdecode(code)
        paths = {folder: self.root / folder / f"{name}{ending}" for folder, ending in FOLDERS.items()}
        modal, amodal = (read_mask_file(paths[kind], quiet=True) for kind in ("visible_object_mask", "whole_mask"))
        if modal.shape != amodal.shape:
            sizes = " and ".join(f"{mask.shape[1]}x{mask.shape[0]}" for mask in (modal, amodal))
            raise UserError(
                f"{paths['visible_object_mask']} and its whole mask differ in size: {sizes}; copy both again"
            )
        return make_record(
            "pix2gestalt", self.split, name, "0", paths["occlusion"], masks.encode(modal), masks.encode(amodal),
            fix_subset=self.fix_subset, whole_rgb=paths["whole"] if whole else None,
        )  # fmt: skip

    def files(self, places: Iterable[int] | None = None) -> Iterator[Path]:
        """The files of all objects, or of those at some indices."""
        for place in range(len(self)) if places is None else places:
            name, whole = os.fsdecode(self.entries[place]["id"].item()), self.entries[place]["whole"]
            for folder, ending in FOLDERS.items():
                if folder != "whole" or whole:
                    yield self.root / folder / f"{name}{ending}"


def read_pix2gestalt(config: Pix2gestaltData, *, photos: bool = True) -> Pix2gestalt:
    """Open the data set.

    Args:
        config: ``root`` is the folder that holds the four folders; ``split`` ``val`` is the last 1 % as published: of
            the sorted file names of ``occlusion``, whether or not an id has its other files.
        photos: has no effect: the files are opened one by one, when an object is read.

    Raises:
        UserError: a folder is missing, or no id has all its files. Ids with a file missing are counted in a warning.
    """
    if config.annotations is not None or config.images is not None:
        raise UserError("pix2gestalt is four folders under data.root: leave data.annotations and data.images out")
    root = Path(config.root)
    header, entries = _open_index(root)
    if header["lacking"]:
        counts = ", ".join(f"{count} in {folder}" for folder, count in header["lacking"].items())
        warnings.warn(f"{root}: ids without their file: {counts}; only 'whole' is optional", stacklevel=2)
    first = header["train"]
    return Pix2gestalt(
        root, config.split, entries[first:] if config.split == "val" else entries[:first], config.fix_subset
    )


def _open_index(root: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The index's header, and its entries in the order of the official listing."""
    for folder in FOLDERS:
        if folder != "whole" and not (root / folder).is_dir():
            raise UserError(f"no folder {root / folder}; a Pix2gestalt root holds {', '.join(FOLDERS)}")
    began, stamp = time.time(), _stamp(root)
    places = [root / INDEX_NAME, _cached(root)]
    for place in places:
        with suppress(OSError, ValueError, KeyError, TypeError):  # a missing or invalid index is rebuilt
            header, entries = _read_index(place)
            if header["stamp"] == stamp:
                return header, entries
    header, entries = _build_index(root)
    newest = max(times[1] for times in stamp if times) / 1e9
    if _stamp(root) == stamp and newest < began - SETTLED:
        header["stamp"] = stamp
        content = json.dumps(header).encode() + b"\n" + entries.tobytes()
        for place in places:
            with suppress(UserError):
                write_whole(place, content)
                break
        else:
            warnings.warn(
                f"neither {places[0]} nor {places[1]} can be written: {root} is listed each time", stacklevel=3
            )
    return header, entries


def _cached(root: Path) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amodalseg"
    return folder / f"{hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()}.{INDEX_NAME}"


def _stamp(root: Path) -> list[list[int] | None]:
    """Times of last change of the four folders in ns, None for one that is missing."""
    found: list[list[int] | None] = []
    for folder in FOLDERS:
        try:
            status = (root / folder).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append([status.st_mtime_ns, status.st_ctime_ns])
    return found


def _entry_type(width: int) -> np.dtype:
    return np.dtype([("id", f"S{width}"), ("whole", "?")])


def _read_index(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Raises OSError, ValueError, KeyError or TypeError if it is not an index."""
    with path.open("rb") as file:
        line = file.readline(100_000)
    header = json.loads(line)
    kind = _entry_type(header["width"])
    if header["format"] != FORMAT or path.stat().st_size != len(line) + header["count"] * kind.itemsize:
        raise ValueError(f"{path} is not a complete index of this format")
    return header, np.memmap(path, kind, "r", len(line), (header["count"],))


def _build_index(root: Path) -> tuple[dict[str, Any], np.ndarray]:
    """List the four folders.

    Returns:
        ``count`` of ids that have the three files they need, the first ``train`` of which are the training split;
        ``lacking``: for each folder with gaps, how many ids of the others it lacks; and the entries.
    """
    listed = {folder: _ids(root / folder, ending) for folder, ending in FOLDERS.items() if (root / folder).is_dir()}
    found = listed["occlusion"]
    # the official order is that of file names, in which the character after the id matters: "10_..." < "1_..."
    found = found[np.argsort(np.char.add(found, b"_"), kind="stable")]
    complete = np.isin(found, listed["visible_object_mask"]) & np.isin(found, listed["whole_mask"])
    if not complete.any():
        raise UserError(f"no object in {root} has its image and both masks; the names must be like ID_occlusion.png")
    cut = math.floor(len(found) / 100.0 * 99.0)  # the official expression, rounding included
    entries = np.empty(int(complete.sum()), _entry_type(found.dtype.itemsize))
    entries["id"] = found[complete]
    entries["whole"] = np.isin(entries["id"], listed.get("whole", found[:0]))
    num_ids = len(np.unique(np.concatenate(list(listed.values()))))
    lacking = {folder: num_ids - len(ids) for folder, ids in listed.items() if len(ids) < num_ids}
    header = {
        "format": FORMAT, "count": len(entries), "width": found.dtype.itemsize, "train": int(complete[:cut].sum()),
        "lacking": lacking,
    }  # fmt: skip
    return header, entries


def _ids(folder: Path, ending: str) -> np.ndarray:
    """The ids in a folder, bytes, in any order."""
    tail = os.fsencode(ending)
    with os.scandir(os.fsencode(folder)) as entries:
        bar = tqdm(entries, desc=f"listing {folder.name}", unit=" files", delay=2)
        return np.array([entry.name[: -len(tail)] for entry in bar if entry.name.endswith(tail)] or [], "S")
