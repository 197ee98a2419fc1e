"""COCO json in, COCO json out: the modal instances of any detector or annotation tool become amodal ones."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.config.load import to_dict
from amodalseg.data.fingerprint import file_stamp
from amodalseg.data.images import load_turned, save_png
from amodalseg.data.readers.files import is_crowd
from amodalseg.engine.prediction.coco_input import CocoInput, output_name, read_coco_input
from amodalseg.engine.prediction.complete import Item, Settings, complete, fit_to_photo, saying
from amodalseg.engine.prediction.notes import Notes, notes_path
from amodalseg.errors import UserError
from amodalseg.lock import locked
from amodalseg.models.base import AmodalModel
from amodalseg.models.fingerprint import model_fingerprint
from amodalseg.predictions import Prediction
from amodalseg.report.pictures import completion_picture
from amodalseg.types import stable_seed

Entry = dict[str, Any]


def predict_coco(
    model: AmodalModel, source: Path, images: Path | None, out: Path, settings: Settings, listing: Path | None = None,
    image: Path | None = None,
) -> list[str]:  # fmt: skip
    """Complete every annotation of a COCO file.

    In each annotation ``segmentation`` becomes the amodal mask (compressed run lengths), ``area`` and ``bbox`` those of
    it, and ``modal_segmentation`` is what ``segmentation`` was; ids, order and every other key stay. A crowd is no
    single object: its mask stays, unless ``settings.crowd`` is ``complete``. Annotations that failed are left out.

    Finished objects are noted in ``<out>.partial.jsonl``, from which the same command (without ``--overwrite``) goes on
    if it is killed; the output itself is written at the end, as a whole.

    Args:
        model: any model.
        source, images, listing, image: as ``read_coco_input`` takes them.
        out: json file to write.
        settings: how to predict; an object's seed follows from ``settings.seed`` and its id (in a list of results: its
            place in it).

    Returns:
        One line for each annotation that failed.

    Raises:
        UserError: files that are missing or broken, an output that is there, a partial file of another command.
    """
    _check_paths(source, images, out)
    given = read_coco_input(source, images, listing=listing, image=image, outside=settings.outside)
    with locked(out, "--out", file=True):
        if out.exists() and not settings.overwrite and not notes_path(out).exists():
            raise UserError(f"{out} is there; give another --out, or --overwrite")
        return _complete(model, given, out, settings)


def _complete(model: AmodalModel, given: CocoInput, out: Path, settings: Settings) -> list[str]:
    crowds = {key for key, entry in given.entries.items() if is_crowd(entry) and settings.crowd == "skip"}
    used = {given.image_of[key] for key in given.entries} - given.refused.keys()
    inputs = _inputs(model, given.files, [given.paths[image_id] for image_id in used])
    notes = Notes(out, _command(model, settings), inputs, settings.overwrite)
    failures = [
        f"annotation {key}: {given.refused[image_id]}"
        for key, image_id in given.image_of.items() if image_id in given.refused and key not in crowds
    ]  # fmt: skip
    place = {image_id: number for number, image_id in enumerate(given.photos)}
    waiting = [
        (key, entry)
        for key, entry in given.entries.items()
        if key not in notes.done and key not in crowds and given.image_of[key] in used
    ]
    waiting.sort(key=lambda item: place[given.image_of[item[0]]])  # the objects of a photo together: it is read once
    items = [
        Item(
            f"annotation {key}",
            given.paths[given.image_of[key]],
            stable_seed("annotation", settings.seed, key),
            partial(modal_of, entry, given.photos[given.image_of[key]], settings.upright),
            partial(_keep, notes, key),
        )
        for key, entry in waiting
    ]
    model.warn_if_unused(settings.num_samples, settings.steps)
    with notes, saying(notes.advice):
        failures += complete(model, items, settings, len(given.entries) - len(items))
    finished = {key: _completed(entry, notes.done.get(key), key in crowds) for key, entry in given.entries.items()}
    kept = {key: entry for key, entry in finished.items() if entry is not None}
    if settings.overlay:  # first: an output that is there says that all is done
        failures += _write_overlays({key: entry for key, entry in kept.items() if key not in crowds}, given, settings)
    write_whole(out, json.dumps(given.with_annotations(list(kept.values()), settings.upright)) + "\n")
    notes.path.unlink(missing_ok=True)
    print(f"{len(kept)} of {len(given.entries)} annotations: {out}")
    _say_left_out(given, crowds)
    return failures


def _say_left_out(given: CocoInput, crowds: set[str]) -> None:
    scraps = sum(masks.num_scraps(entry.get("segmentation")) > 0 for entry in given.entries.values())
    if scraps:
        print(f"{scraps} annotations have polygons of two points or fewer beside whole ones: these are ignored")
    if crowds:
        warnings.warn(
            f"{len(crowds)} of {len(given.entries)} annotations are marked as crowds (iscrowd=1) and kept as they are, "
            "not completed; where they are single objects in several pieces, --crowd complete takes each as one",
            stacklevel=2,
        )


def _keep(notes: Notes, key: str, prediction: Prediction) -> None:
    found = prediction.to_coco()
    del found["modal_segmentation"]  # it is what the file gives, in the file's own form
    notes.add(key, found)


def _check_paths(source: Path, images: Path | None, out: Path) -> None:
    if images is not None and not images.is_dir():
        raise UserError(f"no image folder at {images}")
    if out.suffix.lower() != ".json" or out.is_dir():
        raise UserError(f"--out '{out}' is not a json file; give a name that ends in .json")
    if out.resolve() == source.resolve():
        raise UserError(f"--out '{out}' would overwrite what is read; give another name")


def modal_of(entry: Entry, photo: Entry, upright: bool, image: np.ndarray, turn: int) -> np.ndarray:
    """The annotation's mask in its photo as that was read, bool (H, W). Raises UserError."""
    height, width = image.shape[:2]
    said = photo.get("height", height), photo.get("width", width)
    # of a photo that is read upright, the file may give the size as it is stored
    if said != (height, width) and not (upright and turn >= 5 and said == (width, height)):
        how = ""
        if turn >= 5 and said == (width, height):
            how = f": the photo is stored turned, as its EXIF data say (orientation {turn}); give --upright"
        raise UserError(f"its photo is {width}x{height}, but the file says {said[1]}x{said[0]} (width x height){how}")
    if not entry.get("segmentation"):
        raise UserError("it has no segmentation; a box alone does not say which pixels are the object's")
    try:
        mask = masks.decode(masks.from_segmentation(entry["segmentation"], height, width))
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"its mask cannot be read: {error}") from error
    return fit_to_photo(mask, image, turn, upright)


