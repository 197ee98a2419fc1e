"""Several data sets in one evaluation, through the command line: checked first, killed, repeated, compared."""

import dataclasses
import json
import os

import numpy as np
import pytest
import yaml

from amodalseg import read_dataset
from amodalseg.cli import main
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.source import RecordList
from amodalseg.engine.evaluation.collect import collect_predictions
from amodalseg.engine.evaluation.prediction_store import PredictionStore
from amodalseg.metrics.counts import read_rows, row_key
from amodalseg.models import load_model
from amodalseg.models.geometric.model import ConvexHull, FilledBox
from tests.engine.journeys import read_csv
from tests.worlds import WORLDS, write_photo

MODELS = ["box", "convex_hull"]


class Killed(BaseException):
    """Simulates a kill: the program catches no BaseException of this kind."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    return {name: WORLDS[world](folder / name) for name, world in (("cocoa", "cocoa"), ("cars", "kins"))}


def write_config(path, worlds, **more):
    sets = {
        name: {"name": w.name, "root": str(w.root), "split": w.test, **dict(o.split("=") for o in w.options)}
        for name, w in worlds.items()
    }
    sets |= {"drawn": {"name": "synthetic", "split": "test", "num_objects": 3, "size": 48}}
    quiet = {"trainer": {"progress": False}, "loader": {"batch_size": 4}}
    path.write_text(yaml.safe_dump({"models": MODELS, "sets": sets, **quiet, **more}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def config(worlds, tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config") / "several.yaml", worlds, report={"html": False})


@pytest.fixture(scope="module")
def evaluated(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "eval"
    assert main(["eval", str(config), f"out={out}"]) == 0
    return out


def comparable(folder):
    rows = read_csv(folder / "objects.csv")
    for row in rows:
        row.pop("seconds"), row.pop("peak_memory")
    return rows, json.loads((folder / "predictions.json").read_text()), (folder / "metrics.json").read_text()


def test_rows_and_results_cover_all_sets(evaluated, worlds):
    rows = read_rows(evaluated / "objects.csv")
    expected = []
    for world in worlds.values():
        options = dict(option.split("=") for option in world.options)
        records = read_dataset(world.name, world.root, split=world.test, **options)
        expected += [record.key for record in records if "empty_modal" not in record.flags]
    expected += [record.key for record in read_dataset("synthetic", split="test", num_objects=3, size=48)]
    assert [(row["model"], row_key(row)) for row in rows] == [(model, key) for model in MODELS for key in expected]
    results = json.loads((evaluated / "metrics.json").read_text())["results"]
    parts = [("cocoa", "val"), ("kins", "test"), ("synthetic", "test")]
    assert [(r["model"], r["dataset"], r["split"]) for r in results] == [(m, *part) for m in MODELS for part in parts]
    predictions = json.loads((evaluated / "predictions.json").read_text())
    assert {model: list(found) for model, found in predictions.items()} == dict.fromkeys(MODELS, expected)
    report = (evaluated / "report.md").read_text()
    assert all(part in report for part in ("cocoa / val", "kins / test", "synthetic / test"))
    assert {path.name for path in evaluated.iterdir()} == {
        "answers", "config.yaml", "objects.csv", "metrics.json", "predictions.json", "report.md"
    }  # fmt: skip


def test_detection_figures_are_computed_for_photos_of_several_objects(evaluated):
    results = json.loads((evaluated / "metrics.json").read_text())["results"]
    found = {(r["model"], r["dataset"]): r.get("detection", {}) for r in results}
    assert list(found["box", "cocoa"]) == ["amodal_ap"]  # free-form names are not categories
    assert list(found["box", "kins"]) == ["amodal_ap", "cls_ap"]
    assert found["box", "synthetic"] == {}
    # objects are far apart here: each prediction matches its own, so the recall follows from the rows
    rows = [r for r in read_rows(evaluated / "objects.csv") if (r["model"], r["dataset"]) == ("box", "kins")]
    steps = np.arange(0.5, 0.96, 0.05)
    recall = np.mean([[r["out_inter"] / r["out_union"] >= step - 1e-9 for r in rows] for step in steps])
    assert found["box", "kins"]["amodal_ap"]["AR100"] == pytest.approx(recall)


@pytest.mark.parametrize(("batches", "finished"), [(0, 0), (5, 1), (7, 2), (13, 5)])
def test_a_killed_evaluation_resumes_after_its_finished_parts(
    config, evaluated, tmp_path, monkeypatch, capsys, batches, finished
):
    out, asked = tmp_path / "out", []

    def dying(original):
        def predict(self, queries, **options):
            asked.append(queries)
            if len(asked) > batches:
                raise Killed
            return original(self, queries, **options)

        return predict

    for kind in (FilledBox, ConvexHull):
        monkeypatch.setattr(kind, "predict_batch", dying(kind.predict_batch))
    with pytest.raises(Killed):
        main(["eval", str(config), f"out={out}"])
    assert len(list(out.glob("answers/*.json"))) == finished
    assert not (out / "objects.csv").exists() and not (out / "predictions.json").exists()
    monkeypatch.undo()
    (out / "answers").mkdir(exist_ok=True)
    (out / "answers" / ".cut.json.7.part").write_text('{"rows": [')
    capsys.readouterr()
    assert main(["eval", str(config), f"out={out}"]) == 0
    assert capsys.readouterr().out.count("resuming after it") == finished
    assert comparable(out) == comparable(evaluated)
    assert all(path.suffix == ".json" and path.is_file() for path in (out / "answers").iterdir())


def test_finished_predictions_are_not_used_with_other_options(config, tmp_path, monkeypatch, capsys):
    def dies(*_, **__):
        raise Killed

    monkeypatch.setattr(ConvexHull, "predict_batch", dies)
    with pytest.raises(Killed):
        main(["eval", str(config), f"out={tmp_path / 'out'}"])
    assert main(["eval", str(config), f"out={tmp_path / 'out'}", "seed=1"]) == 2
    assert "holds another run (it differs in seed)" in capsys.readouterr().err


def test_predictions_are_used_only_for_the_same_weights_and_objects(tmp_path, capsys):
    records = read_dataset("synthetic", num_objects=3, size=48)
    dataset, fewer = (EvaluationSet(RecordList(records[:count]), 0) for count in (3, 2))
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"one")
    found = collect_predictions(load_model("box"), dataset, 2)
    curve = [(1, 0.5, None)]
    PredictionStore(tmp_path).save(str(weights), "drawn", dataset, found, curve)
    assert PredictionStore(tmp_path).load(str(weights), "drawn", dataset) == (found, curve)
    for changed in (str(tmp_path / "other.safetensors"), str(weights)):
        assert PredictionStore(tmp_path).load(changed, "else", dataset) is None
    assert PredictionStore(tmp_path).load(str(weights), "drawn", fewer) is None
    weights.write_bytes(b"two")
    assert PredictionStore(tmp_path).load(str(weights), "drawn", dataset) is None
    assert capsys.readouterr().out.count("weights, data or program have changed") == 2


def test_predictions_of_changed_masks_or_photos_are_not_used(tmp_path, capsys):
    records = read_dataset("synthetic", num_objects=3, size=48)
    for number, record in enumerate(records):
        write_photo(tmp_path / f"{number}.png", record.image)
        record.image = tmp_path / f"{number}.png"
    dataset = EvaluationSet(RecordList(records), 0)
    found = collect_predictions(load_model("box"), dataset, 2)
    PredictionStore(tmp_path).save("box", "drawn", dataset, found, [])
    PredictionStore(tmp_path).write_parts("box", "half", dataset)
    assert PredictionStore(tmp_path).load("box", "drawn", dataset) is not None
    # only the middle object changes: the first, the last and their number are the same
    other = [records[0], dataclasses.replace(records[1], modal_rle=records[1].amodal_rle), records[2]]
    assert PredictionStore(tmp_path).load("box", "drawn", EvaluationSet(RecordList(other), 0)) is None
    os.utime(tmp_path / "1.png", ns=(1, 1))
    assert PredictionStore(tmp_path).load("box", "drawn", EvaluationSet(RecordList(records), 0)) is None
    assert capsys.readouterr().out.count("weights, data or program have changed") == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"0", b"1", 1), lambda data: b"",
                                    lambda data: b"[" * 100_000, lambda data: b"\x00" * len(data),
                                    lambda data: data[:57] + b"null}", lambda data: data + b"}"])  # fmt: skip
def test_damaged_stored_predictions_are_recomputed(tmp_path, capsys, damage):
    dataset = EvaluationSet(RecordList(read_dataset("synthetic", num_objects=4, size=48)), 0)
    found = collect_predictions(load_model("box"), dataset, 2)
    PredictionStore(tmp_path).save("box", "drawn", dataset, found, [])
    writer = PredictionStore(tmp_path).write_parts("box", "half", dataset)
    for start in (0, 2):
        writer.add([(start, found[start]), (start + 1, found[start + 1])])
        writer.write()
    whole, (first, _) = next(tmp_path.glob("answers/*.json")), sorted(tmp_path.glob("answers/*/*.json"))
    for path in (whole, first):
        path.write_bytes(damage(path.read_bytes()))
    assert PredictionStore(tmp_path).load("box", "drawn", dataset) is None
    kept = PredictionStore(tmp_path).load_parts("box", "half", dataset)
    assert [place for place, _ in kept] == [2, 3] and not first.exists()
    printed = capsys.readouterr().out
    assert "are damaged; predicting again" in printed and "1 parts of its stored predictions are damaged" in printed


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["sets.cars.root=absent"], ["sets.cars: ", "absent", "sets.cars=null leaves this set out"]),
        (["sets.cars.root=absent", "sets.cocoa.root=away"],
         ["2 of 3 data sets cannot be opened (sets.cocoa=null sets.cars=null leaves these sets out): sets.cocoa: ",
          "; sets.cars: ", "elsewhere set sets.cars.annotations=FILE"]),
        (["sets.plain.name=coco"], ["sets.plain: ", "modal masks only", "sets.plain=null leaves this set out"]),
        (["sets.twin={name: cocoa, split: val, root: COCOA}"],
         ["sets.cocoa and sets.twin both hold objects of cocoa / val", "sets.twin=null"]),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_the_first_prediction(
    config, worlds, tmp_path, monkeypatch, capsys, overrides, parts
):
    def never(*_, **__):
        raise AssertionError("nothing may be predicted")

    monkeypatch.setattr(FilledBox, "predict_batch", never)
    overrides = [item.replace("COCOA", str(worlds["cocoa"].root)) for item in overrides]
    assert main(["eval", str(config), f"out={tmp_path / 'out'}", *overrides]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(part in error for part in parts), error
    assert not (tmp_path / "out").exists()


def test_a_set_can_be_left_out(config, evaluated, tmp_path):
    out = tmp_path / "out"
    assert main(["eval", str(config), f"out={out}", "sets.cars=null", "sets.drawn=null"]) == 0
    mine = [row for row in comparable(evaluated)[0] if row["dataset"] == "cocoa"]
    assert comparable(out)[0] == mine


def test_commands_for_one_data_set_refuse_several(config, capsys):
    assert main(["data", "draw", str(config)]) == 2
    assert "several data sets (cocoa, cars, drawn)" in capsys.readouterr().err
