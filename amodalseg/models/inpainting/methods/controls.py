"""Controls: what comes out without a prior of objects. A method completes only as far as it does better."""

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
            # as the methods that draw beyond the hull: what does not touch the visible part is another thing
            connected = self.everywhere or self.filled in ("occluders", "outside")
            looked = np.ones_like(hole) if self.everywhere and hole.any() else hole
            done.append(Completion(self.read_off(picture, crop, looked, empty, connected=connected), picture))
        return done

    everywhere = False
    """Whether the mask may lie beyond what is filled."""

    @property
    def filled(self) -> str:
        """What is filled, a kind of ``areas.area``."""
        kind: str = self.config.area
        return kind

    def area(self, crop: Crop) -> np.ndarray:
        """What is filled, bool (S, S)."""
        return area(self.filled, crop.modal, crop.occluder)

    def fill(self, picture: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A new picture, uint8 (S, S, 3), filled in the hole."""
        raise NotImplementedError


class Telea(_Control):
    """The colours around the occluders go on in them; where none is known, the prediction is the modal mask."""

    config: TeleaConfig
    filled = "occluders"

    def fill(self, picture: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return remove(picture, hole, "telea")


class NoiseFill(_Control):
    """Noise, as the sampler begins with, in the area of the method that it is the control of."""

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
