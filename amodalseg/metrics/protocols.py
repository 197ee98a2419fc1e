"""Named rules that turn per-object rows into the numbers of a table: ``PROTOCOLS``, with the rules in ``rules``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from amodalseg.errors import UserError
from amodalseg.metrics import rules
from amodalseg.metrics.bootstrap import Interval, bootstrap_intervals, figure_values
from amodalseg.metrics.counts import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, Row, row_key
from amodalseg.metrics.detection import DETECTION
from amodalseg.metrics.edited import EDIT_AREAS
from amodalseg.metrics.moved import AREAS
from amodalseg.metrics.rules import PERCENT, Columns, Figures, Unit

Scores = dict[str, dict[str, float | int | None]]


@dataclass(frozen=True)
class Protocol:
    """A named rule.

    Attributes:
        ratios: integer columns -> figures; each is the mean of those ratios of sums whose denominator is positive.
        explanation: what it measures, in plain words, for readers of a report.
        source: who publishes numbers computed this way.
        counts: further figures that are numbers of objects or bins; their names start with ``num_``.
        units: of figures that are not fractions printed in percent.
    """

    ratios: Callable[[Columns], Figures]
    explanation: str
    source: str
    counts: Callable[[Columns], dict[str, int]] | None = None
    units: Mapping[str, Unit] = field(default_factory=dict)

    def __call__(self, rows: Sequence[Row]) -> dict[str, float | int | None]:
        """Score the rows of one model, see ``score``."""
        return _figures(self, integer_columns(rows))


PROTOCOLS: dict[str, Protocol] = {
    "pooled": Protocol(
        rules.pooled,
        "All pixels of all objects are pooled: the sum of intersections over the sum of unions. Large objects weigh "
        "most. “full” compares whole masks; “occluded” compares only the pixels outside the annotated modal mask, of "
        "all objects: whatever is predicted around an object that nothing hides counts as wrong too. “of_occluded” "
        "are the same figures over the objects that have a hidden part.",
        "Deocclusion (full), ASBU, SDAmodal; table 1 of CondDiff-AMO",
    ),
    "per_object": Protocol(
        rules.per_object,
        "The IoU of each object, then the mean: every object weighs the same. “full” is the mean over all objects, "
        "which unoccluded ones raise; “occluded” compares only the pixels outside the modal mask and is the mean over "
        "objects that have a hidden part.",
        "the plain mean IoU, as in C2F-Seg without its small constants",
    ),
    "per_object_occluded": Protocol(
        rules.per_object_occluded,
        "The mean over objects that have a hidden part, and over no others. Unoccluded objects, which a copy of the "
        "modal mask already gets right, cannot raise it. “occluded” is the hardest figure here: the IoU of the hidden "
        "part alone.",
        "this project; chooses the best weights in training",
    ),
    "c2f": Protocol(
        rules.c2f,
        "Mean IoU of the mask before the modal mask is united into it, as C2F-Seg’s code computes it. Its quirk: the "
        "occluded figure divides by the number of objects whose amodal and modal areas differ, which is not quite the "
        "number of objects with a hidden part.",
        "C2F-Seg’s code, first pair of numbers",
    ),
    "c2f_post": Protocol(
        rules.c2f_post,
        "The same after the given modal mask is united into the prediction, whether or not the model does so itself.",
        "C2F-Seg’s paper, and tables that copy from it",
    ),
    "conddiff": Protocol(
        rules.conddiff,
        "Ratios of sums, as CondDiff-AMO’s released code computes them; that it made the printed numbers is not "
        "confirmed. “full” is that of “pooled”. Its quirk: “occluded” leaves out objects whose amodal and modal areas "
        "are equal, which is not quite those without a hidden part.",
        "most likely CondDiff-AMO’s own rows",
    ),
    "savos": Protocol(
        rules.savos,
        "For videos: mean IoU of objects while between 10 and 70 % of their area is hidden, both limits excluded, a "
        "constant of 1e-6 added above and below. “full” and “occluded” are means over objects of all frames, “frames” "
        "first within each frame, “tracks” first within each track. Its quirk: what is hidden is a difference of two "
        "areas, so modal pixels outside the amodal mask make it smaller.",
        "SaVOS, FishBowl",
    ),
    "mean_bucket": Protocol(
        rules.mean_bucket,
        "The mean IoU of whole masks over objects whose occlusion rate is at most 50, 40, … 5 %. Published tables do "
        "not say whether unoccluded objects count, so both are given; they can differ by several points.",
        "tuning-free amodal segmentation with diffusion inpainting",
    ),
    "five_bins": Protocol(
        rules.five_bins,
        "Objects are put into bins of the occlusion rate: 0, 1–20 %, 20–40 %, 40–70 %, 70 % and more. Each bin gives "
        "one ratio of sums, and bins that hold objects are averaged, so rare heavy occlusion weighs as much as "
        "common light occlusion. Its quirks: rates between 0 and 1 % belong to no bin (num_gap), and “full_of_five” "
        "counts an empty bin as 0. The hidden part is averaged over the last four bins.",
        "CondDiff-AMO’s alternative test (full_of_five), without its error in the last bin",
        rules.five_bins_counts,
    ),
    "success": Protocol(
        rules.success,
        "How many objects with a hidden part are completed, by the criteria of progressive mixed context where truth "
        "is exact: “complete”, the true object is at most a fifth larger than what is found of it (the growth that its "
        "curation rule allows); “contained”, at most a fifth of its area is predicted beside it; “success”, both.",
        "this project; the paper counts human votes",
    ),
    "boundary_iou": Protocol(
        rules.boundary_iou,
        "The mean IoU of the bands along the inside of the outlines, 2 % of the image’s diagonal wide. Large objects "
        "get no credit for their easy interior. “full_of_occluded” is the mean over objects with a hidden part.",
        "Boundary IoU (Cheng et al., CVPR 2021), here as a mean over objects",
    ),
    "appearance": Protocol(
        rules.appearance,
        "How well the completed picture shows the hidden part, where a model draws one and the true picture is known "
        "(composites and drawn worlds): means over such objects. “psnr” in dB (58.9 at most), “mae” the mean absolute "
        "error in levels from 0 to 255, where lower is better, “ssim” of grey values. A hidden pixel that the mask "
        "misses counts with the colour that the photo has there.",
        "this project",
        rules.appearance_counts,
        {"psnr": Unit("dB", 1, 1), "mae": Unit("levels", 1, 1, lower=True), "ssim": Unit("", 1, 3)},
    ),
    "moved": Protocol(
        rules.moved,
        "How well a photo after a move shows what it should, where the true picture is known (data “moves”): means "
        "over moved objects. “origin” is where the object was visible before the move, “target” the whole object "
        "at its new place, “rest” everything else; each has its “psnr” in dB (58.9 at most) and its “ssim”. “stays” is "
        "the share of the origin that still shows the object: 100 % if nothing was done, 0 % for the truth; lower is "
        "better. “iou” compares the object’s mask at the target.",
        "this project",
        rules.moved_counts,
        {
            **{f"{area}_psnr": Unit("dB", 1, 1) for area in AREAS},
            **{f"{area}_ssim": Unit("", 1, 3) for area in AREAS},
            "stays": Unit("%", 100, 1, lower=True),
        },
    ),
    "edited": Protocol(
        rules.edited,
        "How well a photo after an edit shows what it should, where the true picture is known (data “edits”): means "
        "over edited photos. “kept” is what is seen of the object that is to stay, “region” what the true edit "
        "changes, “rest” everything around them; each has its “psnr” in dB (58.9 at most) and its “ssim”: that of "
        "“kept” is SSIM-i of multi-region editing, that of “rest” SSIM-e. “stays” is the share of the region that "
        "still shows what was there: 100 % if nothing was done, 0 % for the truth; lower is better.",
        "this project; SSIM-i and SSIM-e: MRGD (AAAI 2024)",
        rules.edited_counts,
        {
            **{f"{area}_psnr": Unit("dB", 1, 1) for area in EDIT_AREAS},
            **{f"{area}_ssim": Unit("", 1, 3) for area in EDIT_AREAS},
            "stays": Unit("%", 100, 1, lower=True),
        },
    ),
}


def list_protocols() -> list[str]:
    """Names of all protocols; the last ones score the masks of detectors and need all objects of a photo."""
    return [*PROTOCOLS, *DETECTION]


def unit_of(protocol: str, figure: str) -> Unit:
    """How a figure is printed: in percent, unless its protocol says otherwise."""
    return PROTOCOLS[protocol].units.get(figure, PERCENT) if protocol in PROTOCOLS else PERCENT


def score(rows: Sequence[Row]) -> Scores:
    """All protocols' figures for one model.

    Args:
        rows: of one model, each object once; any data sets and splits.

    Returns:
        ``{protocol: {figure: value}}``: fractions in [0, 1] unless ``unit_of`` names another unit, None where no object
        counts. Names that start with ``num_`` are numbers of objects or bins.

    Raises:
        UserError: there are rows of several models, or an object appears twice. A distributed sampler pads with
            duplicates, which would count double.
    """
    columns = integer_columns(rows)
    return {name: _figures(protocol, columns) for name, protocol in PROTOCOLS.items()}


def summarize(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The content of ``metrics.json``: one entry per model, data set and split, in order of appearance.

    Returns:
        Dicts with ``model``, ``dataset``, ``split``, ``num_objects``, ``num_occluded`` (occluded objects), ``scores``
        and ``intervals``: ``{protocol: {figure: [low, high] or None}}``, as from ``bootstrap``.
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
            "intervals": _intervals(group),
        }
        for name, group in groups.items()
    ]


def bootstrap(
    rows: Sequence[Row], protocol: str, name: str, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """Percentile interval of one figure when whole images are resampled with replacement.

    Objects in one image share a scene and an annotator, so resampling single objects would make the interval too
    narrow. For the same reason all frames of a video are resampled together.

    Args:
        rows: of one model, as for ``score``.
        protocol, name: of the figure.
        samples: number of resamples. The same seed and images give the same resamples for every model.
        seed: of the resamples.
        level: share of the resamples inside the interval.

    Returns:
        (low, high), or None if fewer than two images contribute to the figure. Resamples in which the figure is
        undefined are left out.
    """
    figure = PROTOCOLS[protocol].ratios(integer_columns(rows))[name]
    return bootstrap_intervals({name: figure}, bootstrap_groups(rows), samples, seed, level)[name]


def bootstrap_groups(rows: Sequence[Row]) -> np.ndarray:
    """int64 (N,): each object's image, or its video if it has a track; numbered from 0, sorted."""
    return _numbers([(row["dataset"], row["split"], _video(row) or row["image_id"]) for row in rows])


