"""Edits in a report: the photo before, with the boxes of the request; after each model's edit; and the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from amodalseg.metrics.appearance import UNLIKE
from amodalseg.metrics.counts import Row, row_key
from amodalseg.report.grid import wrapped
from amodalseg.report.moves import SIDE, decibels, resized, stays_percent
from amodalseg.report.pictures import COMPLETED, VISIBLE
from amodalseg.types import EditRequest


def edit_strip(
    source: np.ndarray, request: EditRequest, edited: Mapping[str, np.ndarray], truth: np.ndarray
) -> np.ndarray:
    """One row with titles: the photo with the regions' boxes, each model's photo, the ground truth.

    Args:
        source, truth: uint8 (H, W, 3), before and after the edit.
        request: the requested edit.
        edited: model -> uint8 (H, W, 3).

    Returns:
        uint8 (H', W', 3).
    """
    cells = [_boxed(source, request), *(resized(one, SIDE) for one in (*edited.values(), truth))]
    return wrapped([cells], ["before", *edited, "truth"])


def edit_caption(rows: Sequence[Row], request: EditRequest) -> str:
    """One line about one edit. Args: rows, the object's rows, one per model; request, the requested edit."""
    edited = [row for row in rows if row["edited_region_pixels"]]
    scores = ", ".join(
        f"{r['model']} {decibels(r, 'edited_region')} / {_ssim(r, 'kept')} / {_ssim(r, 'rest')} / "
        f"{stays_percent(r, 'edited')}"
        for r in edited
    )
    words = f"“{request.source}” → “{request.target}”"
    return f"{row_key(rows[0])} · {words} · region dB / kept SSIM / rest SSIM / stays: {scores}"


def _boxed(source: np.ndarray, request: EditRequest) -> np.ndarray:
    picture = resized(source, SIDE).copy()
    height, width = picture.shape[:2]
    for region in request.regions:
        if region.box is not None:
            x0, y0, x1, y1 = (round(end * side) for end, side in zip(region.box, (width, height) * 2, strict=True))
            colour = VISIBLE if region.kind == "kept" else COMPLETED
            cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
    return picture


def _ssim(row: Row, area: str) -> str:
    pixels = row[f"edited_{area}_pixels"]
    return f"{1 - row[f'edited_{area}_unlike'] / (UNLIKE * pixels):.3f}" if pixels else "–"
