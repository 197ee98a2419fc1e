"""The forward process: unidirectional state transition (UST, equations 4 and 5), then Gaussian noise. Pure maths.

Each pixel starts in the amodal state (with the value of the amodal mask) and may switch once to the modal state (with
the value of the modal mask), never back. ``keep_probability`` is the marginal probability of still being amodal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amodalseg.diffusion.schedule import alpha_sigma, log_snr

SEGREFINER_START = 0.8
"""SegRefiner's linear schedule starts at 0.8: even its first state is degraded."""


def keep_probability(t: Tensor, schedule: str, shift: float = 0.0) -> Tensor:
    """Marginal keep-probability bar-b(t) of UST, the product of equation 5.

    Args:
        t: any shape, in [0, 1].
        schedule: ``linear`` 1 - t; ``segrefiner`` 0.8 (1 - t); ``cosine`` cos^2(pi t / 2); ``alpha_bar`` the Gaussian
            schedule's own alpha_bar, rescaled so that it is exactly 1 at t = 0 and 0 at t = 1.
        shift: of the Gaussian schedule, used by ``alpha_bar``.

    Returns:
        Probabilities, same shape as t, non-increasing in t.
    """
    if schedule == "linear":
        return 1 - t
    if schedule == "segrefiner":
        return SEGREFINER_START * (1 - t)
    if schedule == "cosine":
        return torch.cos(t * (math.pi / 2)).square()
    assert schedule == "alpha_bar", schedule
    ends = torch.sigmoid(log_snr(t.new_tensor([0.0, 1.0]), shift))
    return ((torch.sigmoid(log_snr(t, shift)) - ends[1]) / (ends[0] - ends[1])).clamp(0, 1)


def transit(amodal: Tensor, modal: Tensor, keep: Tensor, uniform: Tensor) -> Tensor:
    """Sample m_t: the amodal value where u < bar-b, the modal value elsewhere.

    The uniform test has the same distribution as the paper's two-class Gumbel-max and needs no logarithm of 0.

    Args:
        amodal, modal: (B, 1, H, W), any dtype.
        keep: (B,) marginal keep-probabilities.
        uniform: (B, 1, H, W) in [0, 1). Sharing one map across decreasing ``keep`` gives a nested chain.

    Returns:
        m_t, (B, 1, H, W).
    """
    return torch.where(uniform < keep.view(-1, 1, 1, 1), amodal, modal)


def block_uniform(
    shape: tuple[int, ...], block: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Uniform random numbers (B, 1, H, W) that are constant on block x block tiles (block = 1: independent pixels)."""
    return tiles(torch.rand(shape, generator=generator, device=device), block)


def tiles(values: Tensor, block: int) -> Tensor:
    """Set every block x block tile of (B, C, H, W) to the value of its first pixel."""
    if block == 1:
        return values
    height, width = values.shape[-2:]
    coarse = values[..., ::block, ::block]
    return coarse.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width]


def corrupt(mask: Tensor, log_snr_B: Tensor, noise: Tensor) -> Tensor:
    """x_t = alpha (2 m - 1) + sigma eps.

    Args:
        mask: (B, 1, H, W) in {0, 1}, m_t.
        log_snr_B: (B,).
        noise: (B, 1, H, W), standard normal.
    """
    alpha, sigma = alpha_sigma(log_snr_B.view(-1, 1, 1, 1))
    return alpha * (2 * mask - 1) + sigma * noise


def sample_times(batch: int, dist: str, a: float, b: float, steps: int, device: torch.device) -> Tensor:
    """Training times (batch,) in [0, 1]: ``uniform``, ``beta`` (a, b), or ``discrete`` (the sampler's own steps)."""
    if dist == "beta":
        ends = torch.tensor([a, b], device=device)
        return torch.distributions.Beta(ends[0], ends[1]).sample((batch,))
    if dist == "discrete":
        return torch.randint(1, steps + 1, (batch,), device=device) / steps
    assert dist == "uniform", dist
    return torch.rand(batch, device=device)
