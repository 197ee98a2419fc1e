"""Any data set as tar files: random access through one index, or streaming with the ``webdataset`` library.

| file | content |
|---|---|
| ``shard-000000.tar``, ... | uncompressed; a sample is one photo with a run of its consecutive objects |
| ``index.npy`` | one row per object: the positions of its entry and its pictures |
| ``shards.json`` | description, counts, sizes, checksums; written last, so a folder that has it is complete |

Sample n consists of the members ``n.png`` (or the photo's own file type), ``n.json`` (a list of its objects) and
``n.wholeK.png`` (the K-th object alone, if the data set has such pictures). Objects are accessed by number, so
shuffling, resuming and distributing over processes work as for any other data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg.data.images import read_bytes
from amodalseg.data.readers.files import load_json, require
from amodalseg.data.readers.record import read_mask
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, FilePart, Picture

FORMAT = 1
SUMMARY_NAME, INDEX_NAME = "shards.json", "index.npy"
INDEX = np.dtype([
    ("shard", "<u4"), ("sample", "<u4"), ("place", "<u4"), ("entry", "<u8"), ("entry_length", "<u4"),
    ("photo", "<u8"), ("photo_length", "<u4"), ("whole", "<u8"), ("whole_length", "<u4"), ("unprompted", "?"),
])  # fmt: skip
"""Number of the shard, of the sample, of the object within it; then offset in the shard and length of the object's
json, of its photo and of its whole picture (length 0: none), bytes; and whether it has no visible pixel."""
MASKS = ("modal_rle", "amodal_rle", "gt_modal_rle", "occluder_rle", "unknown_rle")
"""Fields of a record that are run lengths. ``counts`` are text in the json."""


class Shards:
    """Packed objects as a source. Holds only the memory-mapped index and no open file, so workers share no state.

    Args:
        folder: what ``data shard`` has written.
        split: only objects of this split; default: of any split.

    Raises:
        UserError: the folder has no complete set, a file is truncated or from another set, or objects are of other
            splits.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self.summary = _read_summary(folder)
        if split is not None and self.summary["splits"] != [split]:
            raise UserError(f"{folder} holds objects of split {', '.join(self.summary['splits'])}, not of {split}")
        self.paths = [folder / shard["name"] for shard in self.summary["shards"]]
        self.index = _open_index(folder / INDEX_NAME, self.summary)
        self.unprompted = np.array(self.index["unprompted"])
        for path, shard in zip(self.paths, self.summary["shards"], strict=True):
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                problem = "is missing" if size is None else f"has {size} bytes, not {shard['bytes']}"
                raise UserError(f"the shard {path} {problem}; copy it again, or pack the data set again")

    def __len__(self) -> int:
        return len(self.index)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Read one object; its pictures are parts of the shard. Raises UserError: shard and index do not match."""
        row = self.index[index]
        shard, sample, place, entry, entry_length, photo, photo_length, whole, whole_length, _ = row.item()
        path = self.paths[shard]
        part = FilePart(path, entry, entry_length, f"{sample:09d}.json")
        try:
            content = json.loads(read_bytes(part))
            if (content["number"], content["place"]) != (index, place):
                raise ValueError("another object")
            names = content["photo"], content["whole"]
        except OSError as error:
            raise UserError(f"cannot read {part}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{part} is not object {index} of the index beside it; pack the data set again") from error
        return read_entry(
            content,
            FilePart(path, photo, photo_length, names[0]),
            FilePart(path, whole, whole_length, names[1]) if whole_length else None,
            str(part),
        )

    def files(self, places: Iterable[int] | None = None) -> Iterator[Path]:
        """All files, whatever ``places`` says: one shard holds thousands of objects."""
        yield from self.paths


def read_entry(content: dict[str, Any], image: Picture, whole_rgb: Picture | None, where: str) -> AmodalRecord:
    """One object of a sample's json list.

    Args:
        content: as written by ``shard_writer``.
        image, whole_rgb: its pictures.
        where: its origin, for messages.

    Raises:
        UserError: a field is missing, unknown, or not a mask.
    """
    fields = {key: value for key, value in content.items() if key not in ("number", "place", "photo", "whole", "file")}
    try:
        for name in MASKS:
            if fields[name] is not None:
                fields[name] = read_mask(fields[name], fields[name]["size"], where)
        fields["flags"] = frozenset(fields["flags"])
        return AmodalRecord(image=image, whole_rgb=whole_rgb, **fields)
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} is not an object of this format ({error}); pack the data set again") from error


def _read_summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY_NAME
    if not path.is_file() and any(folder.glob("*.tar")):
        raise UserError(f"{folder} has no {SUMMARY_NAME}: packing it was interrupted; delete it and pack it again")
    summary = load_json(path)
    require(
        summary, {"format": (int,), "objects": (int,), "splits": (list,), "shards": (list,), "index": (str,)}, str(path)
    )
    if summary["format"] != FORMAT:
        raise UserError(f"{path} has format {summary['format']}, this version reads {FORMAT}; pack the data set again")
    for number, shard in enumerate(summary["shards"]):
        require(shard, {"name": (str,), "bytes": (int,), "sha256": (str,)}, f"{path}: shard number {number + 1}")
    return dict(summary)


def _open_index(path: Path, summary: dict[str, Any]) -> np.ndarray:
    """The index, mapped into memory, so that all workers of a machine share it."""
    again = "copy it again, or pack the data set again"
    try:
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        if checksum != summary["index"]:
            raise UserError(f"{path} is truncated, damaged or of another data set; {again}")
        index: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {again}") from error
    if index.dtype != INDEX or index.shape != (summary["objects"],) or (index["shard"] >= len(summary["shards"])).any():
        raise UserError(f"{path} does not belong to the {SUMMARY_NAME} beside it; {again}")
    return index
