"""Visualisation of an edit: the picture before and after, with the boxes and texts of its regions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from amodalseg.report.grid import grid
from amodalseg.types import Region

SIDE = 512  # pixels of the longer side of each picture
LARGEST = 8  # from this enlargement on, single pixels are shown sharp
COLOURS = {
    "added": (20, 150, 60), "removed": (200, 40, 40), "changed": (30, 90, 210), "kept": (90, 90, 90),
    "background": (90, 90, 90),
}  # fmt: skip
"""Colours of boxes and words by the kind of the region, RGB."""


def regions_picture(source: np.ndarray, target: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Both pictures, each with its regions.

    Args:
        source, target: uint8 (H, W, 3).
        regions: with their texts, and boxes if they have any.

    Returns:
        uint8 (H', W', 3).
    """
    cells = []
    for picture, texts in (
        (source, [region.source for region in regions]),
        (target, [region.target for region in regions]),
    ):
        large = _enlarged(picture)
        lines = []
        for region, text in zip(regions, texts, strict=True):
            if text is None:
                continue
            if region.box is None:
                lines.append((text, region.kind))
            else:
                _framed(large, region, text)
        cells.append(np.concatenate([large, *(_line(text, kind, large.shape[1]) for text, kind in lines)]))
    return grid([cells], ["before", "after"])


def _enlarged(picture: np.ndarray) -> np.ndarray:
    scale = SIDE / max(picture.shape[:2])
    size = max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[0]))
    # small pictures keep sharp pixels; larger ones are averaged or interpolated
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= LARGEST else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=how)


def _framed(picture: np.ndarray, region: Region, text: str) -> None:
    assert region.box is not None
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = region.box
    left, top = round(x0 * (width - 1)), round(y0 * (height - 1))
    cv2.rectangle(picture, (left, top), (round(x1 * (width - 1)), round(y1 * (height - 1))), COLOURS[region.kind], 2)
    _write(picture, _shown(text, region.kind), left + 4, top + 4, COLOURS[region.kind])


def _line(text: str, kind: str, width: int) -> np.ndarray:
    """A line below the picture, for a region without a box."""
    strip = np.full((26, width, 3), 255, np.uint8)
    _write(strip, _shown(text, kind), 4, 4, COLOURS[kind])
    return strip


def _shown(text: str, kind: str) -> str:
    return text if kind in ("kept", "background") else f"{kind}: {text}"


def _write(picture: np.ndarray, text: str, left: int, top: int, colour: tuple[int, int, int]) -> None:
    """Write text on white with its upper left corner at a position; letters that the font lacks become "?"."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (wide, tall), below = cv2.getTextSize(text, font, scale, 1)
    left = max(0, min(left, picture.shape[1] - wide - 4))
    cv2.rectangle(picture, (left, top), (left + wide + 2, top + tall + below), (255, 255, 255), -1)
    cv2.putText(picture, text, (left + 1, top + tall + 1), font, scale, colour, 1, cv2.LINE_AA)
