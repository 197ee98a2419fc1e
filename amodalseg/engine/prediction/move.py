"""Moving one object in one photo: in one Python call, or from file to file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg.data.given_masks import as_masks
from amodalseg.data.images import load_turned, save_png
from amodalseg.data.mask_files import mask_labels
from amodalseg.engine.evaluation.ask import ask
from amodalseg.engine.prediction.complete import check_beside, check_output, mask_for_photo, say_turned
from amodalseg.errors import UserError
from amodalseg.models import DEFAULT, bars, load_model
from amodalseg.models.base import AmodalModel, as_rgb, check_masks, whole_number
from amodalseg.predictions import Prediction
from amodalseg.report.moves import move_pair
from amodalseg.types import Query


def move(
    image: np.ndarray,
    modal: Any,
    to: tuple[int, int],
    *,
    category: str | None = None,
    occluder: Any = None,
    model: str | Path | AmodalModel = DEFAULT,
    seed: int = 0,
    device: str = "auto",
) -> Prediction:
    """Complete an object, remove it from its origin, and paste it at its target.

    Args:
        image: uint8 (H, W, 3) RGB; grey and RGBA are converted, see ``as_rgb``.
        modal: bool (H, W), the visible pixels of the object, or another form of one mask, see ``as_masks``.
        to: (x, y), the pixel at which the centre of the modal box lies after the move.
        category: the object's class name, for models that read text.
        occluder: the mask of the occluder, which stays in place, if known; in the same forms.
        model: a model, or anything that ``load_model`` accepts.
        seed: of all random numbers.
        device: the device for a model that is loaded here.

    Returns:
        The prediction: ``moved``, uint8 (H, W, 3), is the photo after the move, ``moved_mask``, bool (H, W), the object
        in it.

    Raises:
        UserError: the image, the mask or the target cannot be used, the model cannot be opened, or there is not enough
            memory.
    """
    image = as_rgb(image)
    modal = as_masks(modal, *image.shape[:2])
    check_masks(image, modal)
    if modal.ndim != 2:
        raise UserError(f"one object is moved at a time: the modal mask must be (H, W), not {modal.shape}")
    if occluder is not None:
        occluder = as_masks(occluder, *image.shape[:2])
    if not isinstance(model, AmodalModel):
        model = load_model(model, device)
    if category and not model.reads_text:
        warnings.warn(f"'{model.name}' reads no text: category has no effect", stacklevel=2)
    query = Query(image, modal, whole_number(seed, "seed", 0), occluder, category, to)
    (prediction, _), *_ = ask(model, [query])
    return prediction


@dataclass(frozen=True)
class MoveFiles:
    """Files of one move.

    overlay: folder for a before-and-after picture, or None. upright: rotate the photo according to its EXIF data.
    label, occluder_label: which object of a mask file with several. invert: swap object and background of mask files.
    """

    image: Path
    mask: Path
    out: Path
    occluder: Path | None = None
    overlay: Path | None = None
    upright: bool = False
    label: str | None = None
    occluder_label: str | None = None
    invert: bool = False


def move_file(model: AmodalModel, files: MoveFiles, to: tuple[int, int], category: str | None, seed: int) -> None:
    """Move one object: a photo and a mask file -> a photo, the same as that of ``move``.

    Raises:
        UserError: a file cannot be read or written, or does not fit; or as for ``move``.
    """
    given = [path for path in (files.image, files.mask, files.occluder) if path is not None]
    check_output(files.out, given)
    pair_file = None if files.overlay is None else files.overlay / f"{files.image.stem}.png"
    if pair_file is not None:
        check_beside("--overlay", [pair_file], [*given, files.out])
    photo, turn = load_turned(files.image, upright=files.upright)
    say_turned({files.image: turn} if turn != 1 else {}, 1, files.upright)
    how: dict[str, Any] = {"upright": files.upright, "invert": files.invert}
    modal, occluder = mask_for_photo(files.mask, photo, turn, label=files.label, **how), None
    if files.occluder is not None:
        if files.occluder_label is None and mask_labels(files.occluder):
            raise UserError(f"{files.occluder} holds several objects: choose the occluder by --occluder-label")
        occluder = mask_for_photo(files.occluder, photo, turn, label=files.occluder_label, **how)
    with bars.shown():
        prediction = move(photo, modal, to, category=category, occluder=occluder, model=model, seed=seed)
    assert prediction.moved is not None and prediction.moved_mask is not None
    save_png(files.out, prediction.moved)
    if pair_file is not None:
        save_png(pair_file, move_pair(photo, modal, prediction.moved_mask, prediction.moved))
    hidden = int(prediction.occluded.sum())
    hint = "; nothing hidden was completed: if something covers the object, give --occluder or take another model"
    cut = int(prediction.amodal.sum() - prediction.moved_mask.sum())
    beyond = f"; {cut} of its pixels lie outside the photo there" if cut > 0 else ""
    print(
        f"{int(modal.sum())} visible and {hidden} completed pixels moved to {to[0]},{to[1]}: {files.out}"
        f"{'' if hidden else hint}{beyond}"
    )
