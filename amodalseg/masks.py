"""Conversion of masks from and to COCO's encodings, and their geometry: the only module that imports pycocotools.

Ground truth is always rasterised the COCO way. Filling the same polygons with PIL or OpenCV moves the outline by up to
a pixel, which costs several points of IoU on small objects.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from pycocotools import mask as coco

from amodalseg.errors import UserError

Rle = dict[str, Any]
"""Compressed COCO run lengths: ``{"size": [H, W], "counts": bytes}``."""

MAX_SIDE = 20_000
"""Maximum side, pixels: pycocotools uses 32-bit integers, so larger masks overflow in its polygons and text form."""
LIMIT, MEGAPIXELS = "AMODALSEG_MAX_MEGAPIXELS", 400
"""Environment variable with the maximum megapixels of a picture or a mask, and its default."""
CHARACTERS = bytes(range(48, 48 + 64))
"""The characters of COCO's text form."""


def encode(mask: np.ndarray) -> Rle:
    """Compress a mask. Args: mask, bool (H, W). Returns: its RLE, byte for byte that of pycocotools.

    Only the object's box, a small part of a large photo, is scanned more than once.
    """
    (height, width), box = mask.shape, box_xyxy(mask)
    ends = np.zeros(0, np.int64)
    if box is not None:
        x0, y0, x1, y1 = box
        lines = np.zeros((x1 - x0, y1 - y0 + 1), bool)  # columns with a terminator: no run continues into the next one
        lines[:, :-1] = mask[y0:y1, x0:x1].T
        changes = np.flatnonzero(np.diff(lines.ravel(), prepend=False))
        columns, rows = np.divmod(changes, lines.shape[1])
        ends = (x0 + columns) * height + y0 + rows
        if y1 - y0 == height:  # then some runs do: merge a run with its successor
            twice = np.flatnonzero(ends[1:] == ends[:-1])
            ends = np.delete(ends, [*twice, *(twice + 1)])
    runs = np.diff(ends, prepend=0, append=height * width)
    if len(ends) and not runs[-1]:
        runs = runs[:-1]
    return cast(Rle, coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width))


def as_text(rle: Rle) -> dict[str, Any]:
    """A compressed RLE as stored in COCO's json: ``counts`` as text."""
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode(rle: Rle) -> np.ndarray:
    """Expand an RLE. Returns: bool (H, W)."""
    return cast(np.ndarray, coco.decode(rle)).view(bool)  # its bytes are 0 and 1


def from_segmentation(segmentation: Any, height: int, width: int) -> Rle:
    """Convert any form in which COCO-like files store a mask.

    Args:
        segmentation: a flat polygon ``[x, y, x, y, ...]``, a list of such polygons (their union), or a dict with
            ``counts`` as a list (uncompressed), str or bytes (compressed). Scraps (two points or fewer, see
            ``num_scraps``) are dropped if there are valid polygons as well.
        height, width: image size in pixels, used to rasterise polygons.

    Returns:
        The compressed RLE.

    Raises:
        ValueError: anything that is not such a mask. pycocotools itself crashes on some invalid input, loops forever on
            other input, and reads damaged run lengths as a smaller mask, so all input is validated first.
    """
    if isinstance(segmentation, dict):
        return _from_run_lengths(segmentation)
    if isinstance(segmentation, list) and segmentation:
        rings = [segmentation] if isinstance(segmentation[0], (int, float)) else segmentation
        if num_scraps(rings):
            rings = [ring for ring in rings if len(ring) >= 6]
        return _from_polygons(rings, _checked_size([height, width]))
    raise ValueError(f"a mask is a polygon, a list of polygons or an RLE, not {type(segmentation).__name__}")


def num_scraps(segmentation: Any) -> int:
    """Number of polygons with two points or fewer (stray clicks) in a mask that also has valid polygons."""
    if not isinstance(segmentation, list) or not all(isinstance(ring, list) for ring in segmentation):
        return 0
    scraps = sum(len(ring) < 6 for ring in segmentation)
    return scraps if scraps < len(segmentation) else 0


def most_pixels() -> float:
    """The most pixels of a picture or a mask. Raises UserError: the environment variable is not a number."""
    try:
        return float(os.environ.get(LIMIT, MEGAPIXELS)) * 1e6
    except ValueError:
        raise UserError(f"{LIMIT}={os.environ[LIMIT]} is not a number of megapixels") from None


def _checked_size(size: Any) -> list[int]:
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(type(n) is int and 0 < n <= MAX_SIDE for n in size):
        count, limit = size[0] * size[1], most_pixels()
        if count > limit:
            said = f"{count / 1e6:.0f} megapixels; the limit is {limit / 1e6:g} ({LIMIT})"
            raise ValueError(f"a mask of {size[1]}x{size[0]} (width x height) has {said}")
        return list(size)
    raise ValueError(f"a mask's size is [height, width], whole numbers from 1 to {MAX_SIDE}, not {size!r:.60}")


