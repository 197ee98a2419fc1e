"""Holes to inpaint: what a model sees depends on visible pixels and chance, never on the content of the hole."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.masks import convex_hull, grown

Rng = np.random.Generator
TRIES = 4  # placements of a cover before the last one is accepted
SHARE = (0.1, 0.75)  # of the object's pixels that a cover should occlude


def random_hole(rng: Rng, mask: np.ndarray, silhouette: np.ndarray) -> tuple[str, np.ndarray]:
    """Sample a hole.

    A *cover* is another object's silhouette, a slanted box, or everything on one side of a line. The rest of the object
    is visible. All holes extend beyond the object's outline, so that a model learns where an object ends.

    Args:
        rng: source of all random numbers.
        mask: bool (S, S), the whole object.
        silhouette: uint8 (h, w) in {0, 1}, another object.

    Returns:
        Its kind, and bool (S, S):

        - ``everything`` (8 %): no pixel is known;
        - ``outside`` (25 %): everything but the slightly eroded visible region. In two of five the whole object is
          visible, so that complete objects are not enlarged; in three of five the picture's corners are known too, if
          the object does not reach them: they show the background;
        - ``hull`` (12 %): the convex hull of the visible region, including that region;
        - ``cover`` (55 %): the cover, dilated by up to a sixteenth of the side.
    """
    side = len(mask)
    chance = rng.random()
    if chance < 0.08:
        return "everything", np.ones_like(mask)
    cover = _random_cover(rng, mask, silhouette)
    visible = mask if chance < 0.18 else mask & ~cover
    if chance < 0.45 and visible.any():
        reach = int(rng.integers(0, 1 + side // 24))
        if chance < 0.33:
            known = corners(side, rng.uniform(0.06, 0.16)) & (rng.random() < 0.6)
            return "outside", ~(_eroded(visible, reach) | known & ~(known & mask).any())
        return "hull", grown(convex_hull(visible), reach)
    return "cover", grown(cover, int(rng.integers(0, 1 + side // 16)))


def corners(side: int, share: float) -> np.ndarray:
    """Squares in the four corners of a picture, bool (side, side). share: their side, in sides of the picture."""
    edge = np.arange(side) < round(share * side)
    edge = edge | edge[::-1]
    return edge[:, None] & edge[None]


def half_hole(rng: Rng, mask: np.ndarray, reach: int = 1) -> np.ndarray:
    """Everything on one side of a line through the object that halves it, in a random direction.

    Args:
        rng: source of the direction.
        mask: bool (S, S), not empty.
        reach: pixels by which the hole is dilated.

    Returns:
        bool (S, S), containing half of the object's pixels (before dilation).
    """
    angle = rng.uniform(0, 2 * np.pi)
    line = np.arange(len(mask), dtype=np.float32)
    along = np.float32(np.cos(angle)) * line[None] + np.float32(np.sin(angle)) * line[:, None]
    return grown(along > np.median(along[mask]), reach)


def _random_cover(rng: Rng, mask: np.ndarray, silhouette: np.ndarray) -> np.ndarray:
    side, size = len(mask), int(np.count_nonzero(mask))
    edge = np.flatnonzero(mask)
    cover = np.zeros_like(mask)
    kind = (_silhouette, _silhouette, _silhouette, _box, _side)[rng.integers(5)]
    for _ in range(TRIES):
        y, x = divmod(int(edge[rng.integers(len(edge))]), side)
        cover = kind(rng, side, x, y, float(np.sqrt(size)), silhouette)
        if SHARE[0] <= np.count_nonzero(cover & mask) / size <= SHARE[1]:
            break
    return cover


def _silhouette(rng: Rng, side: int, x: int, y: int, reach: float, silhouette: np.ndarray) -> np.ndarray:
    """Another object, rotated and scaled, near (x, y)."""
    height, width = silhouette.shape
    scale = rng.uniform(0.5, 1.5) * reach / max(1.0, float(np.sqrt(np.count_nonzero(silhouette))))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 20), scale)
    if rng.random() < 0.5:
        turn[:, 0] *= -1  # mirrored
    centre = turn @ (width / 2, height / 2, 1)
    away = rng.uniform(-0.4, 0.4, 2) * reach
    turn[:, 2] += (x + away[0] - centre[0], y + away[1] - centre[1])
    return cv2.warpAffine(silhouette, turn, (side, side), flags=cv2.INTER_NEAREST).astype(bool)


def _box(rng: Rng, side: int, x: int, y: int, reach: float, silhouette: np.ndarray) -> np.ndarray:
    """A box about (x, y), upright or slanted."""
    size = rng.uniform(0.3, 1.5, 2) * reach
    angle = rng.choice([0.0, rng.uniform(0, 90)])
    corners = cv2.boxPoints(((float(x), float(y)), (float(size[0]), float(size[1])), float(angle)))
    return cv2.fillConvexPoly(np.zeros((side, side), np.uint8), np.rint(corners).astype(np.int32), 1).astype(bool)


def _side(rng: Rng, side: int, x: int, y: int, reach: float, silhouette: np.ndarray) -> np.ndarray:
    """Everything on one side of a line through (x, y)."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.arange(side, dtype=np.float32)
    return np.float32(np.cos(angle)) * (line[None] - x) + np.float32(np.sin(angle)) * (line[:, None] - y) > 0


def _eroded(mask: np.ndarray, reach: int) -> np.ndarray:
    """Eroded, unless nothing would be left."""
    if not reach:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    small = cv2.erode(mask.astype(np.uint8), kernel).astype(bool)
    return small if small.any() else mask
