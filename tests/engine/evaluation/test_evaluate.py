"""Evaluation through the command line: its files, the underlying numbers, and any number of processes."""

import json
from dataclasses import replace

import numpy as np
import pytest

import amodalseg
from amodalseg import masks
from amodalseg.cli import main
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.source import RecordList
from amodalseg.engine.evaluation import prediction_store
from amodalseg.engine.evaluation.collect import collect_predictions
from amodalseg.metrics.calibration import calibration
from amodalseg.metrics.counts import read_rows, row_key
from amodalseg.metrics.protocols import score
from amodalseg.models.geometric.model import FilledBox, ModalCopy
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord
from tests.engine.journeys import ROOT, read_csv, run_program, train_arguments
from tests.refusals import refused


def eval_arguments(out, *more):
    return ["eval", str(ROOT / "configs/eval/synthetic.yaml"), f"out={out}", "data.num_objects=7", "data.size=64",
            "loader.batch_size=2", "trainer.progress=false", "trainer.accelerator=cpu", *more]  # fmt: skip


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(train_arguments(out, "trainer.max_steps=3", "checkpoint.val_every_steps=3")) == 0
    return out


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "eval"
    curve = "report.steps_curve=[1,2]"
    assert main(eval_arguments(out, f"models=[{trained},modal,convex_hull]", curve, "report.pictures=1")) == 0
    return out


def test_all_output_files_are_written(evaluated):
    names = {path.name for path in evaluated.iterdir()}
    assert names == {
        "answers",
        "config.yaml",
        "objects.csv",
        "metrics.json",
        "predictions.json",
        "report.md",
        "report.html",
    }


def test_metrics_follow_from_the_rows(evaluated, trained):
    results = json.loads((evaluated / "metrics.json").read_text())["results"]
    assert [result["model"] for result in results] == [str(trained), "modal", "convex_hull"]
    rows = read_rows(evaluated / "objects.csv")
    assert len(rows) == 21
    for result in results:
        own = [row for row in rows if row["model"] == result["model"]]
        assert result["dataset"] == "synthetic" and result["split"] == "test"
        assert result["num_objects"] == 7 and result["num_occluded"] == sum(row["occluded_area"] > 0 for row in own)
        assert json.loads(json.dumps(score(own))) == result["scores"]
        for protocol in ("pooled", "per_object", "per_object_occluded"):
            assert 0 <= result["scores"][protocol]["full"] <= 1


def test_stored_predictions_equal_the_counted_masks(evaluated, trained):
    found = json.loads((evaluated / "predictions.json").read_text())
    assert list(found) == [str(trained), "modal", "convex_hull"]
    records = {r.key: r for r in amodalseg.read_dataset("synthetic", num_objects=7, size=64, split="test")}
    for row in read_rows(evaluated / "objects.csv"):
        entry = found[row["model"]][row_key(row)]
        size = entry["segmentation"]["size"]
        mask = masks.decode(masks.from_segmentation(entry["segmentation"], *size))
        amodal = records[row_key(row)].amodal
        assert (size, mask.sum()) == ([row["height"], row["width"]], row["out_area"])
        assert ((mask & amodal).sum(), (mask | amodal).sum()) == (row["out_inter"], row["out_union"])
        assert entry["score"] == 1 if row["model"] != str(trained) else 0 < entry["score"] < 1


def test_a_score_is_the_expected_iou():
    probability = np.array([[0.9, 0.7], [0.2, 0.6]], np.float32)
    modal = np.array([[True, False], [False, False]])

    class Fixed(ModalCopy):
        def predict_batch(self, queries, **_):
            levels = [0.5, 1.0]  # no value above 1
            return [Prediction(modal, probability[None], threshold=t, union_visible=False) for t in levels]

    image = np.zeros((2, 2, 3), np.uint8)
    record = AmodalRecord("d", "s", "1", "1", image, masks.encode(modal), masks.encode(modal))
    dataset = EvaluationSet(RecordList([record, replace(record, object_id="2")]), 0)
    one, empty = collect_predictions(Fixed(), dataset, 2)
    assert one.score == pytest.approx((0.9 + 0.7 + 0.6) / (3 + 0.2), abs=1e-6) and empty.score == 0


def test_the_modal_model_scores_zero_on_the_occluded_region(evaluated):
    results = json.loads((evaluated / "metrics.json").read_text())["results"]
    assert results[1]["scores"]["pooled"]["occluded"] == 0


def test_the_report_contains_the_calibration(evaluated):
    first, *others = json.loads((evaluated / "metrics.json").read_text())["results"]
    own = [row for row in read_rows(evaluated / "objects.csv") if row["model"] == first["model"]]
    told, found = first["calibration"], calibration(row["calibration"] for row in own)
    assert 0 < told["error"] == found.error < 1 and told["pixels"] == found.pixels.tolist()
    assert sum(told["true"]) + told["missed"] == sum(row["occluded_area"] for row in own)
    assert not any("calibration" in result for result in others)
    assert "Reliability of probabilities" in (evaluated / "report.html").read_text()


