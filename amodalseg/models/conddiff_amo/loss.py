"""The training loss (equation 10): weighted binary cross entropy + weighted IoU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from amodalseg.config.schema import LossConfig

WINDOW = 31
"""Side in pixels of the average that finds boundaries."""


def boundary_weight(target_B1HW: Tensor) -> Tensor:
    """w = 1 + 5 |mean of g in a 31x31 window - g|: 1 in flat regions, up to 6 for a pixel unlike all its neighbours.

    Outside the picture counts as background, so foreground at the border weighs more (4.67 in a corner).

    Args:
        target_B1HW: float g in {0, 1}.

    Returns:
        float (B, 1, H, W) in [1, 6].
    """
    # the mean over a square is the mean over columns of the means over rows, at 62 additions instead of 961
    rows = avg_pool2d(target_B1HW, (1, WINDOW), stride=1, padding=(0, WINDOW // 2))
    mean = avg_pool2d(rows, (WINDOW, 1), stride=1, padding=(WINDOW // 2, 0))
    return 1 + 5 * (mean - target_B1HW).abs()


def amodal_loss(logits_B1HW: Tensor, target_B1HW: Tensor, config: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """L = bce * L_bce + iou * L_iou (equation 10), per object, then the mean over the batch.

    L_bce = sum w BCE(z, g) / sum w; L_iou = 1 - (sum w p g + 1) / (sum w (p + g) - sum w p g + 1), p = sigmoid(z).
    With ``bce_weighted=False`` L_bce is the plain mean over all pixels of the batch: CamoDiffusion's code asks for the
    weighted one, but passes an argument that PyTorch reads as "mean".

    Args:
        logits_B1HW: any float type; everything is computed in float32, also under autocast.
        target_B1HW: the amodal mask in {0, 1}, any type.
        config: weights of both terms.

    Returns:
        (float32 scalar, {"bce", "iou"}: both terms without their weights, detached).
    """
    assert logits_B1HW.shape == target_B1HW.shape, f"{tuple(logits_B1HW.shape)} and {tuple(target_B1HW.shape)}"
    with torch.autocast(logits_B1HW.device.type, enabled=False):
        logits, target = logits_B1HW.float(), target_B1HW.float()
        weight = boundary_weight(target)
        pixels = binary_cross_entropy_with_logits(logits, target, reduction="none")
        if config.bce_weighted:
            bce = ((weight * pixels).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
        else:
            bce = pixels.mean()
        probability = torch.sigmoid(logits)
        inter = (weight * probability * target).sum((1, 2, 3))
        union = (weight * (probability + target)).sum((1, 2, 3)) - inter
        iou = (1 - (inter + 1) / (union + 1)).mean()
        return config.bce * bce + config.iou * iou, {"bce": bce.detach(), "iou": iou.detach()}
