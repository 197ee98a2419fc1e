"""Stable Diffusion XL for inpainting: two text encoders, and picture sizes as additional inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import Abilities, Prepared
from amodalseg.models.inpainting.backends.latent import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """Like the smaller versions; pictures are declared uncropped and in their original size."""

    def _abilities(self) -> Abilities:
        if self.pipeline.config.get("requires_aesthetics_score"):
            raise UserError(f"{self.name} is a refiner, which cannot start from noise: take the base model")
        return super()._abilities()

    def _encode_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        text, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled.to(self.device)}

    def _added(self, prepared: Prepared) -> dict[str, Any]:
        height, width = (length * self.factor for length in prepared.known.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=self.device, dtype=self.dtype)
        added = {"text_embeds": prepared.inputs["pooled"], "time_ids": sizes.expand(len(prepared), -1)}
        return {"added_cond_kwargs": added}
