from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from amodalseg.config.schema import LossConfig
from amodalseg.models.loss import amodal_loss, boundary_weight


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def make_target(batch: int = 2, height: int = 36, width: int = 40) -> torch.Tensor:
    target = torch.zeros(batch, 1, height, width)
    target[0, :, 5:20, 0:17] = 1  # touches the border
    target[1:, :, 10:30, 12:38] = 1
    return target


def slow_loss(
    logits: np.ndarray, target: np.ndarray, modal: np.ndarray | None = None, unknown: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Equation 10 pixel by pixel in float64. Returns: BCE, IoU loss, and IoU loss outside the modal mask."""
    nothing = np.zeros(target.shape)
    modal, unknown = nothing if modal is None else modal, nothing if unknown is None else unknown
    bces, ious, hiddens = [], [], []
    for z, g, m, u in zip(
        logits[:, 0].astype(float), target[:, 0].astype(float), modal[:, 0], unknown[:, 0], strict=True
    ):
        height, width = g.shape
        weights = bce = inter = total = hidden_inter = hidden_total = 0.0
        for i in range(height):
            for j in range(width):
                if u[i, j]:
                    continue
                window = g[max(0, i - 15) : i + 16, max(0, j - 15) : j + 16]
                w = 1 + 5 * abs(window.sum() / 961 - g[i, j])
                p = 1 / (1 + math.exp(-z[i, j]))
                weights += w
                bce -= w * (g[i, j] * math.log(p) + (1 - g[i, j]) * math.log(1 - p))
                inter += w * p * g[i, j]
                total += w * (p + g[i, j])
                if not m[i, j]:
                    hidden_inter += p * g[i, j]
                    hidden_total += p + g[i, j]
        bces.append(bce / weights)
        ious.append(1 - (inter + 1) / (total - inter + 1))
        hiddens.append(1 - (hidden_inter + 1) / (hidden_total - hidden_inter + 1))
    return sum(bces) / len(bces), sum(ious) / len(ious), sum(hiddens) / len(hiddens)


def make_masks(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Random modal and unknown masks in {0, 1} for ``make_target``."""
    generator = torch.Generator().manual_seed(seed)
    modal = make_target() * (torch.rand(2, 1, 36, 40, generator=generator) < 0.6)
    unknown = (torch.rand(2, 1, 36, 40, generator=generator) < 0.3) * (1 - modal)
    return modal, unknown


def test_equals_the_slow_loss() -> None:
    logits, target = 2 * torch.randn(2, 1, 36, 40), make_target()
    loss, parts = amodal_loss(logits, target, LossConfig(bce=0.7, iou=1.3))
    bce, iou, _ = slow_loss(logits.numpy(), target.numpy())
    assert math.isclose(parts["bce"].item(), bce, rel_tol=1e-5)
    assert math.isclose(parts["iou"].item(), iou, rel_tol=1e-5)
    assert math.isclose(loss.item(), 0.7 * bce + 1.3 * iou, rel_tol=1e-5)


@pytest.mark.parametrize("seed", [1, 2])
def test_equals_the_slow_loss_with_hidden_and_unknown_parts(seed: int) -> None:
    logits, target, (modal, unknown) = 2 * torch.randn(2, 1, 36, 40), make_target(), make_masks(seed)
    loss, parts = amodal_loss(logits, target, LossConfig(bce=0.7, iou=1.3, hidden=0.4), modal, unknown)
    expected = slow_loss(*(tensor.numpy() for tensor in (logits, target, modal, unknown)))
    for name, value in zip(("bce", "iou", "hidden"), expected, strict=True):
        assert math.isclose(parts[name].item(), value, rel_tol=1e-5), name
    assert math.isclose(loss.item(), np.dot(expected, (0.7, 1.3, 0.4)), rel_tol=1e-5)


def one_object() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Target, modal mask, and one half of the n = 80 occluded pixels, each float (1, 1, 32, 32)."""
    target, modal, half = torch.zeros(3, 1, 1, 32, 32)
    target[..., 4:24, 6:16] = 1
    modal[..., 4:16, 6:16] = 1
    half[..., 16:20, 6:16] = 1
    return target, modal, half


def hidden_loss(prediction: torch.Tensor, target: torch.Tensor, modal: torch.Tensor, *unknown: torch.Tensor) -> float:
    """L_hidden of a binary prediction with probabilities of 0 and 1."""
    return amodal_loss(40 * (2 * prediction - 1), target, LossConfig(hidden=1.0), modal, *unknown)[1]["hidden"].item()


def test_closed_forms_of_the_hidden_part() -> None:
    target, modal, half = one_object()
    n = 80
    assert hidden_loss(target, target, modal) == pytest.approx(0, abs=1e-6)
    assert hidden_loss(modal + half, target, modal) == pytest.approx(1 - (n / 2 + 1) / (n + 1), rel=1e-5)
    assert hidden_loss(modal, target, modal) == pytest.approx(1 - 1 / (n + 1), rel=1e-5)
    for prediction in (half, modal + half):  # predictions on the visible part do not matter
        assert hidden_loss(prediction, target, modal) == pytest.approx(1 - (n / 2 + 1) / (n + 1), rel=1e-5)
    wide = torch.ones_like(target)
    assert hidden_loss(wide, target, modal) == pytest.approx(1 - (n + 1) / (32 * 32 - modal.sum().item() + 1), rel=1e-5)
    # unoccluded: no growth is correct, and each additional pixel costs
    assert hidden_loss(target, target, target) == pytest.approx(0, abs=1e-6)
    extra = target.clone()
    extra[..., 24:26, 6:16] = 1
    assert hidden_loss(extra, target, target) == pytest.approx(1 - 1 / (20 + 1), rel=1e-5)
    # half of the hidden part is unknown, and the other half found
    assert hidden_loss(modal + half, target, modal, target - modal - half) == pytest.approx(0, abs=1e-6)
    assert hidden_loss(target, target, modal, half) == pytest.approx(0, abs=1e-6)
    assert hidden_loss(modal + half, target, modal, half) == pytest.approx(1 - 1 / (n / 2 + 1), rel=1e-5)


def test_with_a_weight_of_zero_the_hidden_part_does_not_change_the_loss() -> None:
    logits, target, (modal, _) = torch.randn(2, 1, 36, 40), make_target(), make_masks()
    before, parts = amodal_loss(logits, target, LossConfig())
    after, others = amodal_loss(logits, target, LossConfig(hidden=0.0), modal, torch.zeros_like(modal))
    assert torch.equal(before, after) and parts.keys() == others.keys() == {"bce", "iou"}
    # equation 10 itself, without a mask of known pixels
    weight, probability = boundary_weight(target), torch.sigmoid(logits)
    pixels = binary_cross_entropy_with_logits(logits, target, reduction="none")
    bce = ((weight * pixels).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
    inter = (weight * probability * target).sum((1, 2, 3))
    iou = (1 - (inter + 1) / ((weight * (probability + target)).sum((1, 2, 3)) - inter + 1)).mean()
    assert torch.equal(after, bce + iou)
    with pytest.raises(AssertionError, match="not given"):
        amodal_loss(logits, target, LossConfig(hidden=1.0))


@pytest.mark.parametrize("weighted", [True, False])
def test_unknown_pixels_have_no_weight(weighted: bool) -> None:
    config = LossConfig(hidden=1.0, bce_weighted=weighted)
    target, (modal, unknown) = make_target(), make_masks()
    logits = torch.randn(2, 1, 36, 40, requires_grad=True)
    loss, _ = amodal_loss(logits, target, config, modal, unknown)
    loss.backward()
    ignored = unknown.bool()
    assert ignored.any() and (logits.grad[ignored] == 0).all() and (logits.grad[~ignored] != 0).all()
    other = torch.where(ignored, 5 * torch.randn(2, 1, 36, 40), logits.detach())
    assert torch.equal(amodal_loss(other, target, config, modal, unknown)[0], loss.detach())
    assert amodal_loss(other, target, config, modal)[0] != amodal_loss(logits.detach(), target, config, modal)[0]


@pytest.mark.parametrize("weighted", [True, False])
def test_without_known_pixels_loss_and_gradient_are_zero(weighted: bool) -> None:
    target = make_target()
    logits = torch.randn(2, 1, 36, 40, requires_grad=True)
    config = LossConfig(hidden=1.0, bce_weighted=weighted)
    loss, _ = amodal_loss(logits, target, config, torch.zeros_like(target), torch.ones_like(target))
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_weight_of_corner_and_flat_regions() -> None:
    weight = boundary_weight(torch.ones(1, 1, 64, 64))[0, 0]
    assert math.isclose(weight[0, 0].item(), 1 + 5 * (1 - 256 / 961), rel_tol=1e-5)  # 4.67: zero padding counts
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


def test_objects_have_equal_weight_whatever_their_size() -> None:
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
