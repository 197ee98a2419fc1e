"""A whole photo with its completed objects, and their order. All pictures are uint8 (H, W, 3) RGB arrays."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from amodalseg.metrics.order import Order
from amodalseg.predictions import PredictionStack
from amodalseg.report.grid import PAPER
from amodalseg.report.pictures import COMPLETED, VISIBLE, overlay


def completion_picture(image: np.ndarray, objects: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """A whole photo with its completed objects: occluded regions tinted ``COMPLETED``, visible ones ``VISIBLE``.

    Args:
        image: uint8 (H, W, 3).
        objects: (modal, amodal) of each, bool (H, W).

    Returns:
        A new uint8 (H, W, 3) picture. Visible pixels lie above all occluded regions, as in the photo.
    """
    line = max(1, max(image.shape[:2]) // 640)
    picture, seen = image, np.zeros(image.shape[:2], bool)
    outlines: list[np.ndarray] = []
    for modal, amodal in objects:
        picture = overlay(picture, amodal & ~modal, COMPLETED, outline=line)
        outlines += cv2.findContours(modal.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]
        seen |= modal
    tinted = overlay(image, seen, VISIBLE)
    picture = np.where(seen[..., None], tinted, picture)
    return cv2.drawContours(picture, outlines, -1, VISIBLE, line, cv2.LINE_AA)


def order_picture(image: np.ndarray, predictions: PredictionStack, order: Order) -> np.ndarray:
    """A whole photo with its completed objects, numbered from the nearest, and arrows from each to those it occludes.

    Args:
        image: uint8 (H, W, 3).
        predictions: of N objects.
        order: of the same objects.

    Returns:
        A new uint8 (H, W, 3) picture.
    """
    picture = completion_picture(image, ((one.modal, one.amodal) for one in predictions))
    size = max(image.shape[:2]) / 640
    line = max(1, round(2 * size))
    radius = round(9 * size)
    middles = [_middle(mask) for mask in predictions.modal]
    for nearer, farther in np.argwhere(order.hides).tolist():
        start, end = (np.array(middles[place], float) for place in (nearer, farther))
        # both ends next to the numbers, as far as there is room between them
        step = (end - start) / max(1e-6, float(np.hypot(*(end - start))))
        room = min(radius + line, float(np.hypot(*(end - start))) / 3)
        begin, tip = (np.rint(point).astype(int).tolist() for point in (start + room * step, end - room * step))
        for color, width in ((PAPER, line + 2), ((0, 0, 0), line)):
            cv2.arrowedLine(picture, begin, tip, color, width, cv2.LINE_AA, tipLength=0.3)
    for rank, place in enumerate(reversed(order.far_to_near), start=1):
        x, y = middles[place]
        cv2.circle(picture, (x, y), radius, (0, 0, 0), -1, cv2.LINE_AA)
        (wide, tall), _ = cv2.getTextSize(str(rank), cv2.FONT_HERSHEY_SIMPLEX, 0.4 * size, 1)
        where = (x - wide // 2, y + tall // 2)
        cv2.putText(
            picture, str(rank), where, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * size, PAPER, max(1, line // 2), cv2.LINE_AA
        )
    return picture


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """(x, y), the pixel deepest inside a mask."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(x), int(y)
