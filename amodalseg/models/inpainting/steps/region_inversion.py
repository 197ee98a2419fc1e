"""Inversion of a photo by regions: its noise, and null texts per region (MRGD, section 3.3; null-text inversion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.kept_inversions import Inverted, KeptInversions
from amodalseg.models.inpainting.steps.null_text import null_text
from amodalseg.models.inpainting.steps.regions import Part, Regions, RegionsPrepared


class InvertedRegions(NamedTuple):
    """The inverted photo.

    start: the noisiest states. nulls: for each part, the null text at each step, for ``RegionSteps``; none without
    guidance.
    """

    start: Tensor
    nulls: list[list[Tensor]]


def invert_regions(
    backend: Regions,
    prepared: RegionsPrepared,
    steps: int,
    *,
    rounds: int = 0,
    total_from: float = 0.5,
    updates: int = 10,
    rate: float = 1e-2,
    enough: float = 1e-5,
    folder: str | None = None,
) -> InvertedRegions:
    """Find the noise of photos and, for each region, null texts with which its guided steps reconstruct its crop.

    Each region is inverted alone, and its texts are fitted along its own states. Where regions overlap, sampling starts
    from their fused noise, and each step of a region from fused states. This reconstructs the photo as far as the
    network is linear. Inverting the fused states would not work: a text acts on a whole region, but fusing does not
    change all of it equally. A total region that becomes active during sampling contributes states that were not fused
    before, which changes the picture slightly.

    Args:
        backend: with rows for sources only, each with all of its regions.
        prepared: of the photos.
        steps: of the sampler.
        rounds: of ``invert``.
        total_from: as in ``RegionSteps``; texts of the total region are fitted from that step on.
        updates, rate, enough: of ``null_text``.
        folder: where inversions are stored and looked up, see ``KeptInversions``; None: nowhere.
    """
    kept = KeptInversions(folder, (steps, rounds, backend.weight, updates, rate, enough))
    inner, nulls, start = backend.inner, [], torch.zeros_like(prepared.known)
    joins = round(total_from * steps)
    first = replace(prepared, total=prepared.total and joins == 0)
    shares = iter(backend.shares(first))
    for part in prepared.parts:
        assert len(part.rows) == len(prepared)
        fitted_from = joins if part.total else 0
        make = partial(
            _invert_part, inner, part, backend.weight, steps, rounds,
            first=fitted_from, updates=updates, rate=rate, enough=enough,
        )  # fmt: skip
        noise, texts = kept.get(inner, part.asked, part.null, fitted_from, make)
        if first.total or not part.total:
            part.box.crop(start)[:] += part.box.crop(next(shares)) * noise
        if part.null is not None:
            nulls.append(texts)
    return InvertedRegions(start, nulls)


def _invert_part(inner: InpaintingBackend, part: Part, weight: float, steps: int, rounds: int, **fit: Any) -> Inverted:
    """Invert one region alone. fit: options of ``null_text``, which is not needed without guidance."""
    states = invert(inner, part.asked, steps, rounds)
    if part.null is None:
        return states[0], []
    return states[0], null_text(inner, part.asked, MaskGuidance(part.null, weight), states, **fit)


def for_pairs(nulls: Sequence[Sequence[Tensor] | None], parts: Sequence[Part]) -> list[list[Tensor]]:
    """Null texts of sources for rows of sources and targets.

    Args:
        nulls: for each part, those of B sources at each step; None for a region that they do not have.
        parts: of 2 B rows: in both, in sources only, or in targets only.

    Returns:
        For each part, the source's texts for both; the prepared null text where the source does not have the region.
    """
    steps = next(len(texts) for texts in nulls if texts is not None)
    found = []
    for texts, part in zip(nulls, parts, strict=True):
        assert part.null is not None
        if texts is None:
            found.append([part.null.inputs["text"]] * steps)
        else:
            found.append([text if len(part.rows) == len(text) else torch.cat([text, text]) for text in texts])
    return found
