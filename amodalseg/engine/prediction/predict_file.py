"""Completion of objects in one photo: given by a mask file, by points or a box, or by text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amodalseg.data.images import load_turned, save_png
from amodalseg.engine.prediction.complete import (
    Settings,
    check_beside,
    check_output,
    given_mask,
    keep_mask,
    say_turned,
)
from amodalseg.engine.prediction.cutout_files import in_front, object_layers
from amodalseg.engine.prediction.select import Prompt
from amodalseg.errors import UserError
from amodalseg.metrics.order import order_of, pairs
from amodalseg.models.base import AmodalModel
from amodalseg.predictions import Prediction
from amodalseg.report.openraster import check_name, write_layers
from amodalseg.report.whole_photos import completion_picture


def predict_file(
    model: AmodalModel, image: Path, given: Path | Prompt, out: Path, settings: Settings, layers: Path | None = None
) -> None:
    """Complete objects of one photo, with the same result as ``model.predict``.

    Args:
        model: any model.
        image: the photo.
        given: a mask file, or a prompt for ``select``.
        out: a mask file; for a text prompt a folder, which gets ``NAME_1.png``, ``NAME_2.png``, ... for ``NAME.jpg``.
        settings: how to predict.
        layers: also write the photo in layers, an ``.ora`` file; several objects in their order.

    Raises:
        UserError: a file cannot be read or written, or does not fit; or as for ``select``.
    """
    several = isinstance(given, Prompt) and given.text is not None
    inputs = [image] if isinstance(given, Prompt) else [image, given]
    overlay = settings.overlay / f"{image.stem}.png" if settings.overlay else None
    if overlay is not None:
        check_beside("--overlay", [overlay], [*inputs, out])
    if not several:
        check_output(out, inputs)
        check_beside("--cutout", settings.cutouts.paths(out.stem), [*inputs, out, *([overlay] if overlay else [])])
    elif out.suffix.lower() == ".png" or out.is_file():
        raise UserError(f"text may find several objects: --out '{out}' must be a folder, not a file")
    elif out.is_dir() and any(out.iterdir()) and not settings.overwrite:
        raise UserError(f"the folder '{out}' is not empty; give a new one as --out, or --overwrite")
    if layers is not None:
        check_name(layers)  # before predicting
    photo, turn = load_turned(image, upright=settings.upright)
    if isinstance(given, Prompt):
        modal = given.select(photo)
    else:
        modal = given_mask(given, settings.label, settings, photo, turn)
    say_turned({image: turn} if turn != 1 else {}, 1, settings.upright)
    made = model.predict(
        photo, modal, seed=settings.seed, num_samples=settings.num_samples, steps=settings.steps,
        threshold=settings.threshold,
    )  # fmt: skip
    predictions = [made] if isinstance(made, Prediction) else made
    names = [out / f"{image.stem}_{number}.png" for number in range(1, len(predictions) + 1)] if several else [out]
    for name, prediction in zip(names, predictions, strict=True):
        keep_mask(name, settings, settings.seed, photo, prediction)
        score = "" if prediction.score is None else f", score {prediction.score:.2f}"
        counts = f"{int(prediction.occluded.sum())} occluded and {int(prediction.modal.sum())} visible pixels"
        print(f"{counts}{score}: {name}")
    if overlay is not None:
        objects = [(prediction.modal, prediction.amodal) for prediction in predictions]
        save_png(overlay, completion_picture(photo, objects))
    if layers is not None:
        _write_layers(layers, photo, predictions, settings)


def _write_layers(path: Path, photo: np.ndarray, predictions: Sequence[Prediction], settings: Settings) -> None:
    """As in ``scene``; occluders that are not among the objects lie over them, in a layer of their own."""
    found = order_of(pairs([one.modal for one in predictions], [one.amodal for one in predictions]))
    ordered = [predictions[place] for place in found.far_to_near]
    titles = [f"object {place + 1}" for place in found.far_to_near]
    *made, whole = object_layers(photo, ordered, titles, settings.cutouts, settings.seed)
    write_layers(path, [*made, in_front(photo, predictions), whole], *photo.shape[:2])
