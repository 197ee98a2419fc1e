"""COCO json in, COCO json out: the modal instances of any detector or annotation tool become amodal ones."""

from __future__ import annotations

import hashlib
import json
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
from amodalseg.data.images import image_size, load_turned, save_png
from amodalseg.data.readers.files import ID, by_id, check_join, load_json, require
from amodalseg.engine.prediction.complete import Item, Settings, complete, fit_to_photo
from amodalseg.engine.prediction.notes import Notes
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel
from amodalseg.models.fingerprint import model_fingerprint
from amodalseg.predictions import Prediction
from amodalseg.report.pictures import completion_picture
from amodalseg.types import stable_seed

Entry = dict[str, Any]


def predict_coco(
    model: AmodalModel, source: Path, images: Path, out: Path, settings: Settings, listing: Path | None = None
) -> list[str]:
    """Complete every annotation of a COCO file.

    In each annotation ``segmentation`` becomes the amodal mask (compressed run lengths), ``area`` and ``bbox`` those of
    it, and ``modal_segmentation`` is what ``segmentation`` was; ids, order and every other key stay. A crowd is no
    single object: its mask stays. Annotations that failed are left out.

    Finished objects are noted in ``<out>.partial.jsonl``, from which the same command goes on if it is killed; the
    output itself is written at the end, as a whole.

    Args:
        model: any model.
        source: an instances file, or the list of results of a detector.
        images: the folder of photos.
        out: json file to write.
        settings: how to predict; an object's seed follows from ``settings.seed`` and its id (in a list of results: its
            place in it).
        listing: for a list of results, a COCO file with its ``images``.

    Returns:
        One line for each annotation that failed.

    Raises:
        UserError: files that are missing or broken, an output that is there, a partial file of another command.
    """
    _check_paths(source, images, out, settings.overwrite)
    content = load_json(source)
    entries, photos = _read(content, source, listing)
    paths = {image_id: images / photos[image_id]["file_name"] for image_id in photos}
    inputs = _inputs(model, [source, *([listing] if listing else [])], paths.values())
    notes = Notes(out, _command(model, settings), inputs, settings.overwrite)
    place = {image_id: number for number, image_id in enumerate(photos)}
    waiting = [(key, entry) for key, entry in entries.items() if key not in notes.done and not entry.get("iscrowd")]
    waiting.sort(key=lambda item: place[item[1]["image_id"]])  # the objects of a photo together: it is read once
    items = [
        Item(
            f"annotation {key}",
            paths[entry["image_id"]],
            stable_seed("annotation", settings.seed, key),
            partial(_modal, entry, photos[entry["image_id"]], settings.upright),
            partial(_keep, notes, key),
        )
        for key, entry in waiting
    ]
    model.warn_if_unused(settings.num_samples, settings.steps)
    with notes:
        failures = complete(model, items, settings, len(entries) - len(items))
    finished = [_completed(entry, notes.done.get(key)) for key, entry in entries.items()]
    kept = [entry for entry in finished if entry is not None]
    if isinstance(content, list):
        written: Any = kept
    else:
        shown = [_as_read(entry, paths[entry["id"]], settings.upright) for entry in content["images"]]
        written = {**content, "images": shown, "annotations": kept}
    write_whole(out, json.dumps(written) + "\n")
    notes.path.unlink(missing_ok=True)
    if settings.overlay:
        failures += _write_overlays(kept, photos, paths, settings)
    print(f"{len(kept)} of {len(entries)} annotations: {out}")
    return failures


def _keep(notes: Notes, key: str, prediction: Prediction) -> None:
    notes.add(key, _prediction(prediction))


def _check_paths(source: Path, images: Path, out: Path, overwrite: bool) -> None:
    if not images.is_dir():
        raise UserError(f"no image folder at {images}")
    if out.suffix.lower() != ".json" or out.is_dir():
        raise UserError(f"--out '{out}' is no json file; give a name that ends in .json")
    if out.resolve() == source.resolve():
        raise UserError(f"--out '{out}' would overwrite what is read; give another name")
    if out.exists() and not overwrite:
        raise UserError(f"{out} is there; give another --out, or --overwrite")


