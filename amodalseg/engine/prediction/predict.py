"""Completion of objects in folders of photos and masks. One photo: ``predict_file``; COCO: ``predict_coco``."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from amodalseg.atomic import write_whole
from amodalseg.data.images import load_turned, save_png
from amodalseg.data.mask_files import holds_label, mask_labels, read_mask_file
from amodalseg.engine.prediction.complete import (
    Item,
    Settings,
    complete,
    given_mask,
    keep_mask,
    saying,
)
from amodalseg.errors import UserError
from amodalseg.lock import locked
from amodalseg.models.base import AmodalModel
from amodalseg.models.fingerprint import model_fingerprint
from amodalseg.report.whole_photos import completion_picture
from amodalseg.types import stable_seed

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""File extensions of photos."""
COMMAND = ".amodalseg.json"
"""File in a folder of outputs that records their weights and options."""
MASKS = PICTURES | {".gif", ".npy"}
"""File extensions of masks."""


@dataclass(frozen=True)
class Pair:
    """One object of a folder. photo, mask: files. label: in the mask file. name: of the output file."""

    photo: Path
    mask: Path
    label: str | None
    name: str


def predict_folder(model: AmodalModel, images: Path, masks: Path, out: Path, settings: Settings) -> list[str]:
    """Complete the objects of a folder of photos and one of masks; ``out`` gets one mask with each mask's name.

    A mask belongs to the photo with the same name, or with the longest name that its own continues after ``_`` or
    ``.``: ``street.png``, ``street_2.png`` and ``street.2.png`` belong to ``street.jpg``. A mask file with several
    labels gives one mask per label, ``NAME_LABEL.png``. Existing outputs are kept, unless ``settings.overwrite`` or
    they are older than their photo or mask, so a killed run continues when repeated.

    Returns:
        One line per mask that failed.

    Raises:
        UserError: folders are missing, empty or identical; names are not unique; existing outputs come from another
            model or other options.
    """
    if len({folder.resolve() for folder in (images, masks, out)}) < 3:
        raise UserError("--images, --masks and --out must be three different folders")
    for option, folder in (("--overlay", settings.overlay), ("--cutout", settings.cutouts.folder)):
        if folder is not None and folder.resolve() in {one.resolve() for one in (images, masks, out)}:
            raise UserError(f"{option} {folder} must be another folder than --images, --masks and --out")
    photos, files = _pictures(images, PICTURES), _pictures(masks, MASKS)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out '{out}' is a file; name a folder")
    if settings.shard and settings.overwrite:
        raise UserError(f"shards share --out {out}: delete its content instead of using --overwrite")
    # shards write different files of one folder in parallel
    place = out / f"shard {settings.shard}" if settings.shard else out
    with locked(place, "--out", file=settings.shard is not None):
        return _folder(model, images, photos, files, out, settings)


def _folder(
    model: AmodalModel, images: Path, photos: dict[str, Path], files: dict[str, Path], out: Path, settings: Settings
) -> list[str]:
    owners = {stem: _owner(stem, photos) for stem in files}
    failures = [f"{files[stem]}: no photo in {images} has its name" for stem, photo in owners.items() if photo is None]
    if settings.shard:
        mine = {photo for place, photo in enumerate(sorted(photos)) if settings.shard.has(place)}
        owners = {stem: photo for stem, photo in owners.items() if photo is None or photo in mine}
        files = {stem: files[stem] for stem in owners}
    pairs = []
    for photo, stem in sorted((photo, stem) for stem, photo in owners.items() if photo is not None):
        try:
            pairs += _objects(photos[photo], files[stem], stem, settings)
        except UserError as error:
            failures.append(str(error))
    wanted, lacking = len(pairs) + len(failures), len(files) - len({pair.mask for pair in pairs}) - len(failures)
    if lacking:
        print(f"{lacking} of {len(files)} mask files have no label {settings.label}: left out")
    names = [pair.name for pair in pairs]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise UserError(f"two objects would both be written to {out / twice}.png; rename one of their mask files")
    there = {pair.name for pair in pairs if (out / f"{pair.name}.png").is_file() and not settings.overwrite}
    since = check_command(out, model, settings, bool(there))
    there -= {name for name in there if (out / f"{name}.png").stat().st_mtime_ns < since}
    older = {pair.name for pair in pairs if pair.name in there and _is_older(out / f"{pair.name}.png", pair)}
    if older:
        print(f"{len(older)} masks are older than their photo or mask file: predicting them again")
        there -= older
    if there:
        print(f"{len(there)} of {wanted} masks exist and are kept; --overwrite replaces them")
    items = [
        Item(
            f"{pair.mask}" + (f", label {pair.label}" if pair.label else ""),
            pair.photo,
            seed,
            partial(given_mask, pair.mask, pair.label, settings),
            partial(keep_mask, out / f"{pair.name}.png", settings, seed),
        )
        for pair in pairs
        if pair.name not in there
        for seed in [stable_seed("mask file", settings.seed, pair.name)]
    ]
    model.warn_if_unused(settings.num_samples, settings.steps)
    again = "without --overwrite" if settings.overwrite else "again"
    with saying(f"run the same command {again} to continue after the masks that are written"):
        failures += complete(model, items, settings, len(there))
    if settings.overlay:
        failures += _overlays([pair for pair in pairs if (out / f"{pair.name}.png").is_file()], out, settings)
    made = sum((out / f"{pair.name}.png").is_file() for pair in pairs if pair.name not in there)
    beside = f", the photos with them in {settings.overlay}" if settings.overlay else ""
    print(f"{made} of {wanted} masks are written to {out}{beside}")
    return failures


