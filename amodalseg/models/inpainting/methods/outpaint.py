"""Naive outpainting (paper 001, equation 2): everything outside the modal mask is inpainted."""

from __future__ import annotations

from collections.abc import Sequence

from amodalseg.config.schema import NaiveOutpaintConfig
from amodalseg.models.inpainting.methods.base_method import InpaintingMethod
from amodalseg.models.inpainting.methods.completion import Completion, Crop
from amodalseg.models.inpainting.methods.context import Windows, inpaint_windows
from amodalseg.models.inpainting.parts.areas import area
from amodalseg.models.inpainting.parts.removal import remove


class NaiveOutpaint(InpaintingMethod):
    """The baseline of the paper; see ``NaiveOutpaintConfig``."""

    config: NaiveOutpaintConfig

    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        config, backend = self.config, self.backend
        steps = steps or config.sampler.steps
        holes = [area("outside", crop.modal) for crop in crops]
        prompts = [crop.category or "" for crop in crops]
        windows = Windows([crop.picture for crop in crops], holes, [crop.seed for crop in crops], prompts)
        pictures = inpaint_windows(backend, windows, steps, config.guidance)
        calls = steps * (1 + windows.is_guided(backend, config.guidance))
        done = []
        for crop, hole, picture in zip(crops, holes, pictures, strict=True):
            # the generated background is unknown: estimate it by removing the object and its surroundings
            behind = remove(picture, crop.modal)
            mask = self.read_off(picture, crop, hole, behind, connected=True)
            done.append(Completion(mask, picture, calls))
        return done
