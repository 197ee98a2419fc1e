"""COCO instances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.worlds.drawing import compressed, disc, photo, ring, run_lengths, write_photo


def coco_world(folder: Path, num_images: int = 3, *, seed: int = 0, name: str = "train") -> tuple[Path, Path]:
    """COCO instances: jpg, png and greyscale photos of different sizes, ids with gaps, annotations out of order.

    Each photo shows six objects: a polygon, an object of two polygons, two objects as uncompressed and compressed run
    lengths, a compressed one truncated by the border, and an uncompressed crowd.

    Returns:
        The json file ``folder/instances_<name>.json`` and the photo folder ``folder/<name>``.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(num_images):
        height, width = 96 + 8 * (number % 3), 128 - 8 * (number % 2)
        pixels, ending = photo(rng, height, width), ("jpg", "png", "jpg")[number % 3]
        file_name, image_id = f"{12 * number + 5:012d}.{ending}", 12 * number + 5
        write_photo(folder / name / file_name, pixels if number % 3 < 2 else pixels[..., 0])
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        size = height, width
        forms: list[tuple[Any, int, int]] = [
            ([ring(28.5, 26.25, 17, 13)], 3, 0),
            ([ring(64, 20, 9, 12), ring(72.5, 26, 10, 14.5)], 44, 0),
            (run_lengths(disc(*size, 32, 66, 20, 16)), 44, 0),
            (compressed(disc(*size, 98, 28, 15, 20)), 90, 0),
            (compressed(disc(*size, width - 4, height - 6, 24, 20)), 3, 0),
            (run_lengths(disc(*size, 70, 70, 9, 16) | disc(*size, 84, 72, 5, 10)), 90, 1),
        ]
        for place, (segmentation, category_id, crowd) in enumerate(forms):
            annotations.append({
                "id": 1000 - 7 * (len(forms) * number + place), "image_id": image_id, "category_id": category_id,
                "segmentation": segmentation, "iscrowd": crowd,
            })  # fmt: skip
    categories = [{"id": 3, "name": "car"}, {"id": 44, "name": "bottle"}, {"id": 90, "name": "toothbrush"}]
    path = folder / f"instances_{name}.json"
    path.write_text(json.dumps({"images": images[::-1], "annotations": annotations, "categories": categories}))
    return path, folder / name
