"""Occluders of an object: neighbours that lie in front of it (paper 001, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from amodalseg.masks import convex_hull, grown
from amodalseg.metrics.order import pairs
from amodalseg.models.inpainting.parts.areas import NEAR, area
from amodalseg.models.inpainting.parts.read_off import Segmenter

MOST = 8  # maximum number of neighbours examined
LIKE = 12  # of 255, in every channel: maximum difference of one thing's colours from that of the prompted point


class ColourSegmenter:
    """A segmenter without weights: the connected region of similar colour around a point."""

    def segment(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        """uint8 (S, S, 3) and int (1, 2), x and y -> bool (S, S)."""
        (x, y), found = points[0].tolist(), np.zeros((picture.shape[0] + 2, picture.shape[1] + 2), np.uint8)
        flags = 8 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
        cv2.floodFill(cv2.medianBlur(picture, 3), found, (x, y), 0, (LIKE,) * 3, (LIKE,) * 3, flags)  # type: ignore
        return found[1:-1, 1:-1] > 0


def find_occluders(
    picture: np.ndarray,
    modal: np.ndarray,
    nearer: np.ndarray | None,
    segmenter: Segmenter | None,
    rng: np.random.Generator,
    objects: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Find what lies in front of an object and touches it.

    Neighbours are the picture's objects, if given; else the segmenter's masks at points sampled beside the object.
    Without a segmenter they are the connected parts that are nearer than the object's centre or, without depth,
    regions of similar colour. Each is judged as a whole: by its depth, or by ``hides_by_contact``.

    Args:
        picture: uint8 (S, S, 3).
        modal: bool (S, S), not empty: the part of the object known so far.
        nearer: float (S, S), larger where the scene is nearer; None: the order follows from the outlines.
        segmenter: or None.
        rng: source of the points.
        objects: bool (S, S) each, of all objects of the picture, with or without the one in question; or None.

    Returns:
        bool (S, S), without the object.
    """
    if objects is not None:
        neighbours: Iterator[np.ndarray] = (mask & ~modal for mask in objects if not _is_same_object(mask, modal))
    elif segmenter is None and nearer is not None:
        return area("depth", modal, nearer=nearer)
    else:
        neighbours = _sample_neighbours(picture, modal, segmenter or ColourSegmenter(), rng)
    found = np.zeros_like(modal)
    for neighbour in neighbours:
        if neighbour.any() and (nearer is not None or hides_by_contact(neighbour, modal)):
            found |= area("depth", modal, neighbour, nearer=nearer)
    return found


def hides_by_contact(neighbour: np.ndarray, modal: np.ndarray) -> bool:
    """Whether a neighbour lies in front, judged by outlines only: it covers more of the object's convex hull than the
    object covers of its hull.

    An object cut off along a straight line keeps its hull, so this order misses such occluders; a depth model does not.

    Args:
        neighbour, modal: bool (H, W), visible parts.
    """
    seen = [neighbour & ~modal, modal]
    return bool(pairs(seen, [convex_hull(mask) for mask in seen])[0, 1])


def _is_same_object(mask: np.ndarray, modal: np.ndarray) -> bool:
    both = int((mask & modal).sum())
    return 2 * both > min(int(mask.sum()), int(modal.sum()))


def _sample_neighbours(
    picture: np.ndarray, modal: np.ndarray, segmenter: Segmenter, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Neighbours of an object, bool (S, S) each, without the object: segments at up to ``MOST`` sampled points."""
    reach = max(1, round(NEAR * len(modal)))
    beside = grown(modal, reach) & ~modal
    for _ in range(MOST):
        rows, columns = np.nonzero(beside)
        if not len(rows):
            break
        chosen = int(rng.integers(len(rows)))
        row, column = rows[chosen], columns[chosen]
        neighbour = segmenter.segment(picture, np.array([[column, row]])) & ~modal
        yield neighbour
        beside &= ~neighbour
        beside[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = False
