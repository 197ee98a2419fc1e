"""The part of a photo that the network sees, and its exact inverse.

Pixel i covers [i, i + 1): a window of ``height`` rows becomes ``size`` rows whose centres lie at
``top + (i + 0.5) * height / size``, for photos, masks and predictions alike, so nothing shifts by half a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from amodalseg import masks
from amodalseg.config.schema import WindowConfig
from amodalseg.data.draw.cover import overlap
from amodalseg.data.images import resize
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

MAX_PIXELS = 1 << 25
"""Windows covering more pixels of the photo are processed in stripes: for a 20,000 px photo they would not fit in
memory."""
STRIPE = 256
"""Number of columns or rows of such a stripe."""


@dataclass(frozen=True)
class Window:
    """A box in whole pixels, which may extend beyond the photo, and the side of the square it is resized to.

    Attributes:
        top, left: first row and column; negative outside the photo.
        height, width: of the box, pixels of the photo.
        size: side of the crop, pixels.
    """

    top: int
    left: int
    height: int
    width: int
    size: int


def _round(value: float) -> int:
    """Nearest integer, halves up (Python's ``round`` rounds halves to even, so neighbouring boxes would jump)."""
    return math.floor(value + 0.5)


def object_window(
    modal: np.ndarray, config: WindowConfig, *, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Window:
    """Place the window by the modal box only; the amodal mask must not leak into the query.

    ``square``: side = max(sqrt(expand * w * h), margin * w, margin * h) around the box's centre, padded with zeros
    outside the photo. ``c2f``: the box, doubled in width and height around its centre, clipped to the photo.

    Args:
        modal: bool (H, W).
        config: kind and size.
        scale: factor on the side lengths (augmentation).
        shift: of the centre to the right and down, in sides, each in (-0.5, 0.5) (augmentation).

    Raises:
        UserError: the modal mask is empty.
    """
    box = masks.box_xyxy(modal)
    if box is None:
        raise UserError("the modal mask is empty: at least one pixel of the object must be visible")
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    if config.kind == "square":
        side = max(math.sqrt(config.expand * w * h), config.margin * w, config.margin * h)
        wide = high = max(1, _round(scale * side))
    else:
        wide, high = max(1, _round(scale * 2 * w)), max(1, _round(scale * 2 * h))
    left = _round((x0 + x1 - wide) / 2 + shift[0] * wide)
    top = _round((y0 + y1 - high) / 2 + shift[1] * high)
    if config.kind == "c2f":
        bottom, right = min(top + high, modal.shape[0]), min(left + wide, modal.shape[1])
        top, left = max(0, top), max(0, left)
        high, wide = bottom - top, right - left
        assert high > 0 and wide > 0, "a shift of half a side or more leaves the photo"
    return Window(top, left, high, wide, config.size)


def crop_image(image: np.ndarray, window: Window) -> np.ndarray:
    """Crop a window from a photo. Args: image, uint8 (H, W, 3). Returns: uint8 (S, S, 3), zero outside the photo."""
    inside, part = overlap(image.shape, (window.height, window.width), window.left, window.top)
    patch = image[inside]
    if window.height * window.width > MAX_PIXELS:
        return _crop_in_stripes(patch, part, window)
    if patch.shape[:2] != (window.height, window.width):
        patch = np.zeros((window.height, window.width, 3), np.uint8)
        patch[part] = image[inside]
    return resize(patch, window.size, window.size)


def _crop_in_stripes(patch: np.ndarray, part: tuple[slice, ...], window: Window) -> np.ndarray:
    """``crop_image`` of a huge window: rows first, some columns at a time, then columns. ``part`` is the photo's."""
    rows, columns = part
    narrow = np.zeros((window.size, window.width, 3), np.float32)
    for start in range(0, patch.shape[1], STRIPE):
        stripe = patch[:, start : start + STRIPE]
        padded = np.zeros((window.height, stripe.shape[1], 3), np.float32)
        padded[rows] = stripe
        first = columns.start + start
        narrow[:, first : first + stripe.shape[1]] = resize(padded, window.size, stripe.shape[1])
    return np.rint(resize(narrow, window.size, window.size)).clip(0, 255).astype(np.uint8)


def crop_mask(mask: np.ndarray, window: Window) -> np.ndarray:
    """Crop a window from a mask. Args: mask, bool (H, W). Returns: bool (S, S), nearest pixel, False outside."""
    (top, rows), (left, columns) = _nearest(window, *mask.shape)
    crop = np.zeros((window.size, window.size), bool)
    bottom, right = top + len(rows), left + len(columns)
    # contiguous memory first (columns, for decoded run lengths), then single pixels
    if mask.flags.f_contiguous:
        crop[top:bottom, left:right] = mask.T.take(columns, axis=0).take(rows, axis=1).T
    else:
        crop[top:bottom, left:right] = mask.take(rows, axis=0).take(columns, axis=1)
    return crop


@lru_cache(maxsize=64)
def _nearest(window: Window, height: int, width: int) -> tuple[tuple[int, np.ndarray], tuple[int, np.ndarray]]:
    """First window row inside the photo, and the photo's nearest row to each row inside; likewise columns."""
    # integers throughout: the same pixel on every machine, even if a centre falls between two pixels
    steps = 2 * np.arange(window.size) + 1
    found = []
    for start, length, end in ((window.top, window.height, height), (window.left, window.width, width)):
        places = start + steps * length // (2 * window.size)
        first, last = np.searchsorted(places, (0, end))
        found.append((int(first), places[first:last]))
    return found[0], found[1]


def paste(values: np.ndarray, window: Window, height: int, width: int) -> np.ndarray:
    """Put a map of the window back into the photo: the inverse of ``crop_image``.

    Args:
        values: float32 (S, S).
        window: where it comes from.
        height, width: of the photo, pixels.

    Returns:
        float32 (H, W): linear where the window is larger than S, averaged where it is smaller, zero outside.
    """
    full = np.zeros((height, width), np.float32)
    low, high = values.min(), values.max()  # an average of ones may be 1.0000001
    for inside, patch in _pieces(values, window, height, width):
        patch.clip(low, high, out=full[inside])
    return full


def place_in(window: Window, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a photo (height, width) that a window covers."""
    return overlap((height, width), (window.height, window.width), window.left, window.top)[0]


def paste_mask(values: np.ndarray, window: Window, height: int, width: int, threshold: float) -> np.ndarray:
    """``paste(...) > threshold`` for a threshold of at least 0, without a map of the photo's size. bool (H, W)."""
    full = np.zeros((height, width), bool)
    if values.max() <= threshold:  # an average of ones may be 1.0000001
        return full
    everywhere = values.min() > threshold
    for inside, patch in _pieces(values, window, height, width):
        full[inside] = everywhere or patch > threshold
    return full


def _pieces(
    values: np.ndarray, window: Window, height: int, width: int
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """The parts of the photo that a window covers, as (place in the photo, float32 values there, up to rounding)."""
    assert values.shape == (window.size, window.size), values.shape
    inside, part = overlap((height, width), (window.height, window.width), window.left, window.top)
    if window.height * window.width <= MAX_PIXELS:
        yield inside, resize(values, window.height, window.width)[part]
        return
    wide = resize(values, window.size, window.width)[:, part[1]]
    scale = window.size / window.height
    for start in range(part[0].start, part[0].stop, STRIPE):
        stop = min(start + STRIPE, part[0].stop)
        centres = ((np.arange(start, stop) + 0.5) * scale - 0.5).clip(0, window.size - 1)
        above = np.floor(centres).astype(int)
        share = (centres - above).astype(np.float32)[:, None]
        rows = wide[above] * (1 - share) + wide[np.minimum(above + 1, window.size - 1)] * share
        yield (slice(start + window.top, stop + window.top), inside[1]), rows


def geometry_ceiling(records: Sequence[AmodalRecord], config: WindowConfig) -> list[dict[str, Any]]:
    """Upper bound set by the window alone: the true amodal mask through the window and back, at a threshold of 0.5.

    Args:
        records: objects with amodal masks.
        config: kind and size of the window.

    Returns:
        One row per object: ``key``; ``full``, the IoU with the ground truth in [0, 1]; ``occluded``, the same outside
        the modal mask, None for an object that is not occluded.

    Raises:
        UserError: an object has no visible pixels, or no amodal mask.
    """
    rows = []
    for record in records:
        modal, amodal = record.modal, record.amodal
        window = object_window(modal, config)
        back = paste(crop_mask(amodal, window).astype(np.float32), window, *amodal.shape) > 0.5
        hidden = amodal & ~modal
        occluded = _iou(back & ~modal, hidden) if hidden.any() else None
        rows.append({"key": record.key, "full": _iou(back, amodal), "occluded": occluded})
    return rows


def _iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float((prediction & truth).sum() / max(1, (prediction | truth).sum()))
