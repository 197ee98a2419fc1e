"""Masks in and out of COCO's encodings: the only importer of pycocotools.

Ground truth is always rasterised the COCO way. Filling the same polygons with PIL or OpenCV moves the outline by up to
a pixel, which costs several points of IoU on small objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

Rle = dict[str, Any]
"""Compressed COCO run lengths: ``{"size": [H, W], "counts": bytes}``."""


def encode(mask: np.ndarray) -> Rle:
    """Compress a mask. Args: mask, bool (H, W). Returns: its RLE."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))


def decode(rle: Rle) -> np.ndarray:
    """Expand an RLE. Returns: bool (H, W)."""
    return coco.decode(rle).astype(bool)


def from_segmentation(segmentation: Any, height: int, width: int) -> Rle:
    """Read any form that COCO-like files use for one mask.

    Args:
        segmentation: a flat polygon ``[x, y, x, y, ...]``, a list of such polygons (their union), or a dict with
            ``counts`` as a list (uncompressed), str or bytes (compressed).
        height, width: image size in pixels, used to rasterise polygons.

    Returns:
        The compressed RLE.

    Raises:
        ValueError: a polygon with fewer than three points, or a form that is none of the above.
    """
    if isinstance(segmentation, dict):
        if "counts" not in segmentation or "size" not in segmentation:
            raise ValueError("an RLE needs the keys 'size' and 'counts'")
        counts, size = segmentation["counts"], [int(n) for n in segmentation["size"]]
        if isinstance(counts, list):
            if sum(counts) != size[0] * size[1]:
                raise ValueError(f"an RLE's runs add up to {sum(counts)} pixels, not to {size[0]} x {size[1]}")
            return coco.frPyObjects({"size": size, "counts": counts}, *size)
        return {"size": size, "counts": counts.encode() if isinstance(counts, str) else bytes(counts)}
    if isinstance(segmentation, list) and segmentation:
        rings = [segmentation] if isinstance(segmentation[0], (int, float)) else segmentation
        if any(len(ring) < 6 or len(ring) % 2 for ring in rings):
            raise ValueError("a polygon needs at least three x, y pairs")
        return coco.merge(coco.frPyObjects([[float(v) for v in ring] for ring in rings], height, width))
    raise ValueError(f"a mask is a polygon, a list of polygons or an RLE, not {type(segmentation).__name__}")


def area(rle: Rle) -> int:
    """Number of pixels in the mask."""
    return int(coco.area(rle))


def union(rles: Sequence[Rle]) -> Rle:
    """Union of masks of one size."""
    return coco.merge(list(rles))


def box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Tight box of a bool (H, W) mask as (x0, y0, x1, y1), x1 and y1 exclusive; None if the mask is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def touches_border(mask: np.ndarray) -> bool:
    """Whether a bool (H, W) mask has a pixel in the first or last row or column."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
