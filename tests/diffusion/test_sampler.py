"""Samplers with analytic denoisers, and VGPE against a slow transcription of equations 11 and 12."""

import numpy as np
import pytest
import torch

from amodalseg.config.schema import GaussConfig, SamplerConfig, USTConfig, VGPEConfig
from amodalseg.diffusion.ensemble import Ensemble, clamp_visible, is_clamped
from amodalseg.diffusion.sampler import num_noise_maps, sample
from amodalseg.diffusion.schedule import alpha_sigma, log_snr

GAUSS, UST = GaussConfig(), USTConfig()
KINDS = ["ddpm", "ddim", "renoise_ust"]


def world(batch: int = 2, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    amodal, modal = torch.zeros(batch, 1, size, size), torch.zeros(batch, 1, size, size)
    amodal[..., 4:20, 4:20] = 1
    modal[..., 4:20, 12:20] = 1
    return amodal, modal


def noise_for(config: SamplerConfig, batch: int = 2, size: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_noise_maps(config), batch, 1, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("init", ["gvm", "gauss"])
def test_an_oracle_denoiser_yields_the_true_mask(kind, steps, init):
    amodal, modal = world()
    config = SamplerConfig(kind=kind, steps=steps, init=init)
    found = sample(lambda x, t: 2 * amodal - 1, modal, noise_for(config), config, GAUSS, UST, VGPEConfig())
    assert torch.equal(found, amodal)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_states_keep_the_forward_marginals_under_an_oracle(kind):
    """The network's input states have the mean and variance of the forward process at their times."""
    amodal = torch.ones(1, 1, 300, 300)
    config = SamplerConfig(kind=kind, steps=10, eta=0.5)
    seen = []

    def oracle(x, t):
        seen.append((t[0].item(), x))
        return 2 * amodal - 1

    off = VGPEConfig(clamp=False)
    sample(oracle, torch.zeros_like(amodal), noise_for(config, 1, 300), config, GAUSS, UST, off)
    assert [round(t, 4) for t, _ in seen] == [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    for t, x in seen:
        alpha, sigma = (value.item() for value in alpha_sigma(log_snr(torch.tensor(t), GAUSS.shift)))
        assert abs(x.mean().item() - alpha) < 5 * sigma / 300
        assert x.std().item() == pytest.approx(sigma, rel=0.02)


def test_renoise_ust_states_are_training_states():
    """In the occluded region a share 1 - t of the pixels is amodal, as in training at time t."""
    amodal, modal = torch.ones(1, 1, 400, 400), torch.zeros(1, 1, 400, 400)
    config = SamplerConfig(kind="renoise_ust", steps=10)
    seen = []

    def oracle(x, t):
        seen.append((t[0].item(), x))
        return 2 * amodal - 1

    sample(oracle, modal, noise_for(config, 1, 400), config, GAUSS, UST, VGPEConfig(clamp=False))
    for t, x in seen[1:]:
        alpha, sigma = (value.item() for value in alpha_sigma(log_snr(torch.tensor(t), GAUSS.shift)))
        kept = 1 - t
        variance = sigma**2 + 4 * alpha**2 * kept * (1 - kept)
        assert abs(x.mean().item() - alpha * (2 * kept - 1)) < 5 * np.sqrt(variance) / 400
        assert x.var().item() == pytest.approx(variance, rel=0.03)


def test_ddim_without_noise_is_exact_for_a_gaussian_posterior_mean():
    """Deterministic DDIM follows x_0 = E[x_0 | x_t] of a standard normal; fine steps recover the ODE's identity map."""
    config = SamplerConfig(kind="ddim", steps=400, init="gauss")
    seen = []

    def denoise(x, t):
        alpha, _ = alpha_sigma(log_snr(t[0], 0.0))
        seen.append(x)
        return alpha * x  # for x_0 ~ N(0, 1) and alpha^2 + sigma^2 = 1

    noise = noise_for(config, 1, 8)
    sample(denoise, torch.zeros(1, 1, 8, 8), noise, config, GaussConfig(shift=0.0), UST, VGPEConfig(clamp=False))
    # x_t ~ N(0, 1) at every t, so the flow is the identity
    np.testing.assert_allclose(seen[-1].numpy(), noise[0].numpy(), atol=0.03)


def test_an_object_does_not_depend_on_the_rest_of_its_batch():
    _amodal, modal = world(3)
    config = SamplerConfig(steps=4)
    noise = noise_for(config, 3)

    def denoise(x, t):
        return torch.tanh(x.roll(1, -1) + t.view(-1, 1, 1, 1))

    together = sample(denoise, modal, noise, config, GAUSS, UST, VGPEConfig())
    for i in range(3):
        alone = sample(denoise, modal[i : i + 1], noise[:, i : i + 1], config, GAUSS, UST, VGPEConfig())
        assert torch.equal(alone[0], together[i])


def slow_vgpe(raw: np.ndarray, modal: np.ndarray, config: VGPEConfig) -> np.ndarray:
    """Equations 11 and 12 with loops over steps and pixels; raw (T, H, W) in [-1, 1]."""
    steps, height, width = raw.shape
    first = steps // 2 if config.start == "floor" else max(0, int(np.ceil(steps / 2)) - 1)
    final = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            probabilities, votes = [], 0
            for step in range(steps):
                value = raw[step, i, j]
                late = step >= first
                if config.clamp and (late if config.side == "late" else not late):
                    value = value * (1 - modal[i, j]) + modal[i, j] * 1.0
                probabilities.append((value + 1) / 2)
                votes += (value + 1) / 2 > 0.5
            enough = votes / steps >= 0.5 if config.tie == "ge" else votes / steps > 0.5
            final[i, j] = (1 if enough else 0) * np.mean(probabilities)
            if not config.ensemble:
                final[i, j] = probabilities[-1]
    if config.ensemble and config.norm == "minmax":
        raise NotImplementedError
    return final


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize(
    "config",
    [
        VGPEConfig(),
        VGPEConfig(tie="gt"),
        VGPEConfig(start="paper"),
        VGPEConfig(side="early"),
        VGPEConfig(clamp=False),
        VGPEConfig(ensemble=False),
        VGPEConfig(clamp=False, ensemble=False),
    ],
)
def test_vgpe_against_the_slow_transcription(steps, config):
    rng = np.random.default_rng(steps)
    raw = rng.choice([-1.0, -0.4, 0.0, 0.3, 1.0], size=(steps, 6, 5))
    modal = (rng.random((6, 5)) < 0.4).astype(float)
    predictions = iter(torch.tensor(raw, dtype=torch.float32))
    sampler = SamplerConfig(steps=steps)
    found = sample(
        lambda x, t: next(predictions)[None, None],
        torch.tensor(modal, dtype=torch.float32)[None, None],
        torch.zeros(num_noise_maps(sampler), 1, 1, 6, 5), sampler, GAUSS, UST, config,
    )  # fmt: skip
    np.testing.assert_allclose(found[0, 0].numpy(), slow_vgpe(raw, modal, config), atol=1e-6)


def test_a_visible_pixel_missed_in_the_first_half_of_the_steps_gets_exactly_one_half():
    ensemble = Ensemble(VGPEConfig())
    for step in range(10):
        x0 = torch.full((1, 1, 1, 1), -1.0)
        if is_clamped(step, 10, VGPEConfig()):
            x0 = clamp_visible(x0, torch.ones(1, 1, 1, 1))
        ensemble.add(x0)
    assert ensemble.result().item() == 0.5  # "> 0.5" drops it: VGPE does not guarantee visible pixels


def test_number_of_clamped_steps():
    def count(config, steps):
        return sum(is_clamped(step, steps, config) for step in range(steps))

    assert count(VGPEConfig(), 10) == 5
    assert count(VGPEConfig(start="paper"), 10) == 6
    assert count(VGPEConfig(), 1) == 1
    assert count(VGPEConfig(side="early"), 10) == 5
    assert count(VGPEConfig(clamp=False), 10) == 0


def test_minmax_scaling_fills_the_range_of_each_object():
    ensemble = Ensemble(VGPEConfig(norm="minmax"))
    ensemble.add(torch.tensor([[[[0.2, 0.6]]], [[[0.1, 0.9]]]]))
    assert torch.allclose(ensemble.result().amax((1, 2, 3)), torch.ones(2))


def test_renoise_ust_switches_whole_blocks_as_in_training():
    modal = torch.zeros(1, 1, 32, 32)
    config, seen = SamplerConfig(kind="renoise_ust", steps=2), []

    def oracle(x, t):
        seen.append(x)
        return torch.ones_like(x)

    noise = noise_for(config, 1, 32)
    noise[1] = 0  # the second state is then the mask alone
    sample(oracle, modal, noise, config, GAUSS, USTConfig(block=8), VGPEConfig(clamp=False))
    state = seen[1][0, 0].reshape(4, 8, 4, 8).permute(0, 2, 1, 3).reshape(16, 64)
    assert (state == state[:, :1]).all() and state.unique().numel() == 2
