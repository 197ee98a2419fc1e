"""Predictions for whole data sets, computed in any number of processes, and their file format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import DataLoader
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import replacing
from amodalseg.data.data_module import as_list, batches_of_rank
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.record_pictures import record_edited, record_image, record_moved, record_whole
from amodalseg.engine.distributed import gather
from amodalseg.engine.evaluation.ask import ask
from amodalseg.engine.evaluation.truth import Truth
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.metrics.counts import Row, count_object, row_key
from amodalseg.models.base import AmodalModel
from amodalseg.predictions import Prediction
from amodalseg.report.thumbnail import Thumbnail, make_thumbnail
from amodalseg.types import AmodalRecord

PREDICTIONS_FILE = "predictions.json"


class CountedPrediction(NamedTuple):
    """The result for one object.

    row: its counts. rle: the predicted amodal mask. score: its expected IoU, or 1 without probabilities. thumbnail: of
    the completed picture, for models that generate one. moved, edited: thumbnails of the photo after a move and after
    an edit, if requested.
    """

    row: Row
    rle: Rle
    score: float
    thumbnail: Thumbnail | None = None
    moved: Thumbnail | None = None
    edited: Thumbnail | None = None


CountedPredictions = list[CountedPrediction]
"""Predictions of one model, in the data set's order."""
Numbered = list[tuple[int, CountedPrediction]]
"""Some of one model's predictions, each with its object's index in the data set."""


def collect_predictions(
    model: AmodalModel, dataset: EvaluationSet, batch_size: int, *, num_samples: int = 1, num_workers: int = 0,
    rank: int = 0, world: int = 1, progress: bool = False, limit: int | None = None, title: str = "",
    done: Numbered | None = None, keep: Callable[[Numbered], None] | None = None,
) -> CountedPredictions:  # fmt: skip
    """Predict this rank's share of the objects, and collect the predictions of all ranks.

    Args:
        model, dataset: the model, and the objects to predict.
        batch_size, num_workers: of the loader.
        num_samples: samples per object, for models that sample.
        rank, world: this process and the number of processes.
        progress: show a bar (on rank 0).
        limit: only the first objects.
        title: of the bar; default: the model's name.
        done: existing predictions, the same on every rank; these objects are not predicted again.
        keep: called with each batch's predictions.
    """
    done = done or []
    known = {index for index, _ in done}
    count = len(dataset) if limit is None else min(limit, len(dataset))
    batches = [
        [index for index in batch if index not in known]
        for batch in batches_of_rank(count, batch_size, rank, world)
        if not known.issuperset(batch)  # whole batches are kept, so that the composition of batches never changes
    ]
    loader: DataLoader = DataLoader(
        dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=as_list  # type: ignore[arg-type]
    )  # fmt: skip
    found: Numbered = []
    off = not progress or rank > 0
    bar = tqdm(total=count, initial=len(known), desc=title or model.name, unit="object", disable=off)
    for batch, indices in zip(loader, batches, strict=True):
        if isinstance(model, Truth):
            predicted = [(model.recite(*both), 0) for both in batch]
        else:
            predicted = ask(model, [query for _, query in batch], num_samples)
        counted = [_count(record, *both, model.name) for (record, _), both in zip(batch, predicted, strict=True)]
        found += zip(indices, counted, strict=True)
        if keep is not None:
            keep(found[-len(batch) :])
        bar.update(len(batch) * world)
    bar.close()
    everywhere = sorted([*done, *gather(found)], key=lambda item: item[0])
    assert [index for index, _ in everywhere] == list(range(count)), "each object is predicted exactly once"
    return [counted for _, counted in everywhere]


def _count(record: AmodalRecord, prediction: Prediction, peak_memory: int, model: str) -> CountedPrediction:
    whole, thumbnail = None, None
    if prediction.image is not None:
        whole = record_whole(record)
        thumbnail = make_thumbnail(prediction.image, prediction.amodal | record.amodal | prediction.modal)
    after, after_edit = record_moved(record), record_edited(record)
    source = None if after is None and after_edit is None else record_image(record)
    row = count_object(record, prediction, model, whole, peak_memory, source, after, after_edit)
    score = 1.0 if prediction.score is None else round(prediction.score, 6)
    photos = (None if photo is None else make_thumbnail(photo) for photo in (prediction.moved, prediction.edited))
    return CountedPrediction(row, masks.encode(prediction.amodal), score, thumbnail, *photos)


def write_predictions(path: Path, every: Mapping[str, Iterable[CountedPrediction]]) -> None:
    """Write ``{model: {object's key: {"segmentation": {"size", "counts"}, "score"}}}``, one object a line, atomically.

    Args:
        path: of the file.
        every: model -> predictions. Masks are COCO's compressed run lengths as text.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, (model, found) in enumerate(every.items()):
            file.write(f"{',' if number else '{'}\n{json.dumps(model)}: {{")
            for place, counted in enumerate(found):
                entry = json.dumps({"segmentation": masks.as_text(counted.rle), "score": counted.score})
                file.write(f"{',' if place else ''}\n{json.dumps(row_key(counted.row))}: {entry}")
            file.write("\n}")
        file.write("\n}\n")


def read_predictions(path: Path, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Rle]:
    """Read some masks from a file of ``write_predictions``.

    Args:
        path: of the file.
        wanted: (model, object's key) of each.

    Raises:
        UserError: the file is missing or of another kind, or lacks an object.
    """
    try:
        content = json.loads(path.read_bytes())
        found = {(model, key): content[model][key]["segmentation"] for model, key in wanted}
        return {name: masks.from_segmentation(stored, *stored["size"]) for name, stored in found.items()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except KeyError as error:
        raise UserError(f"{path} does not hold {error}; it belongs to another evaluation") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a file of predictions: {error}") from error
