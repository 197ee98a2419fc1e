"""Appearance of a completion in the occluded region: integers from which PSNR, mean error and SSIM are derived.

Only pixels of the occluded region count (in the amodal mask, not in the annotated modal one). A model's picture shows
the photo outside its own mask, so an occluded pixel that the mask misses has the occluder's colour.
"""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.masks import box_xyxy

UNLIKE = 1000
"""Unit of ``hidden_unlike``: thousandths."""
HIDDEN_COLUMNS = ("hidden_pixels", "hidden_squared", "hidden_absolute", "hidden_unlike")
SIGMA, RADIUS = 1.5, 5
"""Standard deviation and half width of SSIM's window, pixels (Wang et al. 2004)."""


def compare_hidden(picture: np.ndarray | None, whole: np.ndarray | None, hidden: np.ndarray) -> dict[str, int]:
    """Compare colours in the occluded region.

    Args:
        picture: uint8 (H, W, 3), the photo with the completion pasted in, or None.
        whole: uint8 (H, W, 3), the true picture of the whole object, or None.
        hidden: bool (H, W), the occluded region.

    Returns:
        ``hidden_pixels`` (compared; 0 if a picture is missing), ``hidden_squared`` and ``hidden_absolute`` (errors
        summed over pixels and channels) and ``hidden_unlike`` (the sum of 1 - SSIM, in thousandths).
    """
    if picture is None or whole is None:
        return dict.fromkeys(HIDDEN_COLUMNS, 0)
    return {f"hidden_{name}": count for name, count in compare_colours(picture, whole, hidden).items()}


def compare_colours(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> dict[str, int]:
    """Compare two pictures in an area; outside it, both are assumed to show the ground truth.

    Args:
        picture, truth: uint8 (H, W, 3).
        where: bool (H, W).

    Returns:
        ``pixels``, ``squared`` and ``absolute`` (errors summed over pixels and channels), and ``unlike`` (the sum of
        1 - SSIM, in thousandths); all 0 for an empty area.
    """
    for image in (picture, truth):
        assert image.dtype == np.uint8 and image.shape == (*where.shape, 3), (image.dtype, image.shape, where.shape)
    box = box_xyxy(where)
    if box is None:
        return dict.fromkeys(("pixels", "squared", "absolute", "unlike"), 0)
    x0, y0, x1, y1 = box  # with a margin for whole windows, so that cropping changes nothing
    place = slice(max(0, y0 - RADIUS), y1 + RADIUS), slice(max(0, x0 - RADIUS), x1 + RADIUS)
    inside, right = where[place], truth[place]
    error = np.abs(picture[place][inside].astype(np.int64) - right[inside])
    completed = np.where(inside[..., None], picture[place], right)
    return {
        "pixels": int(inside.sum()),
        "squared": int((error**2).sum()),
        "absolute": int(error.sum()),
        "unlike": round(UNLIKE * float((1 - _ssim(completed, right))[inside].clip(0).sum())),
    }


def _ssim(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """SSIM of grey values around each pixel, float64 (h, w) in [-1, 1]; inputs uint8 (h, w, 3) RGB."""
    a, b = (cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (one, other))

    def blur(values: np.ndarray) -> np.ndarray:
        side = 2 * RADIUS + 1
        return cv2.GaussianBlur(values, (side, side), SIGMA, borderType=cv2.BORDER_REFLECT)

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    similar: np.ndarray = ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return similar
