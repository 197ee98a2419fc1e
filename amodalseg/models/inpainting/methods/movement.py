"""DiffOOM's movement branch: the photo is regenerated from its own inversion, with the object at its target.

docs/models.md maps the steps to equations, and says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from amodalseg.config.schema import DiffOOMConfig
from amodalseg.data.draw.cover import overlap
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import Estimate, InpaintingBackend, Prepared
from amodalseg.models.inpainting.methods.deocclusion import Deocclusion
from amodalseg.models.inpainting.steps.attention_controls import KeepKeys, KeyMask, PutKeys
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.sample import Hook, Sampling, advance, begin

Part = tuple[slice, ...]


class Box(NamedTuple):
    """A box on a grid, possibly extending beyond it: first row and column, and sides."""

    top: int
    left: int
    height: int
    width: int

    def parts(self, shape: Sequence[int]) -> tuple[Part, Part]:
        """Its overlap with states of a shape (..., h, w): slices into these, and into the box itself."""
        here, there = overlap(tuple(shape[-2:]), (self.height, self.width), self.left, self.top)
        return (slice(None), slice(None), *here), (slice(None), slice(None), *there)


class KeepClean(Hook):
    """Keeps the last estimate of the clean state."""

    clean: Tensor

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        self.clean = estimate.clean
        return estimate


class Keys(Hook):
    """Self-attention uses the inverted state of the same level (text before equation 8).

    Keys and values are recomputed at each step, by one evaluation, instead of being stored during inversion.

    Args:
        source: what was inverted. states: of its inversion. visible: bool (1, 1, h, w), the object's origin, whose
        keys are excluded; None: all count (table 4, "w/o AG").
    """

    def __init__(self, source: Prepared, states: Sequence[Tensor], visible: Tensor | None) -> None:
        keep = KeepKeys()
        self.source, self.states = replace(source, attention=(keep,)), states
        self.controls = (PutKeys(keep), *([] if visible is None else [KeyMask(~visible)]))

    def model_input(self, sampling: Sampling, x: Tensor) -> Tensor:
        sampling.backend.estimate(self.states[sampling.index], sampling.level, self.source)
        return x


class Pull(Hook):
    """Latent optimisation (equation 8) in closed form, synchronously with the de-occlusion branch.

    One step of gradient descent on half the squared distance is x <- x - gamma (x - target), taken in ``after``; as a
    hook, this class records the estimated noise of the photo's states.

    Args:
        branch: the object; there is no pull before its first step.
        config: ``pull`` (gamma), ``pull_on`` and ``resize``.
        box: the target square.
        whole: float (1, 1, S, S), the predicted whole object in its square: the pulled region, unless ``answer`` is
            attention, which uses the refined map of each step (R of the equation).
    """

    def __init__(self, branch: Deocclusion, config: DiffOOMConfig, box: Box, whole: Tensor) -> None:
        self.branch, self.config, self.box, self.whole = branch, config, box, whole
        self.first, self.object, self.noise = branch.sampling.index, KeepClean(), torch.empty(0)

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        self.noise = estimate.noise
        return estimate

    def after(self, sampling: Sampling) -> None:
        """Advance the object's branch to the same level, and pull. sampling: of the photo, at the end of a step."""
        branch = self.branch
        if sampling.index <= self.first:
            return
        advance(branch.sampling, [*branch.hooks, self.object], until=sampling.index)
        here, there = self.box.parts(sampling.x.shape)
        shown = self.whole
        if self.config.answer == "attention" and branch.attention is not None:
            shown = branch.attention.where
        size = self.box.height, self.box.width
        where = interpolate(shown.to(sampling.x), size, mode="area")[there] >= 0.5
        target = self._target(sampling, here, there)
        if self.config.pull_on == "square":  # literally as in the equation: around the object the square goes to 0
            where, target = torch.ones_like(where), target * where
        x = sampling.x.clone()
        x[here] = torch.where(where, x[here] - self.config.pull * (x[here] - target), x[here])
        sampling.x = x

    def _target(self, sampling: Sampling, here: Part, there: Part) -> Tensor:
        """The object at this level and the target's size, by L-Resize (equation 9) or without it."""
        backend, at = sampling.backend, self.branch.sampling
        if self.config.resize == "latent":
            size = self.box.height, self.box.width
            return interpolate(at.x, size, mode="bilinear", antialias=True)[there]
        if self.config.resize == "noisy":
            return l_resize(backend, at.x, self.box)[there]
        clean = l_resize(backend, self.object.clean, self.box)[there]
        return backend.add_noise(clean, self.noise[here], sampling.level)


