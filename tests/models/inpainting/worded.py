"""An exact backend whose texts are numbers."""

from dataclasses import replace

import torch

from amodalseg.models.inpainting.backends.backend import Abilities, Estimate
from tests.models.inpainting.fake_backends import GaussianBackend


class Worded(GaussianBackend):
    """A text is read as a number and added to the mean of the clean picture."""

    name = "worded"
    abilities = Abilities(size=8, multiple=1, text=True)

    def prepare(self, pictures, holes, prompts=None):
        texts = [float(prompt or 0) for prompt in prompts or [""] * len(pictures)]
        return replace(super().prepare(pictures, holes), inputs={"text": torch.tensor(texts)[:, None, None]})

    def estimate(self, x, level, prepared, taps=()):
        assert len(x) == len(prepared)
        clean = super().estimate(x, level, prepared).clean + prepared.inputs["text"].mean((1, 2))[:, None, None, None]
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, {})
