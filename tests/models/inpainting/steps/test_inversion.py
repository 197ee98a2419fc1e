"""Inversion with the exact denoiser of independent normal pixels, and holding parts of a state."""

import numpy as np
import pytest
import torch

from amodalseg.models.inpainting.backends.backend import CLEAN, Estimate, Level
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.sample import Hold, KeepKnown, advance, begin
from tests.models.inpainting.fake_backends import GaussianBackend, pictures_and_holes


class OnStableDiffusionsLevels(GaussianBackend):
    """Scaled linear betas and leading time steps from 1, as in DDIM sampling of Stable Diffusion 1.5."""

    def levels(self, steps):
        cumulated = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
        times = [1000 // steps * i + 1 for i in reversed(range(steps))]
        return [*(Level(t, cumulated[t] ** 0.5, (1 - cumulated[t]) ** 0.5) for t in times), CLEAN]


def pictures_of(backend):
    """Pictures for which the backend's denoiser is exact."""
    noise = torch.randn((8, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    return backend.mean + backend.spread * noise


def there_and_back(backend, steps, rounds):
    """The relative error of pictures that were inverted and regenerated."""
    pictures = pictures_of(backend)
    prepared = backend.prepare(pictures, torch.ones(8, 1, 8, 8, dtype=torch.bool))
    states = invert(backend, prepared, steps, rounds)
    assert len(states) == steps + 1 and torch.equal(states[-1], pictures)
    sampling = begin(backend, prepared, range(8), steps)
    sampling.x = states[0]
    return float((advance(sampling).x - pictures).norm() / pictures.norm())


@pytest.mark.parametrize(("steps", "error"), [(10, 0.197), (20, 0.096), (50, 0.037)])
def test_the_error_falls_with_steps_and_with_fixed_point_rounds(steps, error):
    found = there_and_back(OnStableDiffusionsLevels(mean=0.0), steps, 0)
    assert 0.9 * error < found < error + 6e-4
    assert there_and_back(OnStableDiffusionsLevels(mean=0.0), steps, 3) <= 1e-3
    assert there_and_back(GaussianBackend(mean=0.0), steps, 0) < error
    assert there_and_back(GaussianBackend(), steps, 3) <= 2e-4


def test_a_flow_is_inverted():
    errors = [there_and_back(GaussianBackend(flow=True), 20, rounds) for rounds in (0, 2, 5)]
    assert errors[0] > 0.05 and errors[1] < 0.2 * errors[0] and errors[2] < 1e-3


def test_with_rounds_the_sampler_retraces_each_state():
    backend = GaussianBackend()
    prepared = backend.prepare(pictures_of(backend), torch.ones(8, 1, 8, 8, dtype=torch.bool))
    states = invert(backend, prepared, 12, 6)
    sampling = begin(backend, prepared, range(8), 12)
    sampling.x = states[0]
    for state in states[1:]:
        advance(sampling, until=sampling.index + 1)
        torch.testing.assert_close(sampling.x, state, atol=2e-4, rtol=0)


def test_the_network_is_evaluated_at_the_noisier_level_once_per_step_and_round():
    backend = GaussianBackend()
    prepared = backend.prepare(*pictures_and_holes())
    levels = backend.levels(5)
    invert(backend, prepared, 5)
    assert backend.calls == levels[4::-1]
    backend.calls.clear()
    states = invert(backend, prepared, 5, rounds=2, first=3)
    assert backend.calls == [levels[4]] * 3 + [levels[3]] * 3
    assert len(states) == 6 and torch.equal(states[0], states[3]) and not torch.equal(states[3], states[4])


def test_a_network_with_constant_noise_estimate_is_inverted_exactly():
    class Same(GaussianBackend):
        def estimate(self, x, level, prepared, taps=()):
            noise = torch.full_like(x, 0.4)
            return Estimate((x - level.sigma * noise) / level.alpha, noise, {})

    pictures, holes = pictures_and_holes()
    backend = Same()
    for level, state in zip(backend.levels(6), invert(backend, backend.prepare(pictures, holes), 6), strict=True):
        torch.testing.assert_close(state, level.alpha * pictures + level.sigma * 0.4)


def test_held_parts_equal_bitwise_the_given_state_of_the_same_level():
    backend = GaussianBackend()
    pictures, holes = pictures_and_holes()
    prepared = backend.prepare(pictures, holes)
    states, held = invert(backend, prepared, 7), ~holes
    seen = []

    class Look(Hold):
        def step_end(self, sampling):
            there = held.expand_as(pictures)
            seen.append(torch.equal(sampling.x[there], states[sampling.index][there]))
            assert not torch.equal(sampling.x[~there], states[sampling.index][~there])

    hold = Hold(lambda sampling: held, lambda sampling: states[sampling.index])
    advance(begin(backend, prepared, (1, 2, 3), 7), [hold, Look(None, None)])
    assert seen == [True] * 7


def test_keeping_known_pixels_equals_holding_the_noised_picture_outside_the_hole():
    backend = GaussianBackend()
    prepared = backend.prepare(*pictures_and_holes())
    hold = Hold(lambda sampling: prepared.hole == 0, lambda sampling: sampling.known_at(sampling.level))
    one, other = (advance(begin(backend, prepared, (1, 2, 3), 6), [hook]).x for hook in (hold, KeepKnown()))
    assert torch.equal(one, other)
