"""Named rules that turn per-object rows into the numbers of a table.

Every figure here is a ratio of two sums over objects (a mean is one: the sum of IoUs over the number of objects), or a
mean of a few such ratios. So a protocol only says what each object adds above and below the line; ``score`` and
``bootstrap`` do the adding. Nothing here looks at a mask: see ``counts`` for what the columns mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from amodalseg.errors import UserError
from amodalseg.metrics.counts import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, Row, row_key

Columns = dict[str, np.ndarray]
"""The integer columns of the rows as float64 (N,): exact, pixel counts stay far below 2**53."""
Ratio = tuple[np.ndarray, np.ndarray]
"""What each object adds above and below the line: float64 (N,), (N,)."""
Scores = dict[str, dict[str, float | int | None]]

BUCKETS = (50, 40, 30, 20, 10, 5)
BINS = {"1_20": (1, 20), "20_40": (20, 40), "40_70": (40, 70), "70_100": (70, 101)}


def pooled(c: Columns) -> dict[str, list[Ratio]]:
    """All objects' pixels in one pot: large objects weigh most."""
    hidden = c["occluded_area"] > 0
    return {
        "full": [(c["out_inter"], c["out_union"])],
        "occluded": [(c["occ_inter"] * hidden, c["occ_union"] * hidden)],
    }


def per_object(c: Columns) -> dict[str, list[Ratio]]:
    """Every object weighs the same, whatever its size."""
    return {
        "full": [_mean(_iou(c, "out"), np.ones_like(c["out_inter"]))],
        "occluded": [_mean(_iou(c, "occ"), c["occluded_area"] > 0)],
    }


def per_object_occluded(c: Columns) -> dict[str, list[Ratio]]:
    """Only objects that hide something: the rest would be answered by copying the modal mask."""
    hidden = c["occluded_area"] > 0
    return {"full": [_mean(_iou(c, "out"), hidden)], "occluded": [_mean(_iou(c, "occ"), hidden)]}


def buckets(c: Columns) -> dict[str, list[Ratio]]:
    """Mean IoU up to an occlusion rate, without and with the objects that nothing hides."""
    iou, hidden = _iou(c, "out"), c["occluded_area"] > 0
    figures = {}
    for percent in BUCKETS:
        below = 100 * c["occluded_area"] <= percent * c["amodal_area"]
        figures[f"le_{percent}"] = [_mean(iou, below & hidden)]
        figures[f"le_{percent}_with_unoccluded"] = [_mean(iou, below)]
    return figures


def five_bins(c: Columns) -> dict[str, list[Ratio]]:
    """Ratio of sums in each of five bins of the occlusion rate, then the mean of the bins that hold objects."""
    hidden, unoccluded = c["occluded_area"] > 0, c["occluded_area"] == 0
    full = {"0": (c["out_inter"] * unoccluded, c["out_union"] * unoccluded)}
    occluded = {}  # objects in bin 0 have no hidden part to find
    for name, (low, high) in BINS.items():
        percent = 100 * c["occluded_area"]
        inside = hidden & (percent >= low * c["amodal_area"]) & (percent < high * c["amodal_area"])
        full[name] = (c["out_inter"] * inside, c["out_union"] * inside)
        occluded[name] = (c["occ_inter"] * inside, c["occ_union"] * inside)
    return {
        "full": list(full.values()),
        "occluded": list(occluded.values()),
        **{f"full_{name}": [ratio] for name, ratio in full.items()},
        **{f"occluded_{name}": [ratio] for name, ratio in occluded.items()},
    }


def five_bins_counts(c: Columns) -> dict[str, int]:
    """Objects that belong to no bin (rates between 0 and 1 %), and bins that hold objects."""
    gap = (c["occluded_area"] > 0) & (100 * c["occluded_area"] < c["amodal_area"])
    bins = [below.sum() > 0 for _, below in five_bins(c)["full"]]
    return {"num_gap": int(gap.sum()), "num_bins": int(sum(bins))}


def c2f(c: Columns) -> dict[str, list[Ratio]]:
    """As published code computes it, of the raw mask. See ``_c2f``."""
    return _c2f(c, "raw")


def c2f_post(c: Columns) -> dict[str, list[Ratio]]:
    """As ``c2f``, with the modal mask united into the raw one: what the papers print. See ``_c2f``."""
    return _c2f(c, "post")


