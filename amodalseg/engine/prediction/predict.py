"""Completing objects of files: one photo and mask, or folders of both. COCO files are in ``predict_coco``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodalseg.data.images import load_image, save_png
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel, check_query
from amodalseg.predictions import Prediction
from amodalseg.report.pictures import completion_picture
from amodalseg.types import Query, stable_seed

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""Endings of the files that are taken for photos and masks."""


@dataclass
class Settings:
    """How to predict.

    Attributes:
        seed: from which each object's own seed follows.
        num_samples, steps: as for ``AmodalModel.predict``.
        overlay: folder for one picture of each photo, or None.
        overwrite: begin anew instead of keeping what is there.
    """

    seed: int = 0
    num_samples: int = 1
    steps: int | None = None
    overlay: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Item:
    """One object to complete.

    Attributes:
        name: for messages.
        photo: its file; items of one photo stand together.
        seed: of its random numbers.
        modal: photo -> modal mask, bool (H, W); raises UserError.
        keep: takes the prediction.
    """

    name: str
    photo: Path
    seed: int
    modal: Callable[[np.ndarray], np.ndarray]
    keep: Callable[[Prediction], None]


def complete(model: AmodalModel, items: Sequence[Item], settings: Settings, done: int = 0) -> list[str]:
    """Ask the model about every item, in batches over the photos, and hand each prediction to its item.

    Args:
        model: any model; its ``batch_size`` bounds what is held at once.
        items: to complete.
        settings: how.
        done: objects that the progress bar counts from the start.

    Returns:
        One line for each item that failed.
    """
    failures: list[str] = []
    size = max(1, model.batch_size // settings.num_samples)
    batch: list[tuple[Item, Query]] = []
    bar = tqdm(total=done + len(items), initial=done, desc=model.name, unit="object", disable=None)

    def run_batch() -> None:
        queries = [query for _, query in batch]
        predictions = model.predict_batch(queries, num_samples=settings.num_samples, steps=settings.steps)
        for (item, _), prediction in zip(batch, predictions, strict=True):
            item.keep(prediction)
        bar.update(len(batch))
        batch.clear()

    for item, photo in _with_photos(items):
        try:
            if isinstance(photo, UserError):
                raise photo
            query = Query(photo, item.modal(photo), item.seed)
            check_query(query)
        except UserError as error:
            failures.append(f"{item.name}: {error}")
            bar.update()
            continue
        batch.append((item, query))
        if len(batch) == size:
            run_batch()
    if batch:
        run_batch()
    bar.close()
    return failures


def _with_photos(items: Iterable[Item]) -> Iterator[tuple[Item, np.ndarray | UserError]]:
    """Each item with its photo, read once for neighbours, or with what is wrong with it."""
    path: Path | None = None
    opened: np.ndarray | UserError = UserError("")
    for item in items:
        if item.photo != path:
            path = item.photo
            try:
                opened = load_image(path)
            except UserError as error:
                opened = error
        yield item, opened


def load_mask(path: Path) -> np.ndarray:
    """Read a mask file: white on black, or ones on zeros.

    Args:
        path: any picture; of a coloured one the brightest channel counts.

    Returns:
        bool (H, W): pixels above 127; in a picture of zeros and ones, the ones.

    Raises:
        UserError: the file cannot be read.
    """
    values = load_image(path).max(axis=2)
    return values > (0 if values.max() <= 1 else 127)


def _given(path: Path, _: np.ndarray) -> np.ndarray:
    return load_mask(path)


def _keep(path: Path, prediction: Prediction) -> None:
    """Write the whole mask as a picture, white on black."""
    save_png(path, prediction.amodal.astype(np.uint8) * 255)


def predict_file(model: AmodalModel, image: Path, mask: Path, out: Path, settings: Settings) -> None:
    """Complete one object: a photo and a mask file -> a mask file, the same as ``model.predict`` gives.

    Raises:
        UserError: a file that cannot be read or written, or that does not fit.
    """
    if out.suffix.lower() != ".png" or out.is_dir():
        raise UserError(f"--out '{out}' is no picture file; give a name that ends in .png")
    if out.resolve() in (image.resolve(), mask.resolve()):
        raise UserError(f"--out '{out}' would overwrite what is read; give another name")
    photo, modal = load_image(image), load_mask(mask)
    model.warn_if_unused(settings.num_samples, settings.steps)
    query = Query(photo, modal, settings.seed)
    prediction = model.predict_batch([query], num_samples=settings.num_samples, steps=settings.steps)[0]
    _keep(out, prediction)
    if settings.overlay:
        save_png(settings.overlay / f"{image.stem}.png", completion_picture(photo, [(modal, prediction.amodal)]))
    print(f"{int(prediction.occluded.sum())} hidden pixels beside {int(modal.sum())} visible ones: {out}")


def predict_folder(model: AmodalModel, images: Path, masks: Path, out: Path, settings: Settings) -> list[str]:
    """Complete the objects of a folder of photos and one of masks; ``out`` gets one mask of each mask's name.

    A mask belongs to the photo of its own name, or of the longest name that is followed by ``_`` or ``.`` in its own:
    ``street.png``, ``street_2.png`` and ``street.2.png`` belong to ``street.jpg``. Outputs that are there are kept,
    unless ``settings.overwrite``; so a run that was killed goes on.

    Returns:
        One line for each mask that failed.

    Raises:
        UserError: folders that are missing, empty or one and the same; names that are not unique.
    """
    if len({folder.resolve() for folder in (images, masks, out)}) < 3:
        raise UserError("--images, --masks and --out must be three different folders")
    photos, files = _pictures(images), _pictures(masks)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out '{out}' is a file; name a folder")
    pairs = {stem: _owner(stem, photos) for stem in files}
    failures = [f"{files[stem]}: no photo in {images} has its name" for stem, photo in pairs.items() if photo is None]
    found = sorted((photo, stem) for stem, photo in pairs.items() if photo is not None)
    there = {stem for _, stem in found if (out / f"{stem}.png").is_file() and not settings.overwrite}
    if there:
        print(f"{len(there)} of {len(files)} masks are there and kept; --overwrite makes them anew")
    items = [
        Item(
            str(files[stem]),
            photos[photo],
            stable_seed("mask file", settings.seed, stem),
            partial(_given, files[stem]),
            partial(_keep, out / f"{stem}.png"),
        )
        for photo, stem in found
        if stem not in there
    ]
    model.warn_if_unused(settings.num_samples, settings.steps)
    failures += complete(model, items, settings, len(there))
    if settings.overlay:
        objects: dict[Path, list[tuple[Path, Path]]] = {}
        for photo, stem in found:
            if (out / f"{stem}.png").is_file():
                objects.setdefault(photos[photo], []).append((files[stem], out / f"{stem}.png"))
        for path in tqdm(objects, desc="overlays", unit="photo", disable=None):
            try:
                image = load_image(path)
                masks_of = [(load_mask(given), load_mask(made)) for given, made in objects[path]]
                if any(mask.shape != image.shape[:2] for pair in masks_of for mask in pair):
                    raise UserError("a mask in the output folder is of another photo; --overwrite makes all anew")
                save_png(settings.overlay / f"{path.stem}.png", completion_picture(image, masks_of))
            except UserError as error:
                failures.append(f"overlay of {path}: {error}")
    made = sum((out / f"{stem}.png").is_file() for _, stem in found if stem not in there)
    beside = f", the photos with them in {settings.overlay}" if settings.overlay else ""
    print(f"{made} of {len(files)} masks are written to {out}{beside}")
    return failures


def _pictures(folder: Path) -> dict[str, Path]:
    """Picture files of a folder by their names without ending."""
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and path.is_file():
            if path.stem in found:
                raise UserError(f"{found[path.stem]} and {path.name} have one name; rename one of them")
            found[path.stem] = path
    if not found:
        raise UserError(f"the folder {folder} holds no pictures ({', '.join(sorted(PICTURES))})")
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
