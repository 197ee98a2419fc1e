"""Prediction for many objects in many photos, passing each prediction to its consumer."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodalseg.data.images import load_turned, save_png
from amodalseg.data.images import turned as turned_by
from amodalseg.data.mask_files import read_mask_file
from amodalseg.engine.prediction.cutout_files import CutoutFiles
from amodalseg.engine.prediction.shards import Shard
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel, check_query
from amodalseg.predictions import Prediction
from amodalseg.types import Query


@dataclass
class Settings:
    """How to predict.

    Attributes:
        seed: from which each object's own seed is derived.
        num_samples, steps: as for ``AmodalModel.predict``.
        overlay: folder for one picture per photo, or None.
        overwrite: start again instead of keeping existing outputs.
        upright: rotate photos, and masks, according to their EXIF data.
        label: which object, for mask files with several, as in ``read_mask_file``.
        invert: swap object and background of mask files.
        crowd: ``skip`` annotations marked as crowds, or ``complete`` each as one object.
        outside: allow photos named in a json file to lie outside of their folder.
        shard: only this part of the photos; None: all.
        num_workers: threads that read photos ahead; 0: none.
        threshold: as for ``AmodalModel.predict``.
        cutouts: files of the objects alone.
    """

    seed: int = 0
    num_samples: int = 1
    steps: int | None = None
    overlay: Path | None = None
    overwrite: bool = False
    upright: bool = False
    label: str | None = None
    invert: bool = False
    crowd: str = "skip"
    outside: bool = False
    shard: Shard | None = None
    num_workers: int = 1
    threshold: float | None = None
    cutouts: CutoutFiles = field(default_factory=CutoutFiles)

    def told(self) -> list[object]:
        """The rarely used options that outputs depend on; those left at their defaults are omitted."""
        return [*([] if self.threshold is None else ["threshold", self.threshold]), *self.cutouts.told()]


@dataclass(frozen=True)
class Item:
    """One object to complete.

    Attributes:
        name: for messages.
        photo: its file; items of one photo are consecutive.
        seed: of its random numbers.
        modal: (photo, its EXIF orientation) -> modal mask, bool (H, W); raises UserError.
        keep: called with the photo and the prediction.
    """

    name: str
    photo: Path
    seed: int
    modal: Callable[[np.ndarray, int], np.ndarray]
    keep: Callable[[np.ndarray, Prediction], None]


def complete(model: AmodalModel, items: Sequence[Item], settings: Settings, done: int = 0) -> list[str]:
    """Predict every item, in batches across photos, and pass each prediction to its item.

    Args:
        model: any model; its ``batch_size`` bounds memory.
        items: to complete.
        settings: how.
        done: initial count of the progress bar.

    Returns:
        One line per item that failed.
    """
    failures: list[str] = []
    size = max(1, model.batch_size // settings.num_samples)
    bar = tqdm(total=done + len(items), initial=done, desc=model.name, unit="object", disable=None)
    turned: dict[Path, int] = {}

    def ready() -> Generator[tuple[Item, Query], None, None]:
        for item, opened in _with_photos(items, settings.upright, settings.num_workers):
            try:
                if isinstance(opened, UserError):
                    raise opened
                photo, turn = opened
                if turn != 1:
                    turned[item.photo] = turn
                query = Query(photo, item.modal(photo, turn), item.seed)
                check_query(query)
            except UserError as error:
                failures.append(f"{item.name}: {error}")
                bar.update()
                continue
            yield item, query

    def keep(batch: list[tuple[Item, Query]], predictions: list[Prediction]) -> None:
        for (item, query), prediction in zip(batch, predictions, strict=True):
            item.keep(query.image, prediction if settings.threshold is None else prediction.at(settings.threshold))
        bar.update(len(batch))

    objects = ready()

    def take() -> list[tuple[Item, Query]]:
        return list(itertools.islice(objects, size))

    # while the model predicts, one thread opens the next batch and stores the last: memory holds two
    with closing(objects), ThreadPoolExecutor(1, thread_name_prefix="batches") as beside:
        coming = beside.submit(take)
        kept: Future[None] | None = None
        while batch := coming.result():
            coming = beside.submit(take)
            queries = [query for _, query in batch]
            predictions = model.predict_batch(queries, num_samples=settings.num_samples, steps=settings.steps)
            if kept is not None:
                kept.result()
            kept = beside.submit(keep, batch, predictions)
            del predictions  # frees them together with the full-size masks created when storing them
        if kept is not None:
            kept.result()
    bar.close()
    say_turned(turned, len({item.photo for item in items}), settings.upright)
    return failures


@contextmanager
def saying(advice: str) -> Iterator[None]:
    """Add advice to a KeyboardInterrupt (Ctrl-C)."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None


