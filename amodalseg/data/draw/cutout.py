"""Objects cut from their photos, with a cache of the photos in memory at reduced size."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.data.draw.cover import Silhouette
from amodalseg.data.record_pictures import record_image
from amodalseg.types import AmodalRecord

BORDER = 2  # pixels: an object this close to the photo's border counts as cut off by it
MAIN_PIECE = 0.95  # of the area, for an object of one piece
MAX_GROWTH = 2.0  # a cut-out enlarged further would be visibly blurred
LEAST_SPREAD = 8.0  # grey levels: lower contrast is not amplified

GREYS = np.arange(256, dtype=np.float64)
SQUARE = np.ones((3, 3), np.uint8)


class Cropped(NamedTuple):
    """A mask cropped to its box: ``box`` (x0, y0, x1, y1) with exclusive ends, and bool (y1 - y0, x1 - x0)."""

    box: tuple[int, int, int, int]
    mask: np.ndarray

    def add_to(self, full: np.ndarray) -> None:
        """Unite it into a bool (H, W) mask, in place."""
        x0, y0, x1, y1 = self.box
        full[y0:y1, x0:x1] |= self.mask

    def in_shape(self, shape: tuple[int, ...]) -> np.ndarray:
        """bool (H, W)."""
        full = np.zeros(shape[:2], bool)
        self.add_to(full)
        return full


class Tone(NamedTuple):
    """Mean and standard deviation of grey levels over all three channels."""

    level: float
    spread: float


class PhotoCache:
    """Cache of downscaled photos and modal masks of records: decoding and downscaling are the most expensive steps.

    Args:
        max_side: shrink photos whose longer side exceeds this, pixels; None: keep every size.
        max_bytes: of cached pixels; the least recently used are dropped first.
    """

    def __init__(self, max_side: int | None = None, max_bytes: int = 384 * 2**20) -> None:
        self.max_side, self.max_bytes, self.num_bytes = max_side, max_bytes, 0
        self._kept: OrderedDict[tuple, Any] = OrderedDict()
        self._sizes: dict[tuple, int] = {}

    def photo(self, record: AmodalRecord) -> np.ndarray:
        """The photo at the cache's size: uint8 (H, W, 3), read-only."""
        drawn = isinstance(record.image, np.ndarray)
        key = (id(record.image) if drawn else str(record.image), record.height, record.width)
        photo = self._find(key)
        if photo is not None:
            return photo
        photo = record_image(record)
        scale = min(1.0, (self.max_side or np.inf) / max(photo.shape[:2]))
        if scale < 1:
            size = max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale))
            photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        if not drawn:  # a drawn picture is in memory already, and its id may be reused once it is gone
            photo.flags.writeable = False
            self._keep(key, photo, photo.nbytes)
        return photo

    def modal(self, record: AmodalRecord) -> np.ndarray:
        """The modal mask at the cached photo's size: bool (H, W)."""
        return self.cropped(record).in_shape(self.photo(record).shape)

    def cropped(self, record: AmodalRecord) -> Cropped:
        """The same cropped to its box, read-only; an empty mask has the box (0, 0, 0, 0)."""
        key = ("modal", record.key, record.modal_rle["counts"])
        found = self._find(key)
        if found is not None:
            return found
        modal, shape = record.modal, self.photo(record).shape
        if modal.shape != shape[:2]:
            small = cv2.resize(modal.astype(np.uint8), shape[1::-1], interpolation=cv2.INTER_NEAREST)
            modal = small.astype(bool)
        x0, y0, x1, y1 = box = masks.box_xyxy(modal) or (0, 0, 0, 0)
        mask = np.ascontiguousarray(modal[y0:y1, x0:x1])
        mask.flags.writeable = False
        self._keep(key, found := Cropped(box, mask), mask.nbytes)
        return found

    def tone(self, record: AmodalRecord) -> Tone:
        """Of the object's pixels."""
        key = ("tone", record.key, record.modal_rle["counts"])
        found = self._find(key)
        if found is None:
            (x0, y0, x1, y1), mask = self.cropped(record)
            pixels = self.photo(record)[y0:y1, x0:x1][mask]
            self._keep(key, found := Tone(float(pixels.mean()), float(pixels.std())), 0)
        return found

    def _find(self, key: tuple) -> Any:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: tuple, found: Any, num_bytes: int) -> None:
        self._kept[key], self._sizes[key] = found, num_bytes
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes and len(self._kept) > 1:
            oldest, _ = self._kept.popitem(last=False)
            self.num_bytes -= self._sizes.pop(oldest)


