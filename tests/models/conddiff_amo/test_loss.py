from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from amodalseg.config.schema import LossConfig
from amodalseg.models.conddiff_amo.loss import amodal_loss, boundary_weight


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def make_target(batch: int = 2, height: int = 36, width: int = 40) -> torch.Tensor:
    target = torch.zeros(batch, 1, height, width)
    target[0, :, 5:20, 0:17] = 1  # touches the border
    target[1:, :, 10:30, 12:38] = 1
    return target


def slow_loss(logits: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Pixel by pixel, in float64: (bce, iou) of equation 10."""
    bces, ious = [], []
    for z, g in zip(logits[:, 0].astype(float), target[:, 0].astype(float), strict=True):
        height, width = g.shape
        weights = bce = inter = total = 0.0
        for i in range(height):
            for j in range(width):
                window = g[max(0, i - 15) : i + 16, max(0, j - 15) : j + 16]
                w = 1 + 5 * abs(window.sum() / 961 - g[i, j])
                p = 1 / (1 + math.exp(-z[i, j]))
                weights += w
                bce -= w * (g[i, j] * math.log(p) + (1 - g[i, j]) * math.log(1 - p))
                inter += w * p * g[i, j]
                total += w * (p + g[i, j])
        bces.append(bce / weights)
        ious.append(1 - (inter + 1) / (total - inter + 1))
    return sum(bces) / len(bces), sum(ious) / len(ious)


def test_equals_the_slow_loss() -> None:
    logits, target = 2 * torch.randn(2, 1, 36, 40), make_target()
    loss, parts = amodal_loss(logits, target, LossConfig(bce=0.7, iou=1.3))
    bce, iou = slow_loss(logits.numpy(), target.numpy())
    assert math.isclose(parts["bce"].item(), bce, rel_tol=1e-5)
    assert math.isclose(parts["iou"].item(), iou, rel_tol=1e-5)
    assert math.isclose(loss.item(), 0.7 * bce + 1.3 * iou, rel_tol=1e-5)


def test_weight_of_corner_and_flat_regions() -> None:
    weight = boundary_weight(torch.ones(1, 1, 64, 64))[0, 0]
    assert math.isclose(weight[0, 0].item(), 1 + 5 * (1 - 256 / 961), rel_tol=1e-5)  # 4.67: zeros outside count
    assert math.isclose(weight[32, 32].item(), 1, abs_tol=1e-5)
    assert boundary_weight(torch.zeros(1, 1, 64, 64)).unique().tolist() == [1.0]


def test_perfect_is_near_zero_and_wrong_is_worse() -> None:
    target = make_target()
    good, _ = amodal_loss(40 * (2 * target - 1), target, LossConfig())
    wrong, parts = amodal_loss(-40 * (2 * target - 1), target, LossConfig())
    assert 0 <= good < 1e-5 and wrong > 30 and parts["iou"] > 0.99


def test_unweighted_bce_is_the_plain_mean_over_the_batch() -> None:
    logits, target = torch.randn(2, 1, 36, 40), make_target()
    _, parts = amodal_loss(logits, target, LossConfig(bce_weighted=False))
    torch.testing.assert_close(parts["bce"], binary_cross_entropy_with_logits(logits, target))
    _, weighted = amodal_loss(logits, target, LossConfig())
    assert parts["bce"] != weighted["bce"] and parts["iou"] == weighted["iou"]


def test_objects_count_the_same_whatever_their_size() -> None:
    logits, target = torch.randn(2, 1, 36, 40), make_target()
    alone = [amodal_loss(logits[i : i + 1], target[i : i + 1], LossConfig())[0] for i in range(2)]
    torch.testing.assert_close(amodal_loss(logits, target, LossConfig())[0], sum(alone) / 2)


def test_computes_in_float32_under_autocast() -> None:
    logits, target = torch.randn(2, 1, 36, 40).bfloat16(), make_target().bool()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = amodal_loss(logits, target, LossConfig())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, amodal_loss(logits.float(), target.float(), LossConfig())[0])


@pytest.mark.parametrize("target", [torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)])
@pytest.mark.parametrize("value", [-1e4, 0.0, 1e4])
def test_extreme_logits_and_targets_stay_finite(value: float, target: torch.Tensor) -> None:
    logits = torch.full((1, 1, 32, 32), value, requires_grad=True)
    loss, parts = amodal_loss(logits, target, LossConfig())
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert not parts["bce"].requires_grad and not parts["iou"].requires_grad
