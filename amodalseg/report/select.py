"""Selection of the objects that a report shows."""

from __future__ import annotations

from collections.abc import Sequence

from amodalseg.metrics.counts import Row, row_key


def best_median_worst(rows: Sequence[Row], count: int) -> dict[str, list[str]]:
    """Select a model's best, median and worst objects.

    Objects with an occluded region are ordered by its IoU; if no object has one, by the IoU of the whole mask
    (``ranked_by`` says which). Ties are ordered by key, so the selection never depends on the order of the rows. With
    few objects the three lists overlap.

    Args:
        rows: of one model.
        count: objects in each list, at least 0; fewer if there are not as many.

    Returns:
        ``{"best": keys, "median": keys, "worst": keys}``, each in descending order, except ``worst``, which starts with
        the lowest value.
    """
    kind = "occ" if ranked_by(rows) == "occluded IoU" else "out"
    candidates = [row for row in rows if kind == "out" or row["occluded_area"] > 0]
    keys = [row_key(row) for row in sorted(candidates, key=lambda row: (-iou(row, kind), row_key(row)))]
    count = min(count, len(keys))
    start = (len(keys) - count) // 2
    return {"best": keys[:count], "median": keys[start : start + count], "worst": keys[::-1][:count]}


def ranked_by(rows: Sequence[Row]) -> str:
    """The score by which ``best_median_worst`` orders these rows, for captions: ``occluded IoU`` or ``full IoU``."""
    return "occluded IoU" if any(row["occluded_area"] > 0 for row in rows) else "full IoU"


def caption(rows: Sequence[Row]) -> str:
    """One line about one object. Args: rows, the object's rows, one per model."""
    row, kind = rows[0], ranked_by(rows)
    rate = f"occlusion rate {100 * row['occluded_area'] / max(1, row['amodal_area']):.0f} %"
    scores = ", ".join(f"{r['model']} {100 * iou(r, 'occ' if kind == 'occluded IoU' else 'out'):.1f}" for r in rows)
    return " · ".join(part for part in (row_key(row), row["category"], rate, f"{kind}: {scores}") if part)


def iou(row: Row, kind: str) -> float:
    """One object's IoU. Args: kind, ``out`` (whole mask) or ``occ`` (occluded region). Two empty masks give 1."""
    union = row[f"{kind}_union"]
    return row[f"{kind}_inter"] / union if union else 1.0
