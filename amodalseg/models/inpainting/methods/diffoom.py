"""DiffOOM (AAAI 2025): complete an occluded object alone on a flat colour, and move it to a target.

docs/models.md maps the steps to equations, and says what differs from the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from amodalseg.config.schema import DiffOOMConfig
from amodalseg.data.images import resize
from amodalseg.data.window import crop_mask
from amodalseg.models.inpainting.methods.base_method import InpaintingMethod
from amodalseg.models.inpainting.methods.completion import Completion, Crop, cut
from amodalseg.models.inpainting.methods.deocclusion import Deocclusion, deocclusion, prompt_of
from amodalseg.models.inpainting.methods.movement import Box, move_in_latents
from amodalseg.models.inpainting.parts.read_off import whole
from amodalseg.models.inpainting.prior_training.validation import to_images, to_pictures
from amodalseg.models.inpainting.steps.sample import advance
from amodalseg.models.moving import completed, lay, shift_of, vacated
from amodalseg.predictions import Prediction
from amodalseg.types import Query, stable_seed


class DiffOOM(InpaintingMethod):
    """The method with its options; see ``DiffOOMConfig``."""

    config: DiffOOMConfig

    @torch.no_grad()
    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        # low-rank adapters are tuned to one object, so other objects cannot share the network meanwhile
        groups = [[crop] for crop in crops] if self.config.lora.rank else [crops]
        found: list[Completion] = []
        for group in groups:
            with deocclusion(self.config, self.backend, group, steps or self.config.sampler.steps) as branch:
                calls = branch.spent + branch.per_step * (branch.sampling.steps - branch.sampling.index)
                advance(branch.sampling, branch.hooks)
                found += self._read(group, branch, calls)
        return found

    @torch.no_grad()
    def move(self, query: Query, prediction: Prediction, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As ``AmodalModel.move``; ``movement=latent`` regenerates the photo in parallel with the object's branch."""
        if self.config.movement == "paste":
            return super().move(query, prediction, steps)
        assert query.to is not None
        (height, width), window = query.modal.shape, self._square(query.modal)
        crop = cut(query, window, query.seed)
        shift, go = shift_of(query.modal, query.to), vacated(query.modal, query.occluder)
        rows, columns = self.scene_size(height, width)
        scene = to_pictures([resize(query.image, rows, columns)])
        gone = torch.from_numpy(resize(go.astype(np.float32), rows, columns))[None, None] > 0
        down, right = (
            side / self.backend.abilities.factor / whole for side, whole in ((rows, height), (columns, width))
        )
        box = Box(
            round((window.top + shift[1]) * down), round((window.left + shift[0]) * right),
            max(1, math.ceil(window.height * down)), max(1, math.ceil(window.width * right)),
        )  # fmt: skip
        whole_mask = torch.from_numpy(crop_mask(prediction.amodal, window))[None, None].float()
        seed, steps = stable_seed("move", query.seed), steps or self.config.sampler.steps
        with deocclusion(self.config, self.backend, [crop], steps) as branch:
            left = branch.sampling.steps - branch.sampling.index
            prompt = prompt_of(self.config, query.category)
            done, calls = move_in_latents(self.backend, self.config, scene, gone, prompt, branch, box, whole_mask, seed)
            prediction.evaluations += calls + branch.spent + branch.per_step * left
        painted = resize(to_images(done)[0], height, width)
        target = np.zeros_like(go)
        top, left = window.top + shift[1], window.left + shift[0]
        target[max(0, top) : max(0, top + window.height), max(0, left) : max(0, left + window.width)] = True
        moved = np.where((go | target)[..., None], painted, query.image)
        return moved, lay(query.image, completed(query.image, prediction), shift)[1]

    def _read(self, crops: Sequence[Crop], branch: Deocclusion, calls: int) -> list[Completion]:
        pictures = to_images(self.backend.decode(branch.sampling.x).cpu())
        modal = torch.from_numpy(np.stack([crop.modal for crop in crops]))[:, None]
        seen = modal if branch.attention is None else branch.attention.whole(modal)
        done = []
        for crop, drawn, fill, shown in zip(crops, pictures, branch.fills, seen[:, 0].numpy(), strict=True):
            # an autoencoder changes known pixels slightly, so restore the given ones
            picture = np.where(crop.modal[..., None], crop.picture, drawn)
            if self.config.answer == "attention":
                mask = whole(shown, crop.modal, ~crop.modal)
            else:
                mask = self.read_off(picture, crop, ~crop.modal, fill, connected=True)
            done.append(Completion(mask, picture, calls))
        return done
