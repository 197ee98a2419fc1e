"""All objects of a photo: completed, put in depth order, and written as layers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from amodalseg.atomic import write_whole
from amodalseg.data.given_masks import as_masks
from amodalseg.data.images import load_turned, save_png
from amodalseg.data.readers.files import is_crowd
from amodalseg.engine.prediction.coco_input import CocoInput, Entry, modal_of, output_name, read_coco_input
from amodalseg.engine.prediction.complete import Settings, check_beside, say_turned
from amodalseg.engine.prediction.cutout_files import CutoutFiles, object_layers
from amodalseg.engine.prediction.predict import check_command
from amodalseg.errors import UserError
from amodalseg.lock import locked
from amodalseg.metrics.order import Order, order_of, pairs
from amodalseg.models import DEFAULT, load_model
from amodalseg.models.base import AmodalModel, as_rgb
from amodalseg.predictions import PredictionStack
from amodalseg.report.openraster import write_layers
from amodalseg.report.whole_photos import order_picture
from amodalseg.types import stable_seed


class Ordered(NamedTuple):
    """The completed objects of a photo, and their occlusion order."""

    predictions: PredictionStack
    order: Order


def order(
    image: np.ndarray,
    masks: Any,
    *,
    model: str | Path | AmodalModel = DEFAULT,
    seed: int = 0,
    steps: int | None = None,
    device: str = "auto",
) -> Ordered:
    """Complete all objects of a photo and determine which occludes which.

    Of two objects, the occluder is the one whose modal mask covers more of the other's completion
    (``metrics.order.pairs``); pairs that would close a cycle are dropped, weakest first.

    Args:
        image: uint8 (H, W, 3) RGB; grey and RGBA are converted, see ``as_rgb``.
        masks: the modal masks, bool (N, H, W), or another form of several masks, see ``as_masks``.
        model: a model, or anything that ``load_model`` accepts.
        seed, steps: as for ``AmodalModel.predict``.
        device: the device for a model that is loaded here.

    Raises:
        UserError: the image or the masks cannot be used, or the model cannot be opened.
    """
    image = as_rgb(image)
    modal = as_masks(masks, *image.shape[:2])
    if modal.ndim != 3:
        raise UserError(f"an order needs several objects: the masks must be (N, H, W), not {modal.shape}")
    if not isinstance(model, AmodalModel):
        model = load_model(model, device)
    predictions = model.predict(image, modal, seed=seed, steps=steps)
    assert isinstance(predictions, PredictionStack)
    return Ordered(predictions, order_of(pairs(list(modal), [one.amodal for one in predictions])))


def complete_photos(model: AmodalModel, source: Path, images: Path, out: Path, settings: Settings) -> list[str]:
    """Complete and order all objects of the photos of a COCO file.

    For each photo, ``out`` receives ``NAME.ora`` (layers from far to near: the photo without its objects, each
    completed object, and the photo itself, switched off), ``NAME.png`` (a picture of the order) and ``NAME.json``:
    ``annotations`` as written by ``predict --coco``, from far to near, with ``hides`` (ids of the objects that each
    occludes) and ``hidden_by``, and ``cycles`` (dropped pairs). Existing outputs are kept, unless
    ``settings.overwrite``.

    Returns:
        One line per photo or annotation that failed.

    Raises:
        UserError: files are missing or broken; existing outputs come from another model or other options.
    """
    given = read_coco_input(source, images, outside=settings.outside)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out '{out}' is a file; name a folder")
    with locked(out, "--out"):
        return _photos(model, given, out, settings)


def _photos(model: AmodalModel, given: CocoInput, out: Path, settings: Settings) -> list[str]:
    of_photo: dict[Any, list[str]] = {}
    for key, entry in given.entries.items():
        if settings.crowd == "complete" or not is_crowd(entry):
            of_photo.setdefault(given.image_of[key], []).append(key)
    failures = [f"photo {image_id}: {why}" for image_id, why in given.refused.items() if image_id in of_photo]
    names = {image_id: output_name(given.photos[image_id]) for image_id in of_photo if image_id not in given.refused}
    twice = next((name for name, count in Counter(names.values()).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"two photos would both be written to {out / twice}.ora; rename one of them")
    files = (out / f"{name}.{suffix}" for name in names.values() for suffix in ("ora", "png", "json"))
    check_beside("--out", files, [*given.files, *given.paths.values()])
    there = {
        image_id for image_id, name in names.items() if (out / f"{name}.json").is_file() and not settings.overwrite
    }
    since = check_command(out, model, settings, bool(there))
    there -= {image_id for image_id in there if (out / f"{names[image_id]}.json").stat().st_mtime_ns < since}
    if there:
        print(f"{len(there)} of {len(names)} photos are done and kept; --overwrite replaces them")
    listed = given.content.get("categories", []) if isinstance(given.content, dict) else []
    categories = {
        one["id"]: str(one["name"]) for one in listed if isinstance(one, dict) and {"id", "name"} <= one.keys()
    }
    turned: dict[Path, int] = {}
    for image_id in tqdm([one for one in names if one not in there], desc=model.name, unit="photo", disable=None):
        try:
            photo, turn = load_turned(given.paths[image_id], upright=settings.upright)
            if turn != 1:
                turned[given.paths[image_id]] = turn
            entries: dict[str, Entry] = {}
            modal: list[np.ndarray] = []
            for key in of_photo[image_id]:
                try:
                    mask = modal_of(given.entries[key], given.photos[image_id], settings.upright, photo, turn)
                    if not mask.any():
                        raise UserError("its mask is empty")
                    modal.append(mask)
                    entries[key] = given.entries[key]
                except UserError as error:
                    failures.append(f"annotation {key}: {error}")
            seed = stable_seed("scene", settings.seed, names[image_id])
            found = order(photo, np.stack(modal), model=model, seed=seed, steps=settings.steps) if modal else None
        except UserError as error:
            failures.append(f"{given.paths[image_id]}: {error}")
            continue
        if found is not None:  # a write error is not this photo's fault, and ends the run
            titles = [_title(key, entry, categories) for key, entry in entries.items()]
            _write(out / names[image_id], photo, list(entries.values()), titles, found)
    say_turned(turned, len(names), settings.upright)
    made = sum((out / f"{name}.json").is_file() for name in names.values())
    print(f"{made} of {len(of_photo)} photos are in {out}")
    return failures


def _title(key: str, entry: Entry, categories: dict[Any, str]) -> str:
    """The title of an object's layer."""
    return f"{categories.get(entry.get('category_id'), 'object')} {key}"


