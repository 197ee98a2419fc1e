"""Samplers: plain functions of (denoiser, noise, modal mask), independent of any network, without random numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from amodalseg.config.schema import GaussConfig, SamplerConfig, USTConfig, VGPEConfig
from amodalseg.diffusion.ensemble import Ensemble, clamp_visible, is_clamped
from amodalseg.diffusion.schedule import alpha_sigma, log_snr, posterior_table, step_times
from amodalseg.diffusion.transition import corrupt, keep_probability, tiles, transit

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, 1, H, W), t (B,)) -> x_0 in [-1, 1], (B, 1, H, W)."""


def num_noise_maps(sampler: SamplerConfig) -> int:
    """Number of standard normal maps that ``sample`` consumes per object."""
    return 2 * sampler.steps - 1 if sampler.kind == "renoise_ust" else sampler.steps


@torch.no_grad()
def sample(
    denoise: Denoiser,
    modal: Tensor,
    noise: Tensor,
    sampler: SamplerConfig,
    gauss: GaussConfig,
    ust: USTConfig,
    vgpe: VGPEConfig,
) -> Tensor:
    """Run the reverse process and VGPE.

    Args:
        denoise: predicts x_0 from x_t and t.
        modal: (B, 1, H, W) in {0, 1}.
        noise: (num_noise_maps(sampler), B, 1, H, W), standard normal: x_T first, then one map per later step (for
            ``renoise_ust`` a second one, from which the state transition is sampled). Noise is an argument so that an
            object's prediction depends only on its own seed, and an exported graph can be compared exactly.
        sampler: ``ddpm`` the paper's Gaussian posterior (equation 3); ``ddim`` with eta; ``renoise_ust`` a new forward
            sample from the thresholded x_0 at every step, which matches the states seen in training.
        gauss, ust, vgpe: schedules and ensemble.

    Returns:
        Probability, float32 (B, 1, H, W) in [0, 1].
    """
    steps, shift = sampler.steps, gauss.shift
    assert noise.shape[0] == num_noise_maps(sampler), (
        f"{noise.shape[0]} noise maps for {num_noise_maps(sampler)} expected"
    )
    times = step_times(steps).to(noise.device, torch.float32)
    lam = log_snr(step_times(steps), shift).to(noise.device)
    alpha, sigma = (values.float() for values in alpha_sigma(lam))
    table = posterior_table(steps, shift).to(noise.device, torch.float32)
    ensemble = Ensemble(vgpe)

    x = noise[0] if sampler.init == "gauss" else alpha[0] * (2 * modal - 1) + sigma[0] * noise[0]
    for step in range(steps):
        x0 = denoise(x, times[step].expand(x.shape[0])).float()
        if is_clamped(step, steps, vgpe):
            x0 = clamp_visible(x0, modal)
        ensemble.add(x0)
        if step == steps - 1:
            break
        if sampler.kind == "ddpm":
            k_x, k_0, v = table[step]
            x = k_x * x + k_0 * x0 + v * noise[step + 1]
        elif sampler.kind == "ddim":
            v = sampler.eta * table[step, 2]
            eps = (x - alpha[step] * x0) / sigma[step]
            # the ddpm standard deviation never exceeds sigma_s; the clamp is for rounding only
            x = alpha[step + 1] * x0 + (sigma[step + 1] ** 2 - v**2).clamp_min(0).sqrt() * eps + v * noise[step + 1]
        else:
            uniform = tiles(torch.special.ndtr(noise[steps + step]), ust.block)
            x = renoise(x0, modal, times[step + 1], uniform, noise[step + 1], gauss, ust)
    return ensemble.result()


def renoise(
    x0: Tensor, modal: Tensor, t: Tensor, uniform: Tensor, noise: Tensor, gauss: GaussConfig, ust: USTConfig
) -> Tensor:
    """One forward sample from the thresholded prediction: x_s = alpha (2 m_s - 1) + sigma eps, m_s = UST(x_0 > 0, M_v).

    Args:
        x0, modal, uniform, noise: (B, 1, H, W).
        t: scalar tensor, the time of the new sample.
        gauss, ust: schedules; without UST, m_s is the thresholded prediction itself.
    """
    batch = x0.shape[0]
    mask = (x0 > 0).to(x0.dtype)
    if ust.enabled:
        keep = keep_probability(t, ust.schedule, gauss.shift).expand(batch)
        mask = transit(mask, modal, keep, uniform)
    return corrupt(mask, log_snr(t, gauss.shift).expand(batch), noise)
