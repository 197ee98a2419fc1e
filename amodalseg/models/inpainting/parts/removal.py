"""Removal of objects from a picture, by filling in a plausible background."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np

from amodalseg.errors import UserError

KINDS = ("telea", "lama")
RADIUS = 3  # pixels around each filled one that Telea's method looks at


def remove(picture: np.ndarray, mask: np.ndarray, how: str = "telea") -> np.ndarray:
    """Fill a region of a picture from its surroundings.

    Args:
        picture: uint8 (H, W, 3) RGB.
        mask: bool (H, W), the region to remove.
        how: ``telea`` (OpenCV's fast marching) or ``lama`` (the package ``simple-lama-inpainting``).

    Returns:
        uint8 (H, W, 3), a new array; unchanged outside the mask. Uniform grey if the mask covers everything, because
        there are no surroundings.

    Raises:
        UserError: ``lama`` is requested but not installed.
    """
    assert how in KINDS, how
    if not mask.any():
        return picture.copy()
    if mask.all():
        return np.full_like(picture, 128)
    if how == "telea":
        return cv2.inpaint(np.ascontiguousarray(picture), mask.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
    return np.where(mask[..., None], _lama(picture, mask), picture)


def import_lama() -> Any:
    """The class of LaMa. Raises UserError, with what to install, if its package is missing."""
    try:
        from simple_lama_inpainting import SimpleLama
    except ImportError as error:
        raise UserError(
            f"LaMa needs a package ({error}): pip install simple-lama-inpainting, or take telea in place of lama"
        ) from error
    return SimpleLama


@cache
def _opened(kind: Any) -> Any:
    """The network, whose weights are read once."""
    return kind()


def _lama(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    filled = np.asarray(_opened(import_lama())(picture, mask.astype(np.uint8) * 255))
    return filled[: len(picture), : picture.shape[1]]  # it pads to multiples of eight