def boundary(c: Columns) -> dict[str, list[Ratio]]:
    """Mean IoU of the inner bands along the outlines: says what plain IoU hides on large objects."""
    iou = _iou(c, "boundary")
    return {"full": [_mean(iou, np.ones_like(iou))], "full_of_occluded": [_mean(iou, c["occluded_area"] > 0)]}


@dataclass(frozen=True)
class Protocol:
    """A rule with its name.

    Attributes:
        ratios: integer columns -> figures; each is the mean of the ratios of sums whose lower sum is above 0.
        explanation: what it measures, in plain words, for people who read a report.
        source: who publishes numbers made this way.
        counts: further figures that are numbers of objects or bins; their names start with ``num_``.
    """

    ratios: Callable[[Columns], dict[str, list[Ratio]]]
    explanation: str
    source: str
    counts: Callable[[Columns], dict[str, int]] | None = None

    def __call__(self, rows: Sequence[Row]) -> dict[str, float | int | None]:
        """Score rows of one model. See ``score``."""
        return _figures(self, _columns(rows))


PROTOCOLS: dict[str, Protocol] = {
    "pooled": Protocol(
        pooled,
        "All pixels of all objects in one pot: the sum of intersections over the sum of unions. Large objects weigh "
        "most. “full” compares whole masks of all objects; “occluded” compares only the pixels outside the modal "
        "mask, of the objects that have a hidden part.",
        "CondDiff-AMO’s evaluation code; “full” also in Deocclusion, ASBU and SDAmodal (SDAmodal’s occluded figure "
        "counts all objects)",
    ),
    "per_object": Protocol(
        per_object,
        "The IoU of each object, then the mean: every object weighs the same. “full” is the mean over all objects, "
        "which unoccluded ones raise; “occluded” compares only the pixels outside the modal mask and is the mean over "
        "objects that have a hidden part.",
        "the plain mean IoU, as in C2F-Seg without its small constants",
    ),
    "per_object_occluded": Protocol(
        per_object_occluded,
        "The mean over objects that have a hidden part, and over no others. Unoccluded objects, which a copy of the "
        "modal mask already answers, cannot raise it. “occluded” is the hardest figure here: the IoU of the hidden "
        "part alone.",
        "this project; chooses the best weights in training",
    ),
    "buckets": Protocol(
        buckets,
        "The mean IoU of whole masks over objects whose occlusion rate is at most 50, 40, … 5 %. Published tables do "
        "not say whether unoccluded objects count, so both are given; they can differ by several points.",
        "tuning-free amodal segmentation with diffusion inpainting",
    ),
    "five_bins": Protocol(
        five_bins,
        "Objects are put into bins of the occlusion rate: 0, 1–20 %, 20–40 %, 40–70 %, 70 % and more. Each bin gives "
        "one ratio of sums, and bins that hold objects are averaged, so rare heavy occlusion weighs as much as "
        "common light occlusion. Rates between 0 and 1 % belong to no bin (num_gap). The hidden part is averaged over "
        "the last four bins.",
        "CondDiff-AMO’s alternative test, without its slips",
        five_bins_counts,
    ),
    "c2f": Protocol(
        c2f,
        "Mean IoU of the mask before the modal mask is united into it, as C2F-Seg’s code computes it. Its occluded "
        "figure divides by the number of objects whose amodal and modal areas differ, which is not quite the number "
        "of objects with a hidden part.",
        "C2F-Seg’s code, first pair of numbers",
    ),
    "c2f_post": Protocol(
        c2f_post,
        "The same after the modal mask is united into the prediction, whether or not the model does so itself.",
        "C2F-Seg’s paper, and tables that copy from it",
    ),
    "boundary": Protocol(
        boundary,
        "The mean IoU of the bands along the inside of the outlines, 2 % of the image’s diagonal wide. Large objects "
        "get no credit for their easy interior. “full_of_occluded” is the mean over objects with a hidden part.",
        "boundary IoU as in LVIS and COCO evaluation, per object",
    ),
}


def score(rows: Sequence[Row]) -> Scores:
    """All protocols' figures for one model.

    Args:
        rows: of one model, each object once; any data sets and splits.

    Returns:
        ``{protocol: {figure: value}}``: fractions in [0, 1], None where no object counts. Names that start with
        ``num_`` are numbers of objects or bins.

    Raises:
        UserError: rows of several models, or an object twice. A distributed sampler pads with duplicates, which would
            weigh double.
    """
    columns = _columns(rows)
    return {name: _figures(protocol, columns) for name, protocol in PROTOCOLS.items()}


