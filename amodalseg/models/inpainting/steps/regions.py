"""Several regions, each with its own text, as a backend that wraps another (MRGD, equation 1; MultiDiffusion).

A step is linear in the estimates of picture and noise, so fusing the states after the step, as in the paper, equals
fusing the estimates with the same weights. Sampling, inversion and hooks therefore work on regions unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import Estimate, InpaintingBackend, Level, Prepared
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.region_weights import GridBox, alpha, on_grid, weights
from amodalseg.models.inpainting.steps.sample import Hook, Sampling
from amodalseg.types import Region


@dataclass(frozen=True)
class Part:
    """The inner backend's inputs for one region.

    box: on the grid. rows: the rows of the state that have the region. asked: its crops with its texts, for those rows;
    its attention controls belong there. null: the same with the null text; None: no guidance. alpha: float
    (N, 1, h, w). behind: whether it lies behind the others. total: whether it is the total region.
    """

    box: GridBox
    rows: tuple[int, ...]
    asked: Prepared
    null: Prepared | None
    alpha: Tensor
    behind: bool
    total: bool = False


@dataclass
class RegionsPrepared(Prepared):
    """parts: of the regions in order, the total region last. total: whether the total region is currently active."""

    parts: tuple[Part, ...] = ()
    total: bool = True


class Regions(InpaintingBackend):
    """A backend that fuses the estimates of regions.

    Args:
        inner: a model that reads text.
        regions: boxes and feathers; together they must cover every position.
        texts: for each region, its text in each of N rows; None where a row lacks the region: it then has no weight in
            the row and is not evaluated for it. ``row_texts`` builds them for sources and targets.
        weight: of the guidance in every region, (1 + weight) own - weight null; 0: none, and no null evaluation.
        null: the null text.
        total: texts of the total region, one per row: the whole picture once more, behind the others. Empty: none.
        blend: as in ``region_weights.weights``.

    Raises:
        UserError: the inner backend reads no text; a region is in no row.
    """

    def __init__(
        self,
        inner: InpaintingBackend,
        regions: Sequence[Region],
        texts: Sequence[Sequence[str | None]],
        weight: float = 6.5,
        null: str = "",
        total: Sequence[str] = (),
        blend: str = "layers",
    ) -> None:
        if not inner.abilities.text:
            raise UserError(f"{inner.name} reads no text, so its regions cannot differ: use Stable Diffusion")
        assert len(texts) == len(regions)
        if any(all(text is None for text in one) for one in texts):
            raise UserError(
                "a region has no text, neither before nor after the edit: give it one, or leave the region out"
            )
        self.inner, self.weight, self.null, self.blend = inner, weight, null, blend
        self.name, self.device, self.networks, self.network = inner.name, inner.device, inner.networks, inner.network
        # controls belong to the parts, and the features of crops differ in size
        self.abilities = replace(inner.abilities, taps=(), attention=False)
        everything = Region("", "")
        self.regions = [*regions, everything] if total else list(regions)
        self.texts = [*texts, total] if total else list(texts)
        self.has_total = bool(total)

    def prepare(self, pictures: Tensor, holes: Tensor, prompts: Sequence[str] | None = None) -> RegionsPrepared:
        """As in the interface; ``prompts`` are ignored because regions have texts. Rows are those of the texts."""
        assert all(len(pictures) == len(texts) for texts in self.texts)
        whole = self.inner.prepare(pictures, holes)
        parts = []
        for number, (region, texts) in enumerate(zip(self.regions, self.texts, strict=True)):
            total = self.has_total and number == len(self.regions) - 1
            parts.append(self._part(region, texts, total, pictures, holes, whole))
        prepared = RegionsPrepared(whole.known, whole.hole, whole.inputs, (), tuple(parts), total=False)
        self.shares(prepared)  # raises if a position is not covered, with the total region or without
        prepared.total = self.has_total
        return prepared

    def _part(
        self,
        region: Region,
        texts: Sequence[str | None],
        total: bool,
        pictures: Tensor,
        holes: Tensor,
        whole: Prepared,
    ) -> Part:
        height, width = whole.known.shape[-2:]
        factor = self.abilities.factor
        box = on_grid(region, height, width, max(1, self.abilities.multiple // factor))
        rows = tuple(row for row, text in enumerate(texts) if text is not None)
        crops, shown = (box.crop(values[list(rows)], factor) for values in (pictures, holes))
        asked = self.inner.prepare(crops, shown, [texts[row] or "" for row in rows])
        null = None if self.weight == 0 else self.inner.prepare(crops, shown, [self.null] * len(rows))
        here = torch.tensor([text is not None for text in texts])[:, None, None, None]
        covered = (alpha(region, box, height, width) * here).to(whole.known)
        return Part(box, rows, asked, null, covered, region.box is None, total)

    def unconditional(self, prepared: Prepared) -> RegionsPrepared:
        assert isinstance(prepared, RegionsPrepared)
        parts = [replace(part, asked=self.inner.unconditional(part.asked), null=None) for part in prepared.parts]
        return replace(prepared, parts=tuple(parts))

    def levels(self, steps: int) -> list[Level]:
        return self.inner.levels(steps)

    def encode(self, pictures: Tensor) -> Tensor:
        return self.inner.encode(pictures)

    def decode(self, x: Tensor, clamp: bool = True) -> Tensor:
        return self.inner.decode(x, clamp)

    def tokens(self, prompt: str) -> list[str]:
        return self.inner.tokens(prompt)

    @staticmethod
    def counting(prepared: RegionsPrepared) -> list[Part]:
        """The parts that are currently active."""
        return [part for part in prepared.parts if prepared.total or not part.total]

    def shares(self, prepared: RegionsPrepared) -> Tensor:
        """The weight of each active part at each position, float (R, N, 1, h, w); they sum to 1."""
        parts = self.counting(prepared)
        return weights(torch.stack([part.alpha for part in parts]), [part.behind for part in parts], self.blend)

    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        assert isinstance(prepared, RegionsPrepared) and not taps and not prepared.attention
        clean, noise = torch.zeros_like(x), torch.zeros_like(x)
        for part, share in zip(self.counting(prepared), self.shares(prepared), strict=True):
            found = self.estimate_part(x, level, part)
            rows = slice(None) if len(part.rows) == len(x) else list(part.rows)
            counted = part.box.crop(share[rows])
            part.box.crop(clean)[rows] += counted * found.clean
            part.box.crop(noise)[rows] += counted * found.noise
        return Estimate(clean, noise, {})

    def estimate_part(self, x: Tensor, level: Level, part: Part) -> Estimate:
        """One region's guided estimate, for its rows and within its box. x: the whole state."""
        rows = slice(None) if len(part.rows) == len(x) else list(part.rows)
        crop = part.box.crop(x[rows])
        own = self.inner.estimate(crop, level, part.asked)
        if part.null is None:
            return own
        return MaskGuidance(part.null, self.weight).guided(own, self.inner.estimate(crop, level, part.null))


class RegionSteps(Hook):
    """Step-dependent changes of the regions.

    Args:
        total_from: the share of the steps after which the total region is active.
        nulls: for each part, the null text at each step, from ``null_text``; None: the prepared ones.
    """

    def __init__(self, total_from: float = 0.5, nulls: Sequence[Sequence[Tensor]] | None = None) -> None:
        self.total_from, self.nulls = total_from, nulls

    def model_input(self, sampling: Sampling, x: Tensor) -> Tensor:
        prepared = sampling.prepared
        assert isinstance(prepared, RegionsPrepared)
        parts = prepared.parts
        if self.nulls is not None:
            parts = tuple(
                part if part.null is None else replace(part, null=part.null.with_text(texts[sampling.index]))
                for part, texts in zip(parts, self.nulls, strict=True)
            )
        # a share of 0.3 must be 6 of 20 steps in floating point too
        started = sampling.index >= round(self.total_from * sampling.steps)
        sampling.prepared = replace(prepared, parts=parts, total=started and any(part.total for part in parts))
        return x


def row_texts(regions: Sequence[Region], count: int = 1) -> list[list[str | None]]:
    """The texts of regions in 2 * ``count`` rows: sources first, then targets."""
    return [[region.source] * count + [region.target] * count for region in regions]
