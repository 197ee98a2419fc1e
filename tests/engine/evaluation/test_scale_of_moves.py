"""The scale of moves: each of the three areas isolates its own task, on 60 objects of the procedural world."""

import pytest

from amodalseg.config.schema import MovesData
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.engine.evaluation.truth import Truth
from amodalseg.metrics.counts import count_object
from amodalseg.metrics.protocols import score
from amodalseg.models import load_model, moving

ROWS = {
    "nothing": (11.4, 11.2, 36.5), "cut and paste": (11.4, 15.8, 36.5), "visible": (15.8, 15.7, 34.5),
    "hull": (15.7, 19.4, 30.4), "true object": (15.8, 29.6, 34.5), "true ground": (58.9, 16.0, 38.1),
}  # fmt: skip
"""PSNR at the origin, at the target and in the rest, measured; Telea's method sees the occluder's colours."""


def left(photo, go, unseen):
    return photo.copy()


def plain(photo, go, unseen):
    return moving.without(photo, go, go)


@pytest.fixture(scope="module")
def figures():
    data = EvaluationSet(open_source(MovesData(num_objects=60)), 0)
    models = {"visible": load_model("modal"), "hull": load_model("hull_in_occluders"), "nothing": load_model("nothing")}
    rows = {}

    def add(name, record, prediction):
        counted = count_object(record, prediction, name, None, 0, record.image, record.move.picture)
        rows.setdefault(name, []).append(counted)

    for index in range(len(data)):
        record, query = data[index]

        def ground(photo, go, unseen, after=record.move.picture):
            filled = photo.copy()
            filled[go] = after[go]
            return filled

        add("nothing", record, models["nothing"].predict_batch([query])[0])
        add("blind to occluders", record, models["visible"].predict_batch([query])[0])
        for name, model, fill in (
            ("visible", "visible", plain), ("hull", "hull", plain), ("cut and paste", "visible", left),
            ("true ground", "visible", ground), ("true object", None, plain),
        ):  # fmt: skip
            found = Truth().recite(record, query) if model is None else models[model].predict_batch([query])[0]
            found.moved, found.moved_mask = moving.move_by_paste(query, found, fill)
            add(name, record, found)
    return {name: score(found)["moved"] for name, found in rows.items()}


@pytest.mark.parametrize("name", ROWS)
def test_each_row_equals_the_measured_figures(figures, name):
    found = [figures[name][f"{area}_psnr"] for area in ("origin", "target", "rest")]
    assert found == pytest.approx(ROWS[name], abs=0.5), "floating point of another processor shifts a little"


def test_the_scale_separates_the_tasks(figures):
    stays = {name: found["stays"] for name, found in figures.items()}
    assert stays["nothing"] == stays["cut and paste"] == 1 and stays["true ground"] < 0.01
    assert 0.1 < stays["visible"] < 0.4
    iou = {name: found["iou"] for name, found in figures.items()}
    assert iou["nothing"] < 0.05 < iou["visible"] < iou["hull"] < iou["true object"] == 1
    target = {name: found["target_psnr"] for name, found in figures.items()}
    assert target["visible"] + 3 < target["hull"] < target["true object"] - 8


def test_the_origin_is_filled_better_without_the_colours_of_the_occluder(figures):
    blind, seeing = figures["blind to occluders"], figures["visible"]
    assert blind["origin_psnr"] > seeing["origin_psnr"] + 2 and blind["stays"] < seeing["stays"] - 0.05
    assert blind["target_psnr"] == pytest.approx(seeing["target_psnr"], abs=0.1)
