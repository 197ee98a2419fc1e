"""Stable Diffusion (1.5 and 2): latents of an autoencoder; nine channels for inpainting, four for text-to-image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import attended, attention_layers
from amodalseg.models.inpainting.backends.backend import (
    CLEAN,
    Abilities,
    Estimate,
    InpaintingBackend,
    Level,
    Prepared,
    tapped,
    within_memory,
)
from amodalseg.models.inpainting.backends.prior import import_diffusers


class LatentBackend(InpaintingBackend):
    """Base class of models on latents. The grid is that of the autoencoder, in float32.

    Args:
        pipeline: of diffusers, whose parts are used individually, without its own loop.
        device: of the networks.
        name: for messages and tables.
        dtype: of the network's inputs.

    Raises:
        UserError: its parts do not fit together.
    """

    def __init__(self, pipeline: Any, device: torch.device, name: str, dtype: torch.dtype) -> None:
        self.pipeline, self.device, self.name, self.dtype, self.vae = pipeline, device, name, dtype, pipeline.vae
        self.networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
        for network in self.networks:
            network.requires_grad_(False)  # gradients flow to inputs, and to what a method adds
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        self.abilities = self._abilities()

    @abstractmethod
    def _abilities(self) -> Abilities:
        """The model's capabilities, from its configuration."""

    @abstractmethod
    def _encode_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        """Distinct texts -> inputs of the network, one row per text."""

    @abstractmethod
    def _show(self, pictures: Tensor, holes: Tensor) -> dict[str, Tensor]:
        """The network's inputs by name for pictures (B, 3, H, W) and holes (B, 1, H, W), float."""

    def prepare(self, pictures: Tensor, holes: Tensor, prompts: Sequence[str] | None = None) -> Prepared:
        height, width = pictures.shape[-2:]
        step = self.abilities.multiple
        if height % step or width % step:
            raise UserError(f"{self.name} takes pictures with sides that are multiples of {step}, not {width}x{height}")
        pictures, shown = pictures.to(self.device), holes.to(self.device, torch.float32)
        with within_memory(len(pictures)), torch.no_grad():
            known = self.encode(pictures)
            # a text is encoded once for all objects that share it, so the result does not depend on the batch
            texts = [""] * len(pictures) if prompts is None else list(prompts)
            different = list(dict.fromkeys(texts))
            rows = torch.tensor([different.index(text) for text in texts], device=self.device)
            inputs = {name: values[rows] for name, values in self._encode_prompts(different).items()}
            inputs.update(self._show(pictures, shown))
        return Prepared(known, interpolate(shown, known.shape[-2:]), inputs)

    def unconditional(self, prepared: Prepared) -> Prepared:
        """Everything is hole, and the picture grey. For a network that sees no hole nothing changes."""
        side = [length * self.factor for length in prepared.known.shape[-2:]]
        with within_memory(1), torch.no_grad():
            shown = self._show(
                torch.zeros(1, 3, *side, device=self.device), torch.ones(1, 1, *side, device=self.device)
            )
        repeated = {name: values.expand_as(prepared.inputs[name]) for name, values in shown.items()}
        return replace(prepared, inputs={**prepared.inputs, **repeated}, attention=())

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> latents: the mean of the autoencoder's output, nothing sampled."""
        means = [self.vae.encode(picture[None].to(self.vae.dtype)).latent_dist.mode().float() for picture in pictures]
        return (torch.cat(means) - self.shift) * self.vae.config.scaling_factor

    def decode(self, x: Tensor, clamp: bool = True) -> Tensor:
        latents = (x / self.vae.config.scaling_factor + self.shift).to(self.vae.dtype)
        with within_memory(1):  # one at a time: large pictures are the peak of memory
            pictures = torch.cat([self.vae.decode(one[None], return_dict=False)[0].float() for one in latents])
        return pictures.clamp(-1, 1) if clamp else pictures


class StableDiffusion(LatentBackend):
    """Versions 1.5 and 2: noisy latents, hole, latents of the masked picture -> noise, v or the clean latents.

    A network with four channels is a text-to-image model: it sees noisy latents only, so the known part must be blended
    in at every step.
    """

    def _abilities(self) -> Abilities:
        self.network = self.pipeline.unet
        config, channels = self.network.config, self.vae.config.latent_channels
        fills = config.in_channels == 2 * channels + 1
        if not fills and config.in_channels != channels:
            raise UserError(
                f"{self.name} has {config.in_channels} input channels, not {2 * channels + 1} (inpainting) or "
                f"{channels} (text to image): use another model"
            )
        self.scheduler = import_diffusers().DDIMScheduler.from_config(self.pipeline.scheduler.config)
        self.predicts = self.scheduler.config.prediction_type
        alphas = self.scheduler.alphas_cumprod
        if self.predicts not in ("epsilon", "v_prediction", "sample") or (
            self.predicts == "epsilon" and not alphas[-1]
        ):
            raise UserError(f"{self.name}: the scheduler's '{self.predicts}' cannot be used with its noise levels")
        taps = (*(f"up_blocks.{i}" for i in range(len(config.up_block_types))), "mid_block")
        return Abilities(
            config.sample_size * self.factor, self.factor, self.factor, text=True, sees_hole=fills, taps=taps,
            attention=bool(attention_layers(self.network)),
        )  # fmt: skip

    def _encode_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"text": self.pipeline.encode_prompt(prompts, self.device, 1, False)[0]}

    def tokens(self, prompt: str) -> list[str]:
        tokenizer = self.pipeline.tokenizer
        return list(tokenizer.convert_ids_to_tokens(tokenizer(prompt, truncation=True).input_ids))

    def _show(self, pictures: Tensor, holes: Tensor) -> dict[str, Tensor]:
        if not self.abilities.sees_hole:
            return {}
        masked = self.encode(pictures * (holes < 0.5))
        return {"hole": interpolate(holes, masked.shape[-2:]), "masked": masked}

    def levels(self, steps: int) -> list[Level]:
        cumulated = self.scheduler.alphas_cumprod.double()
        if steps > len(cumulated):
            raise UserError(f"{self.name} has {len(cumulated)} noise levels, so it cannot take {steps} steps")
        self.scheduler.set_timesteps(steps)
        times = self.scheduler.timesteps.clamp(max=len(cumulated) - 1).tolist()
        shares = [float(cumulated[time]) for time in times]
        return [*(Level(t, a**0.5, (1 - a) ** 0.5) for t, a in zip(times, shares, strict=True)), CLEAN]

    def _added(self, prepared: Prepared) -> dict[str, Any]:
        """Further arguments of the network."""
        return {}

    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        assert set(taps) <= set(self.abilities.taps), taps
        shown = [prepared.inputs[name] for name in ("hole", "masked") if self.abilities.sees_hole]
        inputs, text = torch.cat([x, *shown], dim=1).to(self.dtype), prepared.inputs["text"].to(self.dtype)
        with (
            within_memory(len(x)),
            attended(self.network, prepared.attention, (x.shape[-2], x.shape[-1])),
            tapped(self.network, taps) as features,
        ):
            output = self.network(
                inputs, level.time, encoder_hidden_states=text, return_dict=False, **self._added(prepared)
            )[0].float()  # fmt: skip
        named = {tap: values.float() for tap, values in features.items()}
        if self.predicts == "epsilon":
            return Estimate((x - level.sigma * output) / level.alpha, output, named)
        if self.predicts == "v_prediction":
            return Estimate(level.alpha * x - level.sigma * output, level.alpha * output + level.sigma * x, named)
        return Estimate(output, (x - level.alpha * output) / level.sigma, named)
