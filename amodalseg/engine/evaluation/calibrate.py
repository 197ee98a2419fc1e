"""Fit the calibration of models on a data set: ``amodalseg calibrate``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from amodalseg.config.schema import EvalConfig, NetworkPostConfig
from amodalseg.data.data_module import as_list
from amodalseg.engine.distributed import device_of
from amodalseg.engine.evaluation.ask import ask
from amodalseg.engine.evaluation.sets import OpenSet, open_sets
from amodalseg.errors import UserError
from amodalseg.metrics.calibration_fit import CELLS, count_logits, expected_error, fit_calibration
from amodalseg.models import load_model
from amodalseg.models.windowed import WindowModel
from amodalseg.types import stable_seed


class Fitted(NamedTuple):
    """A model's calibration.

    scale, shift: fitted on all photos. objects, photos: how many. before, after: expected calibration error in [0, 1],
    with the model's own calibration, and with a new one: of each half of the photos with the fit of the other half.
    """

    scale: float
    shift: float
    objects: int
    photos: int
    before: float
    after: float


def calibrate(config: EvalConfig) -> dict[str, Fitted]:
    """Fit the calibration of each of ``models`` on all objects of the data, and print it.

    Returns:
        Model -> what was fitted. Nothing is written: ``release --set`` puts it into a file.

    Raises:
        UserError: something is wrong with the configuration, a model or the data; a model has no calibration.
    """
    if not config.models:
        raise UserError("models is empty; give some, for instance models=[outputs/run]")
    models = {source: _open_model(source, config) for source in config.models}
    sets, found = open_sets(config), {}
    for source, model in models.items():
        found[source] = _fit(model, source, sets, config)
        print(_sentences(source, found[source]))
    return found


def _open_model(source: str, config: EvalConfig) -> WindowModel:
    model = load_model(source, device_of(config.trainer.accelerator))
    model.override(config.override)
    if not isinstance(model, WindowModel) or not isinstance(model.config.post, NetworkPostConfig):
        raise UserError(f"'{source}' has no probability to calibrate: give trained networks")
    return model


def _fit(model: WindowModel, title: str, sets: list[OpenSet], config: EvalConfig) -> Fitted:
    counts, photos = np.zeros((2, 2, CELLS), np.int64), set()
    total = sum(len(opened.dataset) for opened in sets)
    with tqdm(total=total, desc=title, unit="object", disable=not config.trainer.progress) as bar:
        for opened in sets:
            loader: Any = DataLoader(
                opened.dataset, config.loader.batch_size, num_workers=config.loader.num_workers, collate_fn=as_list  # type: ignore[arg-type]
            )  # fmt: skip
            for batch in loader:
                predicted = ask(model, [query for _, query in batch], config.num_samples)
                for (record, _), (prediction, _) in zip(batch, predicted, strict=True):
                    photo = (record.dataset, record.split, record.image_id)
                    half = stable_seed(*photo) % 2  # all objects of a photo belong to one half
                    counts[half] += count_logits(prediction, record.modal, record.amodal & ~record.modal)
                    photos.add(photo)
                bar.update(len(batch))
    own = model.config.post.calibration
    pixels = counts.sum(axis=(1, 2))
    errors = [expected_error(counts[half], *fit_calibration(counts[1 - half])) for half in (0, 1)]
    before = expected_error(counts.sum(0), own.scale, own.shift)
    after = float(np.average(errors, weights=pixels))
    return Fitted(*fit_calibration(counts.sum(0)), total, len(photos), before, after)


def _sentences(name: str, fitted: Fitted) -> str:
    return (
        f"{name}: {fitted.objects} objects of {fitted.photos} photos; expected calibration error "
        f"{100 * fitted.before:.1f} % -> {100 * fitted.after:.1f} % on photos that were not used for the fit\n"
        f"  post.calibration.scale={fitted.scale:.3f} post.calibration.shift={fitted.shift:.3f}"
    )
