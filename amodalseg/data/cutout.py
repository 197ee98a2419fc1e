"""Objects cut from their photos, and the photos themselves, kept small and in memory."""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.data.cover import Patch
from amodalseg.data.images import record_image
from amodalseg.types import AmodalRecord

BORDER = 2  # pixels: an object this near to the photo's border counts as cut off by it
MAIN_PIECE = 0.95  # of the area, for an object of one piece
MAX_GROWTH = 2.0  # a cut-out enlarged further would be blurred beyond belief


class PhotoCache:
    """Photos of records and their modal masks, shrunk, the latest ones kept: decoding and shrinking cost the most.

    Args:
        max_side: shrink photos whose longer side exceeds this, pixels; None: keep every size.
        max_bytes: of pixels to keep; the least recently used go first.
    """

    def __init__(self, max_side: int | None = None, max_bytes: int = 384 * 2**20) -> None:
        self.max_side, self.max_bytes, self.num_bytes = max_side, max_bytes, 0
        self._kept: OrderedDict[tuple, np.ndarray] = OrderedDict()

    def __call__(self, record: AmodalRecord) -> tuple[np.ndarray, np.ndarray]:
        """The photo and the modal mask at the cache's size: uint8 (H, W, 3) and bool (H, W), not to be written to."""
        photo = self._photo(record)
        return photo, self._modal(record, photo.shape[:2])

    def _modal(self, record: AmodalRecord, shape: tuple[int, ...]) -> np.ndarray:
        key = ("modal", record.key, record.modal_rle["counts"])
        modal = self._find(key)
        if modal is None:
            modal = record.modal
            if modal.shape != shape:
                small = cv2.resize(modal.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
                modal = small.astype(bool)
            self._keep(key, modal)
        return modal

    def _photo(self, record: AmodalRecord) -> np.ndarray:
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
        if not drawn:  # a drawn picture is in memory already, and an id may be used again once it is gone
            self._keep(key, photo)
        return photo

    def _find(self, key: tuple) -> np.ndarray | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: tuple, pixels: np.ndarray) -> None:
        pixels.flags.writeable = False
        self._kept[key] = pixels
        self.num_bytes += pixels.nbytes
        while self.num_bytes > self.max_bytes and len(self._kept) > 1:
            self.num_bytes -= self._kept.popitem(last=False)[1].nbytes


class Cutout(Patch):
    """An object cut from its photo, at its new size: alpha is soft at the seam, rgb the photo around it (uint8)."""

    def harmonised(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        """Its colours, a random part of the way towards a photo's brightness and contrast.

        Args:
            rng: source of the strengths.
            image: float32 (H, W, 3), the photo it goes into.

        Returns:
            float32 (h, w, 3).
        """
        own, around = self.rgb[self.mask].astype(np.float32), image[::4, ::4]
        level, spread = own.mean(), max(8.0, own.std())
        strength = rng.uniform(0, 0.6)
        gain = np.clip((max(8.0, float(around.std())) / spread) ** strength, 0.7, 1.4)
        lift = level + 0.5 * strength * (float(around.mean()) - level) + rng.uniform(-10, 10)
        return ((self.rgb - np.float32(level)) * np.float32(gain) + np.float32(lift)).clip(0, 255)


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
        The cut-out, or None if it would have to grow to more than twice its size, or vanishes.
    """
    photo, modal = photos(record)
    box = masks.box_xyxy(modal)
    if box is None:
        return None
    scale = longer_side / max(box[2] - box[0], box[3] - box[1])
    if scale > MAX_GROWTH or longer_side < 1:
        return None
    around = int(np.ceil((3 * soft_edge + 2) / scale))  # room for the seam
    rows = slice(max(0, box[1] - around), box[3] + around)
    columns = slice(max(0, box[0] - around), box[2] + around)
    rgb: np.ndarray = photo[rows, columns]
    alpha: np.ndarray = modal[rows, columns].astype(np.float32)
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    rgb, alpha = cv2.resize(rgb, size, interpolation=how), cv2.resize(alpha, size, interpolation=how)
    alpha = (alpha > 0.5).astype(np.float32)
    if soft_edge:
        # One pixel in from the annotated outline, so that the seam carries no halo of the old background.
        # The photo's own border is no outline.
        alpha = cv2.erode(alpha, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1.0)
        alpha = cv2.GaussianBlur(alpha, (0, 0), soft_edge, borderType=cv2.BORDER_REPLICATE)
    if flip:
        rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
    return Cutout(record.key, alpha, rgb) if (alpha > 0.5).any() else None


def sides_cut(record: AmodalRecord) -> str:
    """The sides of the photo that an object reaches, within two pixels: some of "l", "r", "t", "b", in this order."""
    box = masks.box_xyxy(record.modal)
    if box is None:
        return ""
    near = box[0] < BORDER, box[2] > record.width - BORDER, box[1] < BORDER, box[3] > record.height - BORDER
    return "".join(side for side, cut in zip("lrtb", near, strict=True) if cut)


def num_pieces(record: AmodalRecord) -> int:
    """Connected pieces of the modal mask; small ones, 5 % of the area together, do not count."""
    modal = record.modal
    _, _, stats, _ = cv2.connectedComponentsWithStats(modal.astype(np.uint8), connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
    return int(np.searchsorted(np.cumsum(areas), MAIN_PIECE * modal.sum()) + 1)
