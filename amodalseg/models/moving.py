"""The move that every model can make: the object is taken out of its place, completed, and laid down elsewhere."""

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
"""Of the longer side of the modal box, a pixel at least: how far beyond the modal mask a place is cleared."""
ROOM = 8
"""Pixels around what is filled that the fill looks at."""

LARGEST = 1024
"""Pixels on the longer side of what is filled as it is; a larger part is filled at this size, for time."""

Fill = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""A photo, uint8 (H, W, 3); what of it is to go, bool (H, W); and that together with what shows nothing of the ground
either, bool (H, W) -> the photo without the former, a new array."""


class Piece(NamedTuple):
    """An object alone.

    mask: bool (h, w), the whole object. picture: uint8 (h, w, 3), of no meaning outside the mask. top, left: row and
    column of its first pixel, counted in the photo; negative where it begins before the photo.
    """

    mask: np.ndarray
    picture: np.ndarray
    top: int
    left: int


def shift_of(modal: np.ndarray, to: tuple[int, int]) -> tuple[int, int]:
    """How far an object goes.

    Args:
        modal: bool (H, W), not empty.
        to: (x, y), the pixel where the middle of the modal box is to lie.

    Returns:
        (dx, dy), pixels to the right and down. The middle of an even side is the pixel behind it.
    """
    x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(modal))
    return int(to[0]) - (x0 + x1) // 2, int(to[1]) - (y0 + y1) // 2


def vacated(modal: np.ndarray, occluder: np.ndarray | None = None) -> np.ndarray:
    """What has to be filled when an object goes: bool (H, W), its modal mask and a rim, without its occluder.

    Args:
        modal: bool (H, W), not empty.
        occluder: bool (H, W) of what covers the object and stays, or None if unknown.
    """
    x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(modal))
    reach = max(1, round(GROWN * max(x1 - x0, y1 - y0)))
    place = _around((y0, y1), (x0, x1), reach)
    found = np.zeros_like(modal)
    found[place] = grown(modal[place], reach)  # of a large photo, the surroundings alone are looked at
    return found if occluder is None else found & (modal | ~occluder)


def without(photo: np.ndarray, go: np.ndarray, unseen: np.ndarray, how: str = "telea") -> np.ndarray:
    """The ``Fill`` of models that draw nothing: ``removal.remove``, of a large photo the surroundings alone."""
    filled = photo.copy()
    box = box_xyxy(go)
    if box is not None:
        place = _around((box[1], box[3]), (box[0], box[2]), ROOM)
        hole = unseen[place] if not unseen[place].all() else go[place]
        filled[place] = np.where(go[place][..., None], _filled(photo[place], hole, how), photo[place])
    return filled


def _filled(picture: np.ndarray, hole: np.ndarray, how: str = "telea") -> np.ndarray:
    """``removal.remove``, of large pictures at a smaller size: what it makes up has no fine detail."""
    height, width = hole.shape
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return remove(picture, hole, how)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    # a pixel that holds some of the hole is none of the surroundings
    part = resize(hole.astype(np.float32), rows, columns) > 0
    return resize(remove(resize(picture, rows, columns), part, how), height, width)


def completed(photo: np.ndarray, prediction: Prediction, rim: float = 0.0) -> Piece:
    """The whole object as a model predicts it, with the part beyond the photo where the model looked there.

    A model that draws no picture has no colours for what is hidden: those of the visible part go on in it, ``rim`` as
    for ``coloured``.
    """
    modal, amodal = prediction.modal, prediction.amodal
    picture = prediction.image
    if picture is None:
        picture = coloured(photo, modal, amodal, rim)
    canvas = prediction.canvas
    if canvas is None or canvas.picture is None:
        x0, y0, x1, y1 = box_xyxy(amodal) or (0, 0, 1, 1)  # an empty prediction of a model that does not unite
        return Piece(amodal[y0:y1, x0:x1], picture[y0:y1, x0:x1], y0, x0)
    mask, drawn = canvas.mask.copy(), canvas.picture.copy()
    height, width = modal.shape
    top, left = max(0, canvas.top), max(0, canvas.left)
    bottom, right = min(height, canvas.top + mask.shape[0]), min(width, canvas.left + mask.shape[1])
    inside = slice(top - canvas.top, bottom - canvas.top), slice(left - canvas.left, right - canvas.left)
    mask[inside], drawn[inside] = amodal[top:bottom, left:right], picture[top:bottom, left:right]
    return Piece(mask, drawn, canvas.top, canvas.left)


def coloured(photo: np.ndarray, modal: np.ndarray, amodal: np.ndarray, rim: float = 0.0) -> np.ndarray:
    """uint8 (H, W, 3): the colours of the visible part go on in the hidden part, by Telea's method.

    Args:
        photo: uint8 (H, W, 3).
        modal, amodal: bool (H, W), where the object's colours are known, and the whole of it.
        rim: share of the longer side of the modal box, if not 0 two pixels at least. So far from its edge the modal
            mask may hold something else, above all of what hides the object: it stays as it is, but does not go on.
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
    # nothing but the visible part is known: no colour of an occluder or of the ground may run into the object
    known = modal[place]
    if rim:
        known = _without_rim(known, max(2, round(rim * max(visible[2] - visible[0], visible[3] - visible[1]))))
    colours[place] = np.where(hidden[place][..., None], _filled(photo[place], ~known), photo[place])
    return colours


def _without_rim(modal: np.ndarray, rim: int) -> np.ndarray:
    """A mask without its edge, in pixels; parts that are edge alone, as legs of a chair, stay."""
    inner = ~grown(~modal, rim)
    return inner | modal & ~grown(inner, 2 * rim)


def lay(photo: np.ndarray, piece: Piece, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lay an object over a photo, shifted.

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
    """Clear the place that an object leaves, and lay the completed object down at ``query.to``, over all else.

    Args:
        query: with ``to``.
        prediction: its prediction.
        fill: of the place.

    Returns:
        The photo after the move, uint8 (H, W, 3), and the object's mask there, bool (H, W).
    """
    assert query.to is not None
    go = vacated(query.modal, query.occluder)
    # an occluder is nearer than the object, so its colours say nothing about what lies behind
    cleared = fill(query.image, go, go if query.occluder is None else go | query.occluder)
    return lay(cleared, completed(query.image, prediction), shift_of(query.modal, query.to))


def _around(rows: tuple[int, int], columns: tuple[int, int], room: int) -> tuple[slice, slice]:
    """A box with room on every side; what lies beyond the photo's end, slices leave out."""
    return slice(max(0, rows[0] - room), rows[1] + room), slice(max(0, columns[0] - room), columns[1] + room)
