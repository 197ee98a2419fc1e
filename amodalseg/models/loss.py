"""The training loss (equation 10 of CondDiff-AMO): weighted binary cross entropy + weighted IoU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from amodalseg.config.schema import LossConfig

WINDOW = 31
"""Side in pixels of the averaging window that detects boundaries."""


def boundary_weight(target_B1HW: Tensor) -> Tensor:
    """w = 1 + 5 |mean of g in a 31x31 window - g|: 1 in flat regions, up to 6 for a pixel unlike all its neighbours.

    Pixels outside the picture count as background, so foreground at the border weighs more (4.67 in a corner).

    Args:
        target_B1HW: float g in {0, 1}.

    Returns:
        float (B, 1, H, W) in [1, 6].
    """
    # the sum over a square is the sum over columns of the sums over rows, each a product with a band of ones
    height, width = (band(side, target_B1HW) for side in target_B1HW.shape[2:])
    mean = height @ (target_B1HW @ width) / WINDOW**2
    return 1 + 5 * (mean - target_B1HW).abs()


def band(side: int, like: Tensor) -> Tensor:
    """(side, side): 1 where two positions are at most half a window apart, else 0; type and device as ``like``."""
    place = torch.arange(side, device=like.device)
    return ((place[:, None] - place).abs() <= WINDOW // 2).to(like.dtype)


def amodal_loss(
    logits_B1HW: Tensor,
    target_B1HW: Tensor,
    config: LossConfig,
    modal_B1HW: Tensor | None = None,
    unknown_B1HW: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L = bce * L_bce + iou * L_iou (equation 10) + hidden * L_hidden, per object, then the mean over the batch.

    L_bce = sum w BCE(z, g) / sum w; L_iou = 1 - (sum w p g + 1) / (sum w (p + g) - sum w p g + 1), p = sigmoid(z).
    L_hidden is L_iou with w = 1 outside the modal mask and 0 inside: the visible region is given and easy, and its area
    dominates the occluded region's. With ``bce_weighted=False`` L_bce is the plain mean over all pixels of the batch:
    CamoDiffusion's code asks for the weighted one, but passes an argument that PyTorch reads as "mean".

    Args:
        logits_B1HW: any float type; everything is computed in float32, even under autocast.
        target_B1HW: the amodal mask in {0, 1}, any type.
        config: weights of the terms.
        modal_B1HW: the modal mask in {0, 1}; only L_hidden needs it.
        unknown_B1HW: 1 where the ground truth is unknown: these pixels have weight 0.

    Returns:
        (float32 scalar, the terms without their weights, detached, by name).
    """
    assert logits_B1HW.shape == target_B1HW.shape, f"{tuple(logits_B1HW.shape)} and {tuple(target_B1HW.shape)}"
    with torch.autocast(logits_B1HW.device.type, enabled=False):
        logits, target = logits_B1HW.float(), target_B1HW.float()
        known = torch.ones_like(target) if unknown_B1HW is None else 1 - unknown_B1HW.float()
        weight = boundary_weight(target) * known
        pixels = binary_cross_entropy_with_logits(logits, target, reduction="none")
        if config.bce_weighted:
            bce = ((weight * pixels).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1)).mean()
        else:
            bce = (known * pixels).sum() / known.sum().clamp_min(1)
        probability = torch.sigmoid(logits)
        iou = soft_iou_loss(probability, target, weight)
        loss, parts = config.bce * bce + config.iou * iou, {"bce": bce.detach(), "iou": iou.detach()}
        if config.hidden:
            assert modal_B1HW is not None, "the hidden part is what lies outside the modal mask, which was not given"
            hidden = soft_iou_loss(probability, target, known * (1 - modal_B1HW.float()))
            loss, parts["hidden"] = loss + config.hidden * hidden, hidden.detach()
        return loss, parts


def soft_iou_loss(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - (sum w p g + 1) / (sum w (p + g) - sum w p g + 1), each (B, 1, H, W), averaged over the batch."""
    inter = (weight * probability * target).sum((1, 2, 3))
    union = (weight * (probability + target)).sum((1, 2, 3)) - inter
    return (1 - (inter + 1) / (union + 1)).mean()
