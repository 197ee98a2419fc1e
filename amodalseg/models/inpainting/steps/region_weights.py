"""Regions of an edit: their positions, their texts before and after, and their weight at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.types import Region

BLENDS = ("layers", "average")


class GridBox(NamedTuple):
    """A box on a backend's grid, with exclusive ends."""

    top: int
    left: int
    bottom: int
    right: int

    def crop(self, maps: Tensor, factor: int = 1) -> Tensor:
        """Crop maps (..., h, w), or pictures with ``factor`` pixels per side of each position."""
        top, left, bottom, right = (factor * end for end in self)
        return maps[..., top:bottom, left:right]


def on_grid(region: Region, height: int, width: int, step: int = 1) -> GridBox:
    """A region's box on a grid, with ends rounded to the nearest multiples of ``step``.

    Raises:
        UserError: the box is empty, as given or on the grid, or extends beyond the picture.
    """
    if region.box is None:
        return GridBox(0, 0, height, width)
    x0, y0, x1, y1 = region.box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise UserError(
            f"the box {list(region.box)} is empty or leaves the picture: x0 < x1 and y0 < y1 are fractions of its "
            "width and height, from 0 to 1"
        )
    rows, columns = height // step, width // step
    box = GridBox(*(step * round(end * count) for end, count in ((y0, rows), (x0, columns), (y1, rows), (x1, columns))))
    if box.top == box.bottom or box.left == box.right:
        raise UserError(f"the box {list(region.box)} is empty on a grid of {columns} x {rows}: make it larger")
    return box


def alpha(region: Region, box: GridBox, height: int, width: int) -> Tensor:
    """The weight of a region in its box: the square of a ramp from its border, 1 inside, nowhere 0.

    A side on the picture's border has no ramp, since there is nothing beyond it to blend with.

    Returns:
        float32 (height, width), 0 outside the box.
    """
    if not 0 <= region.feather <= 1:
        raise UserError(f"feather must be from 0 to 1, not {region.feather}")
    tall, wide = box.bottom - box.top, box.right - box.left
    reach = int(region.feather * min(tall, wide) / 2)
    along = _ramp(tall, reach, box.top > 0, box.bottom < height), _ramp(wide, reach, box.left > 0, box.right < width)
    found = torch.zeros(height, width)
    box.crop(found).copy_(torch.minimum(along[0][:, None], along[1][None]) ** 2)
    return found


def _ramp(length: int, reach: int, first: bool, last: bool) -> Tensor:
    """Rises from 1 / (reach + 1) to 1 over ``reach`` positions from the first end, and likewise from the last."""
    places = torch.arange(length)
    ramp = torch.ones(length)
    if first:
        ramp = torch.minimum(ramp, (places + 1) / (reach + 1))
    if last:
        ramp = torch.minimum(ramp, (length - places) / (reach + 1))
    return ramp


def weights(alphas: Tensor, behind: Sequence[bool], blend: str = "layers") -> Tensor:
    """The share of each region at each position (equation 1, whose w_i the paper leaves open).

    Args:
        alphas: float (R, N, 1, h, w) of R regions in N rows, non-negative; all 0 where a row lacks a region.
        behind: which of the regions lie behind: the background, and the total region.
        blend: ``layers``: regions in front share the largest of their alphas in proportion, those behind share the
            rest; where nothing lies behind, those in front share everything. ``average``: alphas divided by their sum,
            as printed.

    Returns:
        float (R, N, 1, h, w), summing to 1 over the regions.

    Raises:
        UserError: a position is covered by no region of its row.
    """
    assert blend in BLENDS, blend
    if not (alphas.sum(0) > 0).all():
        raise UserError("the regions do not cover the picture: add one without a box, the background")
    if blend == "average":
        return alphas / alphas.sum(0)
    back = torch.tensor(behind, device=alphas.device)[:, None, None, None, None]
    front, rest = alphas * ~back, alphas * back
    share = torch.where(rest.sum(0) > 0, front.amax(0).clamp(max=1), 1.0)
    return share * _shares(front) + (1 - share) * _shares(rest)


def _shares(values: Tensor) -> Tensor:
    """Shares of the sum over the first axis; 0 where the sum is 0."""
    total = values.sum(0)
    return torch.where(total > 0, values / total.where(total > 0, 1.0), 0.0)
