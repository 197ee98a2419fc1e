"""Backgrounds that replace an object's original surroundings."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

GREY = 135  # the mean of a plain grey wall in a photo
Rng = np.random.Generator


def histogram_background(rng: Rng, side: int, colours: np.ndarray) -> np.ndarray:
    """Colours of the object itself, sampled independently for the cells of a coarse grid, then blurred.

    Blurring single pixels would leave little more than the mean colour, hence the grid, of 3 to 16 cells on a side.

    Args:
        rng: source of all random numbers.
        side: of the result, pixels.
        colours: uint8 (N, 3), the object's visible pixels.

    Returns:
        uint8 (side, side, 3).
    """
    places = int(rng.integers(3, 17))
    sampled = colours[rng.integers(len(colours), size=places * places)].reshape(places, places, 3)
    wide = cv2.resize(sampled, (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(wide, (0, 0), 0.02 * side + 0.5)


def grey_background(rng: Rng, side: int, colours: np.ndarray) -> np.ndarray:
    """A grey wall: uniform, or with light that falls off in one direction. Arguments as ``histogram_background``."""
    level = GREY + rng.uniform(-12, 12)
    if rng.random() < 0.5:
        return np.full((side, side, 3), np.uint8(level))
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(5, 30)
    line = np.linspace(-fall, fall, side, dtype=np.float32)
    plane = np.float32(level) + np.float32(np.cos(angle)) * line[None] + np.float32(np.sin(angle)) * line[:, None]
    return np.broadcast_to(plane.clip(0, 255).astype(np.uint8)[..., None], (side, side, 3))


def white_background(rng: Rng, side: int, colours: np.ndarray) -> np.ndarray:
    """White. Arguments as ``histogram_background``."""
    return np.full((side, side, 3), np.uint8(255))


def flat_background(rng: Rng, side: int, colours: np.ndarray) -> np.ndarray:
    """One random colour. Arguments as ``histogram_background``."""
    return np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), (side, side, 3))


PAINTED: dict[str, Callable[[Rng, int, np.ndarray], np.ndarray]] = {
    "histogram": histogram_background,
    "grey": grey_background,
    "white": white_background,
    "flat": flat_background,
}
"""Backgrounds that need no photo, by name."""