def _read(content: Any, source: Path, listing: Path | None) -> tuple[dict[str, Entry], dict[Any, Entry]]:
    """Annotations by key, an id as json text or a place in a list of results, and images by id."""
    if isinstance(content, list):
        if listing is None:
            raise UserError(f"{source} is a list of results, without images; give a COCO file with --coco-images")
        images = load_json(listing)
        for place, entry in enumerate(content):
            require(entry, {"image_id": ID}, f"{source}: result number {place + 1}")
        entries = {str(place): entry for place, entry in enumerate(content)}
        joined = [{**entry, "id": f"number {place + 1}"} for place, entry in enumerate(content)]
    else:
        if listing is not None:
            raise UserError(f"{source} has its own images; --coco-images is for lists of results")
        require(content, {"images": (list,), "annotations": (list,)}, str(source))
        images = content
        found = by_id(content["annotations"], {"id": ID, "image_id": ID}, "annotation", source)
        entries, joined = {json.dumps(key): entry for key, entry in found.items()}, list(found.values())
    require(images, {"images": (list,)}, str(listing or source))
    sizes = {"height": (int,), "width": (int,)}
    photos = by_id(images["images"], {"id": ID, "file_name": (str,)}, "image", listing or source, sizes)
    check_join(joined, photos, source)
    return entries, photos


def _modal(entry: Entry, photo: Entry, upright: bool, image: np.ndarray, turn: int) -> np.ndarray:
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


def _as_read(photo: Entry, path: Path, upright: bool) -> Entry:
    """An image entry with the size of its photo as that was read."""
    if upright and "height" in photo and "width" in photo:
        try:
            height, width = image_size(path, upright=True)
        except UserError:  # its annotations have failed, and are listed
            return photo
        if (photo["width"], photo["height"]) == (height, width):
            return {**photo, "height": height, "width": width}
    return photo


def _completed(entry: Entry, prediction: Entry | None) -> Entry | None:
    """An annotation of the output, or None for one that has no prediction."""
    if entry.get("iscrowd"):
        return {**entry, "modal_segmentation": entry.get("segmentation")}
    return None if prediction is None else {**entry, **prediction, "modal_segmentation": entry["segmentation"]}


def _write_overlays(
    entries: list[Entry], photos: dict[Any, Entry], paths: dict[Any, Path], settings: Settings
) -> list[str]:
    """One picture of each photo. Returns: one line for each that failed."""
    assert settings.overlay is not None
    objects: dict[Any, list[Entry]] = {}
    for entry in entries:
        if not entry.get("iscrowd"):
            objects.setdefault(entry["image_id"], []).append(entry)
    failures = []
    for image_id in tqdm(objects, desc="overlays", unit="photo", disable=None):
        name = photos[image_id]["file_name"]
        # a name may lead out of the folder of photos; pictures stay in theirs
        parts = [part for part in Path(name).with_suffix(".png").parts if part not in ("..", Path(name).anchor)]
        try:
            image, turn = load_turned(paths[image_id], upright=settings.upright)
            pairs = (
                (
                    _modal({**entry, "segmentation": entry["modal_segmentation"]}, {}, settings.upright, image, turn),
                    _modal(entry, {}, settings.upright, image, turn),
                )
                for entry in objects[image_id]
            )
            save_png(settings.overlay.joinpath(*parts), completion_picture(image, pairs))
        except UserError as error:
            failures.append(f"overlay of {name}: {error}")
    return failures


def _command(model: AmodalModel, settings: Settings) -> str:
    """Of the options that a prediction depends on."""
    config: Any = getattr(model, "config", None)
    parts = [
        model.name, None if config is None else to_dict(config), settings.seed, settings.num_samples, settings.steps,
        settings.upright,
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


def _prediction(prediction: Prediction) -> Entry:
    amodal = prediction.amodal
    rle, (x0, y0, x1, y1) = masks.encode(amodal), masks.box_xyxy(amodal) or (0, 0, 0, 0)
    return {
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
        "area": masks.area(rle),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }
