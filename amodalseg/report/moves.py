"""Moves in a report: which are shown; the photo before, after each model's move, and the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from amodalseg.metrics.counts import Row, row_key
from amodalseg.metrics.rules import psnr
from amodalseg.report.grid import grid, wrapped
from amodalseg.report.pictures import COMPLETED, TRUTH, VISIBLE

SIDE = 224  # pixels of a photo's longer side
LARGE = 640  # the same for two side by side


def ranked_by_error(rows: Sequence[Row], count: int, area: str) -> dict[str, list[str]]:
    """Select one model's moves or edits by the mean error in an area.

    Args:
        rows: of one model.
        count: objects in each list, or fewer if there are not as many.
        area: prefix of its columns, for instance ``moved_target``.

    Returns:
        ``{"best": keys, "median": keys, "worst": keys}``, the last one starting with the worst; empty lists if nothing
        was moved or edited.
    """
    known = [row for row in rows if row[f"{area}_pixels"]]

    def error(row: Row) -> float:
        return row[f"{area}_squared"] / row[f"{area}_pixels"]

    keys = [row_key(row) for row in sorted(known, key=lambda row: (error(row), row_key(row)))]
    count = min(count, len(keys))
    start = (len(keys) - count) // 2
    return {"best": keys[:count], "median": keys[start : start + count], "worst": keys[::-1][:count]}


def move_strip(
    source: np.ndarray, modal: np.ndarray, there: np.ndarray, moved: Mapping[str, np.ndarray], truth: np.ndarray
) -> np.ndarray:
    """One row with titles: the photo with the object and its target outlined, each model's photo, the ground truth.

    Args:
        source, truth: uint8 (H, W, 3), before and after the move.
        modal, there: bool (H, W): the visible part before, the whole object after it.
        moved: model -> uint8 (H, W, 3).

    Returns:
        uint8 (H', W', 3).
    """
    cells = [_outlined(source, modal, there, SIDE), *(resized(one, SIDE) for one in (*moved.values(), truth))]
    return wrapped([cells], ["before", *moved, "truth"])


def move_pair(source: np.ndarray, modal: np.ndarray, there: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A photo before the move, with object and target outlined, and after. Args: as ``move_strip``, for one model."""
    return grid([[_outlined(source, modal, there, LARGE), resized(moved, LARGE)]], ["before", "after"])


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) or (H, W) so that the longer side is ``side``."""
    scale = side / max(picture.shape[:2])
    size = max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[0]))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _outlined(source: np.ndarray, modal: np.ndarray, there: np.ndarray, side: int) -> np.ndarray:
    picture = resized(source, side).copy()
    for mask, colour in ((there, COMPLETED), (modal, VISIBLE)):
        part = resized(mask.astype(np.uint8) * 255, side) > 127
        lines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, lines, -1, TRUTH, 3, cv2.LINE_AA)
        cv2.drawContours(picture, lines, -1, colour, 1, cv2.LINE_AA)
    return picture


def move_caption(rows: Sequence[Row]) -> str:
    """One line about one move. Args: rows, the object's rows, one per model."""
    row = rows[0]
    rate = f"occlusion rate {100 * row['occluded_area'] / max(1, row['amodal_area']):.0f} %"
    moved = [row for row in rows if row["moved_target_pixels"]]
    scores = ", ".join(
        f"{r['model']} {decibels(r, 'moved_target')} / {decibels(r, 'moved_origin')} / {stays_percent(r, 'moved')}"
        for r in moved
    )
    parts = row_key(row), row["category"], rate, f"target dB / origin dB / stays: {scores}"
    return " · ".join(part for part in parts if part)


def decibels(row: Row, area: str) -> str:
    """PSNR in an area, in dB. area: as in ``ranked_by_error``."""
    pixels = row[f"{area}_pixels"]
    return f"{psnr(row[f'{area}_squared'], pixels):.1f}" if pixels else "–"


def stays_percent(row: Row, kind: str) -> str:
    """The share that remained unchanged. kind: ``moved`` or ``edited``."""
    return f"{100 * row[f'{kind}_stays'] / row[f'{kind}_changes']:.0f} %" if row[f"{kind}_changes"] else "–"
