"""Draws tiny data sets in their real on-disk formats, for tests that read files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.data.images import resize


def photo(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Texture at two scales over a gradient. Returns: uint8 (H, W, 3) RGB."""
    coarse = resize(rng.random((6, 8, 3)).astype(np.float32), height, width)
    slope = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    fine = rng.random((height, width, 3)).astype(np.float32)
    return (255 * (0.6 * coarse + 0.25 * slope + 0.15 * fine)).astype(np.uint8)


def write_photo(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB or (H, W) grey as jpg or png, after the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels)


def disc(height: int, width: int, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """An ellipse, bool (H, W)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1


def ring(x: float, y: float, rx: float, ry: float, corners: int = 16) -> list[float]:
    """An ellipse as a flat polygon x, y, x, y, ..."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1).ravel().tolist()


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed COCO run lengths of a bool (H, W) mask: column by column, a run of zeros first."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = [0, *np.flatnonzero(flat[1:] != flat[:-1]).tolist(), mask.size]
    return {"size": list(mask.shape), "counts": np.diff(edges).tolist()}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    """Compressed COCO run lengths as json stores them."""
    rle = masks.encode(mask)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def coco_world(folder: Path, num_images: int = 3, *, seed: int = 0, name: str = "train") -> tuple[Path, Path]:
    """COCO instances: jpg, png and greyscale photos of different sizes, ids with gaps, annotations out of order.

    Each photo shows six objects: a whole one as a polygon, a whole one of two polygons, whole ones as uncompressed and
    compressed run lengths, a compressed one that the border cuts off, and an uncompressed crowd.

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


def cocoa_world(folder: Path, num_images: int = 2, *, seed: int = 0, split: str = "val") -> Path:
    """COCOA: six regions a photo, nearest first, with an order gap, a hidden region and stuff behind everything.

    Region: 0 whole; 1 behind 0, its rate a float; 2 whole, its rate the int 0, trailing blank in its name; 3 hidden
    completely by 2, its ``visible_mask`` present but empty, its rate the int 1; 4 behind 1 alone, its order after a
    gap; 5 stuff behind all of them. ``images`` and ``annotations`` are in opposite order.

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
        annotations.append({
            "id": 40 + number, "image_id": image_id, "author": f"person{number}", "size": len(regions) + 2,
            "url": f"https://example.org/coco/{file_name}", "depth_constraint": "1-2,2-6", "regions": regions,
        })  # fmt: skip
    path = folder / "annotations" / f"COCO_amodal_{split}2014.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations[::-1]}))
    return folder


def edit_json(path: Path, change: Any) -> None:
    """Load a json file, hand its content to ``change``, and write it back."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
