"""The Gaussian noise schedule in log-SNR form. Pure maths, independent of any network.

Time t runs in [0, 1], 1 = noisiest. lambda(t) is the log signal-to-noise ratio, alpha_bar = sigmoid(lambda), so that
x_t = alpha x_0 + sigma eps with alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LAMBDA_MAX = 15.0
"""|lambda| of the unshifted cosine schedule at t = 0 and t = 1."""


def log_snr(t: Tensor, shift: float) -> Tensor:
    """Shifted cosine schedule lambda(t) = -2 ln tan(a + t (b - a)) + shift.

    a and b are chosen so that the unshifted schedule runs from +15 to -15. A negative shift makes every t noisier:
    large smooth masks survive a lot of noise, so the unshifted schedule would be too easy (shift = 2 ln(noise_d /
    size)).

    Args:
        t: any shape, float, in [0, 1].
        shift: added to lambda.

    Returns:
        lambda, same shape, at least float32.
    """
    t = t.double() if t.dtype == torch.float64 else t.float()
    low, high = math.atan(math.exp(-LAMBDA_MAX / 2)), math.atan(math.exp(LAMBDA_MAX / 2))
    return -2 * torch.log(torch.tan(low + t * (high - low))) + shift


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Scales of signal and noise, alpha^2 + sigma^2 = 1, with the shape of ``log_snr``."""
    return torch.exp(0.5 * logsigmoid(log_snr)), torch.exp(0.5 * logsigmoid(-log_snr))


def step_times(steps: int) -> Tensor:
    """Times visited by a sampler with ``steps`` evaluations: 1, ..., 1/steps, and finally 0. float64 (steps + 1)."""
    return 1 - torch.arange(steps + 1, dtype=torch.float64) / steps


def posterior_table(steps: int, shift: float) -> Tensor:
    """Coefficients of the Gaussian posterior (equation 3) for every sampling step.

    With c = 1 - exp(lambda_t - lambda_s) the mean is k_x x_t + k_0 x_0 and the standard deviation v, where
    k_x = alpha_s (1 - c) / alpha_t, k_0 = alpha_s c, v^2 = sigma_s^2 c. The last step adds no noise (v = 0).

    Returns:
        float64 (steps, 3): k_x, k_0, v. Computed from logarithms, because alpha_1 = 1e-4 makes the plain
            quotient inaccurate.
    """
    lam = log_snr(step_times(steps), shift)
    lam_t, lam_s = lam[:-1], lam[1:]
    c = -torch.expm1(lam_t - lam_s)
    log_alpha_t, log_alpha_s = 0.5 * logsigmoid(lam_t), 0.5 * logsigmoid(lam_s)
    k_x = torch.exp(log_alpha_s - log_alpha_t + lam_t - lam_s)
    k_0 = torch.exp(log_alpha_s) * c
    v = torch.exp(0.5 * logsigmoid(-lam_s)) * c.sqrt()
    v[-1] = 0
    return torch.stack([k_x, k_0, v], dim=1)
