"""Who hides whom in a photo: decided for each pair of objects, an order of all without cycles, and its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amodalseg.masks import box_xyxy, grown

LEAST = 0.005
"""Of the smaller visible area, and a pixel at least: what one object must hide of another to count."""

REACH = 2
"""Pixels between two visible parts that count as touching."""


class Order(NamedTuple):
    """Who hides whom among N objects.

    hides: bool (N, N), ``hides[i, j]``: i lies in front of j and hides a part of it; without cycles. far_to_near: all
    objects, each behind those that come after it and hide it; otherwise as they were given. dropped: pairs (i, j) that
    were found too but would close a cycle, the weakest of it.
    """

    hides: np.ndarray
    far_to_near: list[int]
    dropped: list[tuple[int, int]]


def hidden_pixels(modal: Sequence[np.ndarray], amodal: Sequence[np.ndarray]) -> np.ndarray:
    """How much of each object lies under the visible part of each other one.

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
    """Who hides whom, pair by pair: of two that hide a part of each other, the one that hides more.

    Args:
        modal, amodal: N masks, bool (H, W) each.
        least: as ``LEAST``; what hides less hides nothing.

    Returns:
        int64 (N, N): pixels that i hides of j, 0 if it hides none; of (i, j) and (j, i) at most one is not 0.
    """
    found = hidden_pixels(modal, amodal)
    areas = np.array([np.count_nonzero(mask) for mask in modal], np.int64)
    enough = np.maximum(1, least * np.minimum(areas[:, None], areas[None]))
    return np.where((found >= enough) & (found > found.T), found, 0)


def order_of(strength: np.ndarray) -> Order:
    """An order without cycles: pairs are taken strongest first, and one that would close a cycle is dropped.

    Args:
        strength: (N, N), from 0; ``strength[i, j]`` > 0: i hides j.
    """
    count = len(strength)
    hides, dropped = np.zeros((count, count), bool), []
    found = np.argwhere(strength > 0)
    # of equal strength, those that were given first: the same order on every machine
    for i, j in sorted(map(tuple, found.tolist()), key=lambda pair: (-strength[pair], pair)):
        if _reaches(hides, j, i):
            dropped.append((i, j))
        else:
            hides[i, j] = True
    return Order(hides, _far_to_near(hides), dropped)


def _reaches(hides: np.ndarray, start: int, goal: int) -> bool:
    """Whether ``start`` lies in front of ``goal``, over any number of others."""
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
        place = next(one for one in left if not hides[one, left].any())  # hides none of those that are left
        found.append(place)
        left.remove(place)
    return found


def touching(modal: Sequence[np.ndarray], reach: int = REACH) -> np.ndarray:
    """Which visible parts meet: bool (N, N), symmetric, without the diagonal.

    Args:
        modal: N masks, bool (H, W) each.
        reach: pixels that one is grown by, for outlines that do not agree to the pixel.
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
