"""Calibrated values, entropy and expected IoU against their definitions."""

from itertools import product

import numpy as np
import pytest

from amodalseg.probabilities import calibrated, entropy, expected_iou, uncalibrated


def test_calibration_is_linear_in_the_logit():
    values = np.linspace(0.001, 0.999, 23, dtype=np.float32).reshape(1, 23)
    found = calibrated(values, 0.4, -0.7)
    assert found.dtype == np.float32 and found.shape == (1, 23)
    logit = np.log(values.astype(float)) - np.log1p(-values.astype(float))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(0.4 * logit - 0.7))), atol=1e-6)
    assert (np.diff(found) > 0).all()


def test_calibration_keeps_0_and_stays_in_the_unit_interval():
    values = np.array([0, 1e-30, 1e-7, 0.5, 1 - 6e-8, 1], np.float32)
    for scale, shift in ((0.4, -0.7), (30, 5), (1, -100)):
        found = calibrated(values, scale, shift)
        assert found[0] == 0 and np.isfinite(found).all() and (found <= 1).all() and (np.diff(found) >= 0).all()
    assert calibrated(values, 1, 0) is values
    assert calibrated(values, 0.4, 0)[-1] == pytest.approx(1 / (1 + 1e-5**0.4), rel=1e-4), "1 is not certain"


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (0.41, -0.744), (2.5, 3)])
def test_a_threshold_is_mapped_back(scale, shift):
    for threshold in (0.01, 0.3, 0.5, 0.97):
        value = uncalibrated(threshold, scale, shift)
        assert calibrated(np.array([value]), scale, shift)[0] == pytest.approx(threshold, rel=1e-6)


def test_entropy_of_known_values():
    found = entropy(np.array([0, 0.25, 0.5, 1], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0, 0.8112781, 1, 0], atol=1e-6)


def test_expected_iou_is_the_ratio_of_expected_areas():
    probability, mask = np.array([0.9, 0.6, 0.3, 0.1]), np.array([True, True, False, True])
    inter = union = 0.0
    for true in product([False, True], repeat=4):  # every possible true mask
        chance = np.prod(np.where(true, probability, 1 - probability))
        inter += chance * np.sum(mask & true)
        union += chance * np.sum(mask | true)
    assert expected_iou(probability, mask) == pytest.approx(inter / union)
    assert expected_iou(probability, np.zeros(4, bool)) == 0
    assert expected_iou(mask.astype(np.float32), mask) == 1
