"""Backgrounds behind an object before its picture is completed."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.data.draw.backdrops import PAINTED
from amodalseg.models.inpainting.parts.removal import remove

KINDS = (*PAINTED, "pixels", "original", "removed")
BLUR = 0.02  # of the side: standard deviation of the blur of ``pixels``


def background(
    kind: str,
    picture: np.ndarray,
    modal: np.ndarray,
    rng: np.random.Generator,
    *,
    occluder: np.ndarray | None = None,
    how: str = "telea",
) -> np.ndarray:
    """Make a background.

    Args:
        kind: ``histogram`` (colours sampled from the joint histogram of the visible pixels on a coarse grid, blurred),
            ``pixels`` (the same with a sample for each pixel, which leaves little more than the mean colour), ``grey``,
            ``white``, ``flat`` (one random colour), ``original``, or ``removed`` (object and occluders taken out).
        picture: uint8 (S, S, 3) RGB.
        modal: bool (S, S), not empty.
        rng: source of all random numbers.
        occluder: bool (S, S), the occluder; ``removed`` removes it too.
        how: of ``remove``.

    Returns:
        uint8 (S, S, 3), a new array.
    """
    assert kind in KINDS and modal.any(), kind
    side = len(picture)
    if kind == "original":
        return picture.copy()
    if kind == "removed":
        gone = modal if occluder is None else modal | occluder
        # a ring of mixed pixels around them would be carried inwards
        reach = 2 * max(1, side // 64) + 1
        return remove(picture, cv2.dilate(gone.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0, how)
    colours = picture[modal]
    if kind == "pixels":
        sampled = colours[rng.integers(len(colours), size=side * side)].reshape(side, side, 3)
        return cv2.GaussianBlur(sampled, (0, 0), BLUR * side)
    return np.array(PAINTED[kind](rng, side, colours))
