"""Paired comparison of two models, object by object: which is better where, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from amodalseg.errors import UserError
from amodalseg.metrics.bootstrap import MAX_CELLS, figure_values, several_groups
from amodalseg.metrics.counts import Row, row_key
from amodalseg.metrics.protocols import PROTOCOLS, bootstrap_groups, integer_columns
from amodalseg.metrics.rules import Figure

TRUTH = ("height", "width", "amodal_area", "occluded_area")
"""Columns that two evaluations of the same objects share."""
KINDS = {"full": "out", "occluded": "occ"}


class Pairs(NamedTuple):
    """The objects of one data set and split that both models predicted.

    a, b: their rows, in the same order. only_a, only_b: number of objects predicted by only one of them.
    """

    a: list[Row]
    b: list[Row]
    only_a: int
    only_b: int


class Difference(NamedTuple):
    """One figure of both models.

    a, b: values as from ``score``. low, high: 95 % interval of ``b - a``, None if only one image contributes to the
        figure.
    """

    protocol: str
    figure: str
    a: float
    b: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """The result in plain words."""
        if self.low is None or self.high is None:
            return "one image only: no interval"
        if self.low > 0:
            return "B is higher"
        if self.high < 0:
            return "A is higher"
        return "equal" if self.low == self.high == 0 else "undecided: the interval holds 0"


class Tally(NamedTuple):
    """Number of objects on which A has the higher IoU, B has, or both are equal."""

    a: int
    b: int
    ties: int


def pair_rows(a: Sequence[Row], b: Sequence[Row]) -> dict[tuple[str, str], Pairs]:
    """Pair the rows of two models by object.

    Args:
        a, b: rows of one model each, each object once.

    Returns:
        (dataset, split) -> pairs, in the order of ``a``.

    Raises:
        UserError: the two were scored against different ground truths, or have no object in common.
    """
    of_b = {row_key(row): row for row in b}
    both = [(row, of_b[row_key(row)]) for row in a if row_key(row) in of_b]
    differing = [(one, other) for one, other in both if any(one[name] != other[name] for name in TRUTH)]
    if differing:
        one, other = differing[0]
        name = next(name for name in TRUTH if one[name] != other[name])
        raise UserError(
            f"{row_key(one)} was scored against different ground truths: {name} is {one[name]} in A and {other[name]} "
            f"in B ({len(differing)} of {len(both)} objects differ); evaluate both on the same annotations"
        )
    if not both:
        raise UserError(
            f"A and B have no objects in common: A holds {row_key(a[0]) if a else 'nothing'}, ..., "
            f"B holds {row_key(b[0]) if b else 'nothing'}, ..."
        )
    pairs: dict[tuple[str, str], Pairs] = {}
    for part in dict.fromkeys((row["dataset"], row["split"]) for row in [*a, *b]):
        own = [pair for pair in both if (pair[0]["dataset"], pair[0]["split"]) == part]
        alone = [sum((row["dataset"], row["split"]) == part for row in rows) - len(own) for rows in (a, b)]
        pairs[part] = Pairs([one for one, _ in own], [other for _, other in own], *alone)
    return pairs


def differences(pairs: Pairs, samples: int = 1000, seed: int = 0, level: float = 0.95) -> list[Difference]:
    """Every figure of every protocol that is defined for both, with the interval of the difference.

    Whole images are resampled (videos if there are tracks), the same for both: difficulty that both models share
    cancels out, so the interval is narrower than those of the two figures suggest.

    Args:
        pairs: objects predicted by both.
        samples, seed, level: of the resamples, as for ``metrics.protocols.bootstrap``.
    """
    if not pairs.a:
        return []
    groups = bootstrap_groups(pairs.a)
    sides = [_sums(rows, groups) for rows in (pairs.a, pairs.b)]
    count = int(groups.max()) + 1
    values = [_values(side, np.ones((1, count)))[0] for side in sides]
    random = np.random.default_rng(seed)
    resampled = np.full((samples if count > 1 else 0, len(sides[0].figures)), np.nan)
    step = max(1, MAX_CELLS // count)
    for start in range(0, len(resampled), step):
        part = min(step, samples - start)
        chosen = random.integers(count, size=(part, count)) + count * np.arange(part)[:, None]
        times = np.bincount(chosen.ravel(), minlength=part * count).reshape(part, count).astype(np.float64)
        resampled[start : start + part] = _values(sides[1], times) - _values(sides[0], times)
    result = []
    several = several_groups(sides[0].figures, np.maximum(sides[0].below, sides[1].below))
    for name, a, b, column, enough in zip(sides[0].figures, *values, resampled.T, several, strict=True):
        if not (np.isnan(a) or np.isnan(b)):
            defined = column[~np.isnan(column)]
            sure = enough and len(defined) > 0
            limits = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist() if sure else [None] * 2
            protocol, _, figure = name.partition("/")
            result.append(Difference(protocol, figure, float(a), float(b), *limits))
    return result


class _Sums(NamedTuple):
    """Each group's contribution to each numerator and denominator: float64 (groups, ratios)."""

    figures: dict[str, Figure]
    above: np.ndarray
    below: np.ndarray


