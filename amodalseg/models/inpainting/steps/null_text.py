"""Null-text optimisation: null texts, one per step, with which guided sampling reconstructs a given picture.

Mokady et al., Null-text Inversion for Editing Real Images using Guided Diffusion Models (2023), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import Estimate, InpaintingBackend, Prepared
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.sample import Sampling


class NullTexts(MaskGuidance):
    """Guidance against another text at each step. texts: of ``null_text``, the n-th for the n-th step."""

    def __init__(self, guidance: MaskGuidance, texts: Sequence[Tensor]) -> None:
        super().__init__(guidance.null, guidance.weight, guidance.where)
        self.texts = texts

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        null = self.null.with_text(self.texts[sampling.index])
        return self.guided(estimate, sampling.backend.estimate(sampling.x, sampling.level, null))


def null_text(
    backend: InpaintingBackend,
    prepared: Prepared,
    guidance: MaskGuidance,
    states: Sequence[Tensor],
    *,
    first: int = 0,
    updates: int = 10,
    rate: float = 1e-2,
    enough: float = 1e-5,
) -> list[Tensor]:
    """Fit the null text at each step, so that the guided step from the current state ends at the next given state.

    Each step starts from the text of the previous one, with Adam's state reset; its rate falls to half over the steps.

    Args:
        backend: that reads text.
        prepared: the conditional input.
        guidance: the unconditional input, and the weight of the guidance.
        states: of an inversion without guidance, one for each of ``backend.levels(steps)``.
        first: the step that sampling starts with, from ``states[first]``.
        updates: maximum number per text.
        rate: of Adam.
        enough: updates of an object's text stop once the mean squared error of its state is below this at the first
            step, and 101 times this towards the last, as published.

    Returns:
        ``steps`` texts, float32 (B, tokens, width), for ``NullTexts``; those before ``first`` are the null's own. An
        object's texts do not depend on the others.

    Raises:
        UserError: the backend reads no text.
    """
    if "text" not in guidance.null.inputs:
        raise UserError(f"{backend.name} reads no text, so there is no null text to fit: use Stable Diffusion")
    steps = len(states) - 1
    levels, x = backend.levels(steps), states[first]
    text = guidance.null.inputs["text"].detach().float()
    texts = [text] * first
    for index in range(first, steps):
        level, then, done = levels[index], levels[index + 1], index / steps
        with torch.no_grad():
            told = backend.estimate(x, level, prepared)
        text = text.clone().requires_grad_()
        optimizer = torch.optim.Adam([text], lr=rate * (1 - done / 2))
        for update in range(updates + 1):
            with torch.enable_grad():
                free = backend.estimate(x, level, guidance.null.with_text(text))
                guided = guidance.guided(told, free)
                reached = backend.add_noise(guided.clean, guided.noise, then)
                errors = (reached - states[index + 1]).square().flatten(1)
            # a converged row is no longer changed, so an object's text does not depend on the others
            going = errors.detach().mean(1) >= enough * (1 + 100 * done)
            if update == updates or not going.any():
                break
            optimizer.zero_grad()
            with torch.enable_grad():  # the caller may sample without gradients
                errors.sum().backward()  # a sum, because a mean's gradients vanish in half precision
            kept = text.detach().clone()
            optimizer.step()
            with torch.no_grad():
                text.copy_(torch.where(going[:, None, None], text, kept))
        text, x = text.detach(), reached.detach()
        texts.append(text)
    return texts
