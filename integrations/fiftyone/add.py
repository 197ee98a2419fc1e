"""Modal and amodal masks as fields of a FiftyOne dataset.

``python add.py amodal.json --images photos --dataset NAME`` creates a dataset from the output of
``amodalseg predict --coco``; ``add_predictions`` completes the masks of an existing dataset.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import fiftyone as fo
import numpy as np

from amodalseg import UserError, masks
from amodalseg.data.images import load_image
from amodalseg.engine.prediction.coco_input import read_coco_input
from amodalseg.models.base import AmodalModel
from amodalseg.types import stable_seed

MODAL, AMODAL = "modal", "amodal"


def detection(mask: np.ndarray, label: str, **attributes: object) -> fo.Detection:
    """An object with its mask. Args: mask, bool (H, W), of the whole photo. Raises UserError: it is empty.

    FiftyOne stores the box, as fractions of the photo's sides, and the mask inside it.
    """
    box = masks.box_xyxy(mask)
    if box is None:
        raise UserError("an empty mask cannot be a detection")
    (x0, y0, x1, y1), (height, width) = box, mask.shape
    shares = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    return fo.Detection(label=label, bounding_box=shares, mask=mask[y0:y1, x0:x1], **attributes)


def full_mask(found: fo.Detection, height: int, width: int) -> np.ndarray:
    """The mask of a detection in its photo, bool (H, W). Raises UserError: it has no mask."""
    inside = found.get_mask() if found.has_mask else None
    if inside is None:
        raise UserError(f"detection {found.id} has a box and no mask; a box does not say which pixels are visible")
    x, y = round(found.bounding_box[0] * width), round(found.bounding_box[1] * height)
    mask = np.zeros((height, width), bool)
    if x < 0 or y < 0 or y + inside.shape[0] > height or x + inside.shape[1] > width:
        raise UserError(f"the mask of detection {found.id} goes beyond its photo of {width}x{height}")
    mask[y : y + inside.shape[0], x : x + inside.shape[1]] = inside > 0
    return mask


def pair(
    modal: np.ndarray, amodal: np.ndarray, label: str, key: str, score: float | None
) -> tuple[fo.Detection, fo.Detection]:
    """Both detections of an object, with its occlusion rate and a ``key`` that joins them.

    Args:
        modal, amodal: bool (H, W) each.
        label, key: of both.
        score: of the amodal mask, its ``confidence``; None if it has none.
    """
    rate = float((amodal & ~modal).sum() / amodal.sum()) if amodal.any() else 0.0
    both = {"key": key, "occlusion_rate": rate}
    return detection(modal, label, **both), detection(amodal, label, confidence=score, **both)


def add_predictions(
    samples: fo.Dataset | fo.DatasetView, model: AmodalModel, field: str, out: str = AMODAL, seed: int = 0
) -> None:
    """Complete the masks of a field.

    Args:
        samples: a dataset or a view.
        model: any model.
        field: of ``fo.Detections`` with instance masks, the modal ones; each gets an ``occlusion_rate`` and a ``key``.
        out: field for the amodal masks, with the same labels, keys and order, and the ``confidence`` of each.
        seed: an object's seed is derived from it and its detection's id.

    Raises:
        UserError: a detection has no mask; a photo cannot be read.
    """
    for sample in samples.iter_samples(progress=True):
        seen = sample[field]
        if seen is None:
            continue
        image, found = load_image(sample.filepath), []
        for one in seen.detections:
            modal = full_mask(one, *image.shape[:2])
            prediction = model.predict(image, modal, seed=stable_seed("detection", seed, one.id))
            _, whole = pair(modal, prediction.amodal, one.label, one.id, prediction.score)
            one["key"], one["occlusion_rate"] = whole.key, whole.occlusion_rate
            found.append(whole)
        sample[out] = fo.Detections(detections=found)
        sample.save()


def read_coco(source: Path, images: Path, name: str) -> fo.Dataset:
    """A dataset with the fields ``modal`` and ``amodal`` from the output of ``predict --coco``.

    Args:
        source: the output, with ``modal_segmentation`` in each annotation.
        images: the folder of photos.
        name: of the dataset, which stays in FiftyOne's database.

    Raises:
        UserError: the file is not such an output, photos are missing, or the name exists.
    """
    if fo.dataset_exists(name):
        raise UserError(f"the dataset '{name}' exists; give another --dataset, or delete it: fiftyone datasets delete")
    given = read_coco_input(source, images)
    names = {entry["id"]: entry["name"] for entry in given.content.get("categories", [])}
    samples = {key: fo.Sample(filepath=str(path.resolve())) for key, path in given.paths.items()}
    pairs: dict[object, list[tuple[fo.Detection, fo.Detection]]] = {key: [] for key in samples}
    for key, entry in given.entries.items():
        photo = given.photos[given.image_of[key]]
        if "modal_segmentation" not in entry or not {"height", "width"} <= photo.keys():
            raise UserError(f"{source} is not an output of `amodalseg predict --coco`: annotation {key}")
        both = [
            masks.decode(masks.from_segmentation(entry[part], photo["height"], photo["width"]))
            for part in ("modal_segmentation", "segmentation")
        ]
        pairs[given.image_of[key]].append(
            pair(*both, names.get(entry.get("category_id"), "object"), key, entry.get("amodal_score"))
        )
    for key, sample in samples.items():
        for field, place in ((MODAL, 0), (AMODAL, 1)):
            sample[field] = fo.Detections(detections=[objects[place] for objects in pairs[key]])
    dataset = fo.Dataset(name, persistent=True)
    dataset.add_samples(samples.values())
    return dataset


def main() -> None:
    """Import the output of ``predict --coco``, and show it if requested."""
    parser = argparse.ArgumentParser(description="Import the output of amodalseg predict --coco as a FiftyOne dataset.")
    parser.add_argument("coco", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--dataset", required=True, help="its name")
    parser.add_argument("--show", action="store_true", help="open the app, until Ctrl-C")
    given = parser.parse_args()
    try:
        dataset = read_coco(given.coco, given.images, given.dataset)
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps({name: dataset.count(f"{name}.detections") for name in (MODAL, AMODAL)}))
    if given.show:
        fo.launch_app(dataset).wait(-1)


if __name__ == "__main__":
    main()
