"""Diagrams as PNG bytes. matplotlib is imported only when one is drawn, and its global state is unchanged."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amodalseg.metrics.calibration import BINS, Calibration
from amodalseg.metrics.counts import Row
from amodalseg.report.select import iou

COLORS = ["#2678e1", "#ff8a14", "#2a9d6f", "#b0468e", "#7a5c3a", "#6b7280", "#d33f49", "#00a3b4"]
MARKERS = "osD^vPX*"
INK, FAINT = "#303840", "#d9dee5"
RATE_EDGES = [0, 10, 20, 30, 40, 50, 70, 100]
"""Percent. An object is in the first interval whose upper end its occlusion rate does not exceed; 0 stands alone."""


def iou_against_rate(rows_by_model: Mapping[str, Sequence[Row]]) -> bytes:
    """Mean IoU of whole masks and of occluded regions over the occlusion rate, above bars with the number of objects.

    Args:
        rows_by_model: model -> its rows. The bars count the rows of the first model.

    Returns:
        A PNG file.
    """
    labels = ["0", *(f"{low}–{high}" for low, high in itertools.pairwise(RATE_EDGES))]
    place = np.arange(len(labels))
    figure = new_figure(9.6, 4.1)
    areas = figure.subplots(2, 2, sharex=True, height_ratios=[4, 1])
    for column, (kind, title) in enumerate((("out", "full: whole masks"), ("occ", "occluded: hidden parts"))):
        upper, lower = areas[0, column], areas[1, column]
        for index, (model, rows) in enumerate(rows_by_model.items()):
            # Nothing is occluded in the first bin, so its occluded IoU is meaningless.
            bins = {i: group for i, group in enumerate(_by_rate(rows)) if group and (i or kind == "out")}
            means = [np.mean([iou(row, kind) for row in group]) for group in bins.values()]
            upper.plot(list(bins), means, label=model, **_style(index))
        counts = [len(group) for group in _by_rate(next(iter(rows_by_model.values()), []))]
        bars = lower.bar(place, counts, color=FAINT, width=0.8)
        lower.bar_label(bars, fontsize=7, color=INK, padding=1)
        lower.set_ylim(0, 1.35 * max([1, *counts]))
        lower.set_xticks(place, labels)
        lower.set_yticks([])
        lower.set_xlabel("occlusion rate in %")
        lower.set_ylabel("objects")
        upper.set_title(title)
        upper.set_ylabel("mean IoU over objects")
        clean_axes(upper)
        clean_axes(lower, lines=False)
    figure.legend(
        *areas[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8.5
    )
    return figure_to_png(figure)


def iou_against_steps(curves: Mapping[str, Sequence[tuple[int, float | None, float | None]]]) -> bytes:
    """IoU over the number of sampling steps.

    Args:
        curves: model -> (steps, per_object_occluded full, per_object_occluded occluded), fractions; None: undefined.

    Returns:
        A PNG file.
    """
    figure = new_figure(9.6, 3.4)
    for column, title in enumerate(("full: whole masks", "occluded: hidden parts"), start=1):
        area = figure.add_subplot(1, 2, column)
        for index, (model, points) in enumerate(curves.items()):
            defined = sorted((point[0], point[column]) for point in points if point[column] is not None)
            steps, values = [step for step, _ in defined], [value for _, value in defined]
            area.plot(steps, values, label=model, **_style(index))
        area.set_xticks(sorted({point[0] for points in curves.values() for point in points}))
        area.set_title(title)
        area.set_xlabel("sampling steps")
        area.set_ylabel("mean IoU, objects with occlusion")
        clean_axes(area, zero=False)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8.5
    )
    return figure_to_png(figure)


def reliability(found: Mapping[str, Calibration]) -> bytes:
    """The share of true pixels over the predicted probability, above bars with the number of pixels.

    Args:
        found: model -> its calibration.

    Returns:
        A PNG file.
    """
    figure = new_figure(9.6, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color=FAINT, linewidth=1.6, label="perfectly calibrated")
    width = 0.9 / BINS / max(1, len(found))
    for index, (model, one) in enumerate(found.items()):
        there = one.pixels > 0
        style = _style(index)
        upper.plot(one.mean[there], one.share[there], label=f"{model}: ECE {100 * one.error:.1f} %", **style)
        centres = (np.arange(BINS) + 0.05) / BINS + (index + 0.5) * width
        lower.bar(centres, one.pixels / one.pixels.sum(), width, color=style["color"])
    upper.set_ylabel("share of hidden pixels")
    lower.set_ylabel("pixels")
    lower.set_yticks([])
    lower.set_xlabel("probability")
    lower.set_xlim(0, 1)
    clean_axes(upper)
    clean_axes(lower, lines=False)
    upper.legend(loc="upper left", frameon=False, fontsize=8.5)
    return figure_to_png(figure)


def _by_rate(rows: Sequence[Row]) -> list[list[Row]]:
    bins: list[list[Row]] = [[] for _ in RATE_EDGES]
    for row in rows:
        rate = 100 * row["occluded_area"] / max(1, row["amodal_area"])
        bins[int(np.searchsorted(RATE_EDGES, rate))].append(row)
    return bins


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure in the package's style. Args: width, height, in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=110, layout=layout, facecolor="white")


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.6,
    }


def clean_axes(area: Any, lines: bool = True, zero: bool = True) -> None:
    """Style axes. Args: lines: draw a grid of horizontal lines; zero: together with lines, show 0 to 1."""
    for side in ("top", "right", "left"):
        area.spines[side].set_visible(False)
    area.spines["bottom"].set_color(FAINT)
    area.tick_params(colors=INK, labelsize=8, length=0)
    area.title.set(fontsize=10, color=INK, fontweight="bold")
    area.xaxis.label.set(fontsize=8, color=INK)
    area.yaxis.label.set(fontsize=8, color=INK)
    if lines:
        area.grid(axis="y", color=FAINT, linewidth=0.7)
        area.set_axisbelow(True)
        if zero:
            area.set_ylim(-0.03, 1.03)


def figure_to_png(figure: Any) -> bytes:
    """A matplotlib figure -> PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")  # without a canvas of its own, the figure draws with Agg
    return file.getvalue()
