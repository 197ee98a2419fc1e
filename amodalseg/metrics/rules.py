"""The rules behind the protocols: integer columns -> each object's contribution to numerators and denominators.

Every figure is a ratio of two sums over objects (a mean is one: the sum of IoUs over the number of objects), or a mean
of a few such ratios. No mask is needed here: see ``counts`` for the meaning of the columns. Quirks of published code
are kept where published numbers depend on them, and each is documented in place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from amodalseg.metrics.appearance import UNLIKE
from amodalseg.metrics.edited import EDIT_AREAS
from amodalseg.metrics.moved import AREAS

Columns = dict[str, np.ndarray]
"""The integer columns of the rows as float64 (N,): exact, since pixel counts stay far below 2**53. Also ``image`` and
``track``: int64 (N,), the image and the track of each row, numbered from 0; -1 if it has none."""


class Ratio(NamedTuple):
    """Each object's contribution to numerator and denominator: float64 (N,), (N,)."""

    above: np.ndarray
    below: np.ndarray


class Figure(NamedTuple):
    """The mean of some ratios of sums.

    ratios: those with denominator 0 are left out, or count as 0 if ``of`` is given.
    of: the number by which the sum of the ratios is divided; None: the number of ratios that are not left out.
    """

    ratios: list[Ratio]
    of: int | None = None


Figures = dict[str, Figure]


class Unit(NamedTuple):
    """How a figure is printed: its value times ``scale``, with ``decimals``, in ``name``. lower: lower is better."""

    name: str
    scale: float
    decimals: int
    lower: bool = False


PERCENT = Unit("%", 100, 1)
BUCKETS = (50, 40, 30, 20, 10, 5)
BINS = {"1_20": (1, 20), "20_40": (20, 40), "40_70": (40, 70), "70_100": (70, 101)}
SAVOS_SMOOTH = 1e-6
PSNR_FLOOR = 1 / 12
"""Minimum mean squared error, that of rounding to integers: identical pictures have 58.9 dB."""


def pooled(c: Columns) -> Figures:
    """Pixels of all objects pooled: large objects weigh most.

    ``occluded`` is over all objects, as published: pixels predicted outside a fully visible object count as wrong too.
    ``*_of_occluded`` are the same two figures over occluded objects only.
    """
    hidden = c["occluded_area"] > 0
    return {
        "full": _sums(c, "out"),
        "occluded": _sums(c, "occ"),
        "full_of_occluded": _sums(c, "out", hidden),
        "occluded_of_occluded": _sums(c, "occ", hidden),
    }


def per_object(c: Columns) -> Figures:
    """Every object has the same weight, regardless of its size."""
    return {
        "full": _mean(_iou(c, "out"), np.ones_like(c["out_inter"])),
        "occluded": _mean(_iou(c, "occ"), c["occluded_area"] > 0),
    }


def per_object_occluded(c: Columns) -> Figures:
    """Occluded objects only: for the others, a copy of the modal mask is correct."""
    hidden = c["occluded_area"] > 0
    return {"full": _mean(_iou(c, "out"), hidden), "occluded": _mean(_iou(c, "occ"), hidden)}


def c2f(c: Columns) -> Figures:
    """As computed by published code, for the mask before the union with the given modal mask. See ``_c2f``."""
    return _c2f(c, "raw")


def c2f_post(c: Columns) -> Figures:
    """As ``c2f``, for the mask united with the given modal mask: the numbers in the papers. See ``_c2f``."""
    return _c2f(c, "post")


def _c2f(c: Columns, kind: str) -> Figures:
    """Published code, kept with its quirks.

    full: mean of (I + 1e-10) / (U + 1e-10). occluded: the sum of I / (U + 1e-6) over *all* objects, divided by the
    number of those whose *signed* sum of A - V differs from 0. If V exceeds A by as many pixels as A exceeds V, the
    object contributes to the sum but not to the number; if only V exceeds A, to the number but not to the sum.
    """
    full = (c[f"{kind}_inter"] + 1e-10) / (c[f"{kind}_union"] + 1e-10)
    occluded = c[f"{kind}_occ_inter"] / (c[f"{kind}_occ_union"] + 1e-6)
    return {
        "full": _mean(full, np.ones_like(full)),
        "occluded": Figure([Ratio(occluded, _signed_sum_counts(c))]),
    }


