"""Occlusion order in a photo: decided for each pair of objects, an acyclic order of all, and its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amodalseg.masks import box_xyxy, grown

LEAST = 0.005
"""Share of the smaller visible area, at least one pixel, that one object must occlude of another to count."""

REACH = 2
"""Maximum distance in pixels between two modal masks that count as touching."""


class Order(NamedTuple):
    """The occlusion order of N objects.

    hides: bool (N, N), ``hides[i, j]``: i lies in front of j and occludes a part of it; acyclic. far_to_near: all
    objects, each before those that occlude it; otherwise in the given order. dropped: pairs (i, j) that were dropped
    because they would close a cycle, each the weakest of its cycle.
    """

    hides: np.ndarray
    far_to_near: list[int]
    dropped: list[tuple[int, int]]


def hidden_pixels(modal: Sequence[np.ndarray], amodal: Sequence[np.ndarray]) -> np.ndarray:
    """How much of each object lies beneath the visible region of each other object.

    Args:
        modal, amodal: N masks, bool (H, W) each.

    Returns:
        int64 (N, N): pixels of modal i inside amodal j, outside modal j. The diagonal is 0.
    """
    count = len(modal)
    found = np.zeros((count, count), np.int64)
    hidden = [whole & ~seen for seen, whole in zip(modal, amodal, strict=True)]
    boxes = [box_xyxy(mask) for mask in hidden]
    for i in range(count):
        for j in range(count):
            box = boxes[j]
            if i != j and box is not None:
                place = slice(box[1], box[3]), slice(box[0], box[2])
                found[i, j] = np.count_nonzero(modal[i][place] & hidden[j][place])
    return found


def pairs(modal: Sequence[np.ndarray], amodal: Sequence[np.ndarray], least: float = LEAST) -> np.ndarray:
    """The occluder in each pair of objects: of two that occlude each other, the one that occludes more.

    Args:
        modal, amodal: N masks, bool (H, W) each.
        least: as ``LEAST``; anything less does not count as occlusion.

    Returns:
        int64 (N, N): pixels of j that i occludes, or 0; of (i, j) and (j, i) at most one is not 0.
    """
    found = hidden_pixels(modal, amodal)
    areas = np.array([np.count_nonzero(mask) for mask in modal], np.int64)
    enough = np.maximum(1, least * np.minimum(areas[:, None], areas[None]))
    return np.where((found >= enough) & (found > found.T), found, 0)


def order_of(strength: np.ndarray) -> Order:
    """An acyclic order: pairs are added strongest first, and one that would close a cycle is dropped.

    Args:
        strength: (N, N), non-negative; ``strength[i, j]`` > 0: i occludes j.
    """
    count = len(strength)
    hides, dropped = np.zeros((count, count), bool), []
    found = np.argwhere(strength > 0)
    # ties in the given order, so that the result is the same on every machine
    for i, j in sorted(map(tuple, found.tolist()), key=lambda pair: (-strength[pair], pair)):
        if _reaches(hides, j, i):
            dropped.append((i, j))
        else:
            hides[i, j] = True
    return Order(hides, _far_to_near(hides), dropped)


def _reaches(hides: np.ndarray, start: int, goal: int) -> bool:
    """Whether ``start`` lies in front of ``goal``, directly or through other objects."""
    seen, waiting = {start}, [start]
    while waiting:
        for place in np.flatnonzero(hides[waiting.pop()]).tolist():
            if place == goal:
                return True
            if place not in seen:
                seen.add(place)
                waiting.append(place)
    return False


def _far_to_near(hides: np.ndarray) -> list[int]:
    left, found = list(range(len(hides))), []
    while left:
        place = next(one for one in left if not hides[one, left].any())  # occludes none of the remaining objects
        found.append(place)
        left.remove(place)
    return found


def touching(modal: Sequence[np.ndarray], reach: int = REACH) -> np.ndarray:
    """Which modal masks touch: bool (N, N), symmetric, false on the diagonal.

    Args:
        modal: N masks, bool (H, W) each.
        reach: pixels by which one mask is dilated, for outlines that do not match exactly.
    """
    count = len(modal)
    found, boxes = np.zeros((count, count), bool), [box_xyxy(mask) for mask in modal]
    for i in range(count):
        wide = grown(modal[i], reach)
        for j in range(i + 1, count):
            box = boxes[j]
            if box is not None:
                place = slice(box[1], box[3]), slice(box[0], box[2])
                found[i, j] = found[j, i] = bool((wide[place] & modal[j][place]).any())
    return found
