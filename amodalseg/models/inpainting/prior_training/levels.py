"""Noise levels for training the priors: spread over a batch, or fixed for each held-out picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.prior import NUM_LEVELS
from amodalseg.types import stable_seed


def spread_times(count: int) -> Tensor:
    """Times of a training batch, int64 (count,), below ``NUM_LEVELS``.

    They are spread evenly over the levels, which reduces the variance of a batch's loss.
    """
    return ((torch.arange(count) + torch.rand(())) * (NUM_LEVELS / count)).long()


def fixed_noise(keys: Sequence[str], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Noise, float32 (B, *shape), and times, int64 (B,), of held-out pictures, derived from their keys."""
    seeds = [stable_seed("validation", key) for key in keys]
    noise = torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    return noise, torch.tensor([seed % NUM_LEVELS for seed in seeds])
