"""Multi-region guided editing (MRGD, AAAI 2024, algorithm 1): rows of sources and targets on the blocks of ``steps``.

docs/models.md maps the steps to equations, and says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from amodalseg.config.schema import MRGDConfig
from amodalseg.models.inpainting.backends.attention import Control
from amodalseg.models.inpainting.backends.backend import Estimate, InpaintingBackend, Level, Prepared
from amodalseg.models.inpainting.parts.words import WordSegmenter
from amodalseg.models.inpainting.steps.keyword_steps import SelectKeywords
from amodalseg.models.inpainting.steps.keywords import Emphasise
from amodalseg.models.inpainting.steps.maps import WatchMaps
from amodalseg.models.inpainting.steps.prompt_edit import EditMaps, EditSteps, align, pieces_of_words
from amodalseg.models.inpainting.steps.region_guidance import LossWeights, RegionGuidance, inherent_mask
from amodalseg.models.inpainting.steps.region_inversion import for_pairs, invert_regions
from amodalseg.models.inpainting.steps.regions import Part, Regions, RegionsPrepared, RegionSteps
from amodalseg.models.inpainting.steps.sample import Hook, advance, begin
from amodalseg.types import EditRequest, Region

SIDE = 16
"""Maximum side, in positions, of the maps used to select keywords."""


class Drawn(NamedTuple):
    """Edited pictures.

    sources, targets: float32 (B, 3, h, w) in [-1, 1]; for a photo, ``sources`` is its reconstruction from the inverted
    noise. keywords: for each edit and each of its regions, the words used for guidance, after the edit if the region
    exists then. evaluations: of the network, each covering source and target.
    """

    sources: Tensor
    targets: Tensor
    keywords: list[list[tuple[str, ...]]]
    evaluations: int


class Plan(NamedTuple):
    """The plan of a generation: positions and kinds of the parts, and their texts in rows of B sources and B targets.

    total: whether the last part is the total region. given: keywords of each region except the total one.
    """

    regions: list[Region]
    kinds: list[str]
    texts: list[list[str | None]]
    total: bool
    given: list[tuple[str, ...]]

    def regions_of(self, inner: InpaintingBackend, config: MRGDConfig, rows: slice) -> Regions:
        """A backend that wraps another one for some of the rows, with the regions that any of them has."""
        there = [
            (region, texts[rows]) for region, texts in zip(self.regions, self.texts, strict=True) if any(texts[rows])
        ]
        total = there.pop()[1] if self.total else []
        return Regions(
            inner, [region for region, _ in there], [texts for _, texts in there], config.guidance - 1,
            total=[text or "" for text in total], blend=config.blend,
        )  # fmt: skip


def finds_keywords(config: MRGDConfig) -> bool:
    """Whether sampling selects keywords: for the region and similarity losses, or for KSSA."""
    losses = config.losses
    guided = losses.region > 0 or losses.similarity > 0
    return config.regions and (guided or (config.emphasis != "off" and config.total))


def plan_of(config: MRGDConfig, requests: Sequence[EditRequest]) -> Plan:
    """The plan for edits whose regions have the same positions."""
    whole: list[str | None] = [*(one.source for one in requests), *(one.target for one in requests)]
    everything = Region("", "")
    if not config.regions:  # the text of the whole picture everywhere
        return Plan([everything], ["total"], [whole], False, [()])
    regions = list(requests[0].regions)
    kinds, given = [region.kind for region in regions], [region.keywords for region in regions]
    texts: list[list[str | None]] = [
        [*(one.regions[number].source for one in requests), *(one.regions[number].target for one in requests)]
        for number in range(len(regions))
    ]
    if config.total:
        regions, kinds, texts = [*regions, everything], [*kinds, "total"], [*texts, whole]
    return Plan(regions, kinds, texts, config.total, given)


class Counted:
    """A backend whose evaluations are counted."""

    def __init__(self, backend: InpaintingBackend) -> None:
        self.backend, self.calls = backend, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        self.calls += 1
        return self.backend.estimate(x, level, prepared, taps)


@torch.no_grad()
def draw_edits(
    config: MRGDConfig,
    backend: InpaintingBackend,
    segmenter: WordSegmenter | None,
    requests: Sequence[EditRequest],
    pictures: Tensor,
    seeds: Sequence[int],
    *,
    photo: bool,
    steps: int,
) -> Drawn:
    """Edit pictures.

    Args:
        config: the options.
        backend: a model that reads text.
        segmenter: of words, for the region and similarity losses; None where both weigh nothing.
        requests: B edits that ``edit_request.check_request`` accepts; their regions lie in the same places.
        pictures: float32 (B, 3, h, w) in [-1, 1]: the photos; without photos only the size counts.
        seeds: B non-negative numbers. Photos do not depend on them.
        photo: whether sources are photos, inverted; otherwise source and target are generated from the same noise.
        steps: of the sampler.
    """
    counted, plan, count = Counted(backend), plan_of(config, requests), len(requests)
    inner = cast(InpaintingBackend, counted)
    total_from = config.total_from_edited if {"added", "removed"} & {*plan.kinds} else config.total_from
    around, nulls = plan.regions_of(inner, config, slice(None)), None
    holes = torch.ones_like(pictures[:, :1], dtype=torch.bool)
    prepared = around.prepare(pictures.repeat(2, 1, 1, 1), holes.repeat(2, 1, 1, 1))
    sampling = begin(around, prepared, [*seeds, *seeds], steps)
    if photo:
        options, sources = config.inversion, plan.regions_of(inner, config, slice(count))
        inverted = invert_regions(
            sources, sources.prepare(pictures, holes), steps, rounds=options.rounds, total_from=total_from,
            updates=options.updates, rate=options.rate, enough=options.enough, folder=options.folder,
        )  # fmt: skip
        sampling.x = inverted.start.repeat(2, 1, 1, 1)
        found = iter(inverted.nulls)
        if inverted.nulls:
            nulls = for_pairs([None if kind == "added" else next(found) for kind in plan.kinds], prepared.parts)
    hooks: list[Hook] = [RegionSteps(total_from, nulls)]
    selected = _add_controls(config, inner, segmenter, plan, prepared, hooks, photo)
    advance(sampling, hooks)
    shown = around.decode(sampling.x)
    words = selected.words if selected is not None else [[given for _ in rows] for rows, given in
                                                         zip(plan.texts, plan.given, strict=False)]  # fmt: skip
    keywords = [[rows[row + count] or rows[row] or () for rows in words] for row in range(count)]
    return Drawn(shown[:count], shown[count:], keywords, counted.calls)


def _add_controls(
    config: MRGDConfig,
    inner: InpaintingBackend,
    segmenter: WordSegmenter | None,
    plan: Plan,
    prepared: RegionsPrepared,
    hooks: list[Hook],
    photo: bool,
) -> SelectKeywords | None:
    """Add controls to the parts and hooks to the steps. Returns: the keyword selection, if anything needs it."""
    parts, losses = list(prepared.parts), config.losses
    controls: list[list[Control]] = [[] for _ in parts]
    edits = {number: edit for number in range(len(parts)) if (edit := _edit_maps(config, inner, plan, number, parts))}
    for number, edit in edits.items():
        controls[number].append(edit)
    emphasise = None
    if config.emphasis != "off" and plan.total:
        emphasise = Emphasise([()] * len(plan.texts[-1]), config.factor, config.emphasis)
        controls[-1].append(emphasise)  # uses the edited maps
    guidance = None
    weights = LossWeights(
        losses.region, losses.similarity, losses.preservation_photo if photo else losses.preservation,
        losses.region_from, losses.similarity_from, losses.preservation_from,
    )  # fmt: skip
    looks = config.regions and (weights.region > 0 or weights.similarity > 0)
    if config.regions and (looks or weights.preservation > 0):
        own = [part for part in parts if not part.total]
        inherent = inherent_mask(own, plan.kinds[: len(own)], *prepared.known.shape[-2:]).to(prepared.known.device)
        guidance = RegionGuidance(segmenter, [], inherent, weights, losses.reading, sources=not photo)
    selected = None
    if looks or emphasise is not None:
        watched = [len(parts) - 1] if plan.total else range(len(parts))
        watches = {number: WatchMaps(SIDE) for number in watched}
        for number, watch in watches.items():
            controls[number].append(watch)
        selected = SelectKeywords(
            inner, watches, plan.texts, plan.total, plan.given, config.keywords, config.every, emphasise, guidance
        )
    prepared.parts = tuple(
        replace(part, asked=replace(part.asked, attention=tuple(some)))
        for part, some in zip(parts, controls, strict=True)
    )
    hooks += [EditSteps([*edits.values()]), *([selected] if selected else []), *([guidance] if guidance else [])]
    return selected


def _edit_maps(
    config: MRGDConfig, inner: InpaintingBackend, plan: Plan, number: int, parts: Sequence[Part]
) -> EditMaps | None:
    """Equation 5 for a part; None if nothing of its source is kept."""
    kind, shares = plan.kinds[number], config.shares
    if not config.attention or kind in ("added", "removed"):
        return None
    cross, own = getattr(shares, f"{kind}_cross"), getattr(shares, f"{kind}_own")
    texts, length = plan.texts[number], parts[number].asked.inputs["text"].shape[1]
    tokens = [inner.tokens(text or "") for text in texts]
    count = len(texts) // 2
    mappers = [
        align(one, other, length, swap=len(pieces_of_words(one)) == len(pieces_of_words(other)))
        for one, other in zip(tokens[:count], tokens[count:], strict=True)
    ]
    return EditMaps(mappers, cross, own, decay=config.decay) if max(cross, own) > 0 else None
