"""Is an object complete? Inpaint everything around it: an object that was cut off grows (paper 001, section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from amodalseg.config.schema import WindowConfig
from amodalseg.data.draw.holes import corners
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.masks import box_xyxy
from amodalseg.models.base import check_query
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.methods.context import Windows, inpaint_windows
from amodalseg.models.inpainting.parts.backgrounds import background
from amodalseg.models.inpainting.parts.read_off import Segmenter, read_off, whole
from amodalseg.types import Query, stable_seed


class Judgement(NamedTuple):
    """complete: according to the rule. growth: relative growth of the area; 0 if it did not grow. near_border: whether
    the object is close to the border of its picture.
    """

    complete: bool
    growth: float
    near_border: bool


@dataclass(frozen=True)
class Rule:
    """The options of the rule.

    growth: an object that grows by more than this was incomplete. border: pixels; an object closer than this to a
    border of its picture was incomplete; 0: borders are ignored. corner: side of the corner squares that are kept, as a
    share of the window's side. side: of the window, in units of the longer side of the object's box. background: behind
    the object, a kind of ``background``, which the corners show. read: how the object is segmented again, a kind of
    ``read_off``. num_samples: samples of the surroundings, over which the growth is averaged. steps: of the sampler.
    guidance: by the category as prompt; 1: none.
    """

    growth: float = 0.2
    border: int = 10
    corner: float = 0.1
    side: float = 2.0
    background: str = "original"
    read: str = "grabcut"
    num_samples: int = 1
    steps: int = 20
    guidance: float = 7.5


def judge(
    backend: InpaintingBackend,
    queries: Sequence[Query],
    rule: Rule = Rule(),
    segmenter: Segmenter | None = None,
    batch_size: int = 16,
) -> list[Judgement]:
    """Judge whether completed objects of any model are complete: ``Query(prediction.image, prediction.amodal, seed)``.

    For a prediction that extends beyond the photo, use ``prediction.canvas`` with ``border=0``.

    Args:
        backend: the inpainting model that generates the surroundings.
        queries: pictures of completed objects, with their masks as ``modal``.
        rule: its options.
        segmenter: for ``rule.read == "segmenter"``.
        batch_size: objects per evaluation of the network.

    Returns:
        A judgement per object, independent of the others. The growth also serves as a confidence: less growth, more
        confident.

    Raises:
        UserError: a query that no model can process.
    """
    for query in queries:
        check_query(query)
    jobs = [(index, number) for index in range(len(queries)) for number in range(rule.num_samples)]
    growth = np.zeros((len(queries), rule.num_samples))
    for start in range(0, len(jobs), batch_size):
        part = jobs[start : start + batch_size]
        cases = [_case(queries[index], rule, backend.abilities.size) for index, _ in part]
        seeds = [stable_seed("judge", queries[index].seed, number) for index, number in part]
        windows = Windows(
            [np.where(mask[..., None], picture, behind) for picture, mask, behind in cases],
            [~(mask | corners(len(mask), rule.corner)) for _, mask, _ in cases],
            seeds,
            [queries[index].category or "" for index, _ in part],
        )
        pictures = inpaint_windows(backend, windows, rule.steps, rule.guidance)
        for place, (picture, hole, (_, mask, behind)) in enumerate(zip(pictures, windows.holes, cases, strict=True)):
            rng = np.random.default_rng(stable_seed("points", seeds[place]))
            found = whole(read_off(rule.read, picture, mask, hole, behind, segmenter, rng), mask, hole)
            growth[part[place]] = (found | mask).sum() / mask.sum() - 1
    judgements = []
    for query, grown in zip(queries, growth.mean(axis=1), strict=True):
        near = _near_border(query, rule.border)
        judgements.append(Judgement(bool(grown <= rule.growth and not near), float(grown), near))
    return judgements


def _case(query: Query, rule: Rule, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, mask and background in the window: uint8 (S, S, 3), bool (S, S), uint8 (S, S, 3)."""
    window = object_window(query.modal, WindowConfig(size=size, expand=rule.side**2, margin=rule.side))
    picture, mask = crop_image(query.image, window), crop_mask(query.modal, window)
    if not mask.any():  # thinner than the window's pixels
        wide = np.repeat(query.modal[..., None].astype(np.uint8) * 255, 3, axis=2)
        mask = crop_image(wide, window)[..., 0] > 0
    behind = background(rule.background, picture, mask, np.random.default_rng(stable_seed("judge", query.seed)))
    return picture, mask, behind


def _near_border(query: Query, border: int) -> bool:
    x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(query.modal))
    height, width = query.modal.shape
    return min(x0, y0, width - x1, height - y1) < border
