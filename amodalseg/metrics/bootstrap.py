"""Uncertainty of a figure: bootstrap percentile intervals that resample whole groups of objects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from amodalseg.metrics.rules import Figure

MAX_CELLS = 1 << 24
"""Maximum number of values in memory: for data sets with many images, resamples are drawn in parts."""
Interval = tuple[float, float]


def bootstrap_intervals(
    figures: Mapping[str, Figure], groups: np.ndarray, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval | None]:
    """Percentile intervals of figures when whole groups are resampled with replacement.

    All figures share the resamples, which depend only on the seed and the number of groups, so the same groups give the
    same resamples for every model.

    Args:
        figures: of N objects.
        groups: int64 (N,), each object's group, numbered from 0 without gaps.
        samples: number of resamples.
        seed: of the resamples.
        level: share of the resamples inside the interval.

    Returns:
        (low, high) by name, or None if fewer than two groups contribute to the figure: resampling a single group gives
        the same value every time, a meaningless zero-width interval. Resamples in which a figure is undefined are left
        out.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    if count < 2 or not figures:
        return dict.fromkeys(figures)
    ratios = [ratio for figure in figures.values() for ratio in figure.ratios]
    above = np.stack([np.bincount(groups, ratio.above, count) for ratio in ratios], axis=1)  # (groups, ratios)
    below = np.stack([np.bincount(groups, ratio.below, count) for ratio in ratios], axis=1)
    random = np.random.default_rng(seed)
    values = np.empty((samples, len(figures)))
    step = max(1, MAX_CELLS // count)
    for start in range(0, samples, step):
        part = min(step, samples - start)
        chosen = random.integers(count, size=(part, count))
        chosen += count * np.arange(part)[:, None]
        times = np.bincount(chosen.ravel(), minlength=part * count).reshape(part, count).astype(np.float64)
        values[start : start + part] = figure_values(figures, times @ above, times @ below)
    found: dict[str, Interval | None] = {}
    for name, column, several in zip(figures, values.T, several_groups(figures, below), strict=True):
        defined = column[~np.isnan(column)]
        limits = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if several and len(defined) else None
        found[name] = None if limits is None else (float(limits[0]), float(limits[1]))
    return found


def several_groups(figures: Mapping[str, Figure], below: np.ndarray) -> np.ndarray:
    """Whether at least two groups contribute to each figure.

    Args:
        figures: F figures with R ratios in total.
        below: float64 (groups, R), the denominators of those ratios in order.

    Returns:
        bool (F,).
    """
    several: np.ndarray = np.logical_or.reduceat(below > 0, _starts(figures), axis=1).sum(axis=0) > 1
    return several


def _starts(figures: Mapping[str, Figure]) -> np.ndarray:
    """Index of each figure's first ratio."""
    return np.cumsum([0, *(len(figure.ratios) for figure in figures.values())])[:-1]


def figure_values(figures: Mapping[str, Figure], above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Figures from sums.

    Args:
        figures: F figures with R ratios in total.
        above, below: float64 (S, R), numerators and denominators of those ratios in order.

    Returns:
        float64 (S, F), NaN where a figure is undefined.
    """
    defined = below > 0
    ratio = np.divide(above, below, out=np.zeros_like(above), where=defined)
    starts = _starts(figures)
    number = np.add.reduceat(defined, starts, axis=1, dtype=np.float64)
    total = np.add.reduceat(ratio, starts, axis=1)
    of = np.array([np.nan if figure.of is None else figure.of for figure in figures.values()])
    divisor = np.where(np.isnan(of), number, of)
    return np.divide(total, divisor, out=np.full_like(total, np.nan), where=number > 0)