def _from_run_lengths(segmentation: dict[str, Any]) -> Rle:
    if "counts" not in segmentation or "size" not in segmentation:
        raise ValueError("an RLE needs the keys 'size' and 'counts'")
    counts, size = segmentation["counts"], _checked_size(segmentation["size"])
    if isinstance(counts, list):
        if not all(type(n) is int and n >= 0 for n in counts):
            raise ValueError("an RLE's runs are whole numbers that are not negative")
        total = sum(counts)
    elif isinstance(counts, (str, bytes)):
        if isinstance(counts, str) and len(counts) > 3 and counts[:2] in ("b'", 'b"') and counts[-1] == counts[1]:
            counts = _of_printed_bytes(counts)
        counts = counts.encode(errors="surrogatepass") if isinstance(counts, str) else counts
        total = int(_runs(counts).sum())
    else:
        raise ValueError(f"an RLE's 'counts' are a list or a text, not {type(counts).__name__}")
    if total != size[0] * size[1]:
        raise ValueError(f"an RLE's runs add up to {total} pixels, not to {size[0]} x {size[1]}")
    rle = {"size": size, "counts": counts}
    return coco.frPyObjects(rle, *size) if isinstance(counts, list) else rle


def _of_printed_bytes(text: str) -> str:
    """Undo the work of programs that write the printed form of Python bytes, ``b'...'``, into json."""
    return text[2:-1].replace("\\\\", "\\")


def _runs(text: bytes) -> np.ndarray:
    """Decode run lengths of COCO's text form: signed, 5 bits per character, from the fourth on as the difference to the
    run two before.
    """
    if not text or text.translate(None, CHARACTERS) or text[-1] - 48 & 32:
        raise ValueError("an RLE's text is damaged or cut off")
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)  # bit 32 marks a number that continues
    lengths = ends - np.concatenate([[-1], ends[:-1]])  # half the time of np.diff, and every reader calls this
    starts = ends - lengths + 1
    if lengths.max() > 6:
        raise ValueError("an RLE's text is damaged: a number in it is too long")
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * places, starts) - ((codes[ends] & 16) << 5 * lengths - 4)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    if runs.min() < 0:
        raise ValueError("an RLE's text is damaged: it has a negative run")
    return cast(np.ndarray, runs)


def _from_polygons(rings: list[Any], size: list[int]) -> Rle:
    try:
        polygons = [np.asarray(ring, np.float64) for ring in rings]
        # it would also accept numeric strings and booleans
        kinds = {np.asarray(ring).dtype.kind for ring in rings if isinstance(ring, list)}
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError("a polygon is a list of numbers") from error
    middle = np.array(size[::-1]) / 2
    if kinds - set("iuf"):
        raise ValueError("a polygon is a list of numbers")
    for polygon in polygons:
        if polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon needs at least three x, y pairs, all in one flat list")
        if not np.isfinite(polygon).all():
            raise ValueError("a polygon holds nan or infinity")
        if not (np.abs(polygon.reshape(-1, 2) - middle) <= 21 * middle).all():
            raise ValueError(f"a polygon has a point far outside its image of {size[1]}x{size[0]} (width x height)")
    return cast(Rle, coco.merge(coco.frPyObjects(polygons, *size)))


def area(rle: Rle) -> int:
    """Number of pixels in the mask."""
    return int(coco.area(rle))


def union(rles: Sequence[Rle]) -> Rle:
    """Union of masks of the same size."""
    return cast(Rle, coco.merge(list(rles)))


def box_xywh(rle: Rle) -> tuple[int, int, int, int]:
    """Tight box (x, y, width, height) of an RLE, without decoding it; zeros for an empty mask."""
    x, y, width, height = coco.toBbox(rle).tolist()
    return int(x), int(y), int(width), int(height)


def ious(first: Sequence[Rle], second: Sequence[Rle], crowd: Sequence[bool] = ()) -> np.ndarray:
    """IoU of every mask of one list with every mask of the other.

    Args:
        first, second: F and S masks, all of the same size.
        crowd: for each of ``second``, whether it is a crowd, which any mask inside it matches: the intersection is then
            divided by the area of the first mask alone. Default: none is.

    Returns:
        float64 (F, S) in [0, 1]; 0 where both masks are empty.

    Raises:
        ValueError: the masks differ in size.
    """
    sizes = {tuple(rle["size"]) for rle in (*first, *second)}
    if len(sizes) > 1:
        raise ValueError(f"masks of one image differ in size: {', '.join(map(str, sorted(sizes)))}")
    if not first or not second:
        return np.zeros((len(first), len(second)))
    found = coco.iou(list(first), list(second), [bool(flag) for flag in crowd] or [False] * len(second))
    return np.nan_to_num(np.asarray(found, np.float64))


def box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Tight box of a bool (H, W) mask as (x0, y0, x1, y1), x1 and y1 exclusive; None if the mask is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def touches_border(mask: np.ndarray) -> bool:
    """Whether a bool (H, W) mask has a pixel in the first or last row or column."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """Filled convex hull of all pixel centres, bool (H, W), with the pixels on its outline; empty for an empty mask."""
    points = cv2.findNonZero(mask.astype(np.uint8))
    filled = np.zeros(mask.shape, np.uint8)
    return (filled if points is None else cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)).astype(bool)


def grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """A bool (H, W) mask dilated by ``reach`` pixels."""
    if reach < 1:
        return mask.copy()
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), disk).astype(bool)
