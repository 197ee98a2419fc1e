"""The sampling loop against closed forms, and the guarantees for hooks."""

import numpy as np
import pytest
import torch

from amodalseg.models.inpainting.backends.backend import CLEAN
from amodalseg.models.inpainting.steps.sample import Hook, KeepKnown, advance, begin, inpaint
from tests.models.inpainting.fake_backends import GaussianBackend, pictures_and_holes


def run(backend, steps, hooks=(), seeds=(1, 2, 3), strength=1.0):
    prepared = backend.prepare(*pictures_and_holes(len(seeds)))
    return advance(begin(backend, prepared, seeds, steps, strength), hooks)


@pytest.mark.parametrize("flow", [False, True])
def test_the_trajectory_equals_the_exact_one(flow):
    """Each step is linear in x; its factor is derived independently, in double precision and in another form."""
    backend, steps = GaussianBackend(flow=flow), 13
    m, s = backend.mean, backend.spread
    sampling = begin(backend, backend.prepare(*pictures_and_holes()), (1, 2, 3), steps)
    deviation = sampling.x.double().numpy() - sampling.levels[0].alpha * m
    for now, then in zip(sampling.levels[:-1], sampling.levels[1:], strict=True):
        # (x - alpha m) is multiplied by the covariance of x_then and x_now over the variance of x_now
        covariance = then.alpha * now.alpha * s**2 + then.sigma * now.sigma
        deviation = deviation * covariance / (now.alpha**2 * s**2 + now.sigma**2)
        advance(sampling, until=sampling.index + 1)
        np.testing.assert_allclose(sampling.x.numpy(), deviation + then.alpha * m, atol=2e-6)
    assert sampling.level == CLEAN and len(backend.calls) == steps


def test_more_steps_come_closer_to_the_ode():
    """In the limit, x_0 = mean + spread * noise."""
    errors = []
    for steps in (10, 40, 160):
        sampling = run(GaussianBackend(), steps)
        errors.append(float((sampling.x - (0.3 + 0.5 * sampling.noise)).abs().max()))
    assert errors[0] > 3.5 * errors[1] > 12 * errors[2] and errors[2] < 0.02


def test_a_point_mass_is_reached_in_any_number_of_steps():
    for steps in (1, 2, 7):
        torch.testing.assert_close(run(GaussianBackend(spread=0.0), steps).x, torch.full((3, 3, 8, 8), 0.3))


def test_known_pixels_are_noised_during_sampling_and_exact_at_the_end():
    class Look(Hook):
        def step_end(self, sampling):
            outside = (sampling.prepared.hole == 0).expand_as(sampling.x)
            assert torch.equal(sampling.x[outside], sampling.known_at(sampling.level)[outside])

    pictures, holes = pictures_and_holes()
    outside = ~holes.expand_as(pictures)
    sampling = run(GaussianBackend(), 6, [KeepKnown(), Look()])
    assert torch.equal(sampling.x[outside], pictures[outside])
    assert not torch.equal(sampling.x[~outside], pictures[~outside])
    assert torch.equal(inpaint(GaussianBackend(), pictures, holes, (1, 2, 3), steps=6), sampling.x)


def test_an_empty_hole_changes_nothing_and_a_full_one_uses_no_known_pixel():
    pictures, holes = pictures_and_holes()
    assert torch.equal(inpaint(GaussianBackend(), pictures, torch.zeros_like(holes), (1, 2, 3), steps=3), pictures)
    everything = torch.ones_like(holes)
    free = inpaint(GaussianBackend(), pictures, everything, (1, 2, 3), steps=3)
    assert torch.equal(free, inpaint(GaussianBackend(), -pictures, everything, (1, 2, 3), steps=3))


def test_hooks_are_called_in_order_and_get_the_current_step():
    seen = []

    class Note(Hook):
        def __init__(self, name, taps=()):
            self.name, self.taps = name, taps

        def model_input(self, sampling, x):
            seen.append((self.name, "model_input", sampling.index))
            return x

        def features(self, sampling, features):
            seen.append((self.name, "features", sampling.index, *features))

        def estimate(self, sampling, estimate):
            seen.append((self.name, "estimate", sampling.index))
            return estimate

        def step_end(self, sampling):
            seen.append((self.name, "step_end", sampling.index))

    run(GaussianBackend(), 2, [Note("a", ("square",)), Note("b")])
    assert seen == [
        event
        for i in range(2)
        for event in [
            ("a", "model_input", i), ("b", "model_input", i), ("a", "features", i, "square"),
            ("a", "estimate", i), ("b", "estimate", i), ("a", "step_end", i + 1), ("b", "step_end", i + 1),
        ]
    ]  # fmt: skip


def test_hooks_can_change_estimates_and_states():
    class Blind(Hook):
        """The network gets zeros; the state itself is unchanged."""

        taps = ("square",)

        def model_input(self, sampling, x):
            return torch.zeros_like(x)

        def features(self, sampling, features):
            assert not features["square"].any()

    class Pull(Hook):
        def estimate(self, sampling, estimate):
            return estimate._replace(clean=torch.full_like(estimate.clean, 0.75))

    backend = GaussianBackend(spread=0.0)
    torch.testing.assert_close(run(backend, 4, [Pull()]).x, torch.full((3, 3, 8, 8), 0.75))
    sampling = run(backend, 4, [Blind()])
    torch.testing.assert_close(sampling.x, torch.full((3, 3, 8, 8), 0.3))
    assert run(backend, 4, [Blind()]).noise.abs().sum() > 0


def test_sampling_can_be_paused_changed_and_continued():
    backend = GaussianBackend()
    whole = run(backend, 8)
    halted = begin(backend, backend.prepare(*pictures_and_holes()), (1, 2, 3), 8)
    advance(halted, until=5)
    assert halted.index == 5
    torch.testing.assert_close(advance(halted).x, whole.x, rtol=0, atol=0)
    swapped = advance(begin(backend, backend.prepare(*pictures_and_holes()), (1, 2, 3), 8), until=5)
    swapped.x = swapped.known_at(swapped.level)
    assert not torch.equal(advance(swapped).x, whole.x)


def test_strength_runs_the_last_share_of_the_steps():
    backend = GaussianBackend()
    sampling = run(backend, 20, strength=0.3)
    assert len(backend.calls) == 6 and sampling.index == 20
    untouched = run(GaussianBackend(), 20, strength=0.0)
    assert torch.equal(untouched.x, untouched.prepared.known)
    start = begin(backend, backend.prepare(*pictures_and_holes()), (1, 2, 3), 20, 0.3)
    assert torch.equal(start.x, start.known_at(start.levels[14]))


def test_noise_is_determined_by_an_objects_own_seed():
    pictures, holes = pictures_and_holes(5)
    seeds = (4, 9, 4, 2**63 - 1, 0)
    together = inpaint(GaussianBackend(), pictures, holes, seeds, steps=5)
    for batch_size in (1, 2, 3):
        apart = inpaint(GaussianBackend(), pictures, holes, seeds, steps=5, batch_size=batch_size)
        assert torch.equal(apart, together)
    first = inpaint(GaussianBackend(), pictures[:1], holes[:1], (4,), steps=5)
    assert torch.equal(first, together[:1])
    other = inpaint(GaussianBackend(), pictures[:1], holes[:1], (5,), steps=5)
    assert not torch.equal(first, other)


def test_an_empty_batch():
    pictures, holes = pictures_and_holes(3)
    assert inpaint(GaussianBackend(), pictures[:0], holes[:0], ()).shape == (0, 3, 8, 8)
