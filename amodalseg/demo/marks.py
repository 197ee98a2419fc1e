"""Where a user points: clicks, stored as text that can also be typed, and brushed areas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from amodalseg.errors import UserError
from amodalseg.models.base import check_inside

ON, OFF, CORNER = "On the object", "Beside the object", "Corner of a box"
"""What a click marks."""
POINTS = 50
"""Maximum number of points of one object."""


class Marks(NamedTuple):
    """The marks of one object.

    points: (x, y, label) in photo pixels; label 1 on the object, 0 beside it. box: (x0, y0, x1, y1), with exclusive
    ends, or None. corner: the first corner of a box whose second one is still missing, or None.
    """

    points: list[tuple[int, int, int]]
    box: tuple[int, int, int, int] | None
    corner: tuple[int, int] | None = None


def read_marks(points: str, box: str, height: int, width: int) -> Marks:
    """Parse the two text fields.

    Args:
        points: ``X,Y`` on the object or ``X,Y,0`` beside it, with spaces between points.
        box: ``X0,Y0,X1,Y1``, or the first corner ``X,Y`` alone.
        height, width: of the photo.

    Raises:
        UserError: a text has neither form, or lies outside the photo.
    """
    found = []
    for part in points.split():
        numbers = _numbers(part, (2, 3), "a point is X,Y or X,Y,0")
        if len(numbers) == 3 and numbers[2] not in (0, 1):
            raise UserError(f"'{part}': after a point write 1 (on the object) or 0 (beside it)")
        check_inside("point", numbers[0], numbers[1], height, width)
        found.append((numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 1))
    if len(found) > POINTS:
        raise UserError(f"{len(found)} points are too many: {POINTS} are taken")
    if not box.split():
        return Marks(found, None)
    numbers = _numbers("".join(box.split()), (2, 4), "a box is X0,Y0,X1,Y1")
    if len(numbers) == 2:
        check_inside("point", numbers[0], numbers[1], height, width)
        return Marks(found, None, (numbers[0], numbers[1]))
    x0, y0, x1, y1 = numbers
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise UserError(f"the box {box.strip()} is empty or leaves the photo of {width}x{height} (width x height)")
    return Marks(found, (x0, y0, x1, y1))


def clicked(points: str, box: str, kind: str, x: int, y: int) -> tuple[str, str]:
    """The two texts after a click at (x, y). A third corner starts a new box. Raises UserError: the kind is unknown."""
    if kind in (ON, OFF):
        return f"{points.rstrip()} {x},{y}{'' if kind == ON else ',0'}".lstrip(), box
    if kind != CORNER:
        raise UserError(f"unknown kind of click: {kind!r:.60}")
    corner = "".join(box.split()).split(",")
    if len(corner) != 2 or not all(number.isdecimal() for number in corner):
        return points, f"{x},{y}"
    (x0, x1), (y0, y1) = sorted((int(corner[0]), x)), sorted((int(corner[1]), y))
    return points, f"{x0},{y0},{x1 + 1},{y1 + 1}"


def brushed(layers: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """The area painted on any layer with more than half opacity, at the photo's size.

    Args:
        layers: uint8 (h, w, 4) RGBA each, of the photo's size or resized to it by nearest neighbour.
        height, width: of the photo.

    Returns:
        bool (height, width).

    Raises:
        UserError: nothing is painted.
    """
    mask = np.zeros((height, width), bool)
    for layer in layers:
        painted = layer[..., 3] > 127
        if painted.shape != mask.shape:
            enlarged = cv2.resize(painted.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            painted = enlarged.astype(bool)
        mask |= painted
    if not mask.any():
        raise UserError("nothing is painted yet: paint over the visible part of the object")
    return mask


def _numbers(text: str, counts: tuple[int, int], form: str) -> list[int]:
    parts = text.split(",")
    if len(parts) not in counts or not all(part.isdecimal() and len(part) < 7 for part in parts):
        raise UserError(f"'{text:.60}': {form}, whole numbers in pixels of the photo")
    return [int(part) for part in parts]
