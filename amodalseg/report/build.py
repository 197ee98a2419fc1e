"""From an evaluation's answers to its report: chooses the objects and draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodalseg import masks
from amodalseg.config.load import to_yaml
from amodalseg.config.schema import EvalConfig
from amodalseg.data.images import record_image
from amodalseg.masks import Rle
from amodalseg.metrics.counts import Row, row_key
from amodalseg.report.html import Strip, write_report
from amodalseg.report.pictures import encode_png, object_strip
from amodalseg.report.select import best_median_worst, caption, ranked_by

if TYPE_CHECKING:
    from amodalseg.data.dataset import EvaluationSet


def build_report(
    config: EvalConfig,
    folder: Path,
    dataset: EvaluationSet,
    answers: Mapping[str, Sequence[tuple[Row, Rle]]],
    results: Sequence[dict],
    curves: Mapping[str, Sequence[tuple[int, float | None, float | None]]],
    run_info: Mapping[str, Any],
) -> Path:
    """Write the report of an evaluation.

    Args:
        config: of the evaluation; ``config.report`` says what the report holds.
        folder: where it goes.
        dataset: the objects that were asked about.
        answers: model -> (row, predicted amodal mask) of every object, in the data set's order.
        results: scores, as ``metrics.protocols.summarize`` returns them.
        curves: model -> (steps, full, occluded), see ``write_report``.
        run_info: what else is needed to run it again, see ``write_report``; the configuration is added.

    Returns:
        Path of the html file, or of the markdown where the configuration asks for no html.
    """
    rows = [row for found in answers.values() for row, _ in found]
    strips = _strips(dataset, answers, results, config.report.pictures) if config.report.html else {}
    run_info = {**run_info, "config": to_yaml(config)}
    markdown, page = write_report(folder, results, rows, strips, curves, run_info, with_html=config.report.html)
    return page or markdown


def _strips(
    dataset: EvaluationSet, answers: Mapping[str, Sequence[tuple[Row, Rle]]], results: Sequence[dict], count: int
) -> dict[str, list[Strip]]:
    """Objects of the model with the best hidden parts, next to what the other models answer there."""
    leader = max(results, key=lambda result: result["scores"]["per_object_occluded"]["occluded"] or 0.0)["model"]
    rows = [row for row, _ in answers[leader]]
    places = {row_key(row): place for place, row in enumerate(rows)}
    strips = {}
    for title, keys in best_median_worst(rows, count).items():
        pictures = []
        for key in keys:
            record, query = dataset[places[key]]
            found = {model: answers[model][places[key]] for model in answers}
            assert record.key == key and all(row_key(row) == key for row, _ in found.values())
            predictions = [(model, masks.decode(rle)) for model, (_, rle) in found.items()]
            picture = object_strip(record_image(record), query.modal, predictions, record.amodal)
            pictures.append(Strip(encode_png(picture), caption([row for row, _ in found.values()])))
        strips[f"{title.capitalize()} of {leader}, by {ranked_by(rows)}"] = pictures
    return strips