def _write(base: Path, photo: np.ndarray, entries: Sequence[Entry], titles: Sequence[str], found: Ordered) -> None:
    predictions, (hides, far_to_near, dropped) = found.predictions, found.order
    height, width = photo.shape[:2]
    ids = [entry.get("id", place) for place, entry in enumerate(entries)]
    layers = object_layers(
        photo, [predictions[place] for place in far_to_near], [titles[place] for place in far_to_near], CutoutFiles(), 0
    )
    write_layers(base.with_name(f"{base.name}.ora"), layers, height, width)
    save_png(base.with_name(f"{base.name}.png"), order_picture(photo, predictions, found.order))
    annotations = [
        {
            **entries[place], **predictions[place].to_coco(), "modal_segmentation": entries[place]["segmentation"],
            "hides": [ids[other] for other in np.flatnonzero(hides[place])],
            "hidden_by": [ids[other] for other in np.flatnonzero(hides[:, place])],
        }
        for place in far_to_near
    ]  # fmt: skip
    cycles = [[ids[nearer], ids[farther]] for nearer, farther in dropped]
    if cycles:
        print(f"{base.name}: {len(cycles)} pairs would close a cycle and were dropped from the order: {cycles[:5]}")
    # written last of the three: if it exists, so do the others
    write_whole(base.with_name(f"{base.name}.json"), json.dumps({"annotations": annotations, "cycles": cycles}) + "\n")
