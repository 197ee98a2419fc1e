"""COCOA."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg import masks
from tests.worlds.drawing import compressed, photo, ring, write_photo


def cocoa_world(folder: Path, num_images: int = 2, *, seed: int = 0, split: str = "val") -> Path:
    """COCOA: six regions per photo, nearest first, with an order gap, a hidden region and stuff behind everything.

    Regions: 0 unoccluded; 1 behind 0, rate a float; 2 unoccluded, rate the int 0, a trailing blank in its name; 3
    completely hidden by 2, ``visible_mask`` present but empty, rate the int 1; 4 behind 1 only, order after a gap;
    5 stuff behind all of them. ``images`` and ``annotations`` are in opposite order.

    Returns:
        The data set's folder, for ``read_cocoa``.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(num_images):
        height, width, image_id = 90 + 6 * number, 120, 1000 - 300 * number
        file_name = f"COCO_{split}2014_{image_id:012d}.jpg"
        write_photo(folder / f"{split}2014" / file_name, photo(rng, height, width))
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        shapes = [
            ("cup", 1, 0, ring(34, 40, 16, 18)),
            ("plate ", 2, 0, ring(52.5, 48, 20, 15)),
            ("dog  ", 3, 0, ring(97, 30, 18, 22.5)),
            ("ball", 4, 0, ring(97, 30, 6, 7)),
            ("spoon", 6, 0, ring(66, 60, 14, 12.5)),
            ("table ", 7, 1, [0, 34, width, 34, width, height, 0, height]),
        ]
        regions = piled_regions(shapes, height, width)
        annotations.append({
            "id": 40 + number, "image_id": image_id, "author": f"person{number}", "size": len(regions) + 2,
            "url": f"https://example.org/coco/{file_name}", "depth_constraint": "1-2,2-6", "regions": regions,
        })  # fmt: skip
    path = folder / "annotations" / f"COCO_amodal_{split}2014.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations[::-1]}))
    return folder


def piled_regions(shapes: Sequence[tuple[str, int, int, list[float]]], height: int, width: int) -> list[dict[str, Any]]:
    """Regions in COCOA's format, from (name, order, isStuff, polygon) of each, the nearest first."""
    nearer, regions = np.zeros((height, width), bool), []
    for name, order, stuff, polygon in shapes:
        amodal = masks.decode(masks.from_segmentation(polygon, height, width))
        region = {
            "segmentation": polygon, "name": name, "area": int(amodal.sum()), "isStuff": stuff, "order": order,
            "occlude_rate": 0,
        }  # fmt: skip
        hidden = amodal & nearer
        if hidden.any():
            rate = float(hidden.sum() / amodal.sum())
            masks_of = {"visible_mask": compressed(amodal & ~nearer), "invisible_mask": compressed(hidden)}
            region |= {"occlude_rate": 1 if rate == 1 else rate, **masks_of}
        regions.append(region)
        nearer |= amodal
    return regions
