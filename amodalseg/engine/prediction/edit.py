"""Editing by text prompts in regions: in one Python call, or from a configuration to a run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amodalseg.atomic import write_whole
from amodalseg.config.schema import EditConfig
from amodalseg.data.images import load_image, load_turned, save_png
from amodalseg.engine.run_folder import check_folder, claim, provenance
from amodalseg.errors import UserError
from amodalseg.lock import locked
from amodalseg.metrics.moved import CHANGE
from amodalseg.models import bars, create_method, load_model, pick_device
from amodalseg.models.base import AmodalModel, as_rgb, whole_number
from amodalseg.report.regions_picture import regions_picture
from amodalseg.types import Region

DONE = "edit.json"
"""Written last: a folder that contains it is complete."""


class Edited(NamedTuple):
    """A picture before and after an edit.

    source, target: uint8 (H, W, 3); if a photo was given, ``source`` is that photo. changed: bool (H, W), where any
    channel differs by at least 24 of 255. keywords: for each region, the words used for guidance. evaluations: of the
    network, each covering source and target. seconds: wall time.
    """

    source: np.ndarray
    target: np.ndarray
    changed: np.ndarray
    keywords: list[tuple[str, ...]]
    evaluations: int
    seconds: float


def edit(
    regions: Sequence[Region],
    image: np.ndarray | None = None,
    *,
    source: str | None = None,
    target: str | None = None,
    size: tuple[int, int] | None = None,
    model: str | Path | AmodalModel = "mrgd",
    seed: int = 0,
    device: str = "auto",
) -> Edited:
    """Edit a photo by text prompts in its regions; without a photo, generate a picture before and after the edit.

    Args:
        regions: with their texts before and after; a region without a box describes the background.
        image: uint8 (H, W, 3) RGB; grey and RGBA are converted, see ``as_rgb``. Outside the boxes of added, removed or
            changed regions the photo is preserved exactly (unless the option ``paste`` is off).
        source, target: texts of the whole picture before and after; default: those of the regions, joined.
        size: width and height of a generated picture, pixels; default: a square of the model's own size.
        model: a model that edits, or anything that ``load_model`` accepts.
        seed: of the noise that pictures are generated from.
        device: the device for a model that is loaded here.

    Raises:
        UserError: regions, texts, the photo or the size cannot be used; the model does not edit or cannot be opened; or
            there is not enough memory.
    """
    if not isinstance(model, AmodalModel):
        model = load_model(model, device)
    from amodalseg.models.inpainting.methods.edit_request import as_regions, request_of
    from amodalseg.models.inpainting.methods.mrgd import MRGD

    if not isinstance(model, MRGD):
        raise UserError(f"'{model.name}' cannot edit: use mrgd, or a file with its options")
    if image is not None:
        image = as_rgb(image)
        if size is not None:
            raise UserError("size applies to generated pictures only; a photo keeps its size: leave it out")
    request, shape = request_of(as_regions(regions), source, target), None if size is None else _shape(size)
    began = time.perf_counter()
    found = model.edit(request, image, whole_number(seed, "seed", 0), shape)
    changed = np.abs(found.target.astype(np.int16) - found.source).max(axis=-1) >= CHANGE
    seconds = time.perf_counter() - began
    return Edited(found.source, found.target, changed, found.keywords, found.evaluations, seconds)


def _shape(size: Sequence[int]) -> tuple[int, int]:
    """Height and width of ``size``. Raises UserError."""
    try:
        width, height = size
    except (TypeError, ValueError):
        raise UserError(f"size must be two numbers, width and height in pixels, not {size!r:.60}") from None
    return whole_number(height, "the height of size", 8), whole_number(width, "the width of size", 8)


def run_edit(config: EditConfig) -> Path:
    """Make one edit and write ``source.png``, ``target.png``, ``regions.png`` and ``edit.json`` to ``config.out``.

    A folder that already contains the same finished edit is left unchanged.

    Returns:
        The folder.

    Raises:
        UserError: something is wrong with the configuration, the model, the photo or the folder.
    """
    folder = Path(config.out)
    check_folder(folder, config)
    if (folder / DONE).is_file():
        with locked(folder, "out="):  # a run killed just after its last file leaves its lock behind
            _check_photo(folder, config)
            print(f"already finished: {folder}")
        return folder
    kept = config.model.inversion.folder if config.model.name == "mrgd" else None
    if kept is not None and Path(kept).resolve() == folder.resolve():
        raise UserError(f"model.inversion.folder={kept} must be another folder than out=")
    regions = [
        Region(one.source, one.target, _box(one.box), tuple(one.keywords), one.feather) for one in config.regions
    ]
    if config.model.name != "mrgd":
        raise UserError(f"model.name={config.model.name} cannot edit: use mrgd")
    image = None if config.image is None else load_turned(config.image, upright=True)[0]
    model = create_method(config.model).to(pick_device(config.device))
    size = (config.size[0], config.size[1]) if config.size else None
    with locked(folder, "out="), bars.shown():
        edited = edit(
            regions, image, source=config.total.source, target=config.total.target, size=size, model=model,
            seed=config.seed,
        )  # fmt: skip
        claim(folder, config)
        save_png(folder / "source.png", edited.source)
        save_png(folder / "target.png", edited.target)
        save_png(folder / "regions.png", regions_picture(edited.source, edited.target, regions))
        write_whole(folder / DONE, json.dumps(_summary(config, regions, edited), indent=1))
    print(f"{100 * edited.changed.mean():.1f} % of the picture changed, {edited.evaluations} evaluations: {folder}")
    return folder


def _check_photo(folder: Path, config: EditConfig) -> None:
    """Refuse a finished edit of a photo that has changed since. Raises UserError."""
    if config.image is None or not Path(config.image).is_file():
        return
    if not np.array_equal(load_image(folder / "source.png"), load_turned(config.image, upright=True)[0]):
        raise UserError(
            f"{folder} holds the edit of another photo: {config.image} has changed since; choose another out= or "
            "remove the folder"
        )


def _box(ends: Sequence[float]) -> tuple[float, float, float, float] | None:
    if not ends:
        return None
    x0, y0, x1, y1 = ends
    return x0, y0, x1, y1


def _summary(config: EditConfig, regions: Sequence[Region], edited: Edited) -> dict[str, object]:
    height, width = edited.changed.shape
    return {
        "image": config.image,
        "width": width,
        "height": height,
        "regions": [
            {"kind": region.kind, **region._asdict(), "guided_by": words}
            for region, words in zip(regions, edited.keywords, strict=False)
        ],
        "changed": float(edited.changed.mean()),
        "evaluations": edited.evaluations,
        "seconds": edited.seconds,
        **provenance(),
    }
