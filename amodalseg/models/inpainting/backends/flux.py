"""FLUX: a transformer on packed latents, trained as a flow. fill sees hole and picture, schnell sees neither."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import attended
from amodalseg.models.inpainting.backends.backend import (
    Abilities,
    Estimate,
    Level,
    Prepared,
    tapped,
    within_memory,
)
from amodalseg.models.inpainting.backends.latent import LatentBackend

SIZE = 1024  # pixels; its configuration does not state the training resolution
FILL_GUIDANCE, GUIDANCE = 30.0, 7.0  # values of diffusers' pipelines for guidance-distilled networks
TOKENS = {False: 256, True: 512}  # of a text, by whether the network has a guidance input (schnell has none)


class Flux(LatentBackend):
    """schnell (and dev): the known part must be blended in at every step. fill: as Stable Diffusion for inpainting.

    The grid is that of the autoencoder; 2 x 2 positions are packed into a token inside ``estimate``.
    """

    def _abilities(self) -> Abilities:
        self.network, self.scheduler = self.pipeline.transformer, self.pipeline.scheduler
        config, state = self.network.config, 4 * self.vae.config.latent_channels
        channels = {state: False, 2 * state + 4 * self.factor**2: True}
        if config.in_channels not in channels:
            known = " or ".join(map(str, channels))
            raise UserError(
                f"{self.name} has {config.in_channels} input channels, not {known}: it is neither schnell nor fill"
            )
        taps = (
            *(f"transformer_blocks.{i}" for i in range(config.num_layers)),
            *(f"single_transformer_blocks.{i}" for i in range(config.num_single_layers)),
        )
        fills = channels[config.in_channels]
        self.guidance = FILL_GUIDANCE if fills else GUIDANCE
        return Abilities(SIZE, 2 * self.factor, self.factor, text=True, sees_hole=fills, taps=taps)

    def _encode_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        text, pooled, _ = self.pipeline.encode_prompt(
            prompts, None, device=self.device, max_sequence_length=TOKENS[self.network.config.guidance_embeds]
        )
        return {"text": text, "pooled": pooled}

    def _show(self, pictures: Tensor, holes: Tensor) -> dict[str, Tensor]:
        if not self.abilities.sees_hole:
            return {}
        # every grid position gets the hole at full resolution, as factor x factor channels
        fine = torch.nn.functional.pixel_unshuffle(holes, self.factor)
        return {"masked": _pack(self.encode(pictures * (1 - holes))), "hole": _pack(fine)}

    def levels(self, steps: int) -> list[Level]:
        """If the model's configuration says so, the schedule is shifted towards noise, as for pictures of ``SIZE``."""
        config = self.scheduler.config
        tokens = (self.abilities.size // self.abilities.multiple) ** 2
        base, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (high - low) * (tokens - base) / (most - base)
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        sigmas = self.scheduler.sigmas.tolist()
        return [Level(sigma * config.num_train_timesteps, 1 - sigma, sigma) for sigma in sigmas]

    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        assert set(taps) <= set(self.abilities.taps), taps
        height, width = (length // 2 for length in x.shape[-2:])
        tokens = _pack(x)
        if self.abilities.sees_hole:
            tokens = torch.cat([tokens, prepared.inputs["masked"], prepared.inputs["hole"]], dim=2)
        text = prepared.inputs["text"]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
        told = self.network.config.guidance_embeds
        with (
            within_memory(len(x)),
            attended(self.network, prepared.attention, (height, width)),
            tapped(self.network, taps) as features,
        ):
            output = self.network(
                hidden_states=tokens.to(self.dtype),
                timestep=torch.full((len(x),), level.time, device=self.device, dtype=self.dtype) / 1000,
                guidance=torch.full((len(x),), self.guidance, device=self.device) if told else None,
                pooled_projections=prepared.inputs["pooled"],
                encoder_hidden_states=text,
                txt_ids=torch.zeros(text.shape[1], 3, device=self.device, dtype=self.dtype),
                img_ids=places.to(self.device, self.dtype),
                return_dict=False,
            )[0].float()
        velocity = _unpack(output, height, width)  # noise less clean
        maps = {
            # a block returns the tokens of the text and those of the picture
            tap: pair[1].float().transpose(1, 2).reshape(len(x), -1, height, width)
            for tap, pair in features.items()
        }
        return Estimate(x - level.sigma * velocity, x + level.alpha * velocity, maps)


def _pack(grid: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> tokens (B, h * w, 4 C)."""
    batch, channels, height, width = grid.shape
    blocks = grid.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(batch, height * width // 4, 4 * channels)


def _unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``_pack``. height, width: of the grid of tokens."""
    batch, _, size = tokens.shape
    blocks = tokens.reshape(batch, height, width, size // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(batch, size // 4, 2 * height, 2 * width)
