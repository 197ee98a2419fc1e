"""Predicted modal masks instead of annotated ones, from any COCO-results json."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import CocoAmodalData, PublishedData
from amodalseg.data.readers.coco_amodal import file_ids
from amodalseg.data.readers.files import ID, by_id, load_json, require
from amodalseg.data.readers.record import read_mask
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.types import AmodalRecord, FilePart

logger = logging.getLogger(__name__)

MANY = 20_000
"""Number of predictions from which on progress is shown."""


class Predicted(NamedTuple):
    """A predicted modal mask. ``object_id``: the result's ``id``, as text; '' without one."""

    rle: Rle
    score: float | None
    object_id: str


def use_predictions(records: list[AmodalRecord], config: PublishedData) -> list[AmodalRecord]:
    """Give models the predicted modal masks of ``config.predictions``.

    The file is a list of COCO results ``{image_id, segmentation, score, id}`` (``score`` and ``id`` may be absent,
    ``category_id`` and ``bbox`` are not used), or a COCO file whose ``annotations`` are such results. Results are
    matched to the objects of the same photo:

    * ``match=iou``: one to one by IoU with the annotated modal mask, highest first, as long as it is at least
      ``match_iou`` (and above 0); ties go to the higher score, then to the earlier result and object. Categories are
      not compared: what matters is whether the modal mask is the object's. The annotations of several annotators are
      matched separately.
    * ``match=id``: the result's ``id`` is the record's ``object_id``.

    A result's ``image_id`` is compared, as text and without what precedes its last ``/``, with the record's
    ``image_id``. Where a reader names images otherwise than the json file does (KINS: by file name),
    ``predictions_images`` is the COCO json that lists the ids which the results use: its ``file_name`` finds the photo.
    Results for ``coco_amodal`` use the ids of the exchange files.

    Args:
        records: with annotated modal masks; predicted ones that they already have are replaced.
        config: with ``predictions``.

    Returns:
        The objects that have a match, in their order: ``modal_rle`` is predicted, ``gt_modal_rle`` annotated,
        ``modal_source`` is ``pred:<stem of the file>``, ``modal_score`` the result's. The counts are logged.

    Raises:
        UserError: a file that is missing or wrong, a result whose mask has another size than its photo's masks, an id
            that occurs twice (``match=id``), no photo in common, or no match at all.
    """
    assert config.predictions is not None
    source = Path(config.predictions)
    groups: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        groups.setdefault(record.image_id, []).append(place)
    sizes = {image_id: (records[places[0]].height, records[places[0]].width) for image_id, places in groups.items()}
    predictions, num_elsewhere, num_empty = _read(source, records, sizes, config)
    num_predictions = sum(map(len, predictions.values()))

    found: dict[int, Predicted] = {}
    for image_id, results in predictions.items():
        places = groups[image_id]
        if config.match == "id":
            found |= _match_by_id([records[place] for place in places], places, results, f"{source}: image {image_id}")
            continue
        annotators: dict[Any, list[int]] = {}
        for place in places:
            annotators.setdefault((records[place].group or {}).get("annotator"), []).append(place)
        for members in annotators.values():
            annotated = [records[place].gt_modal_rle or records[place].modal_rle for place in members]
            pairs = match_by_iou(annotated, [result.rle for result in results], [result.score for result in results],
                                 config.match_iou)  # fmt: skip
            found |= {members[i]: results[j] for i, j in pairs}
    how = f"IoU of at least {config.match_iou:g}" if config.match == "iou" else "the same id"
    text = f"{source.name}: {len(found)} of {len(records)} objects have a predicted modal mask ({how})"
    if not found:
        raise UserError(f"{text}; are these predictions of this data set?")
    num_lone = num_predictions - len({id(result) for result in found.values()})
    logger.info(
        f"{text}; {len(records) - len(found)} objects are left out; {num_lone} predictions match none, {num_empty} are "
        f"empty, {num_elsewhere} are of other photos"
    )
    return [
        replace(
            records[place],
            modal_rle=found[place].rle,
            gt_modal_rle=records[place].gt_modal_rle or records[place].modal_rle,
            modal_source=f"pred:{source.stem}",
            modal_score=found[place].score,
            flags=records[place].flags - {"empty_modal"},  # the predicted mask is not empty
        )
        for place in sorted(found)
    ]


def match_by_iou(
    truths: Sequence[Rle], predictions: Sequence[Rle], scores: Sequence[float | None], least: float
) -> list[tuple[int, int]]:
    """Pair masks of one photo one to one, greedily by IoU.

    Args:
        truths, predictions: masks of the same size.
        scores: of the predictions; None counts as 0.
        least: IoU of a pair, in [0, 1]; masks without a common pixel are never paired.

    Returns:
        (truth, prediction) indices, highest IoU first; equal ones by score, then by prediction, then by truth.
    """
    iou = masks.ious(truths, predictions)
    pairs = [(i, j) for i, j in np.argwhere((iou >= least) & (iou > 0)).tolist()]
    pairs.sort(key=lambda pair: (-iou[pair], -(scores[pair[1]] or 0.0), pair[1], pair[0]))
    free, open_ones, chosen = set(range(len(truths))), set(range(len(predictions))), []
    for i, j in pairs:
        if i in free and j in open_ones:
            free.remove(i)
            open_ones.remove(j)
            chosen.append((i, j))
    return chosen


