"""One row of integers per object, from which every protocol is derived without running a model again.

All counts are pixels of the full image. P is a prediction, A the amodal mask, V the annotated modal mask, G the given
modal mask. G is V unless modal masks are predicted; the occluded region is always defined by V.

| column | meaning |
|---|---|
| model | name of the model |
| dataset, split, image_id, object_id | the object; joined with ``/`` they are the record's key |
| modal_source | where G comes from: ``gt`` (it is V), or ``pred:`` and the name of its predictor |
| category | its name, empty if there is none |
| calibration | counts for calibration, see ``metrics.calibration``; empty for models without probabilities |
| track | for an object in a video: video and track, joined with ``/``; else empty |
| height, width | of the image |
| modal_area, amodal_area | V, A |
| occluded_area | A without V: the occluded region |
| modal_outside | V without A; above 0 where annotations contradict each other |
| given_area, given_inter, given_union | G, G and V, G or V: the quality of the given mask |
| occlusion_rate | occluded_area / amodal_area to 6 decimals, 0 for an empty A; protocols divide the integers instead |
| union_visible | 1 if the prediction is exactly raw united with G, else 0 |
| raw_area, raw_inter, raw_union | P, P and A, P or A, where P is the mask before the union with G |
| post_area, post_inter, post_union | the same, where P is raw united with G, whether or not the model does so |
| out_area, out_inter, out_union | the same, where P is the model's own final prediction |
| raw_occ_inter, raw_occ_union | as raw_inter and raw_union, without the pixels of V |
| post_occ_inter, post_occ_union | as post_inter and post_union, without the pixels of V |
| occ_inter, occ_union | as out_inter and out_union, without the pixels of V |
| boundary_inter, boundary_union | as out_inter, out_union, of the bands inside the outlines of P and A |
| evaluations | network evaluations for this object; 0 for models without a network |
| peak_memory | MB during the object's batch, see below; 0 if not measured; varies from run to run |
| hidden_pixels | of A without V, where the true and the completed picture are both known, else 0 |
| hidden_squared, hidden_absolute | errors of the completed picture there, summed over pixels and three channels |
| hidden_unlike | the sum of 1 - SSIM there, in thousandths |
| moved_origin_pixels, moved_target_pixels, moved_rest_pixels | of the three areas of a move; 0 without one |
| moved_*_squared, moved_*_unlike | in each of them, as hidden_squared and hidden_unlike |
| moved_changes, moved_stays | pixels of the origin that the true move changes; those that still show the object |
| moved_inter, moved_union | of the object's true and predicted mask at the target |
| edited_kept_pixels, edited_region_pixels, edited_rest_pixels | of the three areas of an edit; 0 without one |
| edited_*_squared, edited_*_unlike | in each of them, as hidden_squared and hidden_unlike |
| edited_changes, edited_stays | pixels of the region that the true edit changes much; those left unchanged |
| seconds | wall time to 4 decimals; varies from run to run |

The union with G changes no pixel outside G. If G lies within V (always, if G is V) the three pairs without the pixels
of V are therefore equal; pixels of G outside V can make them differ.

The origin of a move is V without the object at its target, the target that object, the rest everything else
(``metrics.moved``). The region of an edit is what the true edit changes, kept the visible pixels of the object that
stays (``metrics.edited``).

``peak_memory`` is the peak of PyTorch's allocations if the model ran on a GPU, else the peak resident memory of the
whole process, libraries and data included (Linux).

A band is a mask without its erosion by a square of 2 % of the image's diagonal on either side, at least one pixel;
pixels outside the image count as background. This is the band of Boundary IoU (Cheng et al., CVPR 2021).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.errors import UserError
from amodalseg.metrics.appearance import compare_hidden
from amodalseg.metrics.calibration import count_calibration
from amodalseg.metrics.edited import EDITED_COLUMNS, compare_edited
from amodalseg.metrics.moved import MOVED_COLUMNS, compare_moved
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord

TEXT_COLUMNS = [
    "model",
    "dataset",
    "split",
    "image_id",
    "object_id",
    "modal_source",
    "category",
    "track",
    "calibration",
]
FLOAT_COLUMNS = ["occlusion_rate", "seconds"]
COLUMNS = [
    *TEXT_COLUMNS,
    *["height", "width", "modal_area", "amodal_area", "occluded_area", "modal_outside", "occlusion_rate"],
    *["given_area", "given_inter", "given_union", "union_visible"],
    *["raw_area", "raw_inter", "raw_union", "post_area", "post_inter", "post_union"],
    *["out_area", "out_inter", "out_union", "raw_occ_inter", "raw_occ_union", "post_occ_inter", "post_occ_union"],
    *["occ_inter", "occ_union", "boundary_inter", "boundary_union", "evaluations", "peak_memory"],
    *["hidden_pixels", "hidden_squared", "hidden_absolute", "hidden_unlike"],
    *MOVED_COLUMNS,
    *EDITED_COLUMNS,
    "seconds",
]
BOUNDARY_SHARE = 0.02

Row = dict[str, Any]
"""str, int and float values, keyed by ``COLUMNS``."""


def row_key(row: Row) -> str:
    """``dataset/split/image/object``, equal to the record's ``key``."""
    return f"{row['dataset']}/{row['split']}/{row['image_id']}/{row['object_id']}"


