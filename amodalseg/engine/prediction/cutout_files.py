"""Objects of predictions as files: cut-outs with transparency, and layers of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amodalseg.data.images import save_png
from amodalseg.models import load_model
from amodalseg.models.base import AmodalModel
from amodalseg.models.cutout import PAINTS, PARTS, cutout
from amodalseg.models.fingerprint import model_fingerprint
from amodalseg.models.moving import without
from amodalseg.predictions import Prediction
from amodalseg.report.openraster import Layer


@dataclass(frozen=True)
class CutoutFiles:
    """Where cut-outs are written and how they are made.

    folder: or None for none. crop, soft, paint: as for ``cutout``.
    """

    folder: Path | None = None
    crop: bool = False
    soft: float = 0.0
    paint: str | AmodalModel | None = None

    def paths(self, name: str) -> list[Path]:
        """The files of an object: its visible region and the whole."""
        return [] if self.folder is None else [self.folder / f"{name}_{part}.png" for part in reversed(PARTS)]

    def keep(self, name: str, photo: np.ndarray, prediction: Prediction, seed: int) -> None:
        """Write ``NAME_modal.png`` and ``NAME_amodal.png``, RGBA. Raises UserError."""
        for path, part in zip(self.paths(name), reversed(PARTS), strict=False):
            made = cutout(photo, prediction, part, crop=self.crop, soft=self.soft, paint=self.paint, seed=seed)
            save_png(path, made.picture)

    def told(self) -> list[object]:
        """The options that the files depend on; empty if none are written."""
        paint = model_fingerprint(self.paint) if isinstance(self.paint, AmodalModel) else self.paint
        return [] if self.folder is None else ["cutout", self.crop, self.soft, paint]


def open_paint(name: str | None, device: str) -> str | AmodalModel | None:
    """Open what colours occluded regions, by name. Raises UserError."""
    return name if name is None or name in PAINTS else load_model(name, device)


def object_layers(
    photo: np.ndarray, predictions: Sequence[Prediction], titles: Sequence[str], files: CutoutFiles, seed: int
) -> list[Layer]:
    """The layers of a photo, from far to near: without its objects, each completed object, and the photo, switched off.

    Args:
        photo: uint8 (H, W, 3).
        predictions: of its objects, from far to near.
        titles: of their layers.
        files: how the objects are cut out.
        seed: as for ``cutout``.
    """
    everything = np.any([prediction.modal for prediction in predictions], axis=0)
    layers = [Layer("background", photo if everything.all() else without(photo, everything, everything))]
    for prediction, title in zip(predictions, titles, strict=True):
        made = cutout(photo, prediction, soft=files.soft, paint=files.paint, seed=seed)
        layers.append(Layer(title, made.picture, made.top, made.left))
    return [*layers, Layer("photo", photo, visible=False)]


def in_front(photo: np.ndarray, predictions: Sequence[Prediction]) -> Layer:
    """Occluders that are not among the objects, as in the photo."""
    hidden = np.any([prediction.occluded for prediction in predictions], axis=0)
    seen = np.any([prediction.modal for prediction in predictions], axis=0)
    alpha = np.where(hidden & ~seen, np.uint8(255), np.uint8(0))
    return Layer("in front", np.dstack([photo * (alpha > 0)[..., None], alpha]))