@dataclass
class Cutout(Silhouette):
    """An object cut from its photo, at its new size: alpha is soft at the seam.

    Attributes:
        colours: uint8 (h', w', 3), the photo around it at its original size; fills the box of ``alpha``.
        flip: whether to mirror the colours, as ``alpha`` already is.
        tone: of the object in its photo.
    """

    colours: np.ndarray
    flip: bool
    tone: Tone

    def harmonised(self, rng: np.random.Generator, around: Tone) -> np.ndarray:
        """A lookup table, uint8 (256,), that shifts its colours randomly towards a photo's brightness and contrast."""
        spread = max(LEAST_SPREAD, self.tone.spread)
        strength = rng.uniform(0, 0.6)
        gain = min(1.4, max(0.7, (max(LEAST_SPREAD, around.spread) / spread) ** strength))
        lift = self.tone.level + 0.5 * strength * (around.level - self.tone.level) + rng.uniform(-10, 10)
        table = (GREYS - self.tone.level) * gain + lift
        return np.rint(table).clip(0, 255).astype(np.uint8)


def tone_of(photo: np.ndarray) -> Tone:
    """Tone of a whole photo, uint8 (H, W, 3); every fourth pixel is enough."""
    some = photo[::4, ::4].astype(np.float32)
    return Tone(float(some.mean()), float(some.std()))


def cut_out(
    record: AmodalRecord, photos: PhotoCache, longer_side: float, flip: bool, soft_edge: float
) -> Cutout | None:
    """Cut an object from its photo and scale it.

    Args:
        record: the object.
        photos: where its photo comes from.
        longer_side: of its box after scaling, pixels.
        flip: mirror left and right.
        soft_edge: standard deviation of the blended seam, pixels; 0: hard edges.

    Returns:
        The cut-out, or None if it would be enlarged more than twice, or vanish.
    """
    (x0, y0, x1, y1), mask = photos.cropped(record)
    if not mask.size:
        return None
    scale = longer_side / max(x1 - x0, y1 - y0)
    if scale > MAX_GROWTH or longer_side < 1:
        return None
    around = int(np.ceil((3 * soft_edge + 2) / scale))  # room for the seam
    top, left = max(0, y0 - around), max(0, x0 - around)
    colours = photos.photo(record)[top : y1 + around, left : x1 + around]
    alpha: np.ndarray = np.zeros(colours.shape[:2], np.float32)
    alpha[y0 - top : y1 - top, x0 - left : x1 - left] = mask
    size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
    alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    alpha = (alpha > 0.5).astype(np.float32)
    if soft_edge:
        # One pixel inside the annotated outline, so that the seam has no halo of the old background.
        # The photo's own border is not an outline.
        alpha = cv2.erode(alpha, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=1.0)
        alpha = cv2.GaussianBlur(alpha, (0, 0), soft_edge, borderType=cv2.BORDER_REPLICATE)
    if flip:
        alpha = np.ascontiguousarray(alpha[:, ::-1])
    found = Cutout(record.key, alpha, colours, flip, photos.tone(record))
    return found if found.mask.any() else None


def sides_cut(record: AmodalRecord) -> str:
    """The sides of the photo that an object reaches, within two pixels: some of "l", "r", "t", "b", in this order."""
    x, y, width, height = masks.box_xywh(record.modal_rle)
    if not width:
        return ""
    near = x < BORDER, x + width > record.width - BORDER, y < BORDER, y + height > record.height - BORDER
    return "".join(side for side, cut in zip("lrtb", near, strict=True) if cut)


def num_pieces(record: AmodalRecord) -> int:
    """Number of connected pieces of the modal mask, without small ones that together cover 5 % of the area."""
    x, y, width, height = masks.box_xywh(record.modal_rle)
    modal = record.modal[y : y + height, x : x + width]
    _, _, stats, _ = cv2.connectedComponentsWithStats(modal.astype(np.uint8), connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
    return int(np.searchsorted(np.cumsum(areas), MAIN_PIECE * modal.sum()) + 1)
