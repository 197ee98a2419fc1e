"""The sampling loop shared by all methods, with hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amodalseg.models import bars
from amodalseg.models.inpainting.backends.backend import Estimate, InpaintingBackend, Level, Prepared


@dataclass
class Sampling:
    """The state of objects being sampled from noise to a picture; hooks read and modify it.

    backend, prepared: the model and its conditional input; a hook may replace ``prepared`` for the following steps.
    levels: ``steps + 1`` noise levels. noise: one fixed map per object, used for everything noised during sampling.
    x: the states, at ``levels[index]``. index: number of completed steps.
    """

    backend: InpaintingBackend
    prepared: Prepared
    levels: list[Level]
    noise: Tensor
    x: Tensor
    index: int = 0

    @property
    def level(self) -> Level:
        """The noise level of ``x``."""
        return self.levels[self.index]

    @property
    def steps(self) -> int:
        return len(self.levels) - 1

    def known_at(self, level: Level) -> Tensor:
        """The given pictures at a noise level."""
        return self.backend.add_noise(self.prepared.known, self.noise, level)


class Hook:
    """A method's code in each step; called in the order model_input, (network), features, estimate, (step), step_end.

    taps: names of the backend's features to pass to ``features``.
    """

    taps: tuple[str, ...] = ()

    def model_input(self, sampling: Sampling, x: Tensor) -> Tensor:
        """The network's input instead of ``sampling.x``, for this step only."""
        return x

    def features(self, sampling: Sampling, features: dict[str, Tensor]) -> None:
        """Inspect features of the network."""

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        """Modify the network's estimate."""
        return estimate

    def step_end(self, sampling: Sampling) -> None:
        """Modify ``sampling``, whose state and index are those at the end of the step."""


class Hold(Hook):
    """Resets part of the state at the end of each step.

    Args:
        where: the part, bool; broadcasts against the state.
        state_at: its values, at the level and index of the end of the step.
    """

    def __init__(self, where: Callable[[Sampling], Tensor], state_at: Callable[[Sampling], Tensor]) -> None:
        self.where, self.state_at = where, state_at

    def step_end(self, sampling: Sampling) -> None:
        sampling.x = torch.where(self.where(sampling), self.state_at(sampling), sampling.x)


class KeepKnown(Hold):
    """Blended inpainting: outside the hole the state is the given picture, noised; after the last step it is exact."""

    def __init__(self) -> None:
        super().__init__(
            lambda sampling: sampling.prepared.hole <= 0, lambda sampling: sampling.known_at(sampling.level)
        )


def begin(
    backend: InpaintingBackend, prepared: Prepared, seeds: Sequence[int], steps: int = 20, strength: float = 1.0
) -> Sampling:
    """Initialise the sampling of objects.

    Args:
        backend: the model.
        prepared: the conditional input, for B objects.
        seeds: B non-negative numbers; an object's noise depends on its own seed alone.
        steps: of the full schedule.
        strength: share of the schedule that is sampled, counted from the end. Below 1, sampling starts from the noised
            given picture; at 1 from noise alone, even if the model's noisiest level would retain a trace of it.
    """
    assert len(seeds) == len(prepared) and 0 <= strength <= 1
    shape = prepared.known.shape[1:]
    maps = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    noise = torch.stack(maps).to(prepared.known)
    levels = backend.levels(steps)
    index = steps - round(strength * steps)
    x = noise if strength == 1 else backend.add_noise(prepared.known, noise, levels[index])
    return Sampling(backend, prepared, levels, noise, x, index)


@torch.no_grad()
def advance(sampling: Sampling, hooks: Sequence[Hook] = (), until: int | None = None) -> Sampling:
    """Take steps.

    Args:
        sampling: modified in place.
        hooks: called in order at each point of a step.
        until: the step to stop before (default: the end), so that a method can modify the state and continue.

    Returns:
        ``sampling``.
    """
    taps = tuple(dict.fromkeys(tap for hook in hooks for tap in hook.taps))
    for _ in bars.steps(range(sampling.index, sampling.steps if until is None else until), "drawing"):
        x = sampling.x
        for hook in hooks:
            x = hook.model_input(sampling, x)
        estimate = sampling.backend.estimate(x, sampling.level, sampling.prepared, taps)
        for hook in hooks:
            if hook.taps:
                hook.features(sampling, {tap: estimate.features[tap] for tap in hook.taps})
        for hook in hooks:
            estimate = hook.estimate(sampling, estimate)
        sampling.index += 1
        sampling.x = sampling.backend.add_noise(estimate.clean, estimate.noise, sampling.level)
        for hook in hooks:
            hook.step_end(sampling)
    return sampling


@torch.no_grad()
def inpaint(
    backend: InpaintingBackend,
    pictures: Tensor,
    holes: Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 20,
    strength: float = 1.0,
    hooks: Sequence[Hook] = (),
    prompts: Sequence[str] | None = None,
    batch_size: int = 16,
) -> Tensor:
    """Complete pictures of one size, in batches.

    Args:
        backend: the model.
        pictures: float32 (N, 3, H, W) in [-1, 1].
        holes: bool (N, 1, H, W).
        seeds: N non-negative numbers.
        steps, strength: as in ``begin``.
        hooks: in addition to ``KeepKnown``, which comes last; they are used for all batches, so they must hold no state
            of a single one.
        prompts: N texts.
        batch_size: objects per evaluation of the network.

    Returns:
        float32 (N, 3, H, W) in [-1, 1], on the CPU. With a pixel-space backend, pixels outside the hole are unchanged.
    """
    done = []
    for start in range(0, len(pictures), batch_size):
        part = slice(start, start + batch_size)
        prepared = backend.prepare(pictures[part], holes[part], None if prompts is None else prompts[part])
        sampling = advance(begin(backend, prepared, seeds[part], steps, strength), [*hooks, KeepKnown()])
        done.append(backend.decode(sampling.x).cpu())
    return torch.cat(done) if done else pictures
