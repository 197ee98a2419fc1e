"""``amodalseg ap``: a detector's own results evaluated on a data set."""

import json

import numpy as np
import pytest

from amodalseg import read_dataset
from amodalseg.cli import main
from amodalseg.config.load import build
from amodalseg.config.schema import DataOnly
from amodalseg.engine.evaluation.average_precision import score_results, truth_of
from amodalseg.errors import UserError
from amodalseg.metrics.counts import read_rows
from tests.worlds import WORLDS, edit_json


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return WORLDS["cocoa_cls"](tmp_path_factory.mktemp("cls") / "data")


def records_of(world):
    return read_dataset(world.name, world.root, split=world.test, **dict(o.split("=") for o in world.options))


def results_of(records, path, image_id=int, **changes):
    entries = [
        {
            "image_id": image_id(record.image_id), "category_id": record.category_id, "score": 0.9,
            "segmentation": {"size": record.amodal_rle["size"], "counts": record.amodal_rle["counts"].decode()},
            **changes,
        }
        for record in records
    ]  # fmt: skip
    path.write_text(json.dumps(entries))
    return path


def section(world, **more):
    content = {"name": world.name, "root": str(world.root), "split": world.test, **more}
    return build(DataOnly, [("test", {"data": content})]).data


def test_a_perfect_detector(classes, tmp_path, capsys):
    path = results_of(records_of(classes), tmp_path / "results.json")
    arguments = ["ap", "cocoa_cls", str(classes.root), "--results", str(path), "--split", classes.test]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "cocoa_cls, amodal_ap" in printed and "cocoa_cls, cls_ap" in printed
    found = score_results(section(classes), path)
    for protocol in ("amodal_ap", "cls_ap"):
        assert found[protocol]["AP"] == found[protocol]["AR100"] == 1
    # options are accepted at the end too
    assert main([*arguments, "num_objects=99"]) == 0 and capsys.readouterr().out == printed


def test_wrong_categories_lower_only_the_protocol_with_classes(classes, tmp_path):
    other = max(record.category_id for record in records_of(classes)) + 1
    path = results_of(records_of(classes), tmp_path / "results.json", category_id=other)
    found = score_results(section(classes), path)
    assert found["amodal_ap"]["AP"] == 1 and found["cls_ap"]["AP"] == 0


def test_numeric_image_ids_are_matched_through_a_listing(tmp_path, capsys):
    kins = WORLDS["kins"](tmp_path / "kins")
    listing = next(kins.root.glob("**/update_test_2020.json"))
    ids = {photo["file_name"].rpartition("/")[2].partition(".")[0]: photo["id"]
           for photo in json.loads(listing.read_text())["images"]}  # fmt: skip
    path = results_of(records_of(kins), tmp_path / "results.json", image_id=ids.__getitem__)
    arguments = ["ap", "kins", str(kins.root), "--split", "test", "--results", str(path)]
    assert main(arguments) == 2
    assert "predictions_images" in capsys.readouterr().err
    assert main([*arguments, f"predictions_images={listing}"]) == 0
    assert "AP                        100.0" in capsys.readouterr().out


def test_polygons_and_results_in_another_folder(classes, tmp_path, capsys):
    path = results_of(records_of(classes), tmp_path / "results.json")

    def change(entries):
        entries[0]["segmentation"] = [[1, 1, 4, 1, 4, 4]]  # matches nothing
        entries[0]["score"] = 0.1
        entries.append({**entries[1], "image_id": 999999})

    edit_json(path, change)
    found = score_results(section(classes), path)
    assert 0 < found["amodal_ap"]["AR100"] < 1
    assert "1 of" in capsys.readouterr().out


def test_annotators_of_a_photo_are_evaluated_separately(tmp_path, capsys):
    world = WORLDS["bsds_a"](tmp_path / "bsds")
    path = results_of(read_dataset("bsds_a", world.root, split=world.test), tmp_path / "results.json", category_id=1)
    assert score_results(section(world), path)["amodal_ap"]["AP"] == 1
    with pytest.raises(UserError, match=r"several people annotated image .* data\.annotator=first"):
        score_results(section(world, annotator="all"), path)
    # predictions for each annotator's objects are matched with those only
    config = tmp_path / "all.yaml"
    content = f"data: {{name: bsds_a, root: {world.root}, split: {world.test}, annotator: all}}\n"
    config.write_text(content + "models: [modal]\nreport: {html: false}\ntrainer: {progress: false}\n")
    assert main(["eval", str(config), f"out={tmp_path / 'out'}"]) == 0
    (result,) = json.loads((tmp_path / "out/metrics.json").read_text())["results"]
    rows = read_rows(tmp_path / "out/objects.csv")
    assert len(rows) > len({(row["image_id"], row["object_id"].partition("-")[2]) for row in rows})
    recall = np.mean([[r["out_inter"] / r["out_union"] >= s - 1e-9 for r in rows] for s in np.arange(0.5, 0.96, 0.05)])
    assert result["detection"]["amodal_ap"]["AR100"] == pytest.approx(recall)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda entries: entries.clear(), "must be a list of COCO results"),
        (lambda entries: entries[1].pop("score"), "result number 2 lacks 'score'"),
        (lambda entries: entries[1].update(score=float("nan")), "result number 2: the score is nan"),
        (lambda entries: entries[0].update(segmentation=[[1, 2]]), "result number 1 has a mask that cannot be read"),
        (lambda entries: entries[0]["segmentation"].update(size=[3, 4], counts="<"), "result number 1 has a mask of"),
        (lambda entries: [entry.update(image_id=-1) for entry in entries], "none of its"),
    ],
)
def test_mistakes(classes, tmp_path, change, part):
    path = results_of(records_of(classes), tmp_path / "results.json")
    edit_json(path, change)
    with pytest.raises(UserError, match=part):
        score_results(section(classes), path)


def test_missing_results_are_refused(classes, tmp_path, capsys):
    assert main(["ap", "cocoa_cls", str(classes.root), "--results", str(tmp_path / "absent.json")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert main(["ap", "cocoa_cls", str(classes.root)]) == 2
    assert "--results" in capsys.readouterr().err


def test_ground_truths_contain_what_the_protocols_need(classes):
    for record in records_of(classes):
        truth = truth_of(record)
        assert truth.rate == pytest.approx(record.occlusion_rate)
        assert (truth.category, truth.is_stuff, truth.image) == (record.category, False, record.image_id)
