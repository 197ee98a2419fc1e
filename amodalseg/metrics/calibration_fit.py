"""Fitting a calibration: scale and shift of logits that maximise the likelihood of true masks (Platt 1999).

Pixels are counted by their logit, in cells of ``CELL``, so memory does not depend on their number. They are those of
``metrics/calibration.py``: not visible; here with any value above 0, because a calibration also changes small ones.
"""

from __future__ import annotations

import numpy as np

from amodalseg.errors import UserError
from amodalseg.metrics.calibration import BINS, LEAST
from amodalseg.predictions import Prediction
from amodalseg.probabilities import MOST, calibrated

CELL = 0.02
LOWEST = -16.0
"""Logit of the first cell; smaller values, below 1.1e-7, are counted there."""
CELLS = 1500
CENTRES = LOWEST + CELL * (np.arange(CELLS) + 0.5)
"""Logits, float64 (``CELLS``,); the last one is above that of ``MOST``."""
ROUNDS = 100


def count_logits(prediction: Prediction, modal: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Count an object's pixels by the logit of their value before calibration.

    Args:
        prediction: of the object, by a model with probabilities.
        modal, hidden: bool (H, W), the annotated modal mask and occluded region.

    Returns:
        int64 (2, ``CELLS``): pixels outside the occluded region, and inside it.
    """
    values = prediction.in_photo(prediction.mean)
    asked = (values > 0) & ~(modal | prediction.modal)
    p = np.minimum(values[asked], MOST, dtype=np.float64)
    place = np.clip(((np.log(p / (1 - p)) - LOWEST) / CELL).astype(int), 0, CELLS - 1)
    return np.stack([np.bincount(place[hidden[asked] == true], minlength=CELLS) for true in (False, True)])


def fit_calibration(counts: np.ndarray) -> tuple[float, float]:
    """Scale and shift of maximum likelihood, by Newton's method with halved steps.

    Args:
        counts: (2, ``CELLS``), from ``count_logits``, of one object or summed.

    Raises:
        UserError: the pixels determine no scale above 0.
    """
    wrong, right = counts.astype(float)
    if not wrong.any() or not right.any():
        raise UserError("a calibration needs pixels inside and outside of occluded regions: give other data")
    if right.nonzero()[0].min() >= wrong.nonzero()[0].max():
        raise UserError(
            "one threshold separates all pixels, so their probabilities cannot be calibrated: give more data"
        )
    both, terms = wrong + right, np.stack([CENTRES, np.ones(CELLS)])
    found, cost = np.zeros(2), _cost(np.zeros(2), wrong, right)
    for _ in range(ROUNDS):
        p = (1 + np.tanh(found @ terms / 2)) / 2  # the sigmoid, without overflow
        slope, curvature = terms @ (both * p - right), (terms * (both * p * (1 - p))) @ terms.T
        step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
        while not _cost(found - step, wrong, right) <= cost and np.abs(step).max() > 1e-9:
            step = step / 2
        if np.abs(step).max() <= 1e-9:
            break
        found, cost = found - step, _cost(found - step, wrong, right)
    scale, shift = found.tolist()
    if scale < 0.001:
        raise UserError(
            "high probabilities are wrong more often than low ones: they cannot be calibrated on these data"
        )
    return scale, shift


def _cost(found: np.ndarray, wrong: np.ndarray, right: np.ndarray) -> float:
    """Negative log-likelihood."""
    logit = found[0] * CENTRES + found[1]
    return float(wrong @ np.logaddexp(0, logit) + right @ np.logaddexp(0, -logit))


def expected_error(counts: np.ndarray, scale: float, shift: float) -> float:
    """The expected calibration error with a calibration, in [0, 1]; 0 without pixels of ``LEAST`` or more.

    It equals ``Calibration.error`` up to the width of the cells.
    """
    p = calibrated(1 / (1 + np.exp(-CENTRES)), scale, shift)
    asked = p >= LEAST
    place = np.minimum((p[asked] * BINS).astype(int), BINS - 1)
    wrong, right = counts[:, asked]
    gap = np.bincount(place, right - (wrong + right) * p[asked], BINS)
    return float(np.abs(gap).sum() / max(1, (wrong + right).sum()))