def _completed(entry: Entry, prediction: Entry | None, crowd: bool) -> Entry | None:
    """An annotation of the output, or None for one that has no prediction."""
    if crowd:
        return {**entry, "modal_segmentation": entry.get("segmentation")}
    return None if prediction is None else {**entry, **prediction, "modal_segmentation": entry["segmentation"]}


def _write_overlays(kept: dict[str, Entry], given: CocoInput, settings: Settings) -> list[str]:
    """One picture of each photo. Returns: one line for each that failed."""
    assert settings.overlay is not None
    objects: dict[Any, list[Entry]] = {}
    for key, entry in kept.items():
        objects.setdefault(given.image_of[key], []).append(entry)
    failures = []
    for image_id in tqdm(objects, desc="overlays", unit="photo", disable=None):
        photo = given.photos[image_id]
        try:
            image, turn = load_turned(given.paths[image_id], upright=settings.upright)
            pairs = (
                (
                    modal_of({**entry, "segmentation": entry["modal_segmentation"]}, {}, settings.upright, image, turn),
                    modal_of(entry, {}, settings.upright, image, turn),
                )
                for entry in objects[image_id]
            )
            picture = completion_picture(image, pairs)
        except UserError as error:
            failures.append(f"overlay of {photo['file_name']}: {error}")
            continue
        save_png(settings.overlay / f"{output_name(photo)}.png", picture)
    return failures


def _command(model: AmodalModel, settings: Settings) -> str:
    """Of the options that a prediction depends on."""
    config: Any = getattr(model, "config", None)
    parts = [
        model.name, None if config is None else to_dict(config), settings.seed, settings.num_samples, settings.steps,
        settings.upright, settings.crowd,
    ]  # fmt: skip
    return _digest(json.dumps(parts))


def _inputs(model: AmodalModel, sources: list[Path], paths: Iterable[Path]) -> dict[str, str]:
    """Fingerprints of the files that a prediction depends on. Photos are looked up, not read."""
    return {
        "the weights": model_fingerprint(model),
        "the annotations": _digest("".join(hashlib.blake2b(path.read_bytes()).hexdigest() for path in sources)),
        "the photos": _digest(repr([file_stamp(path) for path in sorted(set(paths))])),
    }


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
