"""Backends whose predictions are known in closed form."""

import numpy as np
import torch

from amodalseg.models.inpainting.backends.backend import CLEAN, Abilities, Estimate, InpaintingBackend, Level, Prepared


def pictures_and_holes(count=3, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand((count, 3, side, side), generator=generator) * 2 - 1
    holes = torch.rand((count, 1, side, side), generator=generator) < 0.5
    return pictures, holes


class GaussianBackend(InpaintingBackend):
    """The exact denoiser of independent normal pixels, N(mean, spread ** 2), on any schedule.

    flow: alpha = 1 - sigma, else cosine and sine. calls: the levels of its evaluations.
    """

    name = "gaussian"
    abilities = Abilities(size=8, multiple=1, taps=("square", "half"))
    device = torch.device("cpu")

    def __init__(self, mean=0.3, spread=0.5, flow=False):
        self.mean, self.spread, self.flow, self.calls = mean, spread, flow, []

    def prepare(self, pictures, holes, prompts=None):
        return Prepared(pictures, holes.float(), {} if prompts is None else {"length": torch.tensor(
            [len(prompt) for prompt in prompts])})  # fmt: skip

    def unconditional(self, prepared):
        return prepared

    def levels(self, steps):
        sigmas = np.linspace(1, 0, steps + 1)[:-1]
        if self.flow:
            return [*(Level(s, 1 - s, s) for s in sigmas), CLEAN]
        return [*(Level(s, np.cos(s * np.pi / 2), np.sin(s * np.pi / 2)) for s in sigmas), CLEAN]

    def estimate(self, x, level, prepared, taps=()):
        self.calls.append(level)
        _, alpha, sigma = level
        variance = alpha**2 * self.spread**2 + sigma**2
        clean = self.mean + alpha * self.spread**2 * (x - alpha * self.mean) / variance
        features = {"square": x**2, "half": x[..., ::2, ::2]}
        return Estimate(clean, (x - alpha * clean) / sigma, {tap: features[tap] for tap in taps})

    def decode(self, x, clamp=True):
        return x
