"""Masks painted onto photos, and the pictures of single objects. All pictures are uint8 (H, W, 3) RGB arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from amodalseg.data.record_pictures import record_image
from amodalseg.masks import box_xyxy
from amodalseg.predictions import Prediction
from amodalseg.report.grid import grid, paper, wrapped
from amodalseg.types import AmodalRecord

Color = tuple[int, int, int]
VISIBLE: Color = (38, 120, 225)  # blue and orange are distinguishable with every kind of colour vision
COMPLETED: Color = (255, 138, 20)
TRUTH: Color = (255, 255, 255)
MARGIN = 0.15  # around an object, as a share of the longer side of its box


def overlay(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.55, outline: int = 0) -> np.ndarray:
    """Tint a region.

    Args:
        image: uint8 (H, W, 3).
        mask: bool (H, W).
        color: RGB, 0 to 255.
        alpha: share of the colour inside the mask, in [0, 1].
        outline: width in pixels of a solid line along the inside of the mask; 0: none.

    Returns:
        A new uint8 (H, W, 3) picture; pixels outside the mask are unchanged.
    """
    picture = image.copy()
    picture[mask] = np.rint((1 - alpha) * image[mask] + alpha * np.array(color, np.float64)).astype(np.uint8)
    if outline:
        kernel = np.ones((3, 3), np.uint8)
        inside = cv2.erode(mask.astype(np.uint8), kernel, iterations=outline, borderType=cv2.BORDER_CONSTANT)
        picture[mask & (inside == 0)] = color
    return picture


def object_cells(
    image: np.ndarray,
    modal: np.ndarray,
    predictions: Sequence[np.ndarray],
    amodal: np.ndarray | None,
    side: int = 192,
    margin: float = MARGIN,
) -> list[np.ndarray]:
    """The square pictures of one object: photo, modal mask, each prediction, ground truth.

    Visible pixels are tinted ``VISIBLE`` and completed ones ``COMPLETED``, in predictions and ground truth alike, so
    that they can be compared at a glance. A thin white line in the predictions outlines the ground truth.

    Args:
        image: uint8 (H, W, 3).
        modal: bool (H, W).
        predictions: bool (H, W) each.
        amodal: bool (H, W), or None if unknown: the last picture and the white line are then omitted.
        side: of every picture, in pixels.
        margin: around the box of all masks, as a share of its longer side.

    Returns:
        ``2 + len(predictions)`` pictures (+ 1 with the ground truth), uint8 (side, side, 3).
    """
    window = _square_window(_union(modal, predictions, amodal), margin)
    photo, seen = _cut(image, window, side), _cut(modal, window, side)
    truth = None if amodal is None else _cut(amodal, window, side)
    line = max(1, side // 96)

    def completed(mask: np.ndarray) -> np.ndarray:
        picture = overlay(photo, mask & seen, VISIBLE, outline=line)
        return overlay(picture, mask & ~seen, COMPLETED, outline=line)

    cells = [photo, completed(seen)]
    for prediction in predictions:
        picture = completed(_cut(prediction, window, side))
        if truth is not None:
            lines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
            cv2.drawContours(picture, lines, -1, TRUTH, line - 1 or 1, cv2.LINE_AA)
        cells.append(picture)
    return cells if truth is None else [*cells, completed(truth)]


def object_strip(
    image: np.ndarray,
    modal: np.ndarray,
    predictions: Sequence[tuple[str, np.ndarray]],
    amodal: np.ndarray | None,
    side: int = 192,
    completed: Mapping[str, np.ndarray] | None = None,
    whole: np.ndarray | None = None,
) -> np.ndarray:
    """One row with titles: photo, modal mask, each named prediction, ground truth; optionally a second one of pictures.

    More than ``MOST`` pictures continue in further rows.

    Args:
        image, modal, amodal, side: as for ``object_cells``.
        predictions: name -> bool (H, W).
        completed: name -> uint8 (H, W, 3), the photo with the completion pasted in, for models that generate one.
        whole: uint8 (H, W, 3), the true picture of the whole object, or None.

    Returns:
        uint8 (H', W', 3).
    """
    given = [mask for _, mask in predictions]
    cells = object_cells(image, modal, given, amodal, side)
    titles = ["image", "modal (given)", *(name for name, _ in predictions), "truth"][: len(cells)]
    if not completed:
        return wrapped([cells], titles)
    window = _square_window(_union(modal, given, amodal), MARGIN)
    blank = paper(side, side)
    below = [_cut(completed[name], window, side) if name in completed else blank for name, _ in predictions]
    if amodal is not None:
        alone = None if whole is None else np.where(amodal[..., None], whole, paper(1, 1))
        below.append(blank if alone is None else _cut(alone, window, side))
    return wrapped([cells, [blank, blank, *below]], titles)


def validation_grid(entries: Sequence[tuple[AmodalRecord, Prediction]], side: int = 160) -> np.ndarray:
    """One row per object: photo, modal mask, prediction, ground truth. Returns: uint8 (H', W', 3)."""
    rows = [
        object_cells(record_image(record), prediction.modal, [prediction.amodal], record.amodal, side)
        for record, prediction in entries
    ]
    return grid(rows, ["image", "modal (given)", "prediction", "truth"])


def record_grid(records: Sequence[AmodalRecord], side: int = 160) -> np.ndarray:
    """Annotated objects, two per row: photo, modal mask, and the whole object where it is known.

    Returns:
        uint8 (H', W', 3).
    """
    objects = [
        object_cells(record_image(r), r.modal, [], None if r.amodal_rle is None else r.amodal, side) for r in records
    ]
    rows = [[cell for cells in objects[start : start + 2] for cell in cells] for start in range(0, len(objects), 2)]
    return grid(rows, ["image", "modal", "amodal"][: len(objects[0])] * min(2, len(objects)))


def _union(modal: np.ndarray, predictions: Sequence[np.ndarray], amodal: np.ndarray | None) -> np.ndarray:
    everything: np.ndarray = np.logical_or.reduce([modal, *predictions, *([] if amodal is None else [amodal])])
    return everything


def _square_window(mask: np.ndarray, margin: float) -> tuple[int, int, int]:
    """x0, y0, side of a square around the mask, shifted (not clipped) to lie inside the image as far as possible."""
    height, width = mask.shape
    x0, y0, x1, y1 = box_xyxy(mask) or (0, 0, width, height)
    longer = max(x1 - x0, y1 - y0)
    side = max(16, round(longer * (1 + 2 * margin)))

    def place(low: int, high: int, limit: int) -> int:
        start = (low + high - side) // 2
        return (limit - side) // 2 if side >= limit else min(max(start, 0), limit - side)

    return place(x0, x1, width), place(y0, y1, height), side


def _cut(array: np.ndarray, window: tuple[int, int, int], side: int) -> np.ndarray:
    """Crop and resize a photo or a bool mask; pixels outside the image are white in a photo and False in a mask."""
    x0, y0, length = window
    left, top = max(0, -x0), max(0, -y0)
    part = array[max(0, y0) : y0 + length, max(0, x0) : x0 + length]
    is_mask = array.dtype == bool
    canvas = np.zeros((length, length), np.uint8) if is_mask else paper(length, length)
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    if is_mask:
        return cv2.resize(canvas * 255, (side, side), interpolation=cv2.INTER_LINEAR) > 127
    shrink = length > side
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
