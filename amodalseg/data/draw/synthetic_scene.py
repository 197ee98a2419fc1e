"""A picture of the synthetic world whose colours are drawn and which is not yet laid: it may be laid more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amodalseg.data.draw.cover import Patch
from amodalseg.data.draw.synthetic_paint import cast_shadow, lay
from amodalseg.types import AmodalRecord


class Shadows(NamedTuple):
    """drop: (2,) x and y of each shadow against its object, pixels. softness, strength: as for ``cast_shadow``."""

    drop: np.ndarray
    softness: float
    strength: float


@dataclass(frozen=True)
class WorldScene:
    """What a picture is made of.

    Attributes:
        record: the picture as it is drawn, with its truth.
        ground: float32 (size, size, 3) in [0, 255], not to be written to.
        shadows: that every object casts, or None.
        sprites: painted, the farthest first.
        target: one of them.
    """

    record: AmodalRecord
    ground: np.ndarray
    shadows: Shadows | None
    sprites: Sequence[Patch]
    target: Patch

    def moved(self, dx: int, dy: int) -> np.ndarray:
        """The same picture with the target shifted, over all else: uint8 (size, size, 3)."""
        target = self.target
        shifted = Patch(target.name, target.alpha, target.rgb, x=target.x + dx, y=target.y + dy)
        rest = [sprite for sprite in self.sprites if sprite is not target]
        return laid(self.ground, [*rest, shifted], self.shadows)


def laid(ground: np.ndarray, sprites: Sequence[Patch], shadows: Shadows | None) -> np.ndarray:
    """Lay painted sprites over a ground, the first one lowest, each over its shadow. Returns: uint8 (size, size, 3)."""
    canvas = ground.copy()
    for sprite in sprites:
        if shadows is not None:
            cast_shadow(canvas, sprite, shadows.drop, shadows.softness, shadows.strength)
        lay(canvas, sprite)
    return np.rint(canvas).clip(0, 255).astype(np.uint8)
