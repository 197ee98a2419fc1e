"""Painting of a planned scene: a photo with things pasted over it, whole or through an object's window.

Geometry is cheap and colours are expensive, so a scene is planned on masks first; then only the pixels that are needed
are painted, at the resolution that is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from amodalseg.data.draw.cover import Silhouette, overlap
from amodalseg.data.window import Window, crop_image

LINEAR = 1.6  # maximum downscaling by interpolation; beyond it, pixels would be skipped


@dataclass(frozen=True)
class Layer:
    """Something pasted over a photo. All lengths are pixels of the photo.

    Attributes:
        shape: its position and coverage of each pixel.
        colours: uint8 (h, w, 3) of any size; they fill the box of ``shape``.
        table: uint8 (256,) or (256, 3): lookup table for the colours.
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
        """The part of ``alpha`` that is inside the photo and not behind something, with its top left corner."""
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
    """A box of the photo, in pixels of the photo, and the size at which it is shown."""

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
        """The view's part of a picture that fills a box of the photo.

        Args:
            pixels: uint8 or float32 (h, w) or (h, w, 3), stretched to the box.
            x, y: top left corner of the box.
            size: (height, width) of the box.
            border: OpenCV's mode for pixels outside of it.

        Returns:
            The same type, (rows, columns) or (rows, columns, 3): linearly interpolated, after averaging if the picture
            shrinks a lot.
        """
        scale_y, scale_x = self.rows / self.height, self.columns / self.width
        high, wide = size[0] * scale_y, size[1] * scale_x
        small = pixels
        while True:  # a tenth of the time of an average over fractional pixels
            rows, columns = small.shape[:2]
            down, across = 1 + (1 < rows > LINEAR * high), 1 + (1 < columns > LINEAR * wide)
            if down == across == 1:
                break
            even = small[: rows // down * down, : columns // across * across]
            # if an odd row or column is dropped, the box shrinks accordingly
            high, wide = high * len(even) / rows, wide * even.shape[1] / columns
            small = cv2.resize(even, (columns // across, rows // down), interpolation=cv2.INTER_AREA)
        a, b = wide / small.shape[1], high / small.shape[0]
        # pixel i covers [i, i + 1), so its centre goes to a (i + 1/2) + shift - 1/2
        shift_x, shift_y = (x - self.left) * scale_x, (y - self.top) * scale_y
        matrix = np.array([[a, 0, shift_x + (a - 1) / 2], [0, b, shift_y + (b - 1) / 2]])
        return cv2.warpAffine(small, matrix, (self.columns, self.rows), flags=cv2.INTER_LINEAR, borderMode=border)


def paint(photo: np.ndarray, layers: Sequence[Layer], window: Window | None = None) -> np.ndarray:
    """Paste layers over a photo, in order.

    Args:
        photo: uint8 (H, W, 3).
        layers: to paste.
        window: the part to paint, black outside the photo; None: the whole photo.

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
        # grain per pixel of the photo: averaging several pixels reduces it
        grain = np.random.default_rng(layer.seed).standard_normal((*colours.shape[:2], 1), np.float32)
        colours = np.rint(colours + grain * layer.noise * min(1.0, scale)).clip(0, 255).astype(np.uint8)
    weight = alpha[here]
    image[here] = cv2.blendLinear(colours, image[here], weight, 1 - weight)
