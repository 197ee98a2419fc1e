"""DDIM inversion: from a picture to the noise that the sampler would generate it from, with all intermediate states."""

from __future__ import annotations

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.backend import InpaintingBackend, Level, Prepared


@torch.no_grad()
def invert(backend: InpaintingBackend, prepared: Prepared, steps: int, rounds: int = 0, first: int = 0) -> list[Tensor]:
    """Run the sampler backwards, from the known pictures towards noise.

    A step of the sampler is x_c = alpha_c x_0(x_n, n) + sigma_c eps(x_n, n), from the noisier level n to the cleaner
    level c. Backwards x_n is unknown, so the network is evaluated at x_c instead, with the time of the noisier level,
    and its noise is used as the estimate at x_n (DDIM inversion). The error decreases as 1 / steps.

    Args:
        backend: the model.
        prepared: ``known`` is inverted; the rest is input of the network, without guidance.
        steps: of the full schedule.
        rounds: fixed-point iterations in each step, one evaluation each: the step is taken forwards from the current
            estimate of x_n, which is corrected by the remaining error at x_c.
        first: the level to end at, an index of ``backend.levels(steps)``; 0 is the noisiest.

    Returns:
        ``steps + 1`` entries, one for each of ``backend.levels(steps)``: the states there, the last one ``known``
        itself. Entries before ``first`` repeat the one at ``first``.
    """
    levels = backend.levels(steps)
    states = [prepared.known]
    for index in range(steps - 1, first - 1, -1):
        noisier, cleaner, x = levels[index], levels[index + 1], states[0]
        noise = backend.estimate(x, noisier, prepared).noise
        found = noisier.alpha * (x - cleaner.sigma * noise) / cleaner.alpha + noisier.sigma * noise
        for _ in range(rounds):
            clean, noise, _ = backend.estimate(found, noisier, prepared)
            found = found + (x - cleaner.alpha * clean - cleaner.sigma * noise) / _slope(noisier, cleaner)
        states.insert(0, found)
    return [states[0]] * first + states


def _slope(noisier: Level, cleaner: Level) -> float:
    """The derivative of a step with respect to its start, for constant velocity of the network; positive."""
    along = noisier.alpha * cleaner.alpha + noisier.sigma * cleaner.sigma
    return along / (noisier.alpha**2 + noisier.sigma**2)