def conddiff(c: Columns) -> Figures:
    """Ratios of sums. ``occluded`` skips objects whose *signed* sum of A - V is 0, even if they are occluded."""
    return {"full": _sums(c, "out"), "occluded": _sums(c, "occ", _signed_sum_counts(c))}


def savos(c: Columns) -> Figures:
    """Objects of videos with 0.1 < 1 - |V| / |A| < 0.7; IoU is (I + 1e-6) / (U + 1e-6).

    The rate is computed from areas: pixels of V outside A make it smaller than the occlusion rate. ``full`` and
    ``occluded``: mean over objects of all frames; ``*_frames``: mean within each frame, then over frames; ``*_tracks``:
    within each track, then over tracks. Frames and tracks without such an object do not count.
    """
    hidden = c["amodal_area"] - c["modal_area"]  # signed; integers, so that the limits are exact
    inside = (10 * hidden > c["amodal_area"]) & (10 * hidden < 7 * c["amodal_area"])
    figures = {}
    for name, kind in (("full", "out"), ("occluded", "occ")):
        iou = (c[f"{kind}_inter"] + SAVOS_SMOOTH) / (c[f"{kind}_union"] + SAVOS_SMOOTH)
        figures[name] = _mean(iou, inside)
        figures[f"{name}_frames"] = _mean(iou, _shares(c["image"], inside))
        figures[f"{name}_tracks"] = _mean(iou, _shares(c["track"], inside & (c["track"] >= 0)))
    return figures


def mean_bucket(c: Columns) -> Figures:
    """Mean IoU up to an occlusion rate, without and with fully visible objects."""
    iou, hidden = _iou(c, "out"), c["occluded_area"] > 0
    figures = {}
    for percent in BUCKETS:
        below = 100 * c["occluded_area"] <= percent * c["amodal_area"]
        figures[f"le_{percent}"] = _mean(iou, below & hidden)
        figures[f"le_{percent}_with_unoccluded"] = _mean(iou, below)
    return figures


def five_bins(c: Columns) -> Figures:
    """Ratio of sums in each of five bins of the occlusion rate, then the mean of the non-empty bins.

    ``full_of_five`` always divides by five: published code counts an empty bin as 0. Rates above 0 and below 0.01
    belong to no bin. Not kept: for the last bin, published code uses the score of the *previous* object.
    """
    figures = {"full_0": _sums(c, "out", c["occluded_area"] == 0)}
    for name, (low, high) in BINS.items():
        percent = 100 * c["occluded_area"]
        inside = (percent > 0) & (percent >= low * c["amodal_area"]) & (percent < high * c["amodal_area"])
        figures[f"full_{name}"] = _sums(c, "out", inside)
        figures[f"occluded_{name}"] = _sums(c, "occ", inside)  # objects in bin 0 have no occluded region
    full, occluded = (
        [figure.ratios[0] for name, figure in figures.items() if name.startswith(start)]
        for start in ("full_", "occluded_")
    )
    return {"full": Figure(full), "occluded": Figure(occluded), "full_of_five": Figure(full, of=5), **figures}


def five_bins_counts(c: Columns) -> dict[str, int]:
    """Number of objects in no bin (rates between 0 and 1 %), and of non-empty bins."""
    gap = (c["occluded_area"] > 0) & (100 * c["occluded_area"] < c["amodal_area"])
    bins = [ratio.below.sum() > 0 for ratio in five_bins(c)["full"].ratios]
    return {"num_gap": int(gap.sum()), "num_bins": int(sum(bins))}


def success(c: Columns) -> Figures:
    """Shares of the occluded objects. ``complete``: the whole object is at most a fifth larger than its predicted part,
    5 |A| <= 6 |P and A|. ``contained``: the area predicted outside it is at most a fifth of its own,
    5 |P and not A| <= |A|. ``success``: both.
    """
    hidden = c["occluded_area"] > 0
    complete = 5 * c["amodal_area"] <= 6 * c["out_inter"]
    contained = 5 * (c["out_union"] - c["amodal_area"]) <= c["amodal_area"]
    figures = {"success": complete & contained, "complete": complete, "contained": contained}
    return {name: _mean(held.astype(np.float64), hidden) for name, held in figures.items()}


