from __future__ import annotations

import math

import torch

from amodalseg.models.conddiff_amo.time_embedding import TimeMLP, sinusoidal


def test_each_number_equals_the_formula() -> None:
    time = torch.tensor([-18.4, 0.0, 11.6])
    result = sinusoidal(time, 8)
    for row, value in zip(result, time.tolist(), strict=True):
        for k in range(4):
            angle = value * 10000 ** (-k / 4)
            assert math.isclose(row[k].item(), math.cos(angle), abs_tol=1e-5)
            assert math.isclose(row[4 + k].item(), math.sin(angle), abs_tol=1e-5)


def test_angles_are_float32_under_autocast_and_for_half_precision_weights() -> None:
    time = torch.tensor([987.0, 988.0])  # equal in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinusoidal(time, 16), sinusoidal(time, 16).float())
        assert not torch.equal(sinusoidal(time, 16)[0], sinusoidal(time, 16)[1])
        assert TimeMLP(16)(time).dtype == torch.bfloat16
    assert TimeMLP(16).bfloat16()(time).dtype == torch.bfloat16


def test_perceptron_has_four_times_the_width_inside() -> None:
    assert sum(p.numel() for p in TimeMLP(32).parameters()) == 8 * 32**2 + 5 * 32
