"""An edit that was drawn small, in the photo at its own size: pixels outside the edited boxes stay as they are."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.data.images import resize
from amodalseg.models.inpainting.methods.edit_request import EDITED
from amodalseg.models.inpainting.steps.region_weights import alpha, on_grid
from amodalseg.types import EditRequest

LEAST, MOST = 8, 32
"""Of 255, in the channel that differs most: where source and target are as near, the photo stays; from the latter on
it is the target."""


def paste_edit(photo: np.ndarray, source: np.ndarray, target: np.ndarray, request: EditRequest) -> np.ndarray:
    """Put the target into the photo where an edited box differs between the drawn source and the drawn target.

    The difference decides where, and the target itself is what is put there: of something that is removed, a difference
    added to the photo would leave all that was too fine to be drawn. A box fades in over one drawn pixel; regions have
    faded into each other in drawing, and of a thing that goes nothing may be left at its box's border.

    Args:
        photo: uint8 (H, W, 3).
        source, target: uint8 (h, w, 3), as they were drawn.
        request: the edit.

    Returns:
        uint8 (H, W, 3), a new array.
    """
    height, width = photo.shape[:2]
    apart = np.abs(target.astype(np.float32) - source).max(axis=-1)
    changed = ((apart - LEAST) / (MOST - LEAST)).clip(0, 1)
    changed = resize(cv2.dilate(changed, np.ones((3, 3), np.uint8)), height, width)
    inside, reach = (
        np.zeros((height, width), np.float32),
        max(0.0, max(height / len(source), width / len(source[0])) - 1),
    )
    for region in request.regions:
        if region.kind in EDITED:
            box = on_grid(region, height, width)
            soft = region._replace(feather=min(1.0, 2 * reach / min(box.bottom - box.top, box.right - box.left)))
            inside = np.maximum(inside, alpha(soft, box, height, width).numpy())
    share = (inside * changed)[..., None]
    large = resize(target, height, width)
    return np.rint(photo + share * (large.astype(np.float32) - photo)).clip(0, 255).astype(np.uint8)
