"""The fit against an independent optimiser on single pixels, and its error against the one of an evaluation."""

import numpy as np
import pytest
from scipy.optimize import minimize

from amodalseg import UserError
from amodalseg.metrics.calibration import calibration, count_calibration
from amodalseg.metrics.calibration_fit import CENTRES, count_logits, expected_error, fit_calibration
from amodalseg.predictions import Prediction

NOWHERE = np.zeros((60, 70), bool)


def drawn(seed, scale=0.5, shift=-1.0):
    """An object with overconfident values: prediction, modal, hidden; logits and truth of the pixels not visible."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 4, (60, 70))
    modal = rng.random((60, 70)) < 0.1
    hidden = (rng.random((60, 70)) < 1 / (1 + np.exp(-(scale * logit + shift)))) & ~modal
    values = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return Prediction(modal, values[None]), modal, hidden, logit[~modal], hidden[~modal]


def test_the_fit_is_that_of_an_independent_optimiser():
    objects = [drawn(seed) for seed in range(3)]
    found = fit_calibration(sum(count_logits(*one[:3]) for one in objects))
    logit, true = (np.concatenate([one[k] for one in objects]) for k in (3, 4))

    def cost(both):
        return np.logaddexp(0, -np.where(true, 1, -1) * (both[0] * logit + both[1])).sum()

    wanted = minimize(cost, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-6}).x
    np.testing.assert_allclose(found, wanted, atol=3e-3)  # pixels are counted in cells of 0.02
    assert abs(found[0] - 0.5) < 0.05 and abs(found[1] + 1) < 0.1


def test_the_fit_recovers_exact_shares():
    share = 1 / (1 + np.exp(-(0.4 * CENTRES - 0.7)))
    counts = np.rint(1e6 * np.exp(-((CENTRES / 6) ** 2)) * np.stack([1 - share, share])).astype(np.int64)
    np.testing.assert_allclose(fit_calibration(counts), (0.4, -0.7), atol=1e-4)
    one_sided = counts * (CENTRES > 9)  # saturated values only, where Newton's method from (1, 0) diverges
    np.testing.assert_allclose(fit_calibration(one_sided), (0.4, -0.7), atol=2e-2)


def test_visible_pixels_and_zeros_are_not_counted():
    prediction, modal, hidden, *_ = drawn(5)
    prediction.maps[0, :30] = 0
    counts = count_logits(prediction, modal, hidden)
    asked = ~modal & (prediction.maps[0] > 0)
    assert counts.sum() == asked.sum() and counts[1].sum() == (hidden & asked).sum()
    prediction.maps[0, 30:] = 1
    assert count_logits(prediction, modal, hidden).any(axis=0).nonzero()[0] == [1375], "logit(1 - 1e-5) is 11.51"


def test_the_error_is_that_of_an_evaluation():
    prediction, modal, hidden, *_ = drawn(7)
    counts = count_logits(prediction, modal, hidden)
    for both in ((1.0, 0.0), (0.5, -1.0)):
        prediction = Prediction(modal, prediction.maps, calibration=both)
        wanted = calibration([count_calibration(prediction, modal, hidden)]).error
        assert expected_error(counts, *both) == pytest.approx(wanted, abs=3e-3)
    assert expected_error(counts, 0.5, -1.0) < 0.03 < 0.15 < expected_error(counts, 1, 0)


def test_data_that_determine_no_calibration_are_refused():
    prediction, modal, hidden, *_ = drawn(9)
    with pytest.raises(UserError, match="pixels inside and outside of occluded regions"):
        fit_calibration(count_logits(prediction, modal, NOWHERE))
    sure = Prediction(NOWHERE, hidden[None].astype(np.float32) * 0.5 + 0.25)
    with pytest.raises(UserError, match="one threshold separates all pixels"):
        fit_calibration(count_logits(sure, NOWHERE, hidden))
    with pytest.raises(UserError, match="wrong more often than low ones"):
        fit_calibration(count_logits(prediction, modal, ~hidden & ~modal))  # the reverse of the truth
