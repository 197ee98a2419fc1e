"""DDIM inversion: from a picture to the noise that the sampler would have drawn it from, and all states between."""

from __future__ import annotations

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.backend import InpaintingBackend, Level, Prepared


@torch.no_grad()
def invert(backend: InpaintingBackend, prepared: Prepared, steps: int, rounds: int = 0, first: int = 0) -> list[Tensor]:
    """Walk the sampler's way backwards, from the known pictures towards noise.

    A step of the sampler is x_c = alpha_c x_0(x_n, n) + sigma_c eps(x_n, n), from the noisier level n to the cleaner
    level c. Backwards x_n is what is looked for, so the network is asked about x_c instead, told the time of the
    noisier level, and its noise is taken for that at x_n (DDIM inversion). What that misses shrinks as 1 / steps.

    Args:
        backend: the model.
        prepared: ``known`` is inverted; the network is told the rest, without guidance.
        steps: of the whole way.
        rounds: fixed-point rounds in each step, one evaluation each: the step is taken forwards from the x_n found so
            far, and x_n corrected by what it misses of x_c.
        first: the level to end at, an index of ``backend.levels(steps)``; 0 is the noisiest.

    Returns:
        ``steps + 1`` entries, one for each of ``backend.levels(steps)``: the states there, the last one ``known``
        itself. Entries before ``first`` are that at ``first``; there is none of their own.
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
    """How much a step moves by if its start moves by 1 and the network's velocity stays; above 0."""
    along = noisier.alpha * cleaner.alpha + noisier.sigma * cleaner.sigma
    return along / (noisier.alpha**2 + noisier.sigma**2)
