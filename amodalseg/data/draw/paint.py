"""Paints a scene that was decided before: a photo with things laid over it, whole or through an object's window.

Geometry costs little and colours cost most, so a scene is decided on masks first; then only the pixels that somebody
looks at are painted, at the resolution at which they are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from amodalseg.data.draw.cover import Silhouette, overlap
from amodalseg.data.window import Window, crop_image

LINEAR = 1.6  # a picture is shrunk by as much at most between pixels; beyond it, pixels would be passed over


@dataclass(frozen=True)
class Layer:
    """Something laid over a photo. All lengths are pixels of the photo.

    Attributes:
        shape: where it lies, and how much of each pixel it covers.
        colours: uint8 (h, w, 3) of any size; they fill the box of ``shape``.
        table: uint8 (256,) or (256, 3): what becomes of each value of the colours.
        flip: mirror the colours.
        under: bool (H, W) of what stays in front of it, or None.
        soft: standard deviation of the seam to what stays in front.
        blur: standard deviation by which the colours are blurred.
        noise: standard deviation of the grain, grey levels; ``seed`` determines it.
    """

    shape: Silhouette
    colours: np.ndarray
    table: np.ndarray
    flip: bool = False
    under: np.ndarray | None = None
    soft: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def alpha_in_photo(self, height: int, width: int) -> tuple[np.ndarray, int, int]:
        """The part of ``alpha`` that falls into the photo and is not behind something, with its left top corner."""
        alpha = self.shape.alpha
        (rows, columns), there = overlap((height, width), alpha.shape, self.shape.x, self.shape.y)
        if self.under is None:
            return alpha[there], columns.start, rows.start
        room = int(np.ceil(4 * self.soft))  # the blur reaches no further
        top, left = max(0, rows.start - room), max(0, columns.start - room)
        front: np.ndarray = self.under[top : rows.stop + room, left : columns.stop + room].astype(np.float32)
        if self.soft and front.size:
            front = cv2.GaussianBlur(front, (0, 0), self.soft)
        inner = front[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return alpha[there] * (1 - inner), columns.start, rows.start


@dataclass(frozen=True)
class View:
    """A box of the photo, in its pixels, and the size at which it is seen."""

    top: float
    left: float
    height: float
    width: float
    rows: int
    columns: int

    def part(self, rows: slice, columns: slice) -> View:
        """Some rows and columns of it."""
        step_y, step_x = self.height / self.rows, self.width / self.columns
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        top, left = self.top + rows.start * step_y, self.left + columns.start * step_x
        return View(top, left, high * step_y, wide * step_x, high, wide)

    def place(self, pixels: np.ndarray, x: int, y: int, size: tuple[int, ...], border: int) -> np.ndarray:
        """What is seen of a picture that fills a box of the photo.

        Args:
            pixels: uint8 or float32 (h, w) or (h, w, 3), stretched to the box.
            x, y: left top corner of the box.
            size: (height, width) of the box.
            border: OpenCV's name of what is seen outside of it.

        Returns:
            The same type, (rows, columns) or (rows, columns, 3): linear between pixels, which are averaged first where
            they shrink much.
        """
        scale_y, scale_x = self.rows / self.height, self.columns / self.width
        high, wide = size[0] * scale_y, size[1] * scale_x
        small = pixels
        while True:  # a tenth of the time of an average over fractions of pixels
            rows, columns = small.shape[:2]
            down, across = 1 + (1 < rows > LINEAR * high), 1 + (1 < columns > LINEAR * wide)
            if down == across == 1:
                break
            even = small[: rows // down * down, : columns // across * across]
            # where an odd row or column is left out, the box is that much smaller
            high, wide = high * len(even) / rows, wide * even.shape[1] / columns
            small = cv2.resize(even, (columns // across, rows // down), interpolation=cv2.INTER_AREA)
        a, b = wide / small.shape[1], high / small.shape[0]
        # pixel i covers [i, i + 1), so its centre goes to a (i + 1/2) + shift - 1/2
        shift_x, shift_y = (x - self.left) * scale_x, (y - self.top) * scale_y
        matrix = np.array([[a, 0, shift_x + (a - 1) / 2], [0, b, shift_y + (b - 1) / 2]])
        return cv2.warpAffine(small, matrix, (self.columns, self.rows), flags=cv2.INTER_LINEAR, borderMode=border)


def paint(photo: np.ndarray, layers: Sequence[Layer], window: Window | None = None) -> np.ndarray:
    """Lay things over a photo, the first one first.

    Args:
        photo: uint8 (H, W, 3).
        layers: what lies on it.
        window: the part to paint, black outside the photo; None: all of it.

    Returns:
        uint8 (S, S, 3), or (H, W, 3).
    """
    height, width = photo.shape[:2]
    if window is None:
        image, view = photo.copy(), View(0, 0, height, width, height, width)
    else:
        image = crop_image(photo, window)
        view = View(window.top, window.left, window.height, window.width, window.size, window.size)
    for layer in layers:
        alpha, x, y = layer.alpha_in_photo(height, width)
        if not alpha.size:
            continue
        seen = view.place(alpha, x, y, alpha.shape, cv2.BORDER_CONSTANT)
        if seen.any():
            _blend(image, seen, layer, view)
    return image


def _blend(image: np.ndarray, alpha: np.ndarray, layer: Layer, view: View) -> None:
    """Mix a layer's colours into the picture, in place, where ``alpha``, float32 (rows, columns), is above 0."""
    seen, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    here = slice(seen[0], seen[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, shape = view.part(*here), layer.shape
    colours = cv2.flip(layer.colours, 1) if layer.flip else layer.colours
    colours = part.place(colours, shape.x, shape.y, shape.alpha.shape, cv2.BORDER_REPLICATE)
    scale = np.sqrt(view.rows * view.columns / (view.height * view.width))
    if layer.blur * scale > 0.2:
        colours = cv2.GaussianBlur(colours, (0, 0), layer.blur * scale, borderType=cv2.BORDER_REPLICATE)
    colours = cv2.LUT(colours, layer.table if layer.table.ndim == 1 else layer.table[None])
    if layer.noise:
        # grain of single pixels of the photo: an average over several has less of it
        grain = np.random.default_rng(layer.seed).standard_normal((*colours.shape[:2], 1), np.float32)
        colours = np.rint(colours + grain * layer.noise * min(1.0, scale)).clip(0, 255).astype(np.uint8)
    weight = alpha[here]
    image[here] = cv2.blendLinear(colours, image[here], weight, 1 - weight)
