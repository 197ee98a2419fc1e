"""Comparison of two models from the files of their evaluations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from amodalseg import masks
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.record_pictures import record_image
from amodalseg.engine.evaluation.collect import PREDICTIONS_FILE, read_predictions
from amodalseg.engine.evaluation.sets import JoinedSources, open_sets
from amodalseg.engine.run_folder import CONFIG_FILE
from amodalseg.errors import UserError
from amodalseg.metrics.counts import Row, read_rows, row_key
from amodalseg.metrics.paired import differences, largest_changes, pair_rows, tally
from amodalseg.report.comparison import Part, plain_comparison, write_comparison
from amodalseg.report.grid import encode_png
from amodalseg.report.pictures import object_strip


class Side(NamedTuple):
    """One of the two models. folder: of its run. model: its name. rows: its own. places: object key -> row index."""

    folder: Path
    model: str
    rows: list[Row]
    places: dict[str, int]


def compare(
    a: Path, b: Path, model_a: str | None = None, model_b: str | None = None, out: Path | None = None,
    pictures: int = 6,
) -> Path:  # fmt: skip
    """Compare two models object by object, print the main figures and write ``compare.md`` and ``compare.html``.

    Args:
        a, b: ``objects.csv`` files or the folders they lie in; one file may be both.
        model_a, model_b: which model of a file; optional if it has only one.
        out: folder; default: ``compare`` beside the second file.
        pictures: objects shown in each direction, of each data set.

    Returns:
        The html file.

    Raises:
        UserError: a file or model is missing, or objects were scored against different ground truths.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    sides = open_side(a, model_a, "a"), open_side(b, model_b, "b")
    if sides[0].folder == sides[1].folder and sides[0].model == sides[1].model:
        raise UserError(f"A and B are both '{sides[0].model}' of {a}: name two models with --model-a and --model-b")
    parts = {}
    for name, pairs in pair_rows(sides[0].rows, sides[1].rows).items():
        gains, losses = largest_changes(pairs, pictures)
        parts[name] = Part(pairs, differences(pairs), tally(pairs), gains, losses)
    shown = [row_key(one) for part in parts.values() for one, _ in [*part.gains, *part.losses]]
    strips: dict[str, bytes] = {}
    notes: list[str] = []
    for side in sides:  # either run's configuration may lead to the photos
        try:
            strips, notes = _strips(sides, side, shown), []
            break
        except UserError as error:
            notes = [f"There are no pictures: {error}"]
    names = (f"{sides[0].model} in {a}", f"{sides[1].model} in {b}")
    target = out or sides[1].folder / "compare"
    print(f"A: {names[0]}\nB: {names[1]}\n\n{plain_comparison(parts)}\n")
    _, page = write_comparison(target, names, parts, strips, notes)
    print("\n".join([*notes, f"comparison: {page}"]))
    return page


def open_side(path: Path, model: str | None, letter: str) -> Side:
    """Rows of one model of a file."""
    path = path / "objects.csv" if path.is_dir() else path
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path} contains no objects")
    models = list(dict.fromkeys(row["model"] for row in rows))
    if model is None and len(models) > 1:
        raise UserError(f"{path} holds several models: choose one with --model-{letter} ({', '.join(models)})")
    model = models[0] if model is None else model
    if model not in models:
        raise UserError(f"{path} holds no model '{model}'; it has {', '.join(models)}")
    own = [row for row in rows if row["model"] == model]
    return Side(path.parent.resolve(), model, own, {row_key(row): place for place, row in enumerate(own)})


def _strips(sides: tuple[Side, Side], side: Side, keys: list[str]) -> dict[str, bytes]:
    """Photo, modal mask, both predictions and ground truth of some objects of ``side``'s data, as PNG files by key."""
    if not keys:
        return {}
    predictions = [read_predictions(s.folder / PREDICTIONS_FILE, [(s.model, key) for key in keys]) for s in sides]
    config = load_config(EvalConfig, side.folder / CONFIG_FILE)
    for section in [config.data, *config.sets.values()]:
        if section is not None and any(field.name == "check_photos" for field in dataclasses.fields(section)):
            section.check_photos = "off"  # only a few photos are opened
    dataset = EvaluationSet(JoinedSources([opened.dataset.source for opened in open_sets(config)]), config.seed)
    strips = {}
    for key in keys:
        place = side.places[key]
        record = dataset.source.get(place) if place < len(dataset) else None
        if record is None or record.key != key:
            raise UserError(f"the data set of {side.folder / CONFIG_FILE} has changed: {key} is no longer at its index")
        named = [
            (f"{letter}: {s.model}", masks.decode(found[s.model, key]))
            for letter, s, found in zip("AB", sides, predictions, strict=True)
        ]
        strips[key] = encode_png(object_strip(record_image(record), record.modal, named, record.amodal))
    return strips
