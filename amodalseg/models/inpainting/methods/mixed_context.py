"""Paper 001: complete the object on a clean background, put it back into its own, repeat until nothing occludes it.

docs/models.md maps the steps to sections and equations, and says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from amodalseg.config.schema import InpaintConfig, MixedContextConfig
from amodalseg.models.inpainting.methods.completion import Completion, Crop
from amodalseg.models.inpainting.methods.context import Windows, inpaint_windows, mix_contexts
from amodalseg.models.inpainting.methods.opening import Helpers
from amodalseg.models.inpainting.methods.progressive import Progressive
from amodalseg.models.inpainting.parts.backgrounds import background
from amodalseg.models.inpainting.parts.read_off import whole


class Inpaint(Progressive):
    """Inpainting of the occluders in the original photo, once; see ``InpaintConfig``."""

    config: InpaintConfig | MixedContextConfig  # type: ignore[assignment]

    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        """One round (equation 3). crops: ``occluder`` is everything that may occlude the object."""
        config, backend = self.config, self.backend
        steps = steps or config.sampler.steps
        windows = _windows([crop.picture for crop in crops], crops)
        pictures = inpaint_windows(backend, windows, steps, config.guidance)
        calls = steps * (1 + windows.is_guided(backend, config.guidance))
        return self._read(crops, pictures, [self._cleared(crop) for crop in crops], calls)

    def _cleared(self, crop: Crop) -> np.ndarray:
        """A possible background behind the object and its occluders, uint8 (S, S, 3)."""
        rng, how = crop.generator(), self.config.removal
        return background("removed", crop.picture, crop.modal, rng, occluder=crop.occluder, how=how)

    def _read(
        self, crops: Sequence[Crop], pictures: np.ndarray, behind: Sequence[np.ndarray], calls: int
    ) -> list[Completion]:
        done = []
        for crop, picture, empty in zip(crops, pictures, behind, strict=True):
            assert crop.occluder is not None
            mask = self.read_off(picture, crop, crop.occluder, empty, connected=True)
            done.append(Completion(mask, picture, calls))
        return done


class MixedContext(Inpaint):
    """The method with its options; see ``MixedContextConfig``."""

    config: MixedContextConfig  # type: ignore[assignment]

    def helpers(self, config: Any) -> Helpers:
        found = super().helpers(config)
        cut_out = config.answer == "clusters" and config.swap and config.composite  # nothing is read off
        looks = found.depth or config.occluders != "given"
        return found._replace(segmenter=None) if cut_out and not looks else found

    @property
    def iterations(self) -> int:  # type: ignore[override]
        return self.config.iterations

    @property
    def padding(self) -> float:  # type: ignore[override]
        return self.config.padding

    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        config, backend = self.config, self.backend
        if not config.swap:
            return super().complete(crops, steps)
        steps = steps or config.sampler.steps
        clean = [background(config.background, crop.picture, crop.modal, crop.generator()) for crop in crops]
        cleared = [self._cleared(crop) for crop in crops]
        windows = _windows([_on_background(crop, empty) for crop, empty in zip(crops, clean, strict=True)], crops)
        calls = steps * (1 + windows.is_guided(backend, config.guidance))
        if config.composite:
            home = [_on_background(crop, empty) for crop, empty in zip(crops, cleared, strict=True)]
            modal = [crop.modal for crop in crops]
            pictures, masks = mix_contexts(
                backend, windows, home, modal, steps=steps, timestep=config.timestep, feature=config.feature,
                clusters=config.clusters, share=config.share, choice=config.choice, guidance=config.guidance,
            )  # fmt: skip
            if config.answer == "clusters":
                cases = zip(crops, pictures, masks, windows.holes, strict=True)
                return [
                    Completion(whole(mask, crop.modal, hole), painted, calls) for crop, painted, mask, hole in cases
                ]
            return self._read(crops, pictures, cleared, calls)
        done = self._read(crops, inpaint_windows(backend, windows, steps, config.guidance), clean, calls)
        # the clean background is not kept: the next round must not mistake it for a part of the photo
        return [
            one._replace(picture=np.where(one.mask[..., None], one.picture, empty))
            for one, empty in zip(done, cleared, strict=True)
        ]


def _windows(pictures: Sequence[np.ndarray], crops: Sequence[Crop]) -> Windows:
    holes = [np.zeros_like(crop.modal) if crop.occluder is None else crop.occluder for crop in crops]
    return Windows(pictures, holes, [crop.seed for crop in crops], [crop.category or "" for crop in crops])


def _on_background(crop: Crop, behind: np.ndarray) -> np.ndarray:
    """The visible region on another background, uint8 (S, S, 3)."""
    return np.where(crop.modal[..., None], crop.picture, behind)