def test_the_report_names_models_and_protocols(evaluated, trained):
    page = (evaluated / "report.html").read_text()
    for part in ("pooled", "per_object_occluded", "convex_hull", str(trained), "synthetic"):
        assert part in page


def test_two_processes_resume_a_run_of_one_and_give_the_same_rows(trained, evaluated, tmp_path, monkeypatch):
    more = ["report.html=false", f"models=[{trained},modal,convex_hull]"]
    out = tmp_path / "two"
    monkeypatch.setattr(ModalCopy, "predict_batch", interrupted)
    assert main(eval_arguments(out, *more)) == 130
    done = run_program(eval_arguments(out, *more, "trainer.devices=2", "trainer.strategy=ddp"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resuming after it") == 1
    one, two = read_csv(evaluated / "objects.csv"), read_csv(out / "objects.csv")
    for row in [*one, *two]:
        row.pop("seconds"), row.pop("peak_memory")
    assert one == two
    assert (evaluated / "predictions.json").read_bytes() == (out / "predictions.json").read_bytes()


def test_an_objects_prediction_depends_only_on_the_seed(trained):
    records = amodalseg.read_dataset("synthetic", num_objects=5, size=64, split="test")
    model = amodalseg.load_model(trained, "cpu")
    assert amodalseg.evaluate("modal", records)["scores"]["per_object_occluded"]["occluded"] == 0, "by name"
    one = amodalseg.evaluate(model, records, batch_size=5)["rows"]
    shuffled = amodalseg.evaluate(model, records[::-1], batch_size=1)["rows"][::-1]
    for first, second in zip(one, shuffled, strict=True):
        assert abs(first["out_inter"] - second["out_inter"]) <= 2  # rounding may depend on the batch size
        assert first["object_id"] == second["object_id"]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["models=[]"], "models is empty"),
        (["models=[modal,modal]"], "one model twice"),
        (["models=[convexhull]"], "did you mean 'convex_hull'"),
        (["models=[absent.safetensors]"], "no model file at absent.safetensors"),
        (["data.name=cocoa", "data.root=absent"], "absent"),
        (["data.name=coco_occlude"], "annotations"),
        (["models=[modal]", "data.num_object=3"], "did you mean 'data.num_objects'"),
    ],
)
def test_invalid_configurations_are_refused(tmp_path, capsys, overrides, part):
    arguments = eval_arguments(tmp_path / "out", *overrides)
    if overrides[0].startswith("data.name"):
        arguments = [a for a in arguments if not a.startswith(("data.size", "data.num"))]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_evaluation_in_the_same_folder_is_refused(evaluated, capsys):
    assert main(eval_arguments(evaluated, "models=[modal]", "data.num_objects=6")) == 2
    assert "holds another run" in capsys.readouterr().err


def test_adding_a_model_predicts_only_that_model(tmp_path, monkeypatch, capsys):
    out = tmp_path / "eval"
    assert main(eval_arguments(out, "models=[modal,box]", "report.html=false")) == 0
    before = read_csv(out / "objects.csv")
    monkeypatch.setattr(ModalCopy, "predict_batch", interrupted)
    monkeypatch.setattr(FilledBox, "predict_batch", interrupted)
    capsys.readouterr()
    assert main(eval_arguments(out, "models=[modal,box,convex_hull]", "report.html=false")) == 0
    assert capsys.readouterr().out.count("already predicted; using the stored predictions") == 2
    after = read_csv(out / "objects.csv")
    assert after[: len(before)] == before and {row["model"] for row in after[len(before) :]} == {"convex_hull"}
    assert len(after) == 21 and (out / "predictions.json").read_text().count("convex_hull") == 1
    # with fewer models or in another order, stored predictions are still used
    assert main(eval_arguments(out, "models=[box]", "report.html=false")) == 0
    assert {row["model"] for row in read_csv(out / "objects.csv")} == {"box"}
    assert main(eval_arguments(out, "models=[box]", "report.html=false", "seed=1")) == 2
    monkeypatch.setattr(prediction_store, "_digest_of_program", lambda: "another")
    assert main(eval_arguments(out, "models=[box]", "report.html=false")) == 130, "another program asks again"


def test_sampling_options_can_be_overridden_after_training(trained, tmp_path, capsys):
    model = f"models=[{trained}]"
    assert main(eval_arguments(tmp_path / "a", model, "override.sampler.kind=ddim", "report.html=false")) == 0
    for change, part in [
        ("override.sampler.kind=euler", "ddpm, ddim, renoise_ust"),
        ("override.sampler.stepz=1", "did you mean 'sampler.steps'"),
        ("override.dn.dim=8", "override.dn cannot change after training"),
        ("override.window.size=512", "give a multiple of 32 from 32 to 64"),  # half of its own size is none
    ]:
        refused(capsys, eval_arguments(tmp_path / "b", model, change), part)
    assert main(eval_arguments(tmp_path / "c", "models=[modal]", "override.sampler.steps=1", "report.html=false")) == 0
    assert "no effect on 'modal'" in capsys.readouterr().err