def _intervals(rows: Sequence[Row]) -> dict[str, dict[str, list[float] | None]]:
    columns = integer_columns(rows)
    every = {name: protocol.ratios(columns) for name, protocol in PROTOCOLS.items()}
    flat = {f"{name}/{figure}": ratios for name, figures in every.items() for figure, ratios in figures.items()}
    found = bootstrap_intervals(flat, bootstrap_groups(rows))
    listed = {name: None if interval is None else list(interval) for name, interval in found.items()}
    return {name: {figure: listed[f"{name}/{figure}"] for figure in figures} for name, figures in every.items()}


def integer_columns(rows: Sequence[Row]) -> Columns:
    """The integer columns of one model's rows. Raises UserError for rows of several models, or duplicate objects."""
    models = sorted({row["model"] for row in rows})
    if len(models) > 1:
        raise UserError(f"one score needs rows of one model, not of {', '.join(models)}")
    doubles = [key for key, times in Counter(row_key(row) for row in rows).items() if times > 1]
    if doubles:
        raise UserError(f"{doubles[0]} is counted more than once for model {models[0]} ({len(doubles)} such objects)")
    names = [name for name in COLUMNS if name not in TEXT_COLUMNS and name not in FLOAT_COLUMNS]
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
    tracks = _numbers([(row["dataset"], row["split"], row["track"]) for row in rows])
    on_track = np.array([row["track"] != "" for row in rows], bool)
    return {
        **columns,
        "image": _numbers([(row["dataset"], row["split"], row["image_id"]) for row in rows]),
        "track": np.where(on_track, tracks, -1),
    }


def _video(row: Row) -> str:
    return str(row["track"]).rpartition("/")[0]


def _numbers(names: Sequence[tuple[str, ...]]) -> np.ndarray:
    numbers = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], np.int64)


def _figures(protocol: Protocol, columns: Columns) -> dict[str, float | int | None]:
    figures = protocol.ratios(columns)
    sums = np.array([[(r.above.sum(), r.below.sum()) for figure in figures.values() for r in figure.ratios]])
    values = figure_values(figures, sums[..., 0], sums[..., 1])[0]
    found: dict[str, float | int | None] = {
        name: None if np.isnan(value) else float(value) for name, value in zip(figures, values, strict=True)
    }
    return found | (protocol.counts(columns) if protocol.counts else {})
