"""CondDiff-AMO as an ``AmodalModel``: windows, normalisation, sampling and pasting back around the network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amodalseg.config.schema import CondDiffAMOConfig, SamplerConfig
from amodalseg.diffusion.sampler import num_noise_maps, sample
from amodalseg.models.conddiff_amo.accelerate import Acceleration
from amodalseg.models.conddiff_amo.evaluation import NetworkDenoiser
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.models.memory import keep_freed_memory
from amodalseg.models.network_model import NetworkModel, normalise, to_tensors
from amodalseg.models.noise import sample_noise
from amodalseg.models.windowed import WindowBatch


class CondDiffAMO(NetworkModel):
    """CondDiff-AMO: the network with its sampler; arguments as for ``NetworkModel``."""

    config: CondDiffAMOConfig
    network: CondDiffAMONetwork
    network_class = CondDiffAMONetwork
    sections = ("sampler", "vgpe", "post")
    stochastic = True

    def __init__(self, config: CondDiffAMOConfig, network: nn.Module | None = None, **options: Any) -> None:
        super().__init__(config, network, **options)
        self.acceleration: Acceleration | None = None

    def make_ready(self) -> None:
        keep_freed_memory()

    def accelerate(self, *, precision: str = "fp32", compile: bool = False) -> CondDiffAMO:
        """Choose how the network runs at inference (``docs/inference.md``); no effect on a network in training mode.

        Args:
            precision: ``fp32`` or ``bf16``, which is faster on hardware that supports it (GPUs, CPUs with avx512_bf16).
            compile: use ``torch.compile`` with static shapes, on a GPU as CUDA graphs. The first batch of each size
                takes minutes; batches are padded to powers of two.

        Raises:
            UserError: the precision is unknown.
        """
        self.acceleration = Acceleration(precision, compile)
        return self

    def evaluations(self, steps: int | None) -> int:
        return self._sampler(steps).steps

    def window_probability(self, batch: WindowBatch) -> np.ndarray:
        noise = self.sample_noise(batch.seeds, batch.steps)
        return self.probability(*to_tensors(batch), noise, batch.steps)[:, 0].cpu().numpy()

    def _sampler(self, steps: int | None) -> SamplerConfig:
        """The sampler's options, with another number of steps if one is given."""
        return self.config.sampler if steps is None else replace(self.config.sampler, steps=steps)

    def sample_noise(self, seeds: Sequence[int], steps: int | None = None) -> Tensor:
        """Standard normal maps (num_maps, B, 1, S, S), each object's from its own seed; always generated on the CPU."""
        return torch.from_numpy(sample_noise(seeds, num_noise_maps(self._sampler(steps)), self.config.window.size))

    @torch.inference_mode()
    def probability(self, image: Tensor, modal: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Sample amodal probabilities in the window.

        Args:
            image: uint8 (B, 3, S, S).
            modal: bool or {0, 1} (B, 1, S, S).
            noise: (num_maps, B, 1, S, S), see ``sample_noise``.
            steps: of the sampler, the same as in ``sample_noise``; default: the configuration's.

        Returns:
            float32 (B, 1, S, S) in [0, 1].
        """
        config, device, sampler, fast = self.config, self.device, self._sampler(steps), self.acceleration
        was_training = self.network.training
        if was_training:
            fast = None
        network = self.network.eval() if fast is None else fast.prepare(self.network)
        count = len(image)
        if fast is not None and count:
            filler = torch.zeros(fast.padded(count) - count, dtype=torch.long)
            places = torch.cat([torch.arange(count), filler])
            image, modal, noise = image[places], modal[places], noise[:, places]
        pixels, mask = normalise(image.to(device)), modal.to(device).float()
        denoise = NetworkDenoiser(network, pixels, mask, config, sampler)
        with nullcontext() if fast is None else fast.arithmetic(device):
            result = sample(denoise, mask, noise.to(device), sampler, config.gauss, config.ust, config.vgpe)
        self.network.train(was_training)
        return result[:count]
