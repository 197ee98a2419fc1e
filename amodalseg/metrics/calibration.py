"""Do probabilities mean what they say: of the pixels that are called hidden parts with 70 %, are 70 in a hundred?

Asked of the pixels that are not visible (outside the annotated modal mask and the given one) and to which the model
gives at least ``LEAST``: the rest of a photo, surely none of the object, would make any model look well calibrated. The
expected calibration error (Guo et al., ICML 2017, equation 3) is the mean over pixels of the distance between the share
of true pixels and the mean probability in each of ``BINS`` equal parts of [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from amodalseg.predictions import Prediction

BINS = 10
LEAST = 0.01
UNIT = 1_000_000
"""Of the sums of probabilities, which are kept as whole numbers."""


class Calibration(NamedTuple):
    """pixels, true: int64 (``BINS``,), how many, and how many of them belong to the hidden part. mean: float64
    (``BINS``,), their mean probability; NaN without pixels. missed: pixels of hidden parts below ``LEAST``.
    """

    pixels: np.ndarray
    true: np.ndarray
    mean: np.ndarray
    missed: int

    @property
    def share(self) -> np.ndarray:
        """float64 (``BINS``,): of true pixels; NaN without pixels."""
        share: np.ndarray = np.divide(self.true, self.pixels, out=np.full(BINS, np.nan), where=self.pixels > 0)
        return share

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]."""
        there = self.pixels > 0
        distance = np.abs(self.share - self.mean)[there]
        return float(np.average(distance, weights=self.pixels[there]))


def count_calibration(prediction: Prediction, modal: np.ndarray, hidden: np.ndarray) -> str:
    """What ``calibration`` needs of one object: whole numbers with blanks between them.

    Args:
        prediction: of the object.
        modal, hidden: bool (H, W), the annotated visible and hidden part.

    Returns:
        Pixels, true pixels and sums of probabilities in millionths, each of ``BINS`` bins, and missed pixels; empty for
        a model that predicts no probability.
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
    """All objects' pixels in one pot. Args: counted, of ``count_calibration``. None: there are no such pixels."""
    found = [np.array(text.split(), np.int64) for text in counted if text]
    if not found:
        return None
    total = np.sum(found, axis=0)
    pixels, true, sums = total[:-1].reshape(3, BINS)
    if not pixels.any():
        return None
    mean = np.divide(sums / UNIT, pixels, out=np.full(BINS, np.nan), where=pixels > 0)
    return Calibration(pixels, true, mean, int(total[-1]))
