"""SAIL-VOS (Hu et al. 2019): frames of a video game."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.config.schema import SailVosData
from amodalseg.data.readers.files import ID
from amodalseg.data.readers.flat import NULL, Entry, Form, hidden_share, read_flat
from amodalseg.data.readers.places import annotation_file, known_split
from amodalseg.data.source import Source
from amodalseg.types import AmodalRecord

ORIGIN = "They come with download_sailvos.sh from sailvos.web.illinois.edu"
SPLITS = {"train": "train", "val": "val", "valid": "val"}


class TolerantSource:
    """Objects whose visible masks are too thin: the occluded region is eroded when an object is read.

    SAIL-VOS's visible masks end before the amodal outline even where nothing occludes. Eroding the occluded region
    by a square removes that seam, as is done elsewhere before scoring. It removes as much from the real occluded
    region: the outline that a model should find. So the model is given the mask of the file, and only ``gt_modal``
    grows; the occluded region, the occlusion rate and ``fully_visible`` follow from it.
    """

    def __init__(self, source: Source, tolerance: int) -> None:
        """Wrap. Args: tolerance, pixels, from 1: the square has 2 * tolerance + 1 on a side."""
        self.source, self.square = source, np.ones((2 * tolerance + 1,) * 2, np.uint8)
        self.unprompted: np.ndarray = getattr(source, "unprompted", np.zeros(0, bool))

    def __len__(self) -> int:
        return len(self.source)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        record = self.source.get(index, epoch)
        modal, amodal = record.gt_modal, record.amodal
        hidden = amodal & ~modal
        if not modal.any() or not hidden.any():  # without visible pixels nothing can have been eroded
            return record
        kept = cv2.erode(hidden.astype(np.uint8), self.square).astype(bool)  # no erosion from the photo's border
        flags = record.flags - {"fully_visible"} if kept.any() else record.flags | {"fully_visible"}
        return replace(record, gt_modal_rle=masks.encode(modal | (amodal & ~kept)), flags=flags)


def read_sailvos(config: SailVosData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``train.json`` or ``valid.json`` in ``root`` or ``root/annotations``, photos ``root/<vid>/images/*.bmp``.

    | in the file | in the record |
    |---|---|
    | image ``file_name`` (``<vid>/images/<stem>.bmp``) | ``image_id``: ``<vid>-<stem>``; ``group["video"]`` |
    | image ``frame_id`` (without it the stem) | ``group["frame"]`` |
    | annotation ``id``, ``obj_id`` | ``object_id``, ``group["track"]`` |
    | ``segmentation``, ``visible_mask`` | ``amodal_rle``, ``modal_rle`` |
    | ``category_id``, categories' ``name`` | ``category_id``, ``category`` |
    | ``occlude_rate`` | ``raw_rate`` |
    | ``area``, ``bbox``, ``occlu_depth`` | ``extra``, the same names |
    | ``area_visible``, ``bbox_visible`` | ``extra``: ``modal_area``, ``modal_bbox`` |

    The stored ``invisible_mask`` is never used.

    Args:
        config: ``max_rate`` leaves out objects that are hidden more than this, by their masks as stored;
            ``drop_categories`` leaves out categories by name; ``tolerance`` is not applied here but when an object is
            read (``TolerantSource``): decoding half a million masks of 1280 x 800 would take an hour.
        photos: off: photos need not be there.

    Raises:
        UserError: as ``read_flat``; ``drop_categories`` has a name that the file does not list.
    """
    split = known_split(config, SPLITS)
    name = "valid.json" if split == "val" else f"{split}.json"
    source = annotation_file(config, [name], [".", "annotations"], ORIGIN)
    stored = {"area": "area", "bbox": "bbox", "modal_area": "area_visible", "modal_bbox": "bbox_visible"}
    drop = frozenset(config.drop_categories)
    form = Form(
        stored=stored, kept=("occlu_depth",), optional={"obj_id": (*ID, NULL)}, image_name=_frame_name, group=_frame,
        drop=drop,
    )  # fmt: skip
    records = read_flat(source, [".", "images"], config, form, split, photos=photos)
    if config.max_rate == 1:
        return records
    rates = (hidden_share(record.amodal_rle, record.modal_rle) if record.amodal_rle else 0.0 for record in records)
    return [record for record, rate in zip(records, rates, strict=True) if rate <= config.max_rate]


def _video(photo: Entry) -> str:
    return "-".join(part for part in PurePosixPath(photo["file_name"]).parts[:-1] if part not in ("images", "."))


def _frame_name(photo: Entry) -> str:
    stem, video = PurePosixPath(photo["file_name"]).stem, _video(photo)
    return f"{video}-{stem}" if video else stem


def _frame(entry: Entry, photo: Entry) -> dict[str, Any]:
    frame = photo.get("frame_id", PurePosixPath(photo["file_name"]).stem)
    return {"video": _video(photo), "frame": frame, "track": entry.get("obj_id")}