def summarize(rows: Sequence[Row]) -> list[dict]:
    """What goes into ``metrics.json``: one entry per model, data set and split, in order of appearance.

    Returns:
        Dicts with ``model``, ``dataset``, ``split``, ``num_objects``, ``num_occluded`` (objects with a hidden part)
        and ``scores``.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["dataset"], row["split"]), []).append(row)
    return [
        {
            **dict(zip(("model", "dataset", "split"), name, strict=True)),
            "num_objects": len(group),
            "num_occluded": sum(row["occluded_area"] > 0 for row in group),
            "scores": score(group),
        }
        for name, group in groups.items()
    ]


def bootstrap(
    rows: Sequence[Row], protocol: str, name: str, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile interval of one figure when whole images are drawn anew, with replacement.

    Objects of one image share its scene and annotator, so drawing single objects would make the interval too narrow.

    Args:
        rows: of one model, as for ``score``.
        protocol, name: of the figure.
        samples: number of drawings. The same seed and images give the same drawings for every model.
        seed: of the drawings.
        level: share of the drawings inside the interval.

    Returns:
        (low, high), or None where the figure is undefined or there is only one image. Drawings in which the figure is
        undefined are left out.
    """
    columns = _columns(rows)
    ratios = PROTOCOLS[protocol].ratios(columns)[name]
    keys = [(row["dataset"], row["split"], row["image_id"]) for row in rows]
    images = {key: index for index, key in enumerate(sorted(set(keys)))}
    if len(images) < 2:
        return None
    image = np.array([images[key] for key in keys])
    sums = np.zeros((2 * len(ratios), len(images)))  # what each image adds, above and below each line
    for index, ratio in enumerate(ratios):
        sums[2 * index] = np.bincount(image, ratio[0], len(images))
        sums[2 * index + 1] = np.bincount(image, ratio[1], len(images))
    random = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        total = sums[:, random.integers(len(images), size=len(images))].sum(axis=1)
        values.append(_mean_ratio(total[0::2], total[1::2]))
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _columns(rows: Sequence[Row]) -> Columns:
    models = sorted({row["model"] for row in rows})
    if len(models) > 1:
        raise UserError(f"one score needs rows of one model, not of {', '.join(models)}")
    doubles = [key for key, times in Counter(row_key(row) for row in rows).items() if times > 1]
    if doubles:
        raise UserError(f"{doubles[0]} is counted more than once for model {models[0]} ({len(doubles)} such objects)")
    names = [name for name in COLUMNS if name not in TEXT_COLUMNS and name not in FLOAT_COLUMNS]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _figures(protocol: Protocol, columns: Columns) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {
        name: _mean_ratio(*np.array([(above.sum(), below.sum()) for above, below in ratios]).T)
        for name, ratios in protocol.ratios(columns).items()
    }
    return figures | (protocol.counts(columns) if protocol.counts else {})


def _mean_ratio(above: np.ndarray, below: np.ndarray) -> float | None:
    defined = below > 0
    return float((above[defined] / below[defined]).mean()) if defined.any() else None


def _mean(values: np.ndarray, where: np.ndarray) -> Ratio:
    return values * where, where.astype(np.float64)


def _iou(c: Columns, kind: str) -> np.ndarray:
    """float64 (N,). Two empty masks agree: 1. In the occluded region that only happens without a hidden part."""
    inter, union = c[f"{kind}_inter"], c[f"{kind}_union"]
    return np.where(union > 0, inter / np.maximum(union, 1), 1.0)


def _c2f(c: Columns, kind: str) -> dict[str, list[Ratio]]:
    """Published code, kept with its quirks.

    full: mean of (I + 1e-10) / (U + 1e-10). occluded: the sum of I / (U + 1e-6) over *all* objects, divided by the
    number of those whose *signed* sum of A - V differs from 0. Where V leaves A by as many pixels as A leaves V, the
    object adds to the sum and not to the number; where V only leaves A, to the number and not to the sum.
    """
    full = (c[f"{kind}_inter"] + 1e-10) / (c[f"{kind}_union"] + 1e-10)
    occluded = c["occ_inter"] / (c["occ_union"] + 1e-6)
    counted = c["amodal_area"] != c["modal_area"]
    return {"full": [_mean(full, np.ones_like(full))], "occluded": [(occluded, counted.astype(np.float64))]}
