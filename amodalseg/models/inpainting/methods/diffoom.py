"""DiffOOM (AAAI 2025): complete an occluded object alone on a flat colour.

docs/models.md maps the steps to equations, and says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from amodalseg.config.schema import DiffOOMConfig
from amodalseg.models.inpainting.methods.base_method import Completion, Crop, InpaintingMethod
from amodalseg.models.inpainting.methods.deocclusion import Deocclusion, deocclusion
from amodalseg.models.inpainting.parts.read_off import whole
from amodalseg.models.inpainting.prior_training.validation import to_images
from amodalseg.models.inpainting.steps.sample import advance


class DiffOOM(InpaintingMethod):
    """The method with its options; see ``DiffOOMConfig``."""

    config: DiffOOMConfig

    @torch.no_grad()
    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        # low-rank parts are tuned to one object, so they cannot stand in the network for others too
        groups = [[crop] for crop in crops] if self.config.lora.rank else [crops]
        found: list[Completion] = []
        for group in groups:
            with deocclusion(self.config, self.backend, group, steps or self.config.sampler.steps) as branch:
                calls = branch.spent + branch.per_step * (branch.sampling.steps - branch.sampling.index)
                advance(branch.sampling, branch.hooks)
                found += self._read(group, branch, calls)
        return found

    def _read(self, crops: Sequence[Crop], branch: Deocclusion, calls: int) -> list[Completion]:
        pictures = to_images(self.backend.decode(branch.sampling.x).cpu())
        modal = torch.from_numpy(np.stack([crop.modal for crop in crops]))[:, None]
        seen = modal if branch.attention is None else branch.attention.whole(modal)
        done = []
        for crop, completed, fill, shown in zip(crops, pictures, branch.fills, seen[:, 0].numpy(), strict=True):
            # an autoencoder changes known pixels a little: they are what was given
            picture = np.where(crop.modal[..., None], crop.picture, completed)
            if self.config.answer == "attention":
                mask = whole(shown, crop.modal, ~crop.modal)
            else:
                mask = self.read_off(picture, crop, ~crop.modal, fill, connected=True)
            done.append(Completion(mask, picture, calls))
        return done
