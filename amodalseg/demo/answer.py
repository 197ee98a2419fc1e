"""The results of the page: completed objects of a photo, as pictures to display and files to download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amodalseg import masks
from amodalseg.data.images import save_png
from amodalseg.demo.pictures import shrunk, uncertainty_picture
from amodalseg.demo.uploads import OBJECTS
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.metrics.order import Order, order_of, pairs
from amodalseg.models.base import AmodalModel, whole_number
from amodalseg.models.cutout import cutout
from amodalseg.predictions import Prediction, PredictionStack
from amodalseg.report.whole_photos import completion_picture, order_picture

STEPS, SAMPLES = 100, 16
"""Maximum number of steps and of samples of one request."""
MASK_MEGAPIXELS = 100
"""Maximum total size of the masks of one request: number of objects times the photo's megapixels."""


class Answer(NamedTuple):
    """before, after: uint8 (h, w, 3), the photo without and with its completed objects. pictures: per object, with
    titles. files: for download. text: a summary, in lines.
    """

    before: np.ndarray
    after: np.ndarray
    pictures: list[tuple[np.ndarray, str]]
    files: list[Path]
    text: list[str]


def answer(
    photo: np.ndarray,
    objects: Sequence[Rle],
    model: AmodalModel,
    folder: Path,
    *,
    seed: int = 0,
    num_samples: int = 1,
    steps: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> Answer:
    """Complete the objects of a photo.

    Each mask is byte for byte the one that ``amodalseg predict --upright`` writes with the same options.

    Args:
        photo: uint8 (H, W, 3).
        objects: their modal masks, in any order of depth.
        model: any model.
        folder: where the files are written.
        seed, num_samples: as for ``AmodalModel.predict``.
        steps: of the sampler; 0: the model's default.
        progress: called before each object with the number of completed objects.

    Raises:
        UserError: there is no object or too many, a number is invalid, or the model rejects the input.
    """
    if not 1 <= len(objects) <= OBJECTS:
        raise UserError("mark an object first" if not objects else f"the demo completes {OBJECTS} objects at once")
    pixels = len(objects) * photo.shape[0] * photo.shape[1] / 1e6
    if pixels > MASK_MEGAPIXELS:
        raise UserError(
            f"{len(objects)} objects of this photo are {pixels:.0f} megapixels; the demo takes {MASK_MEGAPIXELS}: give "
            "a smaller photo, or fewer objects"
        )
    steps, num_samples = whole_number(steps, "steps", 0), whole_number(num_samples, "samples", 1)
    if steps > STEPS or num_samples > SAMPLES:
        raise UserError(f"the demo takes {STEPS} steps and {SAMPLES} samples at most")
    shown: list[Prediction] = []
    completions: list[Rle] = []
    pictures: list[tuple[np.ndarray, str]] = []
    files: list[Path] = []
    text: list[str] = []
    if not model.stochastic and (num_samples > 1 or steps):
        text.append(f"'{model.name}' is deterministic: steps and samples have no effect")
        num_samples, steps = 1, 0
    for place, rle in enumerate(objects, start=1):
        progress(place - 1)
        modal = masks.decode(rle)
        prediction = model.predict(photo, modal, seed=seed, num_samples=num_samples, steps=steps or None)
        assert isinstance(prediction, Prediction)
        number = f"_{place}" if len(objects) > 1 else ""
        of = f" {place}" if number else ""
        seen, hidden = int(modal.sum()), int(prediction.occluded.sum())
        score = "" if prediction.score is None else f", score {prediction.score:.2f}"
        shares = f"{seen:,} pixels visible, {hidden:,} hidden ({hidden / (seen + hidden):.0%})"
        text.append(f"Object {place}: {shares}{score}")
        files += [folder / f"amodal{number}.png", folder / f"modal{number}.png", folder / f"cutout{number}.png"]
        save_png(files[-3], prediction.amodal.astype(np.uint8) * 255)
        save_png(files[-2], modal.astype(np.uint8) * 255)
        alone = cutout(photo, prediction).picture
        save_png(files[-1], alone)
        pictures.append((shrunk(prediction.amodal).astype(np.uint8) * 255, f"Mask{of}"))
        pictures.append((shrunk(alone), f"Cut-out{of}"))
        if prediction.uncertainty is not None:
            files.append(folder / f"uncertainty{number}.png")
            save_png(files[-1], np.rint(255 * prediction.uncertainty).astype(np.uint8))
            pictures.append((uncertainty_picture(photo, prediction.uncertainty), f"Uncertainty{of}"))
        completions.append(masks.encode(prediction.amodal))
        small = shrunk(prediction.amodal)
        shown.append(Prediction(shrunk(modal) & small, small[None], has_probability=False))
    before = shrunk(photo)
    after = completion_picture(before, [(one.modal, one.amodal) for one in shown])
    if len(objects) > 1:
        found = order_of(pairs([masks.decode(rle) for rle in objects], [masks.decode(rle) for rle in completions]))
        stack = PredictionStack(shown, np.stack([one.modal for one in shown]))
        pictures.insert(0, (order_picture(before, stack, found), "Order"))
        text += _order_text(found)
    return Answer(before, after, pictures, files, text)


def _order_text(found: Order) -> list[str]:
    hides = [f"{nearer + 1} hides {farther + 1}" for nearer, farther in np.argwhere(found.hides).tolist()]
    dropped = [f"{nearer + 1} over {farther + 1}" for nearer, farther in found.dropped]
    lines = [f"Objects from far to near: {', '.join(str(place + 1) for place in found.far_to_near)}"]
    lines.append(f"Object {'; '.join(hides)}" if hides else "No object hides a part of another")
    return lines + ([f"Left out, because they would close a cycle: {', '.join(dropped)}"] if dropped else [])
