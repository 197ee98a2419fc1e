"""The eraser, PCNet-M's second channel: where the object may go on below something else.

In every sample and every question it means the same:

- what is known to cover the object, without the object's visible pixels: the mask is completed below it;
- nothing: the mask is whole, so it is returned as it is;
- everything but the object: what covers it is not known.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from amodalseg.config.schema import EraserConfig

KNOWN = 0.5
"""Share of the hidden part below which the occluder's mask is taken for one that nobody has drawn."""
SHIFT = 0.25
"""Reach of the shift of an object that is put behind another one, in sides of the window."""


def training_case(modal: Tensor, amodal: Tensor, occluder: Tensor, config: EraserConfig) -> tuple[Tensor, Tensor]:
    """Sample what the network is told about each object of a batch, and what it has to predict.

    Case 1, with probability ``front`` (the paper's gamma): the occluder is the eraser, the amodal mask the target. The
    paper puts another object's mask on a modal one for it; the project's composites have done so with the photo. Where
    the occluder is not known, and in a share ``unknown`` elsewhere, the eraser is everything but the object.

    Case 2: the mask of another object of the batch, moved at random, lies behind. It is the eraser where it shows, and
    the target is the mask that was given. A batch of one has no other object, and only case 1.

    Args:
        modal, amodal, occluder: float (B, 1, S, S) in {0, 1}, as ``Batch.masks`` has them.
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
    """Masks (B, 1, S, S), all moved by one random shift of up to ``SHIFT`` of a side; zero comes in at the border."""
    side = masks.shape[-1]
    reach = int(SHIFT * side)
    top, left = (int(v) for v in torch.randint(2 * reach + 1, (2,)))
    return pad(masks, (reach,) * 4)[..., top : top + masks.shape[-2], left : left + side]
