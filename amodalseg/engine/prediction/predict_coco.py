"""COCO json in, COCO json out: the modal instances of any detector or annotation tool become amodal ones."""

from __future__ import annotations

import hashlib
import itertools
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.config.load import to_dict
from amodalseg.data.fingerprint import file_stamp
from amodalseg.data.readers.files import is_crowd
from amodalseg.engine.prediction.coco_input import CocoInput, modal_of, output_name, read_coco_input
from amodalseg.engine.prediction.coco_overlays import write_overlays
from amodalseg.engine.prediction.complete import Item, Settings, check_beside, complete, saying
from amodalseg.engine.prediction.notes import Notes, notes_path
from amodalseg.engine.prediction.shards import Part, Shard, read_part, read_parts, shard_path
from amodalseg.errors import UserError
from amodalseg.lock import locked
from amodalseg.models.base import AmodalModel
from amodalseg.models.fingerprint import model_fingerprint
from amodalseg.predictions import Prediction
from amodalseg.types import stable_seed

Entry = dict[str, Any]


def predict_coco(
    model: AmodalModel, source: Path, images: Path | None, out: Path, settings: Settings, listing: Path | None = None,
    image: Path | None = None,
) -> list[str]:  # fmt: skip
    """Complete every annotation of a COCO file.

    In each annotation ``segmentation`` becomes the amodal mask (compressed run lengths), ``area`` and ``bbox`` follow
    it, and ``modal_segmentation`` holds the original ``segmentation``; ids, order and all other keys are preserved. A
    crowd is not a single object: its mask is kept, unless ``settings.crowd`` is ``complete``. Annotations that failed
    are left out.

    Finished objects are recorded in ``<out>.partial.jsonl``, from which the same command (without ``--overwrite``)
    continues after a kill; the output itself is written at the end, in one piece. With ``settings.shard`` the output is
    a part, which ``merge_coco`` combines with the others.

    Args:
        model: any model.
        source, images, listing, image: as for ``read_coco_input``.
        out: json file to write.
        settings: how to predict; an object's seed is derived from ``settings.seed`` and its id (in a list of results:
            its position).

    Returns:
        One line per annotation that failed.

    Raises:
        UserError: files are missing or broken, the output exists, or the partial file is of another command.
    """
    _check_paths(source, images, out, listing)
    given = read_coco_input(source, images, listing=listing, image=image, outside=settings.outside)
    _check_beside(given, settings)
    place = {image_id: number for number, image_id in enumerate(given.photos)}
    mine = given.entries
    if settings.shard:
        out = shard_path(out, settings.shard)
        mine = {key: e for key, e in given.entries.items() if settings.shard.has(place[given.image_of[key]])}
    crowds = _crowds(mine, settings.crowd)
    asked = {key: mine[key] for key in mine if key not in crowds}
    with locked(out, "--out", file=True):
        there = out.exists() and not settings.overwrite and not notes_path(out).exists()
        if there and not settings.shard:
            raise UserError(f"{out} exists; give another --out, or --overwrite")
        # before anything is read, so that the next run detects changes made meanwhile
        begun = Part(_command(model, settings), _inputs(model, given, asked), settings.crowd, settings.upright, {}, [])
        if there and settings.shard:
            return _kept_part(out, settings.shard, begun)
        done, failures = _complete(model, given, asked, out, settings, begun)
        if settings.overlay:  # first: an existing output means that everything is done
            failures += write_overlays(done, given, settings)
        if settings.shard:
            replace(begun, predictions=done, failures=failures).write(out, settings.shard)
            print(f"{len(done)} of {len(asked)} annotations of shard {settings.shard}: {out}")
        else:
            _write(given, done, crowds, out, settings.upright)
        notes_path(out).unlink(missing_ok=True)
    return failures


def merge_coco(
    source: Path, images: Path | None, out: Path, listing: Path | None = None, image: Path | None = None,
    outside: bool = False, overwrite: bool = False,
) -> list[str]:  # fmt: skip
    """Write the output of ``predict_coco`` from the parts that its shards have written beside it.

    Args:
        source, images, listing, image, outside: as for ``predict_coco``.
        out: the json file that the shards were given.
        overwrite: replace an existing output.

    Returns:
        One line for each annotation that failed.

    Raises:
        UserError: shards are missing or do not belong together; annotations have changed since.
    """
    _check_paths(source, images, out, listing)
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists; give another --out, or --overwrite")
    parts = read_parts(out)
    given = read_coco_input(source, images, listing=listing, image=image, outside=outside)
    if parts[0].inputs.get("the annotations") != _annotations(given.files):
        raise UserError(f"{source} is not, or no longer, the file from which the shards of {out} were predicted")
    done = {key: prediction for part in parts for key, prediction in part.predictions.items()}
    with locked(out, "--out", file=True):
        _write(given, done, _crowds(given.entries, parts[0].crowd), out, parts[0].upright)
    return [line for part in parts for line in part.failures]


def _crowds(entries: Mapping[str, Entry], crowd: str) -> set[str]:
    return {key for key, entry in entries.items() if is_crowd(entry) and crowd == "skip"}


def _kept_part(out: Path, shard: Shard, wanted: Part) -> list[str]:
    """A finished shard. Returns: its failures. Raises UserError: it is of another command or other files."""
    part = read_part(out, shard)
    if (part.command, part.inputs) != (wanted.command, wanted.inputs):
        raise UserError(f"{out} is from other options, weights, annotations or photos; --overwrite replaces it")
    print(f"shard {shard} is done: {out}")
    return part.failures


