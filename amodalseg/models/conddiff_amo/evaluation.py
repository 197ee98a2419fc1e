"""The network evaluations of one sampling run, in which the condition may be reused for several steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from amodalseg.config.schema import CondDiffAMOConfig, SamplerConfig
from amodalseg.diffusion.schedule import log_snr


def time_input(t: Tensor, config: CondDiffAMOConfig) -> Tensor:
    """The network's time argument for times t (B,) in [0, 1]: the log-SNR, or 1000 t (``pcn.time_cond``)."""
    return log_snr(t, config.gauss.shift) if config.pcn.time_cond == "log_snr" else 1000 * t


def to_x0(logits: Tensor, config: CondDiffAMOConfig) -> Tensor:
    """x_0 = tanh(z), or 2 sigmoid(z) - 1 (``diff.x0_act``), float32 in [-1, 1]."""
    logits = logits.float()
    return torch.tanh(logits) if config.diff.x0_act == "tanh" else 2 * torch.sigmoid(logits) - 1


class NetworkDenoiser:
    """The ``Denoiser`` of *one* run of ``diffusion.sampler.sample``, which calls it once per step, in order.

    With ``sampler.refresh_every`` k the condition is computed at steps 0, k, 2k, ...; in between, only the mask
    denoiser runs, with the last condition. A condition that depends neither on x_t nor on the time is computed once.

    Args:
        network: any module with the call signature of ``CondDiffAMONetwork``.
        image: float (B, 3, H, W), normalised.
        modal: float (B, 1, H, W) in {0, 1}.
        config: of the model.
        sampler: of this run.
    """

    def __init__(
        self, network: Any, image: Tensor, modal: Tensor, config: CondDiffAMOConfig, sampler: SamplerConfig
    ) -> None:
        self.network, self.image, self.modal, self.config = network, image, modal, config
        self.refresh_every, self.step = sampler.refresh_every, 0
        self.condition: Tensor | None = None
        self.is_static = not config.pcn.zoe and not config.pcn.ttc
        self.in_parts = hasattr(network, "condition")

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, 1, H, W) and t (B,) -> x_0 (B, 1, H, W)."""
        time = time_input(t, self.config)
        if not self.in_parts:
            return to_x0(self.network(self.image, self.modal, x, time), self.config)
        stale = self.step % self.refresh_every == 0 and not self.is_static
        if self.condition is None or stale:
            self.condition = self.network.condition(self.image, self.modal, x, time)
        self.step += 1
        return to_x0(self.network.denoiser(self.condition, x, time), self.config)
