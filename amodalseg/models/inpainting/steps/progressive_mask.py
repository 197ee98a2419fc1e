"""Attention restricted to where the network located the object in the previous step (DiffOOM, from equation 3 on)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.attention import Control
from amodalseg.models.inpainting.backends.backend import Estimate
from amodalseg.models.inpainting.steps.attention_controls import KeyMask
from amodalseg.models.inpainting.steps.maps import WatchMaps, object_mask, refined, visible_seed, word_seed
from amodalseg.models.inpainting.steps.sample import Hook, Sampling


class ProgressiveMask(Hook):
    """The refined map of each evaluation determines the positions that the next one attends to.

    Args:
        visible: bool (B, 1, h, w), the visible part on the grid, which is always in the mask.
        columns: from ``word_columns``, for each of the B objects; None: the visible part replaces the word.
        queries: which positions are restricted: ``all``, those of the ``object``, or none (``off``).
        power: of ``refined``.

    controls: for ``Prepared.attention`` of the objects' conditional input. mask: the key mask among them, for the
    unconditional input. map: float (B, 1, h, w), the last refined map. where: bool (B, 1, h, w), the object in it, on
    the grid; all True before the first evaluation.
    """

    def __init__(self, visible: Tensor, columns: Sequence[Sequence[int] | None], queries: str, power: int) -> None:
        self.visible, self.columns, self.power = visible, columns, power
        self.watch, self.where = WatchMaps(), torch.ones_like(visible)
        self.map = visible.float()
        self.mask = None if queries == "off" else KeyMask(self.where, queries)

    @property
    def controls(self) -> tuple[Control, ...]:
        return (self.watch,) if self.mask is None else (self.watch, self.mask)

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        seed = visible_seed(self.watch, self.visible)
        named = [columns is not None for columns in self.columns]
        if any(named):
            words = word_seed(self.watch, [columns or [0] for columns in self.columns])
            seed = torch.where(torch.tensor(named, device=seed.device)[:, None], words.to(seed), seed)
        self.map = refined(self.watch, seed, self.power)
        self.where = object_mask(self.map, self.visible)
        if self.mask is not None:
            self.mask.where = self.where
        return estimate

    def whole(self, modal: Tensor) -> Tensor:
        """The object in the last evaluation, at the resolution of ``modal``: bool (B, 1, H, W), like ``modal``."""
        return object_mask(self.map.cpu(), modal)
