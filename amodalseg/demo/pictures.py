"""Pictures of the page: downscaled photos with marks, and colour-coded uncertainty. All are uint8 (H, W, 3) RGB."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from amodalseg.data.images import resize
from amodalseg.demo.marks import Marks
from amodalseg.report.pictures import COMPLETED, VISIBLE, overlay

SHOWN = 1280
"""Longest side of a picture that is shown, pixels."""
BRUSHED = 2048
"""Longest side of the painting canvas, pixels; photos up to this size are painted at full resolution."""


def shrunk(picture: np.ndarray, longest: int = SHOWN) -> np.ndarray:
    """A photo, or a bool mask (H, W), with sides of at most ``longest`` pixels; smaller ones are unchanged."""
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(scale * height)), max(1, round(scale * width))
    if picture.dtype == bool:
        shares = resize(picture.astype(np.uint8) * 255, *size)
        return np.asarray(shares > 127)
    return resize(picture, *size)


def marked_picture(photo: np.ndarray, kept: Sequence[np.ndarray], mask: np.ndarray | None, marks: Marks) -> np.ndarray:
    """A downscaled photo with its marks: stored objects orange, the current one blue with its points and box.

    Args:
        photo: uint8 (H, W, 3).
        kept: bool (H, W) each, other objects that are already marked.
        mask: bool (H, W) of the current object, or None.
        marks: in photo pixels.
    """
    picture = shrunk(photo)
    for other in kept:
        picture = overlay(picture, shrunk(other), COMPLETED, 0.4, outline=1)
    if mask is not None:
        picture = overlay(picture, shrunk(mask), VISIBLE, 0.5, outline=2)
    picture = picture.copy()
    scale = picture.shape[1] / photo.shape[1]
    size = max(3, round(max(picture.shape[:2]) / 110))
    if marks.box is not None:
        x0, y0, x1, y1 = (round(scale * number) for number in marks.box)
        for color, line in (((255, 255, 255), 3), ((0, 0, 0), 1)):
            cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), color, line)
    dots = [*marks.points, *([] if marks.corner is None else [(*marks.corner, 2)])]
    for x, y, label in dots:
        place = round(scale * x), round(scale * y)
        cv2.circle(picture, place, size + 2, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, place, size, (20, 140, 60) if label == 1 else (200, 30, 30), -1, cv2.LINE_AA)
        if label != 1:  # labels must differ in more than colour
            (x0, y0), half = place, size // 2
            cv2.line(picture, (x0 - half, y0), (x0 + half, y0), (255, 255, 255), 2)
        if label == 2:
            cv2.line(picture, (x0, y0 - half), (x0, y0 + half), (255, 255, 255), 2)
    return picture


def uncertainty_picture(photo: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
    """A downscaled photo in grey with the uncertainty over it: yellow where the probability is one half.

    Args:
        photo: uint8 (H, W, 3).
        uncertainty: float32 (H, W) in [0, 1], bits.
    """
    picture = shrunk(photo)
    height, width = picture.shape[:2]
    bits = resize(uncertainty, height, width) if uncertainty.shape != (height, width) else uncertainty
    heat = cv2.applyColorMap(np.rint(255 * bits).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = np.minimum(1, 2 * bits)[..., None]
    return np.rint((1 - share) * (0.4 * grey + 150) + share * heat).clip(0, 255).astype(np.uint8)
