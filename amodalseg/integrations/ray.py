"""Complete COCO files on a Ray cluster: photos are sent to actors that load the model once, objects return as rows.

An object's prediction, including its seed, equals that of ``predict --coco``, because both use the same code.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import Dataset

from amodalseg.data.readers.files import is_crowd
from amodalseg.engine.prediction.coco_input import modal_of, read_coco_input
from amodalseg.engine.prediction.complete import Item, Settings
from amodalseg.engine.prediction.complete import complete as complete_items
from amodalseg.errors import UserError
from amodalseg.models import DEFAULT, load_model
from amodalseg.predictions import Prediction
from amodalseg.types import stable_seed

PHOTOS = 8
"""Photos per call of an actor; they are predicted again if the actor dies."""


def read_coco(source: str | Path, images: str | Path, *, crowd: str = "skip", outside: bool = False) -> Dataset:
    """Read a COCO file as a data set for ``complete``: one row per photo, with its objects.

    Args:
        source: a COCO-instances file.
        images: its folder of photos, available to every machine of the cluster under this path.
        crowd: ``skip`` or ``complete``, as for ``predict --coco``.
        outside: allow photos outside the folder.

    Raises:
        UserError: as for ``predict --coco``.
    """
    folder = Path(images).resolve()
    if not folder.is_dir():
        raise UserError(f"no image folder at {images}")
    if crowd not in ("skip", "complete"):
        raise UserError(f"invalid value for crowd: {crowd} (choose from skip, complete)")
    given = read_coco_input(Path(source), folder, outside=outside)
    objects: dict[Any, dict[str, Any]] = {}
    for key, entry in given.entries.items():
        if not (crowd == "skip" and is_crowd(entry)):
            objects.setdefault(given.image_of[key], {})[key] = entry.get("segmentation")
    rows = [
        {
            "image_id": json.dumps(image_id),
            "photo": "" if image_id in given.refused else str(given.paths[image_id]),
            "refused": given.refused.get(image_id, ""),
            "size": json.dumps({k: v for k, v in given.photos[image_id].items() if k in ("height", "width")}),
            "objects": json.dumps(entries),
        }
        for image_id, entries in objects.items()
    ]
    return ray.data.from_items(rows)


def complete(
    dataset: Dataset,
    model: str = DEFAULT,
    *,
    concurrency: int | tuple[int, int] = 1,
    seed: int = 0,
    num_samples: int = 1,
    steps: int | None = None,
    upright: bool = False,
    batch_size: int = 16,
    device: str = "auto",
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Dataset:
    """Complete every object of a data set, in any number of processes. Lazy, like all of Ray Data.

    An actor that dies is replaced, and its photos are processed again; Ray's own back-pressure limits how much is in
    flight.

    Args:
        dataset: from ``read_coco``.
        model: a name or file for ``load_model``, available on every machine; an ``.onnx`` file needs no PyTorch.
        concurrency: number of actors, or its minimum and maximum; each loads the model once.
        seed, num_samples, steps, upright, batch_size, device: as for ``amodalseg predict``.
        num_cpus, num_gpus: per actor.

    Returns:
        One row per object: ``image_id`` and ``id`` (JSON text), ``counts`` (compressed run lengths of the amodal mask),
        ``height``, ``width``, ``area`` (pixels), ``bbox`` (x, y, width, height), and ``error``: empty, or the reason
        why the object has no mask. ``write_parquet`` stores them.
    """
    settings = Settings(seed=seed, num_samples=num_samples, steps=steps, upright=upright)
    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    found: Dataset = dataset.map_batches(
        Completer,
        fn_constructor_kwargs={"model": str(model), "device": device, "size": batch_size, "settings": settings},
        batch_size=PHOTOS,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    return found


class Completer:
    """An actor. Args: model, device, for ``load_model``; size, of its batches; settings, of the prediction."""

    def __init__(self, model: str, device: str, size: int, settings: Settings) -> None:
        self.model, self.settings = load_model(model, device), settings
        self.model.batch_size = size

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Rows of ``read_coco`` -> rows of ``complete``, as columns."""
        rows: dict[str, dict[str, Any]] = {}
        items: list[Item] = []
        for place in range(len(batch["photo"])):
            photo = {name: str(column[place]) for name, column in batch.items()}
            objects = json.loads(photo["objects"])
            rows |= {key: _row(photo["image_id"], key, photo["refused"]) for key in objects}
            if not photo["refused"]:
                items += [self._item(photo, key, segmentation, rows) for key, segmentation in objects.items()]
        for line in complete_items(self.model, items, self.settings):
            key, _, error = line.removeprefix("annotation ").partition(": ")
            rows[key]["error"] = error
        return {name: [row[name] for row in rows.values()] for name in _row("", "", "")}

    def _item(self, photo: dict[str, str], key: str, segmentation: Any, rows: dict[str, dict[str, Any]]) -> Item:
        modal = partial(modal_of, {"segmentation": segmentation}, json.loads(photo["size"]), self.settings.upright)
        seed = stable_seed("annotation", self.settings.seed, key)
        return Item(f"annotation {key}", Path(photo["photo"]), seed, modal, partial(_keep, rows, key))


def _keep(rows: dict[str, dict[str, Any]], key: str, photo: np.ndarray, prediction: Prediction) -> None:
    found = prediction.to_coco()
    height, width = found["segmentation"]["size"]
    rows[key] |= {"counts": found["segmentation"]["counts"], "height": height, "width": width,
                  "area": found["area"], "bbox": found["bbox"]}  # fmt: skip


def _row(image_id: str, key: str, error: str) -> dict[str, Any]:
    """The row of an object without a prediction."""
    empty = {"counts": "", "height": 0, "width": 0, "area": 0, "bbox": [0, 0, 0, 0]}
    return {"image_id": image_id, "id": key, **empty, "error": error}
