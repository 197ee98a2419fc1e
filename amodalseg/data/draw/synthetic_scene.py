"""A scene of the synthetic world with painted objects, not yet composed, so that it can be composed more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amodalseg.data.draw.cover import Patch
from amodalseg.data.draw.synthetic_paint import cast_shadow, lay
from amodalseg.types import AmodalRecord


class Shadows(NamedTuple):
    """drop: (2,) x and y of each shadow relative to its object, pixels. softness, strength: as in ``cast_shadow``."""

    drop: np.ndarray
    softness: float
    strength: float


@dataclass(frozen=True)
class WorldScene:
    """The components of a picture.

    Attributes:
        record: the picture with its ground truth.
        ground: float32 (size, size, 3) in [0, 255], read-only.
        shadows: cast by every object, or None.
        sprites: painted, farthest first.
        target: one of them.
    """

    record: AmodalRecord
    ground: np.ndarray
    shadows: Shadows | None
    sprites: Sequence[Patch]
    target: Patch

    def moved(self, dx: int, dy: int) -> np.ndarray:
        """The same picture with the target shifted, in front of everything else: uint8 (size, size, 3)."""
        target = self.target
        shifted = Patch(target.name, target.alpha, target.rgb, x=target.x + dx, y=target.y + dy)
        rest = [sprite for sprite in self.sprites if sprite is not target]
        return laid(self.ground, [*rest, shifted], self.shadows)


def laid(ground: np.ndarray, sprites: Sequence[Patch], shadows: Shadows | None) -> np.ndarray:
    """Compose painted sprites on a ground, lowest first, each over its shadow. Returns: uint8 (size, size, 3)."""
    canvas = ground.copy()
    for sprite in sprites:
        if shadows is not None:
            cast_shadow(canvas, sprite, shadows.drop, shadows.softness, shadows.strength)
        lay(canvas, sprite)
    return np.rint(canvas).clip(0, 255).astype(np.uint8)
