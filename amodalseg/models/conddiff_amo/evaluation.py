"""One sampling run's evaluations of a network: what can be computed once, or kept for some steps, is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from amodalseg.config.schema import CondDiffAMOConfig, SamplerConfig
from amodalseg.diffusion.schedule import log_snr, step_times
from amodalseg.models.conddiff_amo.fold import FoldedNetwork
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork


def time_input(t: Tensor, config: CondDiffAMOConfig) -> Tensor:
    """The network's time argument for times t (B,) in [0, 1]: the log-SNR, or 1000 t (``pcn.time_cond``)."""
    return log_snr(t, config.gauss.shift) if config.pcn.time_cond == "log_snr" else 1000 * t


def to_x0(logits: Tensor, config: CondDiffAMOConfig) -> Tensor:
    """x_0 = tanh(z), or 2 sigmoid(z) - 1 (``diff.x0_act``), float32 in [-1, 1]."""
    logits = logits.float()
    return torch.tanh(logits) if config.diff.x0_act == "tanh" else 2 * torch.sigmoid(logits) - 1


def create_denoiser(
    network: CondDiffAMONetwork | FoldedNetwork, image: Tensor, modal: Tensor, config: CondDiffAMOConfig,
    sampler: SamplerConfig,
) -> Callable[[Tensor, Tensor], Tensor]:  # fmt: skip
    """Make the ``Denoiser`` of *one* run of ``diffusion.sampler.sample``, which calls it once for each step in order.

    With ``sampler.refresh_every`` k the condition is computed at steps 0, k, 2k, ...; between them the mask denoiser
    alone runs beside the last one.

    Args:
        network: folded or not.
        image: float (B, 3, H, W), normalised.
        modal: float (B, 1, H, W) in {0, 1}.
        config: of the model.
        sampler: of this run.
    """
    return (
        FoldedDenoising(network, image, modal, config, sampler)
        if isinstance(network, FoldedNetwork)
        else PlainDenoising(network, image, modal, config, sampler)
    )


class PlainDenoising:
    """The run of a network as it is trained. Arguments as ``create_denoiser``."""

    def __init__(
        self, network: CondDiffAMONetwork, image: Tensor, modal: Tensor, config: CondDiffAMOConfig,
        sampler: SamplerConfig,
    ) -> None:  # fmt: skip
        self.network, self.image, self.modal, self.config = network, image, modal, config
        self.refresh_every, self.step = sampler.refresh_every, 0
        self.condition: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, 1, H, W) and t (B,) -> x_0 (B, 1, H, W)."""
        time = time_input(t, self.config)
        if self.refresh_every == 1:
            return to_x0(self.network(self.image, self.modal, x, time), self.config)
        if self.condition is None or self.step % self.refresh_every == 0:
            self.condition = self.network.condition(self.image, self.modal, x, time)
        self.step += 1
        return to_x0(self.network.denoiser(self.condition, x, time), self.config)


class FoldedDenoising:
    """The run of a folded network, which embeds image, modal mask and all times first. Arguments as above."""

    def __init__(
        self, network: FoldedNetwork, image: Tensor, modal: Tensor, config: CondDiffAMOConfig, sampler: SamplerConfig
    ) -> None:
        times = step_times(sampler.steps)[:-1].to(image.device, torch.float32)
        self.network, self.config = network, config
        self.embedded = network.embed(image, modal)
        self.table = network.embed_time(time_input(times, config))
        self.refresh_every, self.step = sampler.refresh_every, 0
        self.condition: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, 1, H, W) -> x_0 (B, 1, H, W); the time is that of the step, the same for the whole batch."""
        time = self.table.row(self.step)
        stale = self.step % self.refresh_every == 0 and not self.network.is_static
        if self.condition is None or stale:
            logits, self.condition = self.network.evaluate(self.embedded, x, time)
        else:
            logits = self.network.denoise(self.condition, x, time)
        self.step += 1
        return to_x0(logits, self.config)
