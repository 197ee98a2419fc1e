"""Completed pictures, small enough to store for every object until a report selects some of them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from amodalseg.data.images import resize
from amodalseg.masks import box_xyxy
from amodalseg.report.pictures import MARGIN

SIDE, QUALITY = 256, 92
TINY = 64
"""Maximum side of parts stored losslessly, pixels: JPEG would change their colours and save little."""


class Thumbnail(NamedTuple):
    """Part of a picture. x0, y0, x1, y1: its box in the photo. file: the part with a longer side of at most ``SIDE``,
    as JPEG; a ``TINY`` one as PNG.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    file: bytes


def make_thumbnail(picture: np.ndarray, masks: np.ndarray | None = None) -> Thumbnail:
    """Crop a picture to the surroundings of masks, downscale and compress it.

    Args:
        picture: uint8 (H, W, 3).
        masks: bool (H, W), not empty; None: the whole picture is kept.
    """
    height, width = picture.shape[:2]
    box = (0, 0, width, height) if masks is None else box_xyxy(masks)
    assert box is not None, "an object has pixels"
    edge = round(MARGIN * max(box[2] - box[0], box[3] - box[1]))
    x0, y0, x1, y1 = max(0, box[0] - edge), max(0, box[1] - edge), min(width, box[2] + edge), min(height, box[3] + edge)
    scale = min(1.0, SIDE / max(x1 - x0, y1 - y0))
    part = resize(picture[y0:y1, x0:x1], max(1, round(scale * (y1 - y0))), max(1, round(scale * (x1 - x0))))
    ending, options = (".png", []) if max(part.shape) <= TINY else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    done, data = cv2.imencode(ending, cv2.cvtColor(part, cv2.COLOR_RGB2BGR), options)
    assert done
    return Thumbnail(x0, y0, x1, y1, data.tobytes())


def show_thumbnail(photo: np.ndarray, thumbnail: Thumbnail) -> np.ndarray:
    """Paste a thumbnail back into its photo. Args: photo, uint8 (H, W, 3). Returns: a new uint8 (H, W, 3) picture."""
    x0, y0, x1, y1, file = thumbnail
    part = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert part is not None
    picture = photo.copy()
    picture[y0:y1, x0:x1] = resize(cv2.cvtColor(part, cv2.COLOR_BGR2RGB), y1 - y0, x1 - x0)
    return picture
