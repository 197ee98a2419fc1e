"""Visible-guided prediction ensemble (VGPE, equations 11 and 12). Pure maths, independent of any network."""

from __future__ import annotations

import torch
from torch import Tensor

from amodalseg.config.schema import VGPEConfig


def is_clamped(step: int, steps: int, config: VGPEConfig) -> bool:
    """Whether equation 11 sets the visible pixels at this step.

    The paper's text says "the later half of the sampling steps"; its inequality t >= T/2 agrees if t counts steps.

    Args:
        step: 0-based sampling step.
        steps: T.
        config: ``start`` floor: the first clamped step is floor(T/2); paper: T/2 - 1 (the 1-based reading). ``side``
            early: the steps before the start are clamped instead.
    """
    if not config.clamp:
        return False
    start = steps // 2 if config.start == "floor" else max(0, -(-steps // 2) - 1)
    return step >= start if config.side == "late" else step < start


def clamp_visible(x0: Tensor, modal: Tensor) -> Tensor:
    """Equation 11: x_0 (1 - M_v) + M_v. x0 in [-1, 1] and modal in {0, 1}, both (B, 1, H, W)."""
    return x0 * (1 - modal) + modal


class Ensemble:
    """Equation 12, accumulated step by step: majority vote times mean probability, with two running sums.

    Probabilities are (x_0 + 1) / 2. A pixel is kept if at least half of the steps (``tie`` gt: more than half) give it
    more than 1/2. Votes are integers, so ties are exact.
    """

    def __init__(self, config: VGPEConfig) -> None:
        self.config = config
        self.count = 0
        self.votes: Tensor | None = None
        self.total: Tensor | None = None
        self.last: Tensor | None = None

    def add(self, x0: Tensor) -> None:
        """Add one step's prediction, (B, 1, H, W) in [-1, 1]."""
        probability = (x0.float() + 1) / 2
        vote = (probability > 0.5).float()
        self.count += 1
        self.votes = vote if self.votes is None else self.votes + vote
        self.total = probability if self.total is None else self.total + probability
        self.last = probability

    def result(self) -> Tensor:
        """Final probability, float32 (B, 1, H, W) in [0, 1]; without the ensemble the last step's."""
        assert self.votes is not None and self.total is not None and self.last is not None, "no step was added"
        if not self.config.ensemble:
            return self.last
        mean = self.total / self.count
        if self.config.norm == "minmax":
            low, high = mean.amin((1, 2, 3), keepdim=True), mean.amax((1, 2, 3), keepdim=True)
            mean = (mean - low) / (high - low).clamp_min(1e-8)
        kept = 2 * self.votes >= self.count if self.config.tie == "ge" else 2 * self.votes > self.count
        return torch.where(kept, mean, 0 * mean)  # not plain zeros: a NaN gets no vote, but must stay a NaN
