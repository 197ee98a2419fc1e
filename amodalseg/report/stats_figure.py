"""A diagram of a data set's statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from amodalseg.data.check.stats import Stats
from amodalseg.report.figures import COLORS, FAINT, clean_axes, figure_to_png, new_figure

BARS = 15
"""Maximum number of categories drawn."""
LETTERS = 22
"""Maximum length of a category's name, characters."""


def stats_figure(columns: Sequence[Stats]) -> bytes:
    """Histograms of occlusion rates and sizes, and bars of the most frequent categories; one colour per split.

    Returns:
        A PNG file.
    """
    total = Counter[str]()
    for stats in columns:
        total.update(stats.categories)
    top = [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))][:BARS]
    figure = new_figure(11.5 if top else 8.0, 3.9)
    areas = figure.subplots(1, 3 if top else 2)
    _rates(areas[0], columns)
    _sizes(areas[1], columns)
    if top:
        _categories(areas[2], columns, top)
    handles, labels = areas[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure_to_png(figure)


def _rates(area: Any, columns: Sequence[Stats]) -> None:
    """Plot shares of all objects; the remainder to 100 % is fully visible."""
    edges = np.linspace(0, 100, 21)
    for index, stats in enumerate(columns):
        if stats.amodal:
            share = 100 * np.histogram(100 * stats.rates, edges)[0] / len(stats)
            _outline(area, share, edges, index)
    _finish(area, "objects with occlusion", "occlusion rate in %", "share of all objects in %")


def _sizes(area: Any, columns: Sequence[Stats]) -> None:
    sizes = np.maximum(1, np.concatenate([stats.sizes for stats in columns]))
    low, high = np.floor(np.log2(sizes.min())), np.ceil(np.log2(sizes.max()))
    edges = 2.0 ** np.arange(low, max(high, low + 1) + 0.25, 0.25)
    for index, stats in enumerate(columns):
        share = 100 * np.histogram(np.maximum(stats.sizes, edges[0]), edges)[0] / len(stats)
        known = f"{100 * (1 - len(stats.rates) / len(stats)):.0f} % fully visible" if stats.amodal else "modal only"
        _outline(area, share, edges, index, label=f"{stats.name}: {len(stats):,} objects, {known}")
    area.set_xscale("log", base=2)
    area.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _finish(area, "sizes", "sqrt(area) of the whole object in pixels", "share of all objects in %")


def _categories(area: Any, columns: Sequence[Stats], top: Sequence[str]) -> None:
    place, height = np.arange(len(top)), 0.8 / len(columns)
    for index, stats in enumerate(columns):
        share = [100 * stats.categories.get(name, 0) / len(stats) for name in top]
        offset = (index - (len(columns) - 1) / 2) * height
        area.barh(place + offset, share, height, color=COLORS[index % len(COLORS)])
    names = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in top]
    area.set_yticks(place, names, parse_math=False)
    area.invert_yaxis()
    _finish(area, "categories", "share of all objects in %", "")
    area.set_axisbelow(True)
    area.grid(axis="x", color=FAINT, linewidth=0.7)


def _outline(area: Any, values: np.ndarray, edges: np.ndarray, index: int, label: str | None = None) -> None:
    color = COLORS[index % len(COLORS)]
    area.stairs(values, edges, fill=True, color=color, alpha=0.18)
    area.stairs(values, edges, color=color, linewidth=1.6, label=label)


def _finish(area: Any, title: str, x: str, y: str) -> None:
    area.set(title=title, xlabel=x, ylabel=y)
    clean_axes(area, lines=bool(y), zero=False)
