"""The diffusion time as a vector: sinusoidal features, then a small perceptron."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoidal(time_B: Tensor, dim: int) -> Tensor:
    """Sinusoidal features: the cosines first, then the sines, of time * 10000^(-k / half), k = 0 .. half - 1.

    The argument is used unscaled: log-SNR values (about -18 to 12) or 1000 t, depending on ``pcn.time_cond``.

    Args:
        time_B: (B,), any float type.
        dim: even number of features, dim = 2 * half.

    Returns:
        float32 (B, dim) in [-1, 1], even under autocast: half precision would round the angle itself.
    """
    assert dim % 2 == 0, f"{dim} features cannot be halved into cosines and sines"
    half = dim // 2
    k = torch.arange(half, dtype=torch.float32, device=time_B.device)
    angle_BK = time_B.float()[:, None] * torch.exp(k * (-math.log(10000.0) / half))
    return torch.cat([angle_BK.cos(), angle_BK.sin()], dim=1)


class TimeMLP(nn.Module):
    """dim sinusoidal features -> 4 dim -> SiLU -> dim.

    Args:
        dim: even number of features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.expand = nn.Linear(dim, 4 * dim)
        self.project = nn.Linear(4 * dim, dim)

    def forward(self, time_B: Tensor) -> Tensor:
        """Embed times (B,) -> (B, dim), in the type of the weights."""
        features_BC = sinusoidal(time_B, self.dim).to(self.expand.weight.dtype)
        return self.project(nn.functional.silu(self.expand(features_BC)))
