"""Placing one mask over another to occlude a given share: shared by the synthetic world and the composites."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np


@dataclass
class Silhouette:
    """The shape of one object, cropped to its box, and its position in a picture.

    Attributes:
        name: the family of the shape, or the key of its record.
        alpha: float32 (h, w) in [0, 1], the coverage of each pixel; read-only.
        x, y: top left corner in the picture, pixels; may lie outside.
    """

    name: str
    alpha: np.ndarray
    x: int = field(default=0, kw_only=True)
    y: int = field(default=0, kw_only=True)

    @cached_property
    def mask(self) -> np.ndarray:
        """bool (h, w): more than half covered. Ground-truth masks are built from this."""
        return self.alpha > 0.5

    def mask_in(self, shape: tuple[int, ...]) -> np.ndarray:
        """bool (H, W): the mask in a picture of that shape."""
        full = np.zeros(shape[:2], bool)
        here, there = overlap(shape, self.alpha.shape, self.x, self.y)
        full[here] = self.mask[there]
        return full


@dataclass
class Patch(Silhouette):
    """A silhouette with its colours: ``rgb``, (h, w, 3) in [0, 255], filled in outside the object too."""

    rgb: np.ndarray


class Spot(NamedTuple):
    """Position of a cover: its top left corner (may be outside the picture), and the target pixels it occludes."""

    x: int
    y: int
    hidden: int


def overlap(shape: tuple[int, ...], patch: tuple[int, ...], x: int, y: int) -> tuple[tuple[slice, slice], ...]:
    """The part of a patch that lies inside a picture.

    Args:
        shape, patch: (H, W, ...) of the picture and of the patch.
        x, y: top left corner of the patch in the picture, pixels; may be negative.

    Returns:
        Row and column slices into the picture, and the same into the patch; empty slices if they do not overlap.
    """
    top, left = max(0, y), max(0, x)
    bottom, right = max(top, min(shape[0], y + patch[0])), max(left, min(shape[1], x + patch[1]))
    inside = slice(top, bottom), slice(left, right)
    return inside, (slice(top - y, bottom - y), slice(left - x, right - x))


def num_hidden(target: np.ndarray, cover: np.ndarray, x: int, y: int) -> int:
    """Pixels of ``target``, bool (H, W), under ``cover``, bool (h, w), with top left corner (x, y)."""
    here, there = overlap(target.shape, cover.shape, x, y)
    return int(np.count_nonzero(target[here] & cover[there]))


def slide(target: np.ndarray, cover: np.ndarray, start: np.ndarray, end: np.ndarray, goal: int) -> tuple[Spot, Spot]:
    """Move a cover from ``start`` towards ``end``, to the point where it starts to occlude ``goal`` pixels.

    Bisects over whole pixels. The occluded area need not be monotonic: neighbouring positions on both sides of a
    crossing are found whenever ``start`` occludes less than the goal and ``end`` does not.

    Args:
        target, cover: bool (H, W) and (h, w).
        start, end: (2,) x and y of the cover's top left corner, pixels.
        goal: pixels to occlude, at least 1.

    Returns:
        The last position below the goal, and the next one, which reaches it. Both are ``end`` if even that occludes
        less, and both ``start`` if that already occludes more.
    """

    def at(step: int) -> Spot:
        x, y = np.rint(start + (end - start) * (step / steps)).astype(int)
        return Spot(int(x), int(y), num_hidden(target, cover, int(x), int(y)))

    steps = max(1, int(np.ceil(np.abs(end - start).max())))
    low, high, below, above = 0, steps, at(0), at(steps)
    if below.hidden >= goal:
        return below, below
    if above.hidden < goal:
        return above, above
    while high - low > 1:
        middle = (low + high) // 2
        spot = at(middle)
        if spot.hidden < goal:
            low, below = middle, spot
        else:
            high, above = middle, spot
    return below, above


def nearest(goal: int, *spots: Spot) -> Spot:
    """The spot whose occluded area is closest to the goal."""
    return min(spots, key=lambda spot: abs(spot.hidden - goal))


def random_pixel(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """A random pixel (x, y), int (2,), of a bool (H, W) mask that is not empty."""
    flat = np.flatnonzero(mask)
    y, x = divmod(int(flat[rng.integers(len(flat))]), mask.shape[1])
    return np.array([x, y])


def random_direction(rng: np.random.Generator) -> np.ndarray:
    """A random unit vector (x, y), float64 (2,)."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
