"""The move that every model supports: the object is removed from its origin, completed, and pasted at its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np

from amodalseg.data.draw.cover import overlap
from amodalseg.data.images import resize
from amodalseg.masks import box_xyxy, grown
from amodalseg.models.inpainting.parts.removal import remove
from amodalseg.predictions import Prediction
from amodalseg.types import Query

GROWN = 0.02
"""Share of the longer side of the modal box, at least one pixel: how far the cleared origin extends beyond the mask."""
ROOM = 8
"""Pixels of context around a hole that the fill uses."""

LARGEST = 1024
"""Longer side, pixels, up to which a region is filled at full resolution; larger ones are filled at this size, for
speed."""

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""A photo, uint8 (H, W, 3); the region to remove, bool (H, W); and that region united with others that show no
background either, bool (H, W) -> the photo without the region to remove, a new array."""


class Piece(NamedTuple):
    """An object alone.

    mask: bool (h, w), the whole object. picture: uint8 (h, w, 3), undefined outside the mask. top, left: row and
    column of its first pixel in photo coordinates; negative where it starts outside the photo.
    """

    mask: np.ndarray
    picture: np.ndarray
    top: int
    left: int


def shift_of(modal: np.ndarray, to: tuple[int, int]) -> tuple[int, int]:
    """The displacement of a move.

    Args:
        modal: bool (H, W), not empty.
        to: (x, y), the pixel at which the centre of the modal box lies after the move.

    Returns:
        (dx, dy), pixels to the right and down. The centre of an even side is the pixel after it.
    """
    x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(modal))
    return int(to[0]) - (x0 + x1) // 2, int(to[1]) - (y0 + y1) // 2


def vacated(modal: np.ndarray, occluder: np.ndarray | None = None) -> np.ndarray:
    """The region to fill when an object is removed: bool (H, W), its modal mask and a rim, without its occluder.

    Args:
        modal: bool (H, W), not empty.
        occluder: bool (H, W), the mask of the occluder, which stays in place, or None if unknown.
    """
    x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(modal))
    reach = max(1, round(GROWN * max(x1 - x0, y1 - y0)))
    place = _around((y0, y1), (x0, x1), reach)
    found = np.zeros_like(modal)
    found[place] = grown(modal[place], reach)  # only the surroundings, not a whole large photo
    return found if occluder is None else found & (modal | ~occluder)


def without(photo: np.ndarray, go: np.ndarray, unseen: np.ndarray, how: str = "telea") -> np.ndarray:
    """The ``Fill`` of models that generate no pictures: ``removal.remove`` on the surroundings of the hole."""
    filled = photo.copy()
    box = box_xyxy(go)
    if box is not None:
        place = _around((box[1], box[3]), (box[0], box[2]), ROOM)
        hole = unseen[place] if not unseen[place].all() else go[place]
        filled[place] = np.where(go[place][..., None], _filled(photo[place], hole, how), photo[place])
    return filled


def _filled(picture: np.ndarray, hole: np.ndarray, how: str = "telea") -> np.ndarray:
    """``removal.remove``, for large pictures at a smaller size: the fill has no fine detail anyway."""
    height, width = hole.shape
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return remove(picture, hole, how)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    # a pixel that is partly hole does not count as surroundings
    part = resize(hole.astype(np.float32), rows, columns) > 0
    return resize(remove(resize(picture, rows, columns), part, how), height, width)