def check_command(out: Path, model: AmodalModel, settings: Settings, kept: bool) -> int:
    """Record beside the outputs how they are made, and whether all are recomputed: a kill may leave older ones.

    Returns:
        The file time before which outputs do not count.

    Raises:
        UserError: existing outputs were made with another model or other options.
    """
    parts = [
        model_fingerprint(model), settings.seed, settings.num_samples, settings.steps, settings.upright, settings.label,
        settings.invert, *settings.told(),
    ]  # fmt: skip
    note, found = out / COMMAND, ""
    if note.is_file():
        found = note.read_text("utf-8", errors="replace")
    texts = {anew: json.dumps({"made by": parts, "anew": anew}) for anew in (False, True)}
    if found in texts.values() and not settings.overwrite:
        return note.stat().st_mtime_ns if found == texts[True] else 0
    if kept and found:
        raise UserError(
            f"{out} holds masks of other weights or options; give another --out, or --overwrite to replace them"
        )
    write_whole(note, texts[settings.overwrite])
    return 0


def _is_older(output: Path, pair: Pair) -> bool:
    made = output.stat().st_mtime_ns
    return any(path.is_file() and path.stat().st_mtime_ns > made for path in (pair.photo, pair.mask))


def _objects(photo: Path, mask: Path, stem: str, settings: Settings) -> list[Pair]:
    """The objects of a mask file: one, or one per label. Empty if it lacks the requested label."""
    if settings.label is not None:
        return [Pair(photo, mask, settings.label, stem)] if holds_label(mask, settings.label) else []
    labels = mask_labels(mask)
    return [Pair(photo, mask, label, f"{stem}_{label}") for label in labels] or [Pair(photo, mask, None, stem)]


def _overlays(pairs: Sequence[Pair], out: Path, settings: Settings) -> list[str]:
    """Write one picture per photo. Returns: one line for each that failed."""
    assert settings.overlay is not None
    objects: dict[Path, list[Pair]] = {}
    for pair in pairs:
        objects.setdefault(pair.photo, []).append(pair)
    failures = []
    for path in tqdm(objects, desc="overlays", unit="photo", disable=None):
        try:
            image, turn = load_turned(path, upright=settings.upright)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about the masks have been given already
                given = [given_mask(pair.mask, pair.label, settings, image, turn) for pair in objects[path]]
            made = [read_mask_file(out / f"{pair.name}.png", quiet=True) for pair in objects[path]]
            if any(mask.shape != image.shape[:2] for mask in (*given, *made)):
                raise UserError("a mask in the output folder is of another photo; --overwrite replaces all")
            picture = completion_picture(image, zip(given, made, strict=True))
        except UserError as error:
            failures.append(f"overlay of {path}: {error}")
            continue
        save_png(settings.overlay / f"{path.stem}.png", picture)
    return failures


def _pictures(folder: Path, endings: set[str]) -> dict[str, Path]:
    """Picture files of a folder by their names without extension."""
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in endings and path.is_file():
            if path.stem in found:
                raise UserError(f"{found[path.stem]} and {path.name} have the same name; rename one of them")
            found[path.stem] = path
    if not found:
        raise UserError(f"the folder {folder} holds no pictures ({', '.join(sorted(endings))})")
    return found


def _owner(stem: str, photos: dict[str, Path]) -> str | None:
    """The photo that a mask belongs to."""
    ends = [len(stem), *(place for place in range(len(stem) - 1, 0, -1) if stem[place] in "_.")]
    return next((stem[:end] for end in ends if stem[:end] in photos), None)


def report_failures(failures: Sequence[str]) -> int:
    """List what failed. Returns: the exit code, 1 if anything did."""
    for line in failures:
        print(f"failed: {' '.join(line.split())}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} failed, the rest is done", file=sys.stderr)
    return 1 if failures else 0