def count_object(
    record: AmodalRecord, prediction: Prediction, model: str, whole: np.ndarray | None = None, peak_memory: int = 0,
    source: np.ndarray | None = None, after: np.ndarray | None = None, after_edit: np.ndarray | None = None,
) -> Row:  # fmt: skip
    """Compare one prediction with the ground truth.

    Args:
        record: the annotated object: its amodal mask and its annotated modal mask.
        prediction: masks of the image's size, bool (H, W); includes the given modal mask.
        model: name of the model.
        whole: uint8 (H, W, 3), the true picture of the whole object, to which the prediction's ``image`` is compared;
            None: unknown.
        peak_memory: during prediction, MB.
        source, after: uint8 (H, W, 3) of a record with a move: the photo before and after it, to which the prediction's
            ``moved`` is compared; None: no move is compared.
        after_edit: uint8 (H, W, 3) of a record with an edit: the photo after it, to which the prediction's ``edited``
            is compared, beside ``source``; None: no edit is compared.

    Returns:
        The row, with the keys of ``COLUMNS`` in their order.

    Raises:
        UserError: the data set has no amodal masks.
    """
    amodal = record.amodal
    height, width = amodal.shape
    every = [amodal, record.gt_modal, prediction.modal, prediction.raw, prediction.amodal]
    for mask in every:
        assert mask.dtype == bool and mask.shape == (height, width), (record.key, mask.dtype, mask.shape)
    # Objects are small and images large: all masks are empty outside the box.
    x0, y0, x1, y1 = masks.box_xyxy(reduce(np.logical_or, every)) or (0, 0, 1, 1)
    truth, modal, given, raw, final = (mask[y0:y1, x0:x1] for mask in every)
    post, hidden = raw | given, truth & ~modal
    assert np.array_equal(final & ~given, raw & ~given), f"{record.key}: raw and amodal differ outside the given mask"
    band = max(1, round(BOUNDARY_SHARE * math.hypot(height, width)))
    amodal_area, occluded_area = _count(truth), _count(hidden)
    row = {
        "model": model,
        "dataset": record.dataset,
        "split": record.split,
        "image_id": str(record.image_id),
        "object_id": str(record.object_id),
        "modal_source": record.modal_source,
        "category": record.category or "",
        "track": _track(record),
        "calibration": count_calibration(prediction, record.gt_modal, amodal & ~record.gt_modal),
        "height": height,
        "width": width,
        "modal_area": _count(modal),
        "amodal_area": amodal_area,
        "occluded_area": occluded_area,
        "modal_outside": _count(modal & ~truth),
        "occlusion_rate": round(occluded_area / max(1, amodal_area), 6),
        "given_area": _count(given),
        "given_inter": _count(given & modal),
        "given_union": _count(given | modal),
        "union_visible": int(np.array_equal(final, post)),
    }
    for name, mask in (("raw", raw), ("post", post), ("out", final)):
        row[f"{name}_area"] = _count(mask)
        row[f"{name}_inter"] = _count(mask & truth)
        row[f"{name}_union"] = _count(mask | truth)
    for name, mask in (("raw_occ", raw), ("post_occ", post), ("occ", final)):
        row[f"{name}_inter"] = _count(mask & hidden)
        row[f"{name}_union"] = _count((mask | truth) & ~modal)
    inner, inner_truth = _inner_band(final, band), _inner_band(truth, band)
    row |= {"boundary_inter": _count(inner & inner_truth), "boundary_union": _count(inner | inner_truth)}
    row |= {"evaluations": prediction.evaluations, "peak_memory": peak_memory}
    row |= compare_hidden(None if whole is None else prediction.image, whole, amodal & ~record.gt_modal)
    if record.move is None or source is None or after is None:
        row |= dict.fromkeys(MOVED_COLUMNS, 0)
    else:
        there = masks.decode(record.move.mask_rle)
        row |= compare_moved(source, after, record.gt_modal, there, prediction.moved, prediction.moved_mask)
    if record.edit is None or source is None or after_edit is None:
        row |= dict.fromkeys(EDITED_COLUMNS, 0)
    else:
        row |= compare_edited(source, after_edit, masks.decode(record.edit.kept_rle), prediction.edited)
    row["seconds"] = round(float(prediction.seconds), 4)
    assert list(row) == COLUMNS
    return row


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as csv (UTF-8, comma, header), atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # fixed-point notation: small numbers would otherwise be written as 5e-05
        writer.writerow(row | {"occlusion_rate": f"{row['occlusion_rate']:.6f}", "seconds": f"{row['seconds']:.4f}"})
    write_whole(path, text.getvalue())