def _sums(rows: Sequence[Row], groups: np.ndarray) -> _Sums:
    columns = integer_columns(rows)
    every = {name: protocol.ratios(columns) for name, protocol in PROTOCOLS.items()}
    flat = {f"{name}/{key}": figure for name, figures in every.items() for key, figure in figures.items()}
    ratios = [ratio for figure in flat.values() for ratio in figure.ratios]
    above, below = (np.stack([np.bincount(groups, ratio[i]) for ratio in ratios], axis=1) for i in (0, 1))
    return _Sums(flat, above, below)


def _values(side: _Sums, times: np.ndarray) -> np.ndarray:
    """float64 (S, figures), with each group counted ``times``, float64 (S, groups)."""
    return figure_values(side.figures, times @ side.above, times @ side.below)


def tally(pairs: Pairs) -> dict[str, Tally]:
    """Wins, losses and ties by the IoU of the full mask (``full``) and, for occluded objects, of the occluded region.

    IoUs are compared as exact fractions of integers.
    """
    found = {}
    for name, kind in KINDS.items():
        signs = [
            _sign(one, other, kind)
            for one, other in zip(pairs.a, pairs.b, strict=True)
            if kind == "out" or one["occluded_area"]
        ]
        found[name] = Tally(signs.count(-1), signs.count(1), signs.count(0))
    return found


def largest_changes(pairs: Pairs, count: int) -> tuple[list[tuple[Row, Row]], list[tuple[Row, Row]]]:
    """Objects on which B gains most and loses most, largest change first.

    By the IoU of the occluded region among occluded objects; if there are none, by the IoU of the full mask. Equal
    changes are ordered by key. Objects without a change are in neither list.
    """
    kind = "occ" if any(row["occluded_area"] for row in pairs.a) else "out"
    changes = [
        (_iou(other, kind) - _iou(one, kind), row_key(one), one, other)
        for one, other in zip(pairs.a, pairs.b, strict=True)
        if kind == "out" or one["occluded_area"]
    ]
    gains = sorted((c for c in changes if c[0] > 0), key=lambda c: (-c[0], c[1]))[:count]
    losses = sorted((c for c in changes if c[0] < 0), key=lambda c: (c[0], c[1]))[:count]
    return [(one, other) for *_, one, other in gains], [(one, other) for *_, one, other in losses]


def _iou(row: Row, kind: str) -> float:
    union = row[f"{kind}_union"]
    return row[f"{kind}_inter"] / union if union else 1.0


def _sign(one: Row, other: Row, kind: str) -> int:
    (inter, union), (inter_b, union_b) = (
        (row[f"{kind}_inter"], row[f"{kind}_union"]) if row[f"{kind}_union"] else (1, 1) for row in (one, other)
    )
    change = inter_b * union - inter * union_b
    return (change > 0) - (change < 0)
