"""Polygons drawn with labelme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.worlds.drawing import photo, write_photo


def labelme_shape(label: str, points: Any, group: int | None = None, kind: str = "polygon", **more: Any) -> dict:
    """A shape as labelme writes it."""
    return {
        "label": label, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {},
        "mask": None, **more,
    }  # fmt: skip


def labelme_world(folder: Path, num_images: int = 2, *, seed: int = 0) -> Path:
    """One json file beside each photo. Polygons have integer corners, so that every tool fills them alike.

    Objects: a cup of two visible pieces and an amodal shape; a plate of a modal and an amodal shape; a lid drawn once;
    a shadow of which only the visible part is drawn; a round ball.
    """
    rng = np.random.default_rng(seed)
    for number in range(num_images):
        height, width = 90 + 6 * number, 120
        write_photo(folder / f"desk {number}.jpg", photo(rng, height, width))
        shapes = [
            labelme_shape("cup", [[10, 20], [20, 20], [20, 50], [10, 50]], 1),
            labelme_shape("cup:amodal", [[10, 20], [40, 20], [40, 50], [10, 50]], 1),
            labelme_shape("plate:amodal", [[50, 20], [80, 60]], 2, "rectangle"),
            labelme_shape("lid", [[0, 70], [30, 70], [30, 80], [0, 80]], flags={"stuff": True}),
            labelme_shape("cup", [[30, 20], [40, 20], [40, 50], [30, 50]], 1),
            labelme_shape("plate:modal", [[80, 60], [50, 40]], 2, "rectangle"),
            labelme_shape("shadow:modal", [[60, 70], [90, 70], [90, 86], [60, 86]]),
            labelme_shape("ball", [[100, 30], [100, 45]], None, "circle"),
        ]
        content = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"desk {number}.jpg", "imageData": None,
            "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        (folder / f"desk {number}.json").write_text(json.dumps(content, indent=2))
    return folder
