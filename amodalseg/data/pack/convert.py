"""Any source of objects -> the exchange format, two plain COCO-instances files (``readers/coco_amodal.py``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import PART, replacing, write_whole
from amodalseg.data.pack.coco_tables import MANY, Categories, Entry, Photos
from amodalseg.data.readers.coco_amodal import FROM_MASKS, KEY, KINDS
from amodalseg.data.source import Source
from amodalseg.errors import UserError
from amodalseg.lock import NAME as LOCK
from amodalseg.lock import locked
from amodalseg.types import AmodalRecord

MARK = "coco_amodal.txt"
ABOUT = """Amodal segmentation data: two COCO-instances files for each split, readable by any COCO tool.

annotations/<split>_modal.json   visible pixels of each object
annotations/<split>_amodal.json  the whole object; the same image and annotation ids
images/                          photos, if they were copied here

What a plain COCO file cannot say stands under the key "amodalseg".
"""


def write_coco_amodal(source: Source, out: Path, *, copy_photos: bool = False) -> tuple[int, int]:
    """Write all objects of a source (epoch 0) to ``out/annotations/<split>_modal.json`` and ``<split>_amodal.json``.

    Photos that are files stay in place, with their folder named in the json files, or are copied unchanged to
    ``out/images/<split>``. Photos without their own file (drawn ones, parts of tar files) are always written there,
    into ``drawn``. An image keeps its id if it is a whole number; other ids are counted from 1.

    Args:
        source: objects with amodal masks.
        out: a folder: new, empty, or created by this function. Other splits in it are kept.
        copy_photos: copy photos and pictures of whole objects.

    Returns:
        The numbers of images and objects.

    Raises:
        UserError: there is no object; an object has no amodal mask, or a value that json cannot store; the folder holds
            other files, or this split already; a photo cannot be copied. The two files are written whole or not at all.
    """
    if not len(source):
        raise UserError("the data set contains no objects, so there is nothing to convert")
    first = source.get(0)
    if first.amodal_rle is None:
        raise _no_amodal_mask(first)
    split = first.split.replace("/", "-")
    files = {kind: out / "annotations" / f"{split}_{kind}.json" for kind in KINDS}
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder")
    with locked(out / split, "--out", file=True):  # other splits may be written at the same time
        _prepare_folder(out, files, split)
        return _write(source, first, out, files, split, copy_photos)


def _write(
    source: Source, first: AmodalRecord, out: Path, files: dict[str, Path], split: str, copy_photos: bool
) -> tuple[int, int]:
    photos, categories = Photos(out, split), Categories()
    with ExitStack() as stack:
        # a stack unwinds from its end, so the first of the two gets its name last
        parts = {kind: stack.enter_context(replacing(files[kind])) for kind in ("modal", "amodal")}
        with ExitStack() as open_files:
            written = {kind: open_files.enter_context(part.open("w")) for kind, part in parts.items()}
            for file in written.values():
                file.write('{"annotations": [')
            for place in tqdm(range(len(source)), desc="converting", unit="object", disable=len(source) < MANY):
                _add(source.get(place), place + 1, first, written, photos, categories, copy_photos)
            rest = {
                "images": photos.entries(copy_photos),
                "categories": categories.entries,
                "info": {
                    "description": f"{first.dataset} {first.split}: modal and amodal masks, joined by their ids",
                    "version": "1",
                    KEY: {"dataset": first.dataset, "split": first.split, "photos": photos.folder},
                },
                "licenses": [],
            }
            for file in written.values():
                file.write("\n],\n" + _json(rest, "the set")[1:] + "\n")
    return len(photos.numbers), len(source)


def _prepare_folder(out: Path, files: dict[str, Path], split: str) -> None:
    """Remove what a killed run left unfinished in the folder, and mark it as a converted data set. Raises UserError."""
    places = ((out / "annotations", f"{split}_"), (out / "images" / split, ""), (out / "whole" / split, ""))
    for folder, begin in places:
        for unfinished in folder.rglob(f".{begin}*{PART}"):
            unfinished.unlink()
    others = [
        path for path in out.iterdir() if not (path.name.startswith(".") and (LOCK in path.name or PART in path.name))
    ]
    if others and not (out / MARK).is_file():
        raise UserError(f"{out} is not a converted data set (it has no {MARK}); give a new or an empty folder")
    # the modal file is renamed last: an amodal file alone is left by a run killed at that moment
    if files["modal"].exists():
        raise UserError(f"{files['modal']} exists; remove it to convert again, or give another folder")
    if not (out / MARK).is_file():
        write_whole(out / MARK, ABOUT)


def _add(
    record: AmodalRecord, number: int, first: AmodalRecord, files: Mapping[str, IO[str]], photos: Photos,
    categories: Categories, copy: bool,
) -> None:  # fmt: skip
    """Write the two annotations of an object."""
    if record.amodal_rle is None:
        raise _no_amodal_mask(record)
    image_number, (category_id, invented) = photos.number(record), categories.number(record)
    whole = None if record.whole_rgb is None else photos.whole(record.whole_rgb, number, copy)
    own: Entry = {
        "dataset": record.dataset if record.dataset != first.dataset else None,
        "split": record.split if record.split != first.split else None,
        "object_id": record.object_id,
        "is_stuff": record.is_stuff,
        "order": record.order,
        "raw_rate": _finite(record.raw_rate),
        "group": _finite(record.group),
        "extra": _finite(record.extra) or None,
        "modal_source": record.modal_source if record.modal_source != "gt" else None,
        "modal_score": _finite(record.modal_score),
        "flags": sorted(record.flags - FROM_MASKS) or None,
        "given": None if record.gt_modal_rle is None else masks.as_text(record.modal_rle),
        "occluder": None if record.occluder_rle is None else masks.as_text(record.occluder_rle),
        "unknown": None if record.unknown_rle is None else masks.as_text(record.unknown_rle),
        "whole_rgb": whole,
    }
    own = {key: value for key, value in own.items() if value is not None} | invented
    annotated = record.modal_rle if record.gt_modal_rle is None else record.gt_modal_rle
    for kind, rle in zip(KINDS, (annotated, record.amodal_rle), strict=True):
        entry = {
            "id": number,
            "image_id": image_number,
            "category_id": category_id,
            "iscrowd": int("crowd" in record.flags),
            "area": masks.area(rle),
            "bbox": list(masks.box_xywh(rle)),
            "segmentation": masks.as_text(rle),
            **({KEY: own} if kind == "amodal" else {}),
        }
        files[kind].write((",\n" if number > 1 else "\n") + _json(entry, record.key))


def _no_amodal_mask(record: AmodalRecord) -> UserError:
    return UserError(f"{record.key} has no amodal mask: this data set annotates visible pixels only")


def _finite(value: Any) -> Any:
    """A stored value with None for NaN and infinity (such as 0 / 0 for an empty mask), which json does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(entry: Entry, what: str) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        if isinstance(value, (set, frozenset)):
            return sorted(value)
        if isinstance(value, Path):
            return str(value)
        raise TypeError(f"a {type(value).__name__}")

    try:
        return json.dumps(entry, default=plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} has a value that json cannot store: {error}") from error
