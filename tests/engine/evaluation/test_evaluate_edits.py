"""An evaluation of edits through the command line: ends of the scale, pictures, and stored predictions."""

import base64
import json
import re

import cv2
import numpy as np
import pytest

from amodalseg import load_model
from amodalseg.cli.commands import main
from amodalseg.config.schema import EditsData
from amodalseg.data.open import open_source
from amodalseg.engine.evaluation.evaluate import evaluate
from amodalseg.metrics.counts import read_rows
from amodalseg.metrics.edited import EDIT_AREAS, EDITED_COLUMNS
from amodalseg.models.geometric.model import Nothing
from tests.models.contract import query

MODELS = ["nothing", "modal", "truth"]


def command(out):
    return [
        "eval", "edits", f"out={out}", f"models=[{','.join(MODELS)}]", "report.pictures=1", "report.steps_curve=[]",
        "trainer.progress=false", "sets.add=null", "sets.remove=null", "sets.change.task=all",
        "sets.change.num_objects=6",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("edits") / "out"
    assert main(command(out)) == 0
    return out


def test_models_nothing_and_truth_give_the_ends_of_the_scale(folder):
    results = json.loads((folder / "metrics.json").read_text())["results"]
    assert [(r["dataset"], r["model"]) for r in results] == [("edits_all", model) for model in MODELS]
    for result in results:
        found = result["scores"]["edited"]
        if result["model"] == "modal":  # it makes no edit
            assert found.pop("num_objects") == 0 and set(found.values()) == {None}
            continue
        assert found["num_objects"] == 6
        for area in ("kept", "rest"):
            assert found[f"{area}_psnr"] == pytest.approx(58.92, abs=0.01) and found[f"{area}_ssim"] == 1
        if result["model"] == "nothing":
            assert found["stays"] == 1 and found["region_psnr"] < 20 and found["region_ssim"] < 0.9
        else:
            assert found["stays"] == 0 and found["region_psnr"] == pytest.approx(58.92, abs=0.01)
    rows = [row for row in read_rows(folder / "objects.csv") if row["model"] == "modal"]
    assert len(rows) == 6 and not any(row[name] for row in rows for name in EDITED_COLUMNS)
    rows = [row for row in read_rows(folder / "objects.csv") if row["model"] == "truth"]
    assert all(sum(row[f"edited_{area}_pixels"] for area in EDIT_AREAS) == 32 * 32 for row in rows)


def figures(folder):
    page = (folder / "report.html").read_text()
    found = re.findall(r'src="data:image/png;base64,([^"]+)"><figcaption>(edits_[^<]*region dB[^<]*)<', page)
    return [(base64.b64decode(data), caption) for data, caption in found]


def test_the_report_shows_source_predictions_and_ground_truth_of_each_edit(folder):
    found = figures(folder)
    assert len(found) == 3, "the best, the median and the worst"
    for png, caption in found:
        assert re.search(r"nothing [\d.]+ / 1.000 / 1.000 / 100 %", caption) and "truth 58.9" in caption
        strip = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert strip.shape[1] == 3 * 224 + 4 * 6, "before, nothing, truth"
        before, same = (strip[-230:-6, 6 + place * 230 : 230 + place * 230].astype(int) for place in (0, 1))
        assert (before == same).all(axis=-1).mean() > 0.8, "but for the boxes, to the last bit"
    page = (folder / "report.html").read_text()
    assert "Edits, worst of nothing, by the error in the region" in page and "what is to stay in blue" in page
    assert "edited · stays, %" in (folder / "report.md").read_text().replace("`", "")


def test_stored_predictions_contain_edits(folder, monkeypatch):
    before, shown = read_rows(folder / "objects.csv"), figures(folder)
    monkeypatch.setattr(Nothing, "predict_batch", lambda *_, **__: pytest.fail("asked again"))
    assert main(command(folder)) == 0
    assert read_rows(folder / "objects.csv") == before and figures(folder) == shown


class Blurred(Nothing):
    """An editor that ignores the request and smooths the whole photo."""

    name = "blurred"

    def predict_batch(self, queries, *, num_samples=1, steps=None):
        predictions = super().predict_batch(queries)
        for asked, prediction in zip(queries, predictions, strict=True):
            assert asked.edit is not None
            prediction.edited = cv2.GaussianBlur(asked.image, (5, 5), 2)
        return predictions


def test_an_editor_that_changes_everything_scores_low_in_every_area():
    source = open_source(EditsData(num_objects=6))
    found = evaluate(Blurred(), [source.get(index) for index in range(6)])["scores"]["edited"]
    assert found["num_objects"] == 6 and found["stays"] > 0.5
    assert all(found[f"{area}_psnr"] < 40 and found[f"{area}_ssim"] < 0.99 for area in EDIT_AREAS)


def test_model_nothing_returns_the_photo_only_for_queries_with_an_edit():
    asked = query(20, 30, (2, 2, 9, 9))
    assert load_model("nothing").predict_batch([asked])[0].edited is None
    asked.edit = open_source(EditsData()).get(0).edit.request
    found = load_model("nothing").predict_batch([asked])[0]
    assert np.array_equal(found.edited, asked.image) and found.edited is not asked.image
    assert load_model("modal").predict_batch([asked])[0].edited is None
