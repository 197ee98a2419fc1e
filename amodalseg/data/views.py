"""Objects grouped by photo, for anything that needs several objects at once (order, overlap, average precision)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.data.record_pictures import record_image
from amodalseg.data.source import RecordList, Source
from amodalseg.masks import Rle
from amodalseg.types import AmodalRecord, FilePart


class ImageView:
    """One photo with its objects, in the source's order. Decoded arrays are cached for the lifetime of the view.

    Attributes:
        dataset, split, image_id: of the photo.
        places: int64 (N,): indices of the objects in their source.
    """

    def __init__(self, source: Source, places: np.ndarray) -> None:
        self._source, self.places = source, places
        first = self.objects[0]
        self.dataset, self.split, self.image_id = first.dataset, first.split, first.image_id

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def objects(self) -> list[AmodalRecord]:
        """The N records."""
        return [self._source.get(int(place)) for place in self.places]

    @cached_property
    def image(self) -> np.ndarray:
        """The photo, uint8 (H, W, 3) RGB; UserError as ``record_pictures.record_image``."""
        return record_image(self.objects[0])

    @cached_property
    def modal(self) -> np.ndarray:
        """bool (N, H, W), as annotated."""
        return np.stack([record.gt_modal for record in self.objects])

    @cached_property
    def amodal(self) -> np.ndarray:
        """bool (N, H, W). UserError if the data set has modal masks only."""
        return np.stack([record.amodal for record in self.objects])

    @cached_property
    def overlap(self) -> np.ndarray:
        """int64 (N, N): pixels that two objects' amodal masks share; the diagonal holds their areas."""
        rles = [record.amodal_rle or masks.encode(record.amodal) for record in self.objects]
        return shared_pixels(rles, rles)

    @cached_property
    def hidden_by(self) -> np.ndarray:
        """int64 (N, N): pixels of object i's occluded region inside the amodal mask of object j; 0 for i = j."""
        hidden = [masks.encode(record.occluded) for record in self.objects]
        found = shared_pixels(hidden, [record.amodal_rle or hidden[i] for i, record in enumerate(self.objects)])
        np.fill_diagonal(found, 0)
        return found

    @cached_property
    def in_front(self) -> np.ndarray:
        """int8 (N, N): 1 where object i is annotated as nearer than j, -1 as farther, 0 if not annotated.

        Depth ranks (``order``) are comparable within one annotator's work; ranks in overlap clusters (``group``) within
        their cluster, where rank 0 means none.
        """
        found = np.zeros((len(self), len(self)), np.int8)
        ranks = [_depth(record) for record in self.objects]
        for i, (scale, rank) in enumerate(ranks):
            for j, (other_scale, other) in enumerate(ranks):
                if rank is not None and other is not None and scale == other_scale:
                    found[i, j] = np.sign(other - rank)
        return found


class ImageViews(Sequence[ImageView]):
    """The photos of a source. Views are created on each access, so that iteration holds one photo at a time."""

    def __init__(self, source: Source, places: Sequence[np.ndarray]) -> None:
        self._source, self._places = source, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> ImageView: ...
    @overload
    def __getitem__(self, index: slice) -> ImageViews: ...
    def __getitem__(self, index: int | slice) -> ImageView | ImageViews:
        if isinstance(index, slice):
            return ImageViews(self._source, self._places[index])
        return ImageView(self._source, self._places[index])


def by_image(records: Source | Sequence[AmodalRecord]) -> ImageViews:
    """Group objects by photo.

    Args:
        records: a source, or a list. Each object is read once to find its photo, and again when its view is
            accessed; no photo file is opened.

    Returns:
        A sequence of ``ImageView``, in the order in which the photos first occur.
    """
    source = RecordList(records) if isinstance(records, Sequence) else records
    groups: dict[tuple[str, ...], list[int]] = {}
    for place in tqdm(range(len(source)), desc="grouping by photo", disable=len(source) < 20_000):
        groups.setdefault(picture_key(source.get(place)), []).append(place)
    return ImageViews(source, [np.array(places, np.int64) for places in groups.values()])


def picture_key(record: AmodalRecord) -> tuple[str, ...]:
    """A key that distinguishes photos. Composites drawn on one photo share its id but differ in their pixels."""
    image = record.image
    if isinstance(image, (Path, FilePart)):
        where = str(image)
    else:
        where = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()
    return record.dataset, record.split, record.image_id, where, f"{record.height}x{record.width}"


def shared_pixels(some: Sequence[Rle], others: Sequence[Rle]) -> np.ndarray:
    """Sizes of the intersections of two lists of masks of the same size. Returns: int64 (len(some), len(others))."""
    found = np.zeros((len(some), len(others)), np.int64)
    if not len(some) or not len(others):
        return found
    boxes, other_boxes = (np.array([masks.box_xywh(rle) for rle in rles]) for rles in (some, others))
    areas, other_areas = ([masks.area(rle) for rle in rles] for rles in (some, others))
    starts = np.maximum(boxes[:, None, :2], other_boxes[None, :, :2])
    ends = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (other_boxes[:, :2] + other_boxes[:, 2:])[None])
    for i, j in np.argwhere((starts < ends).all(axis=2)):
        found[i, j] = areas[i] + other_areas[j] - masks.area(masks.union([some[i], others[j]]))
    return found


def _depth(record: AmodalRecord) -> tuple[object, int | None]:
    """The scale of an object's depth rank, and the rank; smaller is nearer."""
    group = record.group or {}
    if "rank" in group:
        return ("cluster", group.get("cluster")), group["rank"] or None
    return ("order", group.get("annotator")), record.order