def _match_by_id(
    records: list[AmodalRecord], places: list[int], results: list[Predicted], where: str
) -> dict[int, Predicted]:
    named: dict[str, Predicted] = {}
    for result in results:
        if not result.object_id:
            raise UserError(f"{where}: a result has no 'id'; match=iou needs none")
        if result.object_id in named:
            raise UserError(f"{where}: the id {result.object_id} occurs more than once; match=iou needs none")
        named[result.object_id] = result
    pairs = zip(records, places, strict=True)
    return {place: named[record.object_id] for record, place in pairs if record.object_id in named}


def _read(
    source: Path, records: list[AmodalRecord], sizes: dict[str, tuple[int, int]], config: PublishedData
) -> tuple[dict[str, list[Predicted]], int, int]:
    """Results by the records' image ids, without empty masks; the numbers of results elsewhere and of empty ones."""
    content = load_json(source)
    if isinstance(content, dict):
        require(content, {"annotations": (list,)}, str(source))
        content = content["annotations"]
    if not isinstance(content, list):
        raise UserError(f"{source} must be a list of COCO results, not a {type(content).__name__}")
    images: dict[str, str] | None = None
    objects: dict[str, str] = {}
    if config.predictions_images is not None:
        images = image_ids(Path(config.predictions_images), records)
    elif isinstance(config, CocoAmodalData):
        images, objects = file_ids(config)
    predictions: dict[str, list[Predicted]] = {}
    elsewhere, empty, unknown = 0, 0, ""
    for place, entry in enumerate(tqdm(content, desc="reading predictions", disable=len(content) < MANY)):
        where = f"{source}: result number {place + 1}"
        require(entry, {"image_id": ID, "segmentation": ()}, where, {"score": (int, float), "id": ID})
        named = str(entry["image_id"])
        image_id = named.rpartition("/")[2] if images is None else images.get(named, "")
        if image_id not in sizes:
            elsewhere, unknown = elsewhere + 1, unknown or named
            continue
        if entry["segmentation"] == []:  # written by some detectors for an empty mask
            empty += 1
            continue
        height, width = sizes[image_id]
        rle = read_mask(entry["segmentation"], (height, width), where)
        if tuple(rle["size"]) != (height, width):
            raise UserError(
                f"{where} has a mask of {rle['size'][1]}x{rle['size'][0]}, the masks of its image {image_id} are "
                f"{width}x{height} (width x height)"
            )
        if not masks.area(rle):
            empty += 1
            continue
        object_id = str(entry.get("id", ""))
        predictions.setdefault(image_id, []).append(
            Predicted(rle, entry.get("score"), objects.get(object_id, object_id))
        )
    if elsewhere == len(content):
        hint = f"its first image_id is {unknown}, one of the data set's is {next(iter(sizes), 'none')}"
        raise UserError(
            f"no result of {source} is of a photo of this data set: {hint if content else 'it is empty'}; "
            "data.predictions_images names the COCO json whose image ids the results use"
        )
    return predictions, elsewhere, empty


def image_ids(listing: Path, records: Iterable[AmodalRecord]) -> dict[str, str]:
    """The meaning of a COCO json's image ids, found by the photos' names, with as much of their paths as is given.

    Args:
        listing: the json file; ``images`` with ``id`` and ``file_name``.
        records: whose photos are files.

    Returns:
        Its image ids, as text -> the ``image_id`` of the records.

    Raises:
        UserError: it is not a COCO json, or none of its photos belongs to a record.
    """
    content = load_json(listing)
    require(content, {"images": (list,)}, str(listing))
    photos = by_id(content["images"], {"id": ID, "file_name": (str,)}, "image", listing)
    listed: dict[str, list[str]] = {}
    for key, entry in photos.items():
        listed.setdefault(PurePath(entry["file_name"]).as_posix(), []).append(str(key))
    found: dict[str, str] = {}
    for record in records:
        if isinstance(record.image, np.ndarray):
            raise UserError(f"the photo of {record.key} is not a file, so data.predictions_images cannot find it")
        parts = PurePath(record.image.name if isinstance(record.image, FilePart) else record.image).parts
        for start in range(len(parts)):
            named = listed.get("/".join(parts[start:]), [])
            found.update(dict.fromkeys(named, record.image_id))
            if named:
                break
    if not found:
        raise UserError(f"none of the photos that {listing} names is one of this data set")
    return found
