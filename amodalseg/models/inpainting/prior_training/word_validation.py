"""Does the prior follow the text? Generates pictures from held-out captions and checks the colours in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from amodalseg.data.draw.captioned import Captioned
from amodalseg.data.draw.captions import colour_shares
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.prior_training.validation import to_images
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.sample import advance, begin
from amodalseg.types import stable_seed

TITLES = ("held out", "drawn from its caption", "drawn from nothing")
GUIDANCE = 3.0  # by the caption, as diffusers defines it: 1 is none
THERE = 0.03  # a colour is present if it covers at least this share of a picture


def draw_captions(
    backend: InpaintingBackend, cases: Sequence[Captioned], steps: int, seed: int = 0
) -> tuple[list[dict[str, Any]], list[list[np.ndarray]]]:
    """Generate pictures from captions alone.

    Args:
        backend: one that reads text.
        cases: with full captions.
        steps: of the sampler.
        seed: of the noise, combined with each case's key.

    Returns:
        A row for each case, and its pictures, those of ``TITLES``. A row holds ``key``, ``named`` (whether all colours
        of the caption occur) and ``only`` (whether no others do).
    """
    side = len(cases[0].picture)
    blank, holes = torch.zeros(len(cases), 3, side, side), torch.ones(len(cases), 1, side, side, dtype=torch.bool)
    seeds = [stable_seed("caption", seed, case.key) for case in cases]
    null = backend.prepare(blank, holes, [""] * len(cases))
    told = backend.prepare(blank, holes, [case.caption for case in cases])
    sampling = advance(begin(backend, told, seeds, steps), [MaskGuidance(null, GUIDANCE - 1)])
    free = advance(begin(backend, null, seeds, steps))
    drawn, undirected = (to_images(backend.decode(one.x)) for one in (sampling, free))
    rows = []
    for case, picture in zip(cases, drawn, strict=True):
        there = {colour for colour, share in colour_shares(picture).items() if share >= THERE}
        wanted = {thing.colour for thing in case.scene.things}
        rows.append({"key": case.key, "named": wanted <= there, "only": there <= wanted})
    return rows, [list(cells) for cells in zip([case.picture for case in cases], drawn, undirected, strict=True)]


def word_scores(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The scores of a validation.

    Returns:
        ``drawn``, in percent of the captions: ``named``, all colours that they name occur in the picture; ``only``, no
        others do. ``denoising``: ``fit``, the share of the variance of v that the network explains, in percent;
        ``loss``, the mean squared error of v.
    """

    def mean(name: str, factor: float = 1.0) -> float | None:
        return factor * float(np.mean([row[name] for row in rows])) if rows else None

    errors, variances = mean("error"), mean("variance")
    fit = None if errors is None or variances is None else 100 * (1 - errors / max(1e-9, variances))
    return {
        "drawn": {"named": mean("named", 100), "only": mean("only", 100)},
        "denoising": {"fit": fit, "loss": errors},
    }
