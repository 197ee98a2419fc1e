"""The area of a picture to inpaint."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.masks import box_xyxy, convex_hull, grown

KINDS = ("hull", "box", "depth", "occluders", "outside")
NEAR = 10 / 512  # of the side: maximum distance of an occluder of ``depth`` from the visible region
GROWN = 5.0  # pixels, for a side of 512: dilation of its area


def area(
    kind: str,
    modal: np.ndarray,
    occluder: np.ndarray | None = None,
    *,
    nearer: np.ndarray | None = None,
    grow: float = GROWN,
    visible: bool = False,
) -> np.ndarray:
    """Make an area.

    Args:
        kind: ``hull`` (M of paper 002, equation 10: the filled convex hull of all visible parts, which it contains),
            ``box`` (R: the filled box of the visible region), ``depth`` (D: see below), ``occluders`` (the known
            occluder), ``outside`` (everything but the visible region).
        modal: bool (S, S), not empty.
        occluder: bool (S, S), or None if unknown.
        nearer: float (S, S), larger where the scene is nearer: for ``depth``.
        grow: pixels, for a side of 512, by which ``depth`` is dilated; at least one pixel of the square, unless it is
            0.
        visible: ``depth`` includes the visible region too, unless it is empty.

    Returns:
        bool (S, S). ``occluders`` and ``depth`` are empty without a known occluder.

    ``depth`` is the union of the neighbours that come within 10 px of the visible region (for a side of 512) and are
    nearer, dilated, without the visible region. Neighbours are the connected parts of ``occluder``; if that is unknown,
    those of everything that is nearer than the object's centre according to ``nearer``.
    """
    assert kind in KINDS and modal.any(), kind
    if kind == "hull":
        return convex_hull(modal)
    if kind == "box":
        x0, y0, x1, y1 = box_xyxy(modal) or (0, 0, 0, 0)
        found = np.zeros_like(modal)
        found[y0:y1, x0:x1] = True
        return found
    if kind == "outside":
        return ~modal
    if kind == "occluders":
        return np.zeros_like(modal) if occluder is None else occluder & ~modal
    found = _nearer_neighbours(modal, occluder, nearer)
    if not found.any():
        return found
    wide = grown(found, max(1, round(grow / 512 * len(modal)))) if grow else found
    return wide | modal if visible else wide & ~modal


def _nearer_neighbours(modal: np.ndarray, occluder: np.ndarray | None, nearer: np.ndarray | None) -> np.ndarray:
    middle = None if nearer is None else np.median(nearer[modal])
    if occluder is not None:
        candidates = occluder & ~modal
    elif nearer is not None:
        candidates = (nearer > middle) & ~modal
    else:
        return np.zeros_like(modal)
    distance = cv2.distanceTransform((~modal).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    close = distance <= max(1.0, NEAR * len(modal))
    count, labels = cv2.connectedComponents(candidates.astype(np.uint8), connectivity=8)
    found = np.zeros_like(modal)
    for label in range(1, count):
        part = labels == label
        in_front = nearer is None or np.median(nearer[part]) > middle
        if in_front and (part & close).any():
            found |= part
    return found
