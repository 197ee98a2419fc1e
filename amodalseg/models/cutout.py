"""Objects alone, with transparency: what is visible of one, or the whole with colours for its hidden part."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from amodalseg.data.draw.cover import overlap
from amodalseg.errors import UserError
from amodalseg.masks import box_xyxy
from amodalseg.models.base import AmodalModel
from amodalseg.models.moving import Piece, coloured, completed
from amodalseg.predictions import Prediction
from amodalseg.types import Query

PARTS = ("amodal", "modal")
PAINTS = ("telea", "none")
"""Ways to colour a hidden part without a model."""
RIM = 0.015
"""Of the longer side of the modal box: how far masks of photos are off, seen in the colours that they let go on. On
composites, whose masks are exact, moves lose 0.2 dB by it, so they do without."""


class Cutout(NamedTuple):
    """A piece of a photo.

    picture: uint8 (h, w, 4) RGBA, colours not multiplied by alpha; black where alpha is 0. top, left: row and column of
    its first pixel, counted in the photo; negative where it begins before the photo.
    """

    picture: np.ndarray
    top: int
    left: int


def cutout(
    photo: np.ndarray,
    prediction: Prediction,
    part: str = "amodal",
    *,
    crop: bool = True,
    soft: float = 0.0,
    paint: str | AmodalModel | None = None,
    seed: int = 0,
) -> Cutout:
    """Cut an object out of its photo.

    Args:
        photo: uint8 (H, W, 3), that the prediction is of.
        prediction: of the object. A model that looks beyond the photo gives what lies there too.
        part: ``amodal``: the whole object. Its hidden part has the colours that the model drew; of a model that draws
            none, those of the visible part go on there (Telea). ``modal``: the visible part, as it is.
        crop: to the object's box; else to the photo's size, which what lies beyond the photo enlarges.
        soft: pixels over which the outline of the hidden part fades, inwards; the visible part is always opaque.
        paint: what the hidden part looks like in place of that: ``telea``: the visible colours go on; ``none``: black;
            another model that draws, of which nothing beyond the photo is taken; where its own completion ends before
            the prediction's, its colours go on.
        seed: of what it draws.

    Raises:
        UserError: an unknown part; a model for ``paint`` that draws nothing.
    """
    if isinstance(paint, str) and paint not in PAINTS:
        raise UserError(f"invalid paint: {paint!r} (choose from {', '.join(PAINTS)}, or give a model)")
    if part not in PARTS:
        raise UserError(f"invalid part: {part!r} (choose from {', '.join(PARTS)})")
    if not soft >= 0:
        raise UserError(f"soft is a number of pixels from 0, not {soft!r}")
    modal = prediction.modal
    if part == "modal":
        piece = Piece(modal, photo, 0, 0)
    elif paint is not None and not isinstance(paint, str):
        piece = Piece(prediction.amodal, _painted(photo, prediction, paint, seed), 0, 0)
    else:
        piece = completed(photo, prediction, RIM)
    mask, picture, top, left = _on_canvas(piece, *modal.shape)
    if isinstance(paint, str):
        picture = _recoloured(photo, modal, mask, (-top, -left), paint)
    alpha = _faded(mask, soft) if part == "amodal" else mask.astype(np.uint8) * 255
    y, x = -top, -left  # where the photo begins on the canvas
    alpha[y : y + modal.shape[0], x : x + modal.shape[1]][modal] = 255
    if crop:
        x0, y0, x1, y1 = box_xyxy(alpha > 0) or (0, 0, 1, 1)
        alpha, picture, top, left = alpha[y0:y1, x0:x1], picture[y0:y1, x0:x1], top + y0, left + x0
    return Cutout(np.dstack([picture * (alpha > 0)[..., None], alpha]), top, left)


def _painted(photo: np.ndarray, prediction: Prediction, paint: AmodalModel, seed: int) -> np.ndarray:
    """The photo with the object's hidden part drawn by another model, uint8 (H, W, 3)."""
    drawn = paint.predict_batch([Query(photo, prediction.modal, seed)])[0]
    if drawn.image is None:
        raise UserError(f"'{paint.name}' generates no picture: use 'mixed_context' or another one that does")
    return coloured(drawn.image, prediction.modal | (drawn.occluded & prediction.amodal), prediction.amodal, RIM)


def _recoloured(
    photo: np.ndarray, modal: np.ndarray, amodal: np.ndarray, begin: tuple[int, int], paint: str
) -> np.ndarray:
    """A canvas with colours from the visible part alone. Args: begin, row and column of the photo's first pixel."""
    known, picture = np.zeros_like(amodal), np.zeros((*amodal.shape, 3), np.uint8)
    place = tuple(slice(start, start + length) for start, length in zip(begin, modal.shape, strict=True))
    known[place], picture[place] = modal, photo
    return picture * known[..., None] if paint == "none" else coloured(picture, known, amodal, RIM)


def _on_canvas(piece: Piece, height: int, width: int) -> Piece:
    """A piece on a canvas of the photo's size, enlarged to hold it all."""
    top, left = min(0, piece.top), min(0, piece.left)
    height = max(height, piece.top + piece.mask.shape[0]) - top
    width = max(width, piece.left + piece.mask.shape[1]) - left
    mask, picture = np.zeros((height, width), bool), np.zeros((height, width, 3), np.uint8)
    here, there = overlap(mask.shape, piece.mask.shape, piece.left - left, piece.top - top)
    mask[here], picture[here] = piece.mask[there], piece.picture[there]
    return Piece(mask, picture, top, left)


def _faded(mask: np.ndarray, soft: float) -> np.ndarray:
    """uint8 (h, w): 255 inside, less within ``soft`` pixels of the outline, 0 outside. A canvas's border is none."""
    if soft == 0:
        return mask.astype(np.uint8) * 255
    distance = cv2.distanceTransform(np.pad(mask, 1, "edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    found: np.ndarray = np.rint(255 * (distance / (soft + 1)).clip(0, 1)).astype(np.uint8)
    return found
