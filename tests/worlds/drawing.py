"""Shared drawing tools of all worlds: photos, shapes, and masks in their encodings."""

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
    """Write uint8 (H, W, 3) RGB or (H, W) grey as jpg or png, by the file extension."""
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


def edit_json(path: Path, change: Any) -> None:
    """Load a json file, pass its content to ``change``, and write it back."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
