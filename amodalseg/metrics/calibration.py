"""Calibration of probabilities: of the pixels predicted as occluded with 70 %, are 70 in a hundred occluded?

Measured on pixels that are not visible (outside both the annotated and the given modal mask) and whose probability is
at least ``LEAST``: the rest of a photo, clearly not part of the object, would make any model look well calibrated. The
expected calibration error (Guo et al., ICML 2017, equation 3) is the mean over pixels of the distance between the share
of true pixels and the mean probability in each of ``BINS`` equal bins of [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from amodalseg.predictions import Prediction

BINS = 10
LEAST = 0.01
UNIT = 1_000_000
"""Unit of the sums of probabilities, which are stored as integers."""


class Calibration(NamedTuple):
    """pixels, true: int64 (``BINS``,), number of pixels, and of those in the occluded region. mean: float64
    (``BINS``,), their mean probability; NaN without pixels. missed: pixels of occluded regions below ``LEAST``.
    """

    pixels: np.ndarray
    true: np.ndarray
    mean: np.ndarray
    missed: int

    @property
    def share(self) -> np.ndarray:
        """float64 (``BINS``,): share of true pixels; NaN without pixels."""
        share: np.ndarray = np.divide(self.true, self.pixels, out=np.full(BINS, np.nan), where=self.pixels > 0)
        return share

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]."""
        there = self.pixels > 0
        distance = np.abs(self.share - self.mean)[there]
        return float(np.average(distance, weights=self.pixels[there]))


def count_calibration(prediction: Prediction, modal: np.ndarray, hidden: np.ndarray) -> str:
    """One object's counts for ``calibration``: integers separated by spaces.

    Args:
        prediction: of the object.
        modal, hidden: bool (H, W), the annotated modal mask and occluded region.

    Returns:
        Pixels, true pixels and sums of probabilities in millionths, each for ``BINS`` bins, and missed pixels; empty
        for a model that predicts no probability.
    """
    values = prediction.probability
    if values is None:
        return ""
    there = ~(modal | prediction.modal)
    asked = there & (values >= LEAST)
    p, true = values[asked].astype(np.float64), hidden[asked]
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    pixels, right = np.bincount(place, minlength=BINS), np.bincount(place[true], minlength=BINS)
    sums = np.rint(UNIT * np.bincount(place, p, BINS)).astype(np.int64)
    missed = np.count_nonzero(hidden & there & ~asked)
    return " ".join(map(str, [*pixels.tolist(), *right.tolist(), *sums.tolist(), missed]))


def calibration(counted: Iterable[str]) -> Calibration | None:
    """Calibration over the pooled pixels of all objects. Args: counted, from ``count_calibration``. None: no pixels."""
    found = [np.array(text.split(), np.int64) for text in counted if text]
    if not found:
        return None
    total = np.sum(found, axis=0)
    pixels, true, sums = total[:-1].reshape(3, BINS)
    if not pixels.any():
        return None
    mean = np.divide(sums / UNIT, pixels, out=np.full(BINS, np.nan), where=pixels > 0)
    return Calibration(pixels, true, mean, int(total[-1]))
