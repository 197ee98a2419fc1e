"""The progress of completing an object: its known mask, possible occluders, and inpainted pixels.

Everything lies in a rectangle that contains the object with its surroundings and may extend beyond the photo; it grows
with the object. Coordinates are the photo's: row 0 is the photo's first, rows above it are negative.
"""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np

from amodalseg.data.draw.cover import overlap
from amodalseg.data.images import resize
from amodalseg.data.window import Window, crop_image, crop_mask, paste_mask
from amodalseg.masks import box_xyxy, grown
from amodalseg.predictions import Canvas

Sides = tuple[bool, bool, bool, bool]
"""Top, left, bottom, right."""
ROOM = 0.5  # in longer sides of the photo: how far an object may extend beyond its borders


class Progress:
    """The progress of one object.

    Args:
        image: uint8 (H, W, 3), the photo.
        modal: bool (H, W), not empty.
        occluder: bool (H, W), the occluder, or None.
        contact: pixels; anything this close to the object touches it (001 gives no distance, its released code 10).
        padding: whether the photo's borders count as occluders.

    Attributes:
        top, left: of the rectangle.
        room: pixels beyond the photo's borders that the rectangle may reach.
        picture: uint8 (h, w, 3), with all inpainted pixels; zero where there is nothing yet.
        found: bool (h, w), the part of the object known so far.
        read: bool (h, w), the same as read off, without union with the modal mask.
        painted: bool (h, w), pixels inpainted in earlier rounds.
        covers: bool (h, w), occluders that were found, besides the given one.
    """

    def __init__(
        self, image: np.ndarray, modal: np.ndarray, occluder: np.ndarray | None, contact: int, padding: bool = True
    ) -> None:
        self.photo, self.modal, self.contact, self.padding = image, modal, contact, padding
        self.room = math.ceil(ROOM * max(modal.shape))
        self.occluder = np.zeros_like(modal) if occluder is None else occluder & ~modal
        left, top, right, bottom = cast(tuple[int, int, int, int], box_xyxy(modal))
        self.top, self.left = top, left
        self.picture = image[top:bottom, left:right].copy()
        self.found = modal[top:bottom, left:right].copy()
        self.read = self.found.copy()
        self.painted, self.covers = np.zeros_like(self.found), np.zeros_like(self.found)

    def box(self) -> tuple[int, int, int, int]:
        """Box of the known object in the photo: top, left, bottom, right (exclusive)."""
        x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(self.found))
        return y0 + self.top, x0 + self.left, y1 + self.top, x1 + self.left

    def sides(self) -> Sides:
        """Which of the photo's borders the object touches; none if they do not count."""
        top, left, bottom, right = self.box()
        height, width = self.modal.shape
        near = top < self.contact, left < self.contact, height - bottom < self.contact, width - right < self.contact
        return cast(Sides, tuple(self.padding and side for side in near))

    def window(self, size: int, buffer: float, pad: float) -> Window:
        """The square around the known object; extends the rectangle to it.

        Args:
            size: of the crop, pixels.
            buffer: margin on every side of the box, in longer sides of it.
            pad: additional margin on sides where the object touches the photo's border, likewise.
        """
        top, left, bottom, right = self.box()
        longer = max(bottom - top, right - left)
        above, before, below, behind = (buffer * longer + pad * longer * side for side in self.sides())
        high, wide = bottom - top + above + below, right - left + before + behind
        side = max(2, round(max(high, wide)))
        window = Window(
            round((top - above + bottom + below - side) / 2), round((left - before + right + behind - side) / 2),
            side, side, size,
        )  # fmt: skip
        self._extend(window.top, window.left, window.top + side, window.left + side)
        return window

    def _extend(self, top: int, left: int, bottom: int, right: int) -> None:
        height, width = self.found.shape
        old = self.top, self.left
        room = self.room
        bottom = max(min(bottom, self.modal.shape[0] + room), self.top + height)
        right = max(min(right, self.modal.shape[1] + room), self.left + width)
        self.top, self.left = min(max(top, -room), self.top), min(max(left, -room), self.left)
        shape = bottom - self.top, right - self.left
        first, start = old[0] - self.top, old[1] - self.left
        there = slice(first, first + height), slice(start, start + width)
        picture = self._cut(self.photo, shape)
        picture[there] = self.picture
        self.picture = picture
        for name in ("found", "read", "painted", "covers"):
            mask = np.zeros(shape, bool)
            mask[there] = getattr(self, name)
            setattr(self, name, mask)

    def _cut(self, array: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The rectangle's part of an array of the photo, zero outside the photo."""
        cut: np.ndarray = np.zeros((*(shape or self.found.shape), *array.shape[2:]), array.dtype)
        here, there = overlap(array.shape, cut.shape, self.left, self.top)
        cut[there] = array[here]
        return cut

    def _in_rectangle(self, window: Window) -> Window:
        """A window of the photo as one of the rectangle."""
        return Window(window.top - self.top, window.left - self.left, window.height, window.width, window.size)

    def hiding(self) -> np.ndarray:
        """bool (h, w): where the object may continue, and nothing has been inpainted yet."""
        rows = np.arange(self.found.shape[0])[:, None] + self.top
        columns = np.arange(self.found.shape[1])[None] + self.left
        top, left, bottom, right = self.sides()
        height, width = self.modal.shape
        above, below = top & (rows < 0), bottom & (rows >= height)
        beyond = above | below | (left & (columns < 0)) | (right & (columns >= width))
        return (self._cut(self.occluder) | self.covers | beyond) & ~self.painted & ~self.found

    def is_occluded(self) -> bool:
        """Whether anything that may occlude the object touches it."""
        top, left, bottom, right = self.box()
        reach = self.contact
        self._extend(top - reach, left - reach, bottom + reach, right + reach)
        near = cv2.dilate(self.found.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        return bool((near & self.hiding()).any())

    def view(self, window: Window, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What a window shows.

        Args:
            window: from ``window``.
            reach: pixels of the window by which the hole is dilated, so that no occluder pixel remains visible.

        Returns:
            picture uint8 (S, S, 3); found bool (S, S), never empty; hole bool (S, S); outside bool (S, S).
        """
        here = self._in_rectangle(window)
        found = crop_mask(self.found, here)
        if not found.any():  # thinner than the window's pixels
            found = _shares(self.found, here) > 0
        hole = grown(_shares(self.hiding(), here) > 0, reach)
        if (hole & found).sum() * 2 > found.sum():  # a thin visible part: its rim is most of it
            hole &= ~found
        known = self._cut(np.ones_like(self.modal)) | self.painted
        return crop_image(self.picture, here), found, hole, _shares(known, here) < 255

    def take(self, window: Window, picture: np.ndarray, mask: np.ndarray) -> None:
        """Paste a completed window back: possibly occluded pixels are now inpainted, and belong to the object in
        ``mask``.

        Args:
            window: from ``window``.
            picture: uint8 (S, S, 3). mask: bool (S, S).
        """
        top, left = window.top - self.top, window.left - self.left
        here, there = overlap(self.found.shape, (window.height, window.width), left, top)
        fresh = np.zeros_like(self.found)
        fresh[here] = self.hiding()[here]
        height, width = fresh.shape
        mask_here = paste_mask(mask.astype(np.float32), self._in_rectangle(window), height, width, 0.5)
        self.picture[here][fresh[here]] = resize(picture, window.height, window.width)[there][fresh[here]]
        self.found |= mask_here & fresh
        self.read = self.found & (mask_here | ~self._cut(self.modal))
        self.painted |= fresh

    def cover(self, window: Window, mask: np.ndarray) -> None:
        """Record an occluder of the object. mask: bool (S, S), in a window from ``window``."""
        here = self._in_rectangle(window)
        height, width = self.found.shape
        covers = paste_mask(mask.astype(np.float32), here, height, width, 0.5) & ~self.found
        self.covers |= covers
        self.painted &= ~covers  # it was generated again

    def in_photo(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the rectangle -> bool (H, W) in the photo."""
        full = np.zeros_like(self.modal)
        here, there = overlap(full.shape, mask.shape, self.left, self.top)
        full[here] = mask[there]
        return full

    def image(self, amodal: np.ndarray) -> np.ndarray:
        """The photo with inpainted pixels in the predicted occluded region.

        Args:
            amodal: bool (H, W).

        Returns:
            uint8 (H, W, 3).
        """
        full = self.photo.copy()
        here, there = overlap(full.shape, self.found.shape, self.left, self.top)
        fresh = (amodal & ~self.modal)[here] & self.painted[there]
        full[here][fresh] = self.picture[there][fresh]
        return full

    def canvas(self, read: bool = False) -> Canvas:
        """The prediction, cropped to the known object's box. read: as read off, not united with the modal mask."""
        top, left, bottom, right = self.box()
        place = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return Canvas((self.read if read else self.found)[place].copy(), self.picture[place].copy(), top, left)


def _shares(mask: np.ndarray, window: Window) -> np.ndarray:
    """How much of each pixel of a window a mask covers, uint8 (S, S)."""
    wide: np.ndarray = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    return crop_image(wide, window)[..., 0]
