"""Detection protocols: predictions or a detector's own results against all objects of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg import masks
from amodalseg.config.schema import CocoAmodalData, PublishedData
from amodalseg.data.open import open_source
from amodalseg.data.readers import READERS
from amodalseg.data.readers.coco_amodal import file_ids
from amodalseg.data.readers.files import ID, load_json, require
from amodalseg.data.readers.predicted import image_ids
from amodalseg.data.readers.record import read_mask
from amodalseg.engine.evaluation.collect import CountedPredictions
from amodalseg.engine.evaluation.sets import OpenSet
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.metrics.detection import DETECTION, Detection, Truth
from amodalseg.types import AmodalRecord

Figures = dict[str, dict[str, float | None]]
"""Protocol -> figure -> value, a fraction."""


def add_detection(results: Sequence[dict], sets: Sequence[OpenSet], every: dict[str, CountedPredictions]) -> None:
    """Give each result of a data set with several objects in a photo its ``detection``: {protocol: {figure: value}}.

    Predictions count as detections of their query's category, with their scores. Objects with no visible
    pixels cannot be prompted and are excluded. Drawn scenes contain one object each, so they are excluded.

    Args:
        results: as ``metrics.protocols.summarize`` returns them; changed.
        sets: the data sets.
        every: model -> predictions, of all sets.
    """
    end = 0
    for opened in sets:
        start, end = end, end + len(opened.dataset)
        if isinstance(opened.dataset.source.get(0).image, np.ndarray):
            continue
        parts: dict[tuple[str, str], list[tuple[int, AmodalRecord, Truth]]] = {}
        for place, record in enumerate(_all(opened.dataset.source), start=start):
            truth = truth_of(record)  # several annotators of one photo are kept apart, like several photos
            truth = truth._replace(image=f"{record.image_id}/{_annotator(record)}")
            parts.setdefault((record.dataset, record.split), []).append((place, record, truth))
        for result in results:
            part, found = parts.get((result["dataset"], result["split"]), []), every[result["model"]]
            predicted = [(record.modal_rle, truth, found[place]) for place, record, truth in part]
            if part:
                detections = [
                    Detection(
                        truth.image, counted.rle, counted.score, truth.category, _hidden_share(counted.rle, modal)
                    )
                    for modal, truth, counted in predicted
                ]
                result["detection"] = _score([truth for _, _, truth in part], detections)


def score_results(config: Any, results: Path) -> Figures:
    """Score a detector's amodal masks.

    Args:
        config: a data section.
        results: a list of COCO results: ``image_id`` as in the data set's own file, ``category_id``, ``segmentation``
            (polygons or run lengths), ``score``. If a reader names images differently from the file (KINS: by file
            name), ``config.predictions_images`` is the COCO json that lists the ids used by the results.

    Returns:
        Figures of ``amodal_ap``, and of ``cls_ap`` if the data set has categories.

    Raises:
        UserError: something is wrong with the data or the results.
    """
    if isinstance(config, PublishedData):
        found = READERS[config.name](config, photos=False)
        records: Sequence[AmodalRecord] = found if isinstance(found, list) else _all(found)
    else:
        records = _all(open_source(config))
    if not records or records[0].amodal_rle is None:
        raise UserError(f"the data set '{config.name}' has no amodal mask to score results against")
    annotators: dict[str, str] = {}
    for record in records:
        if annotators.setdefault(record.image_id, _annotator(record)) != _annotator(record):
            raise UserError(f"several people annotated image {record.image_id}; choose one, data.annotator=first")
    ids: dict[str, str] = {}
    if getattr(config, "predictions_images", None):
        ids = image_ids(Path(config.predictions_images), records)
    elif isinstance(config, CocoAmodalData):
        ids, _ = file_ids(config)
    return _score([truth_of(record) for record in records], _read_results(results, records, ids))


def truth_of(record: AmodalRecord) -> Truth:
    """A record as a ground truth for detection; its category counts only if it comes from a closed list."""
    amodal, modal = record.amodal_rle, record.modal_rle if record.gt_modal_rle is None else record.gt_modal_rle
    assert amodal is not None, record.key
    category = record.category if record.category_id is not None else None
    rate, crowd = _hidden_share(amodal, modal), "crowd" in record.flags
    return Truth(record.image_id, amodal, category or "", rate, bool(record.is_stuff), crowd)


def _annotator(record: AmodalRecord) -> str:
    """The annotation an object belongs to, if annotators are distinguished: one may appear twice, or without a name."""
    return record.object_id.rpartition("-")[0] if "annotator" in (record.group or {}) else ""


def _hidden_share(whole: Rle, modal: Rle) -> float:
    """Occlusion rate from run lengths: decoding all masks of a data set would take longer than matching them."""
    return (masks.area(masks.union([whole, modal])) - masks.area(modal)) / max(1, masks.area(whole))


def _all(source: Any) -> list[AmodalRecord]:
    return [source.get(place) for place in range(len(source))]


def _score(truths: Sequence[Truth], detections: Sequence[Detection]) -> Figures:
    named = any(truth.category for truth in truths)
    return {
        name: protocol.compute(truths, detections) for name, protocol in DETECTION.items() if named or name != "cls_ap"
    }


def _read_results(path: Path, records: Sequence[AmodalRecord], ids: dict[str, str]) -> list[Detection]:
    """Args: ids, the file's image ids -> the records', where they differ."""
    entries = load_json(path)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} must be a list of COCO results: image_id, category_id, segmentation, score")
    sizes = {record.image_id: (record.height, record.width) for record in records}
    names = {record.category_id: record.category or "" for record in records if record.category_id is not None}
    found, elsewhere = [], 0
    for place, entry in enumerate(entries):
        where = f"{path}: result number {place + 1}"
        require(entry, {"image_id": ID, "segmentation": (), "score": (int, float)}, where, {"category_id": (int,)})
        named, score = str(entry["image_id"]), float(entry["score"])
        image = ids.get(named, "") if ids else named
        if not math.isfinite(score):
            raise UserError(f"{where}: the score is {score}")
        if image not in sizes:
            elsewhere += 1
            continue
        rle = read_mask(entry["segmentation"], sizes[image], where)
        if tuple(rle["size"]) != sizes[image]:
            raise UserError(f"{where} has a mask of {rle['size']} (height, width), its image is {sizes[image]}")
        category = entry.get("category_id")
        found.append(Detection(image, rle, score, names.get(category, f"category {category}") if names else ""))
    if not found:
        raise UserError(
            f"{path}: none of its {len(entries)} results is on an image of this data set (image_id "
            f"{entries[0]['image_id']}, ... in the results, {records[0].image_id}, ... in the data set): choose the "
            "right split, or give predictions_images=JSON, the COCO file whose image ids the results use"
        )
    if elsewhere:
        print(f"{elsewhere} of {len(entries)} results are on images without annotated objects: they are not counted")
    return found
