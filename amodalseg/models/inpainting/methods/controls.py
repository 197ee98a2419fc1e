"""Controls: results without an object prior. A method completes only as far as it is better than its control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodalseg.config.schema import NoiseFillConfig, TeleaConfig
from amodalseg.models.inpainting.methods.base_method import ReadsOff
from amodalseg.models.inpainting.methods.completion import Completion, Crop
from amodalseg.models.inpainting.parts.areas import area
from amodalseg.models.inpainting.parts.backgrounds import background
from amodalseg.models.inpainting.parts.removal import remove


class _Control(ReadsOff):
    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        done = []
        for crop in crops:
            rng = crop.generator()
            empty = background(self.config.background, crop.picture, crop.modal, rng, occluder=crop.occluder)
            given = np.where(crop.modal[..., None], crop.picture, empty)
            hole = self.area(crop)
            picture = self.fill(given, hole, rng)
            # as in methods that work beyond the hull: parts not touching the visible region are other objects
            connected = self.everywhere or self.filled in ("occluders", "outside")
            looked = np.ones_like(hole) if self.everywhere and hole.any() else hole
            done.append(Completion(self.read_off(picture, crop, looked, empty, connected=connected), picture))
        return done

    everywhere = False
    """Whether the mask may extend beyond the filled area."""

    @property
    def filled(self) -> str:
        """The filled area, a kind of ``areas.area``."""
        kind: str = self.config.area
        return kind

    def area(self, crop: Crop) -> np.ndarray:
        """The filled area, bool (S, S)."""
        return area(self.filled, crop.modal, crop.occluder)

    def fill(self, picture: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A new picture, uint8 (S, S, 3), filled in the hole."""
        raise NotImplementedError


class Telea(_Control):
    """Colours around the occluders, extended into them; without a known occluder, the prediction is the modal mask."""

    config: TeleaConfig
    filled = "occluders"

    def fill(self, picture: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return remove(picture, hole, "telea")


class NoiseFill(_Control):
    """Noise, as at the start of sampling, in the area of the method that it is a control for."""

    config: NoiseFillConfig
    stochastic = True

    @property
    def everywhere(self) -> bool:  # type: ignore[override]
        return self.config.everywhere

    def area(self, crop: Crop) -> np.ndarray:
        options = self.config.neighbours
        return area(self.filled, crop.modal, crop.occluder, grow=options.grown, visible=options.visible)

    def fill(self, picture: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = np.rint((rng.standard_normal(picture.shape) + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return np.where(hole[..., None], noise, picture)
