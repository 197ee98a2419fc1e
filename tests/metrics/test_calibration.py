"""Calibration against a slow count, and known values."""

import numpy as np
import pytest

from amodalseg.metrics.calibration import calibration, count_calibration
from amodalseg.predictions import Prediction


def drawn(seed):
    """An object whose given mask differs from the annotated one: prediction, modal, hidden."""
    rng = np.random.default_rng(seed)
    modal, given = rng.random((2, 14, 17)) < 0.3
    values = np.where(rng.random((14, 17)) < 0.4, 0, rng.random((14, 17)) ** 2).astype(np.float32)
    values[0, :4] = 1, 0.02, 0.1, 0.999999
    return Prediction(given, values[None]), modal, (rng.random((14, 17)) < values) & ~modal


def slowly(objects):
    """ECE and missed pixels, pixel by pixel."""
    bins, missed = [[] for _ in range(10)], 0
    for prediction, modal, hidden in objects:
        for y, x in np.ndindex(modal.shape):
            if modal[y, x] or prediction.modal[y, x]:
                continue
            p = float(prediction.probability[y, x])
            if p < 0.01:
                missed += hidden[y, x]
                continue
            place = next(k for k in range(9, -1, -1) if p * 10 >= k)
            bins[place].append((p, bool(hidden[y, x])))
    total = sum(map(len, bins))
    error = 0.0
    for inside in filter(None, bins):
        confidence, accuracy = (sum(values) / len(inside) for values in zip(*inside, strict=True))
        error += len(inside) / total * abs(confidence - accuracy)
    return error, missed


def test_calibration_equals_a_slow_count():
    objects = [drawn(seed) for seed in range(3)]
    found = calibration(count_calibration(*one) for one in objects)
    error, missed = slowly(objects)
    assert found.error == pytest.approx(error, abs=2e-6) and found.missed == missed
    assert found.error > 0.01 and missed == 0 and found.true.sum() > 50


def test_known_values():
    there, values = np.zeros((10, 20), bool), np.full((1, 10, 20), 0.75, np.float32)
    modal = there.copy()
    modal[0, 0] = True
    half = there.copy()
    half[:5] = True
    found = calibration([count_calibration(Prediction(modal, values), modal, half & ~modal)])
    assert found.pixels.tolist() == [0] * 7 + [199, 0, 0] and found.error == pytest.approx(0.75 - 99 / 199, abs=1e-6)
    low = calibration([count_calibration(Prediction(modal, values / 100), modal, half & ~modal)] * 2)
    assert low is None, "no pixel is given a chance"
    values[0, 0] = 0.001
    found = calibration([count_calibration(Prediction(modal, values), modal, half & ~modal)] * 2)
    assert found.missed == 2 * 19 and found.pixels[7] == 2 * 180


def test_models_without_probability_have_no_calibration():
    prediction, modal, hidden = drawn(0)
    sure = Prediction(prediction.modal, prediction.maps > 0.5, has_probability=False)
    assert count_calibration(sure, modal, hidden) == "" and calibration(["", ""]) is None
