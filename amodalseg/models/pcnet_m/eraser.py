"""The eraser, PCNet-M's second channel: where the object may continue beneath something else.

It has the same meaning in training and prediction:

- the known occluder, without the object's visible pixels: the mask is completed beneath it;
- nothing: the mask is whole, so it is returned unchanged;
- everything but the object: the occluder is unknown.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from amodalseg.config.schema import EraserConfig

KNOWN = 0.5
"""Share of the occluded region that an occluder's mask must cover; below it, the occluder is treated as unknown."""
SHIFT = 0.25
"""Maximum shift of an object placed behind another one, as a share of the window's side."""


def training_case(modal: Tensor, amodal: Tensor, occluder: Tensor, config: EraserConfig) -> tuple[Tensor, Tensor]:
    """Sample the eraser for each object of a batch, and the mask to predict.

    Case 1, with probability ``front`` (the paper's gamma): the occluder is the eraser, the amodal mask the target. The
    paper places another object's mask over a modal one; the project's composites already do so with the photo. If the
    occluder is unknown, and otherwise with probability ``unknown``, the eraser is everything but the object.

    Case 2: the mask of another object of the batch, randomly shifted, lies behind. Its visible region is the eraser,
    and the target is the given mask. A batch of one has no other object, so only case 1 occurs.

    Args:
        modal, amodal, occluder: float (B, 1, S, S) in {0, 1}, as in ``Batch.masks``.
        config: the shares.

    Returns:
        (eraser, target), float (B, 1, S, S) in {0, 1}.
    """
    count, outside = len(modal), 1 - modal
    hidden = amodal * outside
    silent = (hidden * occluder).sum((1, 2, 3)) < KNOWN * hidden.sum((1, 2, 3))
    silent |= torch.rand(count, device=modal.device) < config.unknown
    behind = torch.rand(count, device=modal.device) >= config.front
    other = moved(amodal.roll(1, dims=0))
    if count == 1:
        behind.fill_(False)
    silent, behind = silent.view(-1, 1, 1, 1), behind.view(-1, 1, 1, 1)
    eraser = torch.where(silent, outside, occluder * outside)
    return torch.where(behind, other * outside, eraser), torch.where(behind, modal, amodal)


def moved(masks: Tensor) -> Tensor:
    """Masks (B, 1, S, S), all shifted by one random offset of up to ``SHIFT`` of a side, with zeros at the border."""
    side = masks.shape[-1]
    reach = int(SHIFT * side)
    top, left = (int(v) for v in torch.randint(2 * reach + 1, (2,)))
    return pad(masks, (reach,) * 4)[..., top : top + masks.shape[-2], left : left + side]
