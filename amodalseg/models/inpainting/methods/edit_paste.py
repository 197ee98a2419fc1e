"""Paste an edit generated at low resolution into the full-size photo: pixels outside the edited boxes are preserved."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.data.images import resize
from amodalseg.models.inpainting.methods.edit_request import EDITED
from amodalseg.models.inpainting.steps.region_weights import alpha, on_grid
from amodalseg.types import EditRequest

LEAST, MOST = 8, 32
"""Differences of source and target in the most different channel, of 255: up to the first, the photo is kept; from the
second on, it is replaced by the target."""


def paste_edit(photo: np.ndarray, source: np.ndarray, target: np.ndarray, request: EditRequest) -> np.ndarray:
    """Paste the target into the photo where generated source and target differ inside an edited box.

    The difference only decides where; what is pasted is the target itself: adding the difference to the photo would
    leave the fine detail of a removed thing. A box fades in over one generated pixel: regions were already blended
    during generation, and nothing of a removed thing may remain at its box's border.

    Args:
        photo: uint8 (H, W, 3).
        source, target: uint8 (h, w, 3), as generated.
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