def read_rows(path: Path) -> list[Row]:
    """Read a file written by ``write_rows``, with the original types. Other columns are ignored.

    Raises:
        UserError: the file is missing, is not such a csv, lacks columns, contains an invalid number, or contains an
            object twice for one model; the message gives the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    rows: list[Row] = []
    first_seen: dict[tuple[str, str], int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                advice = "if an older version wrote the file, evaluate again"
                raise UserError(f"{path}, line 1: missing columns {', '.join(missing)}; {advice}")
            for fields in reader:
                where = f"{path}, line {reader.line_num}"
                row: Row = {name: _typed(where, name, fields[name]) for name in COLUMNS}
                model, key = row["model"], row_key(row)
                if (model, key) in first_seen:
                    raise UserError(f"{where}: {key} of model {model} is already on line {first_seen[model, key]}")
                first_seen[model, key] = reader.line_num
                rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a csv file in UTF-8 ({error})") from error
    return rows


def _typed(where: str, name: str, text: str | None) -> str | int | float:
    if text is None:
        raise UserError(f"{where}: the line ends before column {name}")
    if name in TEXT_COLUMNS:
        return text
    if name not in FLOAT_COLUMNS:
        if not (text.isascii() and text.isdigit()):  # int() would also accept -1, 1_000 and spaces
            raise UserError(f"{where}: {name} must be a whole number of at least 0, not {text!r}")
        return int(text)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise UserError(f"{where}: {name} must be a number of at least 0, not {text!r}")
    return number


def _track(record: AmodalRecord) -> str:
    group = record.group or {}
    return f"{group['video']}/{group['track']}" if "video" in group and "track" in group else ""


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _inner_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a bool (H, W) mask within ``width`` steps of the background, including diagonal steps."""
    kernel = np.ones((3, 3), np.uint8)
    eroded = cv2.erode(mask.astype(np.uint8), kernel, iterations=width, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    band: np.ndarray = mask & (eroded == 0)
    return band
