"""Leakage conditioning and mask guidance (paper 002, equations 7 and 11) as hooks of the sampling loop."""

from __future__ import annotations

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.backend import Estimate, Prepared
from amodalseg.models.inpainting.steps.sample import Hook, Sampling


class Leakage(Hook):
    """Equation 7 at the end of each step: x = s (M x_generated + (1 - M) x_known) + (1 - s) x_known.

    With s = 1 this is exactly plain blended inpainting. Outside the area M the state is exactly the known picture at
    its noise level, for every s; inside, each step keeps the share s of what was generated.

    Args:
        s: in [0, 1].
        until: share of the steps with this blending; the others are plain.
    """

    def __init__(self, s: float, until: float = 1.0) -> None:
        self.s, self.until = s, until

    def step_end(self, sampling: Sampling) -> None:
        known = sampling.known_at(sampling.level)
        x = sampling.x
        if sampling.index <= self.until * sampling.steps:
            x = self.s * x + (1 - self.s) * known
        # after the leakage, because s a + (1 - s) a is not exactly a in floating point
        sampling.x = torch.where(sampling.prepared.hole > 0, x, known)


class MaskGuidance(Hook):
    """Equation 11: (1 + w) x(M) - w x(nothing), at the cost of a second evaluation per step.

    A step is linear in the estimates of picture and noise, so both are guided and the state follows.

    Args:
        null: the same states without any information for the network.
        weight: w.
        where: float (B or 1, 1, h, w) in [0, 1] on the grid: the share of the guidance at each position. Where it is 0
            the prediction is x(nothing) alone, so w is (1 + weight) * where - 1 there: DiffOOM's local text guidance
            (its equation 10, x(nothing) + omega Q (x(c) - x(nothing))) is ``weight`` = omega - 1 and ``where`` = Q.
    """

    def __init__(self, null: Prepared, weight: float, where: Tensor | None = None) -> None:
        self.null, self.weight, self.where = null, weight, where

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        return self.guided(estimate, sampling.backend.estimate(sampling.x, sampling.level, self.null))

    def guided(self, estimate: Estimate, free: Estimate) -> Estimate:
        """Combine the estimate with the unconditional one for the same state."""
        w = self.weight if self.where is None else (1 + self.weight) * self.where.to(estimate.clean) - 1
        return Estimate(
            (1 + w) * estimate.clean - w * free.clean, (1 + w) * estimate.noise - w * free.noise, estimate.features
        )
