"""Closed forms of the unidirectional state transition."""

import itertools
import math

import pytest
import torch

from amodalseg.diffusion.schedule import alpha_sigma, log_snr
from amodalseg.diffusion.transition import block_uniform, corrupt, keep_probability, sample_times, transit

SCHEDULES = ["linear", "segrefiner", "cosine", "alpha_bar"]
CPU = torch.device("cpu")


def masks(size: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """(amodal, modal): a modal mask with a pixel outside the amodal one, because real data has such pixels."""
    amodal, modal = torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size)
    amodal[..., 20:180, 20:180] = 1
    modal[..., 20:180, 100:180] = 1
    modal[..., 5, 5] = 1
    return amodal, modal


@pytest.mark.parametrize("schedule", ["linear", "cosine", "alpha_bar"])
def test_ends_are_exactly_the_two_masks(schedule):
    amodal, modal = masks()
    uniform = torch.rand(amodal.shape, generator=torch.Generator().manual_seed(0))
    keep = keep_probability(torch.tensor([0.0, 1.0]), schedule, -3.41)
    assert torch.equal(transit(amodal, modal, keep[:1], uniform), amodal)
    assert torch.equal(transit(amodal, modal, keep[1:], uniform), modal)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_keep_probability_is_non_increasing_and_in_range(schedule):
    keep = keep_probability(torch.linspace(0, 1, 101), schedule, -3.41)
    assert (keep.diff() <= 1e-7).all()
    assert keep.min() >= 0 and keep.max() <= 1


def test_segrefiner_schedule_starts_at_eight_tenths():
    assert keep_probability(torch.tensor(0.0), "segrefiner") == pytest.approx(0.8)


@pytest.mark.parametrize("t", [0.1, 0.37, 0.5, 0.9])
def test_the_share_of_kept_pixels_is_the_marginal(t):
    amodal, modal = masks()
    differ = amodal != modal
    keep = keep_probability(torch.tensor([t]), "linear")
    uniform = torch.rand(amodal.shape, generator=torch.Generator().manual_seed(1))
    state = transit(amodal, modal, keep, uniform)
    rate, count = (state[differ] == amodal[differ]).float().mean().item(), int(differ.sum())
    assert abs(rate - (1 - t)) < 4 * math.sqrt(t * (1 - t) / count)
    assert torch.equal(state[~differ], amodal[~differ])


def test_with_one_shared_map_the_states_are_nested():
    amodal, modal = masks()
    uniform = torch.rand(amodal.shape, generator=torch.Generator().manual_seed(2))
    times = torch.linspace(0, 1, 11)
    chain = [transit(amodal, modal, keep_probability(t[None], "linear"), uniform) for t in times]
    gone = [state != amodal for state in chain]
    for earlier, later in itertools.pairwise(gone):
        assert not (earlier & ~later).any()
    assert not gone[0].any() and torch.equal(chain[-1], modal)


def test_the_step_by_step_markov_chain_has_the_same_marginal():
    """Equation 4 applied ten times equals equation 5 applied once: b_t = bar-b_t / bar-b_(t-1)."""
    generator = torch.Generator().manual_seed(3)
    pixels, steps = 200_000, 10
    amodal_state = torch.ones(pixels, dtype=torch.bool)
    bar = keep_probability(torch.linspace(0, 1, steps + 1, dtype=torch.float64), "linear")
    for i in range(1, steps + 1):
        step = bar[i] / bar[i - 1]
        amodal_state &= torch.rand(pixels, generator=generator) < step
        expected = float(bar[i])
        tolerance = 4 * math.sqrt(max(expected * (1 - expected), 1e-12) / pixels) + 1e-12
        assert abs(amodal_state.double().mean().item() - expected) <= tolerance


def test_uniform_and_gumbel_max_sampling_have_the_same_distribution():
    generator, pixels, keep = torch.Generator().manual_seed(4), 400_000, 0.3
    gumbel = -torch.log(-torch.log(torch.rand(2, pixels, generator=generator).clamp_min(1e-20)))
    kept = (math.log(keep) + gumbel[0]) > (math.log(1 - keep) + gumbel[1])
    assert abs(kept.float().mean().item() - keep) < 4 * math.sqrt(keep * (1 - keep) / pixels)


def test_mean_and_variance_in_the_occluded_region():
    """E[x_t] = alpha (2 bar-b - 1) and Var[x_t] = sigma^2 + 4 alpha^2 bar-b (1 - bar-b) where the masks differ."""
    amodal, modal = torch.ones(1, 1, 500, 500), torch.zeros(1, 1, 500, 500)
    generator = torch.Generator().manual_seed(5)
    for t in (0.1, 0.3):
        keep, lam = keep_probability(torch.tensor([t]), "linear"), log_snr(torch.tensor([t]), -3.41)
        state = transit(amodal, modal, keep, torch.rand(amodal.shape, generator=generator))
        x = corrupt(state, lam, torch.randn(amodal.shape, generator=generator))
        alpha, sigma = (value.item() for value in alpha_sigma(lam))
        kept, count = 1 - t, x.numel()
        variance = sigma**2 + 4 * alpha**2 * kept * (1 - kept)
        assert abs(x.mean().item() - alpha * (2 * kept - 1)) < 5 * math.sqrt(variance / count)
        assert x.var().item() == pytest.approx(variance, rel=0.02)


def test_reverse_posterior_of_the_chain():
    """P(amodal at s | modal at t) = (bar-b_s - bar-b_t) / (1 - bar-b_t), counted on a shared map."""
    uniform = torch.rand(400_000, generator=torch.Generator().manual_seed(6))
    bar_s, bar_t = 0.6, 0.3
    modal_at_t, amodal_at_s = uniform >= bar_t, uniform < bar_s
    expected = (bar_s - bar_t) / (1 - bar_t)
    assert amodal_at_s[modal_at_t].float().mean().item() == pytest.approx(expected, abs=0.004)


def test_blocks_change_state_together():
    uniform = block_uniform((2, 1, 10, 14), 4, torch.Generator().manual_seed(0), CPU)
    assert uniform.shape == (2, 1, 10, 14)
    for top in range(0, 10, 4):
        for left in range(0, 14, 4):
            tile = uniform[0, 0, top : top + 4, left : left + 4]
            assert (tile == tile[0, 0]).all()
    assert uniform.unique().numel() == 2 * 3 * 4


def test_training_times():
    torch.manual_seed(0)
    discrete = sample_times(1000, "discrete", 1, 1, 10, CPU)
    assert sorted({round(value, 4) for value in discrete.tolist()}) == [i / 10 for i in range(1, 11)]
    beta = sample_times(20_000, "beta", 2.0, 5.0, 10, CPU)
    assert beta.mean().item() == pytest.approx(2 / 7, abs=0.01)
    assert beta.var().item() == pytest.approx(10 / (49 * 8), abs=0.003)
    uniform = sample_times(20_000, "uniform", 1, 1, 10, CPU)
    assert uniform.min() >= 0 and uniform.max() < 1 and uniform.mean().item() == pytest.approx(0.5, abs=0.01)
