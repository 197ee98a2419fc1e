"""From an evaluation's predictions to its report: selects objects and draws their pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from amodalseg import masks
from amodalseg.config.load import to_yaml
from amodalseg.config.schema import EvalConfig
from amodalseg.data.record_pictures import record_edited, record_image, record_moved, record_whole
from amodalseg.masks import Rle
from amodalseg.metrics.counts import Row, row_key
from amodalseg.report.edits import edit_caption, edit_strip
from amodalseg.report.grid import encode_png
from amodalseg.report.html import Strip, write_report
from amodalseg.report.moves import move_caption, move_strip, ranked_by_error
from amodalseg.report.pictures import object_strip
from amodalseg.report.select import best_median_worst, caption, ranked_by
from amodalseg.report.table import by_data, result_key, rows_by_result
from amodalseg.report.thumbnail import Thumbnail, show_thumbnail
from amodalseg.types import AmodalRecord, Query

if TYPE_CHECKING:
    from amodalseg.data.dataset import EvaluationSet

CountedPrediction = (
    tuple[Row, Rle]
    | tuple[Row, Rle, float]
    | tuple[Row, Rle, float, Thumbnail | None]
    | tuple[Row, Rle, float, Thumbnail | None, Thumbnail | None]
    | tuple[Row, Rle, float, Thumbnail | None, Thumbnail | None, Thumbnail | None]
)
"""Row and predicted amodal mask of one object; optionally its score; the completed picture and the photos after a move
and after an edit, if there are any."""
TRUTH = "truth"
"""Name of the ground truth as a model: objects are never ranked by its scores."""


def build_report(
    config: EvalConfig,
    folder: Path,
    dataset: EvaluationSet,
    predictions: Mapping[str, Sequence[CountedPrediction]],
    results: Sequence[dict],
    curves: Mapping[str, Sequence[tuple[int, float | None, float | None]]],
    run_info: Mapping[str, Any],
) -> Path:
    """Write the report of an evaluation.

    Args:
        config: of the evaluation; ``config.report`` determines the content of the report.
        folder: where the report is written.
        dataset: the evaluated objects, of one data set or of several.
        predictions: model -> row, predicted amodal mask and further outputs for every object, in that order.
        results: scores from ``metrics.protocols.summarize``.
        curves: model -> (steps, full, occluded), see ``write_report``.
        run_info: what else is needed to repeat the run, see ``write_report``; the configuration is added.

    Returns:
        Path of the HTML file, or of the Markdown file if the configuration disables HTML.
    """
    rows = [one[0] for found in predictions.values() for one in found]
    strips = {}
    if config.report.html:
        strips = _photo_strips(MOVES, dataset, predictions, results, config.report.pictures)
        strips |= _photo_strips(EDITS, dataset, predictions, results, config.report.pictures)
        strips |= _strips(dataset, predictions, results, config.report.pictures)
    run_info = {**run_info, "config": to_yaml(config)}
    markdown, page = write_report(folder, results, rows, strips, curves, run_info, with_html=config.report.html)
    return page or markdown


def _strips(
    dataset: EvaluationSet, predictions: Mapping[str, Sequence[CountedPrediction]], results: Sequence[dict], count: int
) -> dict[str, list[Strip]]:
    """For each data set, objects of the model with the best occluded regions, next to the other models' predictions."""
    strips = {}
    groups = by_data(results)
    for data, group in groups.items():
        leader = _leader(group, "per_object_occluded", "occluded")
        asked = [one[0] for one in predictions[leader["model"]]]
        rows = rows_by_result(asked)[result_key(leader)]
        places = {row_key(row): place for place, row in enumerate(asked)}
        for title, keys in best_median_worst(rows, count).items():
            pictures = []
            for key in keys:
                record, query = dataset[places[key]]
                found = {model: predictions[model][places[key]] for model in predictions}
                assert record.key == key and all(row_key(one[0]) == key for one in found.values())
                masks_of = [(model, masks.decode(one[1])) for model, one in found.items()]
                photo, small = record_image(record), {model: a[3] for model, a in found.items() if len(a) > 3}
                completed = {model: show_thumbnail(photo, image) for model, image in small.items() if image is not None}
                whole = record_whole(record) if completed else None
                picture = object_strip(photo, query.modal, masks_of, record.amodal, 192, completed, whole)
                pictures.append(Strip(encode_png(picture), caption([one[0] for one in found.values()])))
            where = f"{data}: " if len(groups) > 1 else ""
            strips[f"{where}{title.capitalize()} of {leader['model']}, by {ranked_by(rows)}"] = pictures
    return strips


def _leader(group: Sequence[dict], protocol: str, figure: str) -> dict:
    """The result of the best model."""
    models = [result for result in group if result["model"] != TRUTH] or group
    return max(models, key=lambda result: result["scores"][protocol][figure] or 0.0)


class _Photos(NamedTuple):
    """Whole photos after a requested change.

    title: of the section. protocol, figure: by which its best model is chosen. area: whose error ranks its objects, and
    its name in words. place: of the thumbnail in a ``CountedPrediction``. draw: record, query, model -> photo, the
    objects' rows -> strip.
    """

    title: str
    protocol: str
    figure: str
    area: str
    where: str
    place: int
    draw: Callable[[AmodalRecord, Query, dict[str, np.ndarray], list[Row]], Strip]


def _photo_strips(
    kind: _Photos,
    dataset: EvaluationSet,
    predictions: Mapping[str, Sequence[CountedPrediction]],
    results: Sequence[dict],
    count: int,
) -> dict[str, list[Strip]]:
    """For each data set that requests it, the photos of its best model next to those of the others."""
    strips = {}
    groups = by_data(results)
    for data, group in groups.items():
        leader = _leader(group, kind.protocol, kind.figure)
        asked = [one[0] for one in predictions[leader["model"]]]
        places = {row_key(row): place for place, row in enumerate(asked)}
        for title, keys in ranked_by_error(rows_by_result(asked)[result_key(leader)], count, kind.area).items():
            pictures = []
            for key in keys:
                record, query = dataset[places[key]]
                assert record.key == key
                found = {model: predictions[model][places[key]] for model in predictions}
                small = {model: one[kind.place] for model, one in found.items() if len(one) > kind.place}
                photo = record_image(record)
                made = {
                    model: show_thumbnail(photo, one)
                    for model, one in small.items()
                    if isinstance(one, Thumbnail) and model != TRUTH
                }
                pictures.append(kind.draw(record, query, made, [one[0] for one in found.values()]))
            where = f"{data}: " if len(groups) > 1 else ""
            if pictures:
                strips[f"{where}{kind.title}, {title} of {leader['model']}, by the error {kind.where}"] = pictures
    return strips


def _move_strip(record: AmodalRecord, query: Query, made: dict[str, np.ndarray], rows: list[Row]) -> Strip:
    after = record_moved(record)
    assert record.move is not None and after is not None
    picture = move_strip(query.image, query.modal, masks.decode(record.move.mask_rle), made, after)
    return Strip(encode_png(picture), move_caption(rows))


def _edit_strip(record: AmodalRecord, query: Query, made: dict[str, np.ndarray], rows: list[Row]) -> Strip:
    after = record_edited(record)
    assert query.edit is not None and after is not None
    return Strip(encode_png(edit_strip(query.image, query.edit, made, after)), edit_caption(rows, query.edit))


MOVES = _Photos("Moves", "moved", "target_psnr", "moved_target", "at the target", 4, _move_strip)
EDITS = _Photos("Edits", "edited", "region_psnr", "edited_region", "in the region", 5, _edit_strip)
