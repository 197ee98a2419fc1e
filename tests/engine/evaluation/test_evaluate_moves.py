"""An evaluation of moves: ends of the scale, the report's pictures, and stored predictions."""

import json
import re

import numpy as np
import pytest

from amodalseg import UserError, load_model
from amodalseg.config.load import build
from amodalseg.config.schema import EvalConfig
from amodalseg.engine.evaluation.evaluate import run_evaluation
from amodalseg.engine.evaluation.truth import Truth
from amodalseg.metrics.counts import read_rows
from amodalseg.models.geometric.model import ModalCopy
from tests.models.contract import query

MODELS = ["nothing", "modal", "hull_in_occluders", "truth"]


def config(out, models):
    return build(EvalConfig, [("test", {
        "out": str(out), "models": models, "data": {"name": "moves", "num_objects": 5, "size": 64},
        "report": {"pictures": 2}, "trainer": {"progress": False},
    })])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_evaluation(config(tmp_path_factory.mktemp("moves") / "out", MODELS))


def scores(folder):
    results = json.loads((folder / "metrics.json").read_text())["results"]
    return {result["model"]: result["scores"] for result in results}


def test_models_nothing_and_truth_give_the_ends_of_the_scale(folder):
    found = {model: values["moved"] for model, values in scores(folder).items()}
    assert list(found) == MODELS
    assert found["nothing"]["stays"] == 1 and found["truth"]["stays"] == 0 < found["modal"]["stays"] < 1
    assert found["truth"]["iou"] == found["truth"]["target_ssim"] == 1
    for area in ("origin", "target", "rest"):
        assert found["truth"][f"{area}_psnr"] == pytest.approx(58.92, abs=0.01)
        assert found["modal"][f"{area}_psnr"] < 50
    assert found["nothing"]["target_psnr"] < found["modal"]["target_psnr"]
    assert scores(folder)["truth"]["per_object"]["full"] == 1
    assert scores(folder)["truth"]["appearance"]["num_objects"] == 5


def test_the_report_shows_source_predictions_and_ground_truth_of_each_move(folder):
    page = (folder / "report.html").read_text()
    captions = re.findall(r"<figcaption>(moves_synthetic[^<]*target dB[^<]*)</figcaption>", page)
    assert len(captions) == 6 and all(re.search(r"nothing [\d.]+ / [\d.]+ / 100 %", caption) for caption in captions)
    assert "Moves, worst of hull_in_occluders" in page and "by the error at the target" in page
    assert "the target in orange" in page and "moved · stays, %" in (folder / "report.md").read_text().replace("`", "")


def test_stored_predictions_contain_moves(folder, monkeypatch):
    before = read_rows(folder / "objects.csv")
    images = (folder / "report.html").read_text().count("<img")
    monkeypatch.setattr(ModalCopy, "predict_batch", lambda *_, **__: pytest.fail("asked again"))
    run_evaluation(config(folder, MODELS))
    assert read_rows(folder / "objects.csv") == before
    assert (folder / "report.html").read_text().count("<img") == images


def test_model_truth_is_available_only_in_evaluations():
    with pytest.raises(UserError, match="use it in amodalseg eval"):
        Truth().predict_batch([query(20, 30, (2, 2, 9, 9))])
    with pytest.raises(UserError, match="there is no model 'truth'"):
        load_model("truth")


def test_model_nothing_returns_the_photo_unchanged():
    asked = query(20, 30, (2, 2, 9, 9))
    asked.to = (20, 10)
    found = load_model("nothing").predict_batch([asked])[0]
    assert np.array_equal(found.moved, asked.image) and np.array_equal(found.moved_mask, asked.modal)
    assert found.moved is not asked.image