def completed(photo: np.ndarray, prediction: Prediction, rim: float = 0.0) -> Piece:
    """The whole object as predicted, including the part beyond the photo if the model extends there.

    If the model generates no picture, the visible colours are extended into the occluded region, with ``rim`` as for
    ``coloured``.
    """
    modal, amodal = prediction.modal, prediction.amodal
    picture = prediction.image
    if picture is None:
        picture = coloured(photo, modal, amodal, rim)
    canvas = prediction.canvas
    if canvas is None or canvas.picture is None:
        x0, y0, x1, y1 = box_xyxy(amodal) or (0, 0, 1, 1)  # empty: possible without ``union_visible``
        return Piece(amodal[y0:y1, x0:x1], picture[y0:y1, x0:x1], y0, x0)
    mask, drawn = canvas.mask.copy(), canvas.picture.copy()
    height, width = modal.shape
    top, left = max(0, canvas.top), max(0, canvas.left)
    bottom, right = min(height, canvas.top + mask.shape[0]), min(width, canvas.left + mask.shape[1])
    inside = slice(top - canvas.top, bottom - canvas.top), slice(left - canvas.left, right - canvas.left)
    mask[inside], drawn[inside] = amodal[top:bottom, left:right], picture[top:bottom, left:right]
    return Piece(mask, drawn, canvas.top, canvas.left)


def coloured(photo: np.ndarray, modal: np.ndarray, amodal: np.ndarray, rim: float = 0.0) -> np.ndarray:
    """uint8 (H, W, 3): the visible colours extended into the occluded region by Telea's method.

    Args:
        photo: uint8 (H, W, 3).
        modal, amodal: bool (H, W), where the object's colours are known, and the whole object.
        rim: share of the longer side of the modal box; at least two pixels unless 0. Within this distance of its edge
            the modal mask may include other things, above all the occluder: such pixels are kept but not extended.
    """
    hidden = amodal & ~modal
    box = box_xyxy(hidden)
    if box is None:
        return photo
    visible = cast(tuple[int, int, int, int], box_xyxy(modal))
    left, top = (min(box[side], visible[side]) for side in (0, 1))
    right, bottom = (max(box[side], visible[side]) for side in (2, 3))
    place = slice(top, bottom), slice(left, right)
    colours = photo.copy()
    # only the visible region is known: no colour of an occluder or the background may bleed into the object
    known = modal[place]
    if rim:
        known = _without_rim(known, max(2, round(rim * max(visible[2] - visible[0], visible[3] - visible[1]))))
    colours[place] = np.where(hidden[place][..., None], _filled(photo[place], ~known), photo[place])
    return colours


def _without_rim(modal: np.ndarray, rim: int) -> np.ndarray:
    """Erode a mask by ``rim`` pixels; parts that would vanish, such as the legs of a chair, are kept."""
    inner = ~grown(~modal, rim)
    return inner | modal & ~grown(inner, 2 * rim)


def lay(photo: np.ndarray, piece: Piece, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Paste a shifted object over a photo.

    Args:
        photo: uint8 (H, W, 3).
        piece: the object.
        shift: (dx, dy), pixels.

    Returns:
        The photo with it, uint8 (H, W, 3), a new array, and where it lies, bool (H, W).
    """
    moved, mask = photo.copy(), np.zeros(photo.shape[:2], bool)
    here, there = overlap(photo.shape, piece.mask.shape, piece.left + shift[0], piece.top + shift[1])
    mask[here] = piece.mask[there]
    moved[here] = np.where(piece.mask[there][..., None], piece.picture[there], photo[here])
    return moved, mask


def move_by_paste(query: Query, prediction: Prediction, fill: Fill = without) -> tuple[np.ndarray, np.ndarray]:
    """Fill an object's origin, and paste the completed object at ``query.to``, in front of everything else.

    Args:
        query: with ``to``.
        prediction: its prediction.
        fill: fills the origin.

    Returns:
        The photo after the move, uint8 (H, W, 3), and the object's mask in it, bool (H, W).
    """
    assert query.to is not None
    go = vacated(query.modal, query.occluder)
    # an occluder is in front of the object, so its colours say nothing about the background
    cleared = fill(query.image, go, go if query.occluder is None else go | query.occluder)
    return lay(cleared, completed(query.image, prediction), shift_of(query.modal, query.to))


def _around(rows: tuple[int, int], columns: tuple[int, int], room: int) -> tuple[slice, slice]:
    """A box with a margin on every side; slices clip it at the photo's end."""
    return slice(max(0, rows[0] - room), rows[1] + room), slice(max(0, columns[0] - room), columns[1] + room)
