"""What follows from a map of probabilities: calibrated values, entropy, the expected IoU of a mask."""

from __future__ import annotations

import numpy as np

MOST = 1 - 1e-5
"""Largest value that is calibrated as it is: beyond it, float32 rounds away how close to 1 a value is."""


def calibrated(values: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """Probabilities from a network's values: sigmoid(scale * logit(value) + shift) (Platt 1999; Guo et al. 2017).

    Args:
        values: float (...) in [0, 1].
        scale, shift: of the logits, scale above 0; 1 and 0 change nothing.

    Returns:
        An array of the same shape and type. 0 stays 0, so that what lies outside a window keeps probability 0; the
        order of the values is preserved, except of those above ``MOST``.
    """
    if (scale, shift) == (1, 0):
        return values
    found: np.ndarray = np.zeros_like(values)
    some = values > 0  # a small part of a large photo
    p = np.minimum(values[some], MOST, dtype=np.float64)
    with np.errstate(over="ignore"):  # infinity gives 0
        found[some] = 1 / (1 + np.exp(-shift) * ((1 - p) / p) ** scale)
    return found


def uncalibrated(probability: float, scale: float, shift: float) -> float:
    """The value that ``calibrated`` maps to a probability in (0, 1)."""
    if (scale, shift) == (1, 0):
        return probability
    return float(1 / (1 + (np.exp(shift) * (1 - probability) / probability) ** (1 / scale)))


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy in bits. Args: float (...) in [0, 1]. Returns: the same shape and type, in [0, 1]; 0 where certain."""
    found: np.ndarray = np.zeros_like(probability)
    unsure = (probability > 0) & (probability < 1)
    p = probability[unsure].clip(1e-7, 1 - 1e-7)
    found[unsure] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return found


def expected_iou(probability: np.ndarray, mask: np.ndarray) -> float:
    """Expected intersection of a mask with the true one, divided by their expected union.

    Args:
        probability: float (h, w) in [0, 1], of each pixel to belong to the true mask.
        mask: bool (h, w), the predicted one.

    Returns:
        In [0, 1]; 0 for an empty mask.
    """
    inside = float(probability[mask].sum(dtype=np.float64))
    outside = float(probability.sum(dtype=np.float64)) - inside
    return inside / (np.count_nonzero(mask) + max(0.0, outside)) if mask.any() else 0.0
