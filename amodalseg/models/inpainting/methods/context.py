"""Mixed-context sampling (paper 001, section 3.5): the object grows on a clean background, then returns to its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import Abilities, Estimate, InpaintingBackend, Prepared
from amodalseg.models.inpainting.parts.clusters import cut_out
from amodalseg.models.inpainting.prior_training.validation import to_images, to_pictures
from amodalseg.models.inpainting.steps.guidance import MaskGuidance as Guidance
from amodalseg.models.inpainting.steps.sample import Hook, KeepKnown, Sampling, advance, begin
from amodalseg.types import stable_seed

CLEAN = "clean"
"""Replaces a feature: the network's estimate of the clean picture, which every backend provides."""


@dataclass
class Windows:
    """Objects in their squares, B of each.

    pictures: uint8 (S, S, 3), input of the network. holes: bool (S, S), to be inpainted. seeds: of the noise.
    prompts: categories, or empty.
    """

    pictures: Sequence[np.ndarray]
    holes: Sequence[np.ndarray]
    seeds: Sequence[int]
    prompts: Sequence[str]

    def prepare(self, backend: InpaintingBackend, prompts: Sequence[str] | None = None) -> Prepared:
        """Convert them to the backend's grid, with other prompts if given."""
        return backend.prepare(to_pictures(self.pictures), as_holes(self.holes), prompts or self.prompts)

    def is_guided(self, backend: InpaintingBackend, weight: float) -> bool:
        """Whether there are prompts, a backend that reads them, and a weight with an effect."""
        return weight != 1 and backend.abilities.text and any(self.prompts)

    def guidance(self, backend: InpaintingBackend, weight: float) -> list[Hook]:
        """Guidance by the prompts, at the cost of a second evaluation per step."""
        if not self.is_guided(backend, weight):
            return []
        return [Guidance(self.prepare(backend, [""] * len(self.prompts)), weight - 1)]


def as_holes(masks: Sequence[np.ndarray]) -> Tensor:
    """B masks, bool (S, S) -> bool (B, 1, S, S)."""
    return torch.from_numpy(np.stack(masks))[:, None]


class Watch(Hook):
    """Keeps one feature map of the network's last evaluation, or its clean picture.

    map: float (B, C, h, w).
    """

    def __init__(self, tap: str) -> None:
        self.tap = tap
        self.taps = () if tap == CLEAN else (tap,)
        self.map: Tensor = torch.empty(0)

    def features(self, sampling: Sampling, features: dict[str, Tensor]) -> None:
        self.map = features[self.tap]

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        if self.tap == CLEAN:
            self.map = sampling.backend.decode(estimate.clean)
        return estimate


def pick_tap(name: str, abilities: Abilities) -> str:
    """The feature to cluster, by the option ``feature``.

    Args:
        name: one of the backend's taps, ``clean``, or ``auto``: the third block of the decoder as in the paper, the
            last one of a decoder with fewer, or the clean picture if the backend returns no features.

    Raises:
        UserError: the backend has no such tap.
    """
    if name == "auto":
        blocks = [tap for tap in abilities.taps if tap.startswith("up_blocks.")]
        return "up_blocks.2" if "up_blocks.2" in blocks else (blocks or [CLEAN])[-1]
    if name != CLEAN and name not in abilities.taps:
        raise UserError(f"feature={name}: this inpainting model has {', '.join(('auto', CLEAN, *abilities.taps))}")
    return name


@torch.no_grad()
def inpaint_windows(backend: InpaintingBackend, windows: Windows, steps: int, guidance: float = 1.0) -> np.ndarray:
    """Plain inpainting (equation 3), uint8 (B, S, S, 3). guidance: by the prompts, 1 for none."""
    sampling = begin(backend, windows.prepare(backend), windows.seeds, steps)
    return to_images(backend.decode(advance(sampling, [*windows.guidance(backend, guidance), KeepKnown()]).x))


@torch.no_grad()
def mix_contexts(
    backend: InpaintingBackend,
    windows: Windows,
    cleared: Sequence[np.ndarray],
    modal: Sequence[np.ndarray],
    *,
    steps: int,
    timestep: float,
    feature: str = "auto",
    clusters: int = 4,
    share: float = 0.2,
    choice: str = "all",
    guidance: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Complete objects on a clean background for the first part of the steps, and on their own for the rest.

    Args:
        backend: the inpainting model.
        windows: the visible regions on a clean background (I_syn).
        cleared: uint8 (S, S, 3) each: the visible region on its own background, without occluders.
        modal: bool (S, S) each.
        steps: in total.
        timestep: share of the steps done on the clean background (k / N).
        feature: as for ``pick_tap``.
        clusters, share, choice: as for ``cut_out``.
        guidance: by the prompts.

    Returns:
        Completed pictures uint8 (B, S, S, 3), and the objects as cut out on the way, bool (B, S, S).
    """
    watch = Watch(pick_tap(feature, backend.abilities))
    swap = min(steps, max(1, round(timestep * steps)))
    sampling = begin(backend, windows.prepare(backend), windows.seeds, steps)
    hooks = windows.guidance(backend, guidance)
    advance(sampling, [*hooks, KeepKnown()], until=swap - 1)
    advance(sampling, [watch, *hooks, KeepKnown()], until=swap)  # equation 4
    maps = watch.map.float().cpu().numpy()
    masks = []
    for map_, seen, hole, seed in zip(maps, modal, windows.holes, windows.seeds, strict=True):
        rng = np.random.default_rng(stable_seed("clusters", seed))
        masks.append(cut_out(map_, seen, hole, clusters, share, rng, choice))
    home = Windows(cleared, windows.holes, windows.seeds, windows.prompts)
    inside = Windows(cleared, masks, windows.seeds, windows.prompts).prepare(backend).hole
    sampling.prepared = home.prepare(backend)
    # equation 5, with the noise that the object was generated from, and the composite
    sampling.x = torch.where(inside > 0, sampling.x, sampling.known_at(sampling.level))
    advance(sampling, [*home.guidance(backend, guidance), KeepKnown()])  # equation 6
    return to_images(backend.decode(sampling.x)), np.stack(masks)
