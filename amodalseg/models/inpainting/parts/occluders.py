"""What hides an object that nobody says what hides it: its neighbours that lie nearer (paper 001, section 3.4)."""

from __future__ import annotations

import numpy as np

from amodalseg.masks import grown
from amodalseg.models.inpainting.parts.areas import NEAR, area
from amodalseg.models.inpainting.parts.read_off import Segmenter

MOST = 8  # neighbours that are looked at


def find_occluders(
    picture: np.ndarray, modal: np.ndarray, nearer: np.ndarray, segmenter: Segmenter | None, rng: np.random.Generator
) -> np.ndarray:
    """Find what lies in front of an object and touches it.

    With a segmenter the neighbours are its masks at places sampled beside the object, each as a whole in front or not;
    without one they are the connected parts of what is nearer than the object's middle.

    Args:
        picture: uint8 (S, S, 3).
        modal: bool (S, S), not empty: the object as far as it is known.
        nearer: float (S, S), larger where the scene is nearer.
        segmenter: or None.
        rng: source of the places.

    Returns:
        bool (S, S), without the object.
    """
    if segmenter is None:
        return area("depth", modal, nearer=nearer)
    found = np.zeros_like(modal)
    reach = max(1, round(NEAR * len(modal)))
    beside = grown(modal, reach) & ~modal
    for _ in range(MOST):
        rows, columns = np.nonzero(beside)
        if not len(rows):
            break
        chosen = int(rng.integers(len(rows)))
        row, column = rows[chosen], columns[chosen]
        neighbour = segmenter.segment(picture, np.array([[column, row]])) & ~modal
        if neighbour.any():
            found |= area("depth", modal, neighbour, nearer=nearer)
        beside &= ~neighbour
        beside[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = False
    return found