def _complete(
    model: AmodalModel, given: CocoInput, mine: dict[str, Entry], out: Path, settings: Settings, begun: Part
) -> tuple[dict[str, Entry], list[str]]:
    """Complete some of the annotations. Returns: predictions by key, and one line for each that failed."""
    notes = Notes(out, begun.command, begun.inputs, settings.overwrite)
    refused = {key: given.refused[given.image_of[key]] for key in mine if given.image_of[key] in given.refused}
    failures = [f"annotation {key}: {why}" for key, why in refused.items()]
    place = {image_id: number for number, image_id in enumerate(given.photos)}
    waiting = [(key, entry) for key, entry in mine.items() if key not in notes.done and key not in refused]
    waiting.sort(key=lambda item: place[given.image_of[item[0]]])  # the objects of a photo together: it is read once
    items = [
        Item(
            f"annotation {key}",
            given.paths[given.image_of[key]],
            stable_seed("annotation", settings.seed, key),
            partial(modal_of, entry, given.photos[given.image_of[key]], settings.upright),
            partial(_keep, notes, key, settings),
        )
        for key, entry in waiting
    ]
    model.warn_if_unused(settings.num_samples, settings.steps)
    with notes, saying(notes.advice):
        failures += complete(model, items, settings, len(mine) - len(items))
    return {key: notes.done[key] for key in mine if key in notes.done}, failures


def _write(given: CocoInput, done: dict[str, Entry], crowds: set[str], out: Path, upright: bool) -> None:
    """Write the output, and report on it."""
    finished = [_completed(entry, done.get(key), key in crowds) for key, entry in given.entries.items()]
    kept = [entry for entry in finished if entry is not None]
    write_whole(out, json.dumps(given.with_annotations(kept, upright)) + "\n")
    print(f"{len(kept)} of {len(given.entries)} annotations: {out}")
    _report_left_out(given, crowds)


def _report_left_out(given: CocoInput, crowds: set[str]) -> None:
    scraps = sum(masks.num_scraps(entry.get("segmentation")) > 0 for entry in given.entries.values())
    if scraps:
        print(f"{scraps} annotations have polygons of two points or fewer beside valid ones, which are ignored")
    if crowds:
        warnings.warn(
            f"{len(crowds)} of {len(given.entries)} annotations are marked as crowds (iscrowd=1) and kept unchanged, "
            "not completed; if they are single objects in several pieces, --crowd complete treats each as one object",
            stacklevel=2,
        )


def _keep(notes: Notes, key: str, settings: Settings, photo: np.ndarray, prediction: Prediction) -> None:
    settings.cutouts.keep(quote(key, safe=""), photo, prediction, stable_seed("annotation", settings.seed, key))
    notes.add(key, prediction.to_coco(modal=False))  # the modal mask stays as in the file


def _check_paths(source: Path, images: Path | None, out: Path, listing: Path | None) -> None:
    if images is not None and not images.is_dir():
        raise UserError(f"no image folder at {images}")
    if out.suffix.lower() != ".json" or out.is_dir():
        raise UserError(f"--out '{out}' is not a json file; give a name that ends in .json")
    if out.resolve() in {path.resolve() for path in (source, listing) if path is not None}:
        raise UserError(f"--out '{out}' would overwrite an input; give another name")


def _check_beside(given: CocoInput, settings: Settings) -> None:
    """Refuse pictures beside the output that would replace a photo or one another. Raises UserError."""
    photos = given.paths.values()
    if settings.overlay:
        names = [output_name(given.photos[image_id]) for image_id in dict.fromkeys(given.image_of.values())]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise UserError(f"two photos would both be drawn in {settings.overlay / twice}.png; rename one of them")
        check_beside("--overlay", (settings.overlay / f"{name}.png" for name in names), photos)
    cutouts = (settings.cutouts.paths(quote(key, safe="")) for key in given.entries)
    check_beside("--cutout", itertools.chain.from_iterable(cutouts), photos)


def _completed(entry: Entry, prediction: Entry | None, crowd: bool) -> Entry | None:
    """An annotation of the output, or None for one that has no prediction."""
    if crowd:
        return {**entry, "modal_segmentation": entry.get("segmentation")}
    return None if prediction is None else {**entry, **prediction, "modal_segmentation": entry["segmentation"]}


def _command(model: AmodalModel, settings: Settings) -> str:
    """Fingerprint of the options that a prediction depends on."""
    config: Any = getattr(model, "config", None)
    parts = [
        model.name, None if config is None else to_dict(config), settings.seed, settings.num_samples, settings.steps,
        settings.upright, settings.crowd, *settings.told(),
    ]  # fmt: skip
    return _digest(json.dumps(parts))


def _inputs(model: AmodalModel, given: CocoInput, mine: Iterable[str]) -> dict[str, str]:
    """Fingerprints of the files that predictions of some annotations depend on. Photos are looked up, not read."""
    used = {given.image_of[key] for key in mine} - given.refused.keys()
    return {
        "the weights": model_fingerprint(model),
        "the annotations": _annotations(given.files),
        "the photos": _digest(repr([file_stamp(path) for path in sorted({given.paths[key] for key in used})])),
    }


def _annotations(files: Iterable[Path]) -> str:
    return _digest("".join(hashlib.blake2b(path.read_bytes()).hexdigest() for path in files))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