def l_resize(backend: InpaintingBackend, x: Tensor, box: Box) -> Tensor:
    """Equation 9: states (B, C, h, w) -> those of a box's size, via the decoded picture."""
    factor = backend.abilities.factor
    size = factor * box.height, factor * box.width
    pictures = interpolate(backend.decode(x), size, mode="bilinear", antialias=True)
    return backend.encode(pictures)


def move_in_latents(
    backend: InpaintingBackend, config: DiffOOMConfig, scene: Tensor, go: Tensor, prompt: str, branch: Deocclusion,
    box: Box, whole: Tensor, seed: int,
) -> tuple[Tensor, int]:  # fmt: skip
    """Regenerate a photo with its object at the target.

    Args:
        backend: the inpainting model.
        config: the options.
        scene: float32 (1, 3, H, W) in [-1, 1], the photo at the model's size.
        go: bool (1, 1, H, W), the region to fill at the origin.
        prompt: for the guidance in the target square; empty: none.
        branch: the object, at the start of its own branch.
        box: the target square on the grid.
        whole: float (1, 1, S, S), as ``Pull``.
        seed: of the noise.

    Returns:
        The picture, float32 (1, 3, H, W) in [-1, 1], and the evaluations of the network besides those of the branch.

    Raises:
        UserError: the model's attention layers cannot be controlled.
    """
    if not backend.abilities.attention:
        raise UserError(f"movement=latent needs attention layers that {backend.name} lacks: use movement=paste")
    steps = branch.sampling.steps
    with branch.adapter.off() if branch.adapter else nullcontext():  # the adapters are those of the object
        source = backend.prepare(scene, torch.zeros_like(go), [""])
        source = backend.unconditional(source) if backend.abilities.sees_hole else source
        states = invert(backend, source, steps, config.rounds)
    prepared = backend.prepare(scene, go, [""])
    grid = tuple(prepared.known.shape[-2:])
    gone = interpolate(go.float(), grid, mode="area").to(prepared.known) > 0
    sampling = begin(backend, prepared, [seed], steps)
    sampling.x = torch.where(gone, sampling.noise, states[0])  # equation 7
    # the keys depend on whether the network has the photo as input
    shown = prepared if backend.abilities.sees_hole else source
    keys = Keys(shown, states, None if config.attention == "off" else gone)
    null = replace(prepared, attention=keys.controls)
    sampling.prepared = null
    hooks: list[Hook] = [keys]
    guided = backend.abilities.text and bool(prompt) and config.local_guidance > 0
    if guided:
        square = torch.zeros(1, 1, *grid)
        square[box.parts(square.shape)[0]] = 1
        sampling.prepared = replace(backend.prepare(scene, go, [prompt]), attention=keys.controls)
        hooks.append(MaskGuidance(null, config.local_guidance - 1, square))
    pull = Pull(branch, config, box, whole)
    while sampling.index < steps:
        # the object's adapters are active only in its own branch
        with branch.adapter.off() if branch.adapter else nullcontext():
            advance(sampling, [*hooks, pull], until=sampling.index + 1)
        pull.after(sampling)
    return backend.decode(sampling.x), steps * (1 + config.rounds) + steps * (2 + guided)
