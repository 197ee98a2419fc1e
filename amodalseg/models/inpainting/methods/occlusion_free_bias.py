"""Paper 002: inpainting models generate whole objects, so inpaint around the visible region and segment again.

docs/models.md maps the steps to equations, and says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from amodalseg.config.schema import OcclusionFreeBiasConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.methods.base_method import InpaintingMethod
from amodalseg.models.inpainting.methods.completion import Completion, Crop
from amodalseg.models.inpainting.methods.opening import Helpers
from amodalseg.models.inpainting.parts.areas import area
from amodalseg.models.inpainting.parts.backgrounds import background
from amodalseg.models.inpainting.prior_training.validation import to_images, to_pictures
from amodalseg.models.inpainting.steps.guidance import Leakage, MaskGuidance
from amodalseg.models.inpainting.steps.sample import Hook, advance, begin


def noised(picture: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Equation 9: share * noise + (1 - share) * picture, in a range from -1 to 1.

    Args:
        picture: uint8 (S, S, 3). share: in [0, 1]. rng: of standard normal noise.

    Returns:
        uint8 (S, S, 3), clipped.
    """
    values = share * rng.standard_normal(picture.shape) + (1 - share) * (picture / 127.5 - 1)
    return np.rint((values + 1) * 127.5).clip(0, 255).astype(np.uint8)


class OcclusionFreeBias(InpaintingMethod):
    """The method with its options; see ``OcclusionFreeBiasConfig``."""

    config: OcclusionFreeBiasConfig

    def helpers(self, config: Any) -> Helpers:
        depth = config.depth if config.area == "depth" else None
        removes = config.background == "removed" and config.removal == "lama"
        return super().helpers(config)._replace(depth=depth or None, lama=removes)

    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        config = self.config
        behind, condition, areas = [], [], []
        for crop in crops:
            rng = crop.generator()
            empty = background(
                config.background, crop.picture, crop.modal, rng, occluder=crop.occluder, how=config.removal
            )
            given = noised(crop.picture, config.noise, rng) if config.noise else crop.picture
            behind.append(empty)
            condition.append(np.where(crop.modal[..., None], given, empty))  # equation 8
            areas.append(self._area(crop))
        pictures, evaluations = self._complete_pictures(condition, areas, [crop.seed for crop in crops], steps)
        done = []
        for crop, empty, given, hole, painted in zip(crops, behind, condition, areas, pictures, strict=True):
            if config.leakage.mode == "soft" and hole.any():
                mask = self.read_off(painted, crop, np.ones_like(hole), empty, connected=True)
                done.append(Completion(mask, painted, evaluations))
                continue
            # a decoder changes known pixels slightly, so restore the given ones
            picture = np.where(hole[..., None], painted, given)
            done.append(Completion(self.read_off(picture, crop, hole, empty), picture, evaluations))
        return done

    def _area(self, crop: Crop) -> np.ndarray:
        nearer = None
        if self.config.area == "depth" and self.config.depth:
            nearer = self.depth_model.nearer(crop.picture)
        options = self.config.neighbours
        found = area(
            self.config.area, crop.modal, crop.occluder, nearer=nearer, grow=options.grown, visible=options.visible
        )
        return found & ~crop.modal if self.config.known_visible else found

    @torch.no_grad()
    def _complete_pictures(
        self, condition: Sequence[np.ndarray], areas: Sequence[np.ndarray], seeds: Sequence[int], steps: int | None
    ) -> tuple[np.ndarray, int]:
        """Pictures uint8 (B, S, S, 3), and the number of network evaluations for each."""
        backend, leakage, guidance = self.backend, self.config.leakage, self.config.guidance
        if leakage.mode == "soft" and not backend.abilities.sees_hole:
            raise UserError(
                f"{self.name}: leakage.mode=soft is for inpainting models that see the area, which {backend.name} does "
                "not; use leakage.mode=strength"
            )
        known, holes = to_pictures(condition), torch.from_numpy(np.stack(areas))[:, None]
        prepared = backend.prepare(known, holes)
        hooks: list[Hook] = []
        if guidance.kind == "mask" and guidance.weight and backend.abilities.sees_hole:
            whole = guidance.null_hole == "none"
            null = backend.prepare(known, torch.zeros_like(holes)) if whole else backend.unconditional(prepared)
            hooks.append(MaskGuidance(null, guidance.weight))
        calls = 1 + len(hooks)
        if leakage.mode in ("blend", "blend_until"):
            hooks.append(Leakage(leakage.s, leakage.until if leakage.mode == "blend_until" else 1.0))
        elif leakage.mode != "soft":
            hooks.append(Leakage(1.0))  # plain
        strength = leakage.s if leakage.mode in ("strength", "soft") else 1.0
        sampling = begin(backend, prepared, seeds, steps or self.config.sampler.steps, strength)
        calls *= sampling.steps - sampling.index
        return to_images(backend.decode(advance(sampling, hooks).x).cpu()), calls