def boundary_iou(c: Columns) -> Figures:
    """Mean IoU of the inner bands along the outlines: shows boundary errors that plain IoU hides on large objects."""
    iou = _iou(c, "boundary")
    return {"full": _mean(iou, np.ones_like(iou)), "full_of_occluded": _mean(iou, c["occluded_area"] > 0)}


def psnr(squared: Any, pixels: Any) -> Any:
    """Peak signal-to-noise ratio in dB, of numbers or arrays.

    Args:
        squared: squared errors, summed over pixels and three channels.
        pixels: number of pixels, at least 1.
    """
    return 10 * np.log10(255**2 / np.maximum(squared / (3 * pixels), PSNR_FLOOR))


def appearance(c: Columns) -> Figures:
    """Means over objects whose occluded pixels have a true and a completed colour. See ``metrics.appearance``."""
    known = c["hidden_pixels"] > 0
    pixels = np.maximum(c["hidden_pixels"], 1)
    return {
        "psnr": _mean(psnr(c["hidden_squared"], pixels), known),
        "mae": _mean(c["hidden_absolute"] / (3 * pixels), known),
        "ssim": _mean(1 - c["hidden_unlike"] / (UNLIKE * pixels), known),
    }


def appearance_counts(c: Columns) -> dict[str, int]:
    """Number of objects behind the figures of ``appearance``."""
    return {"num_objects": int((c["hidden_pixels"] > 0).sum())}


def moved(c: Columns) -> Figures:
    """Means over moved objects, for each area and for the mask at the target. See ``metrics.moved``."""
    figures = _by_area(c, "moved", AREAS)
    figures["iou"] = _mean(_iou(c, "moved"), c["moved_target_pixels"] > 0)
    return figures


def moved_counts(c: Columns) -> dict[str, int]:
    """Number of objects behind the figures of ``moved``."""
    return {"num_objects": int((c["moved_target_pixels"] > 0).sum())}


def edited(c: Columns) -> Figures:
    """Means over objects with an edit, for each area. See ``metrics.edited``."""
    return _by_area(c, "edited", EDIT_AREAS)


def edited_counts(c: Columns) -> dict[str, int]:
    """Number of objects behind the figures of ``edited``."""
    return {"num_objects": int((c["edited_region_pixels"] > 0).sum())}


def _by_area(c: Columns, kind: str, areas: tuple[str, ...]) -> Figures:
    """PSNR and SSIM of each area, and the share of pixels left unchanged that should have changed."""
    figures: Figures = {}
    for area in areas:
        known, pixels = c[f"{kind}_{area}_pixels"] > 0, np.maximum(c[f"{kind}_{area}_pixels"], 1)
        figures[f"{area}_psnr"] = _mean(psnr(c[f"{kind}_{area}_squared"], pixels), known)
        figures[f"{area}_ssim"] = _mean(1 - c[f"{kind}_{area}_unlike"] / (UNLIKE * pixels), known)
    changes = c[f"{kind}_changes"]
    figures["stays"] = _mean(c[f"{kind}_stays"] / np.maximum(changes, 1), changes > 0)
    return figures


def _sums(c: Columns, kind: str, where: np.ndarray | None = None) -> Figure:
    weight = 1.0 if where is None else where.astype(np.float64)
    return Figure([Ratio(c[f"{kind}_inter"] * weight, c[f"{kind}_union"] * weight)])


def _mean(values: np.ndarray, weight: np.ndarray) -> Figure:
    return Figure([Ratio(values * weight, weight.astype(np.float64))])


def _iou(c: Columns, kind: str) -> np.ndarray:
    """float64 (N,). Two empty masks agree: 1. In the occluded region that requires a fully visible object."""
    inter, union = c[f"{kind}_inter"], c[f"{kind}_union"]
    return np.where(union > 0, inter / np.maximum(union, 1), 1.0)


def _signed_sum_counts(c: Columns) -> np.ndarray:
    """float64 (N,): 1 where the signed sum of A - V differs from 0, the test of published code, else 0."""
    return np.where(c["amodal_area"] != c["modal_area"], 1.0, 0.0)


def _shares(groups: np.ndarray, where: np.ndarray) -> np.ndarray:
    """float64 (N,): weights that sum to 1 within each group that has a member in ``where``."""
    weights = np.zeros(len(groups))
    _, place, size = np.unique(groups[where], return_inverse=True, return_counts=True)
    weights[where] = 1 / size[place]
    return weights