def say_turned(turned: Mapping[Path, int], count: int, upright: bool) -> None:
    """Report which photos are stored rotated, unless they are read upright.

    Args:
        turned: photo -> EXIF orientation.
        count: of all photos.
        upright: how they were read.
    """
    if turned and not upright:
        first = next(iter(turned))
        warnings.warn(
            f"{len(turned)} of {count} photos are stored rotated or mirrored by their EXIF data (orientation "
            f"{turned[first]}: {first}); they were read as stored: if masks were drawn on the upright picture, give "
            "--upright",
            stacklevel=2,
        )


def check_output(out: Path, given: Iterable[Path]) -> None:
    """Check the output name. Raises UserError: it is not a picture name, or is the name of an input file."""
    if out.suffix.lower() != ".png" or out.is_dir():
        raise UserError(f"--out '{out}' is not a picture file; give a name that ends in .png")
    if out.resolve() in {path.resolve() for path in given}:
        raise UserError(f"--out '{out}' would overwrite an input; give another name")


def check_beside(option: str, files: Iterable[Path], kept: Iterable[Path]) -> None:
    """Check further outputs. Raises UserError: one has the name of a file to keep, an input or another output."""
    names = {path.resolve() for path in kept}
    clash = next((path for path in files if path.resolve() in names), None)
    if clash is not None:
        raise UserError(f"{option} would overwrite {clash}; give another folder")


def mask_for_photo(
    path: Path, image: np.ndarray, turn: int, *, upright: bool, label: str | None = None, invert: bool = False
) -> np.ndarray:
    """``read_mask_file``, rotated with its photo if that is read upright; arguments as for ``fit_to_photo``."""
    mask = read_mask_file(path, label, upright=upright, invert=invert)
    return fit_to_photo(mask, image, turn, upright)


def given_mask(path: Path, label: str | None, settings: Settings, image: np.ndarray, turn: int) -> np.ndarray:
    """The mask of a file, for a photo as read. Raises UserError."""
    return mask_for_photo(path, image, turn, upright=settings.upright, label=label, invert=settings.invert)


def keep_mask(path: Path, settings: Settings, seed: int, photo: np.ndarray, prediction: Prediction) -> None:
    """Write the amodal mask as a picture, white on black; before it, if requested, the cut-outs."""
    settings.cutouts.keep(path.stem, photo, prediction, seed)
    save_png(path, prediction.amodal.astype(np.uint8) * 255)


def fit_to_photo(mask: np.ndarray, image: np.ndarray, turn: int, upright: bool) -> np.ndarray:
    """Rotate a mask drawn on stored pixels together with a photo that is read upright.

    Args:
        mask: bool (H, W).
        image: the photo as it was read.
        turn: EXIF orientation of the photo.
        upright: whether it was read upright.

    Returns:
        The mask; one that does not fit is returned unchanged.

    Raises:
        UserError: the mask fits the upright picture, and the photo was read as stored.
    """
    size = image.shape[:2]
    if turn < 5 or mask.shape == size or mask.shape != size[::-1]:
        return mask
    if upright:
        return turned_by(mask, turn)
    raise UserError(
        f"the mask is {mask.shape[1]}x{mask.shape[0]} and the photo is stored {size[1]}x{size[0]} (width x height), "
        f"turned by 90 degrees as its EXIF data say (orientation {turn}): give --upright to read it as viewers show it"
    )


def _with_photos(
    items: Iterable[Item], upright: bool, num_workers: int
) -> Iterator[tuple[Item, tuple[np.ndarray, int] | UserError]]:
    """Each item with its photo and EXIF orientation, read once for consecutive items, or with the error.

    While the model runs, threads prefetch the next photos: at most one more photo than there are threads.
    """
    groups = ((path, list(group)) for path, group in itertools.groupby(items, key=lambda item: item.photo))
    if not num_workers:
        for path, group in groups:
            opened = _opened(path, upright)
            yield from ((item, opened) for item in group)
        return
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="photos")
    try:
        waiting = deque(
            (group, pool.submit(_opened, path, upright)) for path, group in itertools.islice(groups, num_workers + 1)
        )
        while waiting:
            group, future = waiting.popleft()
            opened = future.result()
            waiting.extend((more, pool.submit(_opened, path, upright)) for path, more in itertools.islice(groups, 1))
            yield from ((item, opened) for item in group)
    finally:
        pool.shutdown(cancel_futures=True)


def _opened(path: Path, upright: bool) -> tuple[np.ndarray, int] | UserError:
    try:
        return load_turned(path, upright=upright)
    except UserError as error:
        return error
