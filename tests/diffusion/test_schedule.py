"""Closed forms of the Gaussian schedule and its posterior."""

import math

import numpy as np
import pytest
import torch

from amodalseg.diffusion.schedule import alpha_sigma, log_snr, posterior_table, step_times

SHIFT = -3.41


def test_published_alpha_bar_values():
    t = torch.arange(11, dtype=torch.float64) / 10
    alpha_bar = torch.sigmoid(log_snr(t, SHIFT)).numpy()
    expected = [1, 0.567, 0.238, 0.113, 0.059, 0.032, 0.017, 0.0085, 0.0035, 0.0008, 1e-8]
    np.testing.assert_allclose(alpha_bar, expected, rtol=0.04, atol=2e-5)


def test_unshifted_schedule_is_the_cosine_between_15_and_minus_15():
    lam = log_snr(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), 0.0)
    np.testing.assert_allclose(lam.numpy(), [15, 0, -15], atol=1e-9)
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    # away from its truncated ends the schedule is alpha = cos(pi t / 2)
    alpha, _ = alpha_sigma(log_snr(t, 0.0))
    np.testing.assert_allclose(alpha.numpy(), np.cos(math.pi / 2 * t.numpy()), atol=2e-3)


def test_variance_is_preserved():
    lam = torch.linspace(-40, 40, 201, dtype=torch.float64)
    alpha, sigma = alpha_sigma(lam)
    np.testing.assert_allclose((alpha**2 + sigma**2).numpy(), 1, atol=1e-15)


@pytest.mark.parametrize("shift", [SHIFT, -2.77, 0.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_oracle_posterior_keeps_the_marginals(steps, shift):
    """With the true x_0, x_s sampled from x_t must again be alpha_s x_0 + sigma_s eps: mean and variance identities."""
    alpha, sigma = alpha_sigma(log_snr(step_times(steps), shift))
    table = posterior_table(steps, shift)
    for i in range(steps - 1):
        k_x, k_0, v = table[i].tolist()
        assert abs(k_x * alpha[i] + k_0 - alpha[i + 1]) < 1e-14
        assert abs(k_x**2 * sigma[i] ** 2 + v**2 - sigma[i + 1] ** 2) < 1e-14
    assert table[-1, 2] == 0


def test_posterior_equals_equation_3_in_its_beta_form():
    steps = 10
    alpha_bar = torch.sigmoid(log_snr(step_times(steps), SHIFT)).double()
    table = posterior_table(steps, SHIFT)
    for i in range(steps - 1):
        bar_t, bar_s = alpha_bar[i], alpha_bar[i + 1]
        alpha_t = bar_t / bar_s  # one step's own alpha; beta_t = 1 - alpha_t
        beta_t = 1 - alpha_t
        expected = [
            alpha_t.sqrt() * (1 - bar_s) / (1 - bar_t),
            bar_s.sqrt() * beta_t / (1 - bar_t),
            ((1 - bar_s) / (1 - bar_t) * beta_t).sqrt(),
        ]
        np.testing.assert_allclose(table[i].numpy(), [float(value) for value in expected], rtol=1e-9)


def test_step_times_go_from_1_to_a_tenth_in_ten_evaluations():
    np.testing.assert_allclose(step_times(10).numpy(), [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0], atol=1e-15)
