"""Users' mistakes on the command line: exit code 2, one clear line, and no files left."""

import json
import logging
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from amodalseg.cli import main
from amodalseg.config.schema import EditConfig, EvalConfig, TrainConfig
from amodalseg.config.shipped import find_config
from amodalseg.errors import UserError
from tests.refusals import refused
from tests.worlds import coco_world, cocoa_world, edit_json

ROOT = Path(__file__).parents[1]


def occlude(annotations, images, out, *more):
    return ["eval", str(ROOT / "configs/eval/photos.yaml"), f"data.annotations=[{annotations}]",
            f"data.images=[{images}]", f"out={out}", "models=[modal]", "trainer.progress=false",
            "report.html=false", "data.num_objects=4", *more]  # fmt: skip


@pytest.fixture
def coco(tmp_path):
    return coco_world(tmp_path / "coco")


@pytest.fixture
def out(tmp_path):
    yield tmp_path / "out"
    leftovers = [path for path in tmp_path.rglob(".*") if path.name.endswith(".part")]
    assert not leftovers


def test_training_on_a_users_photos(coco, out, capsys):
    assert main(occlude(*coco, out)) == 0
    assert "coco_occlude" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text())["results"][0]["num_objects"] == 4


def test_real_cocoa_layout(tmp_path, out):
    root = cocoa_world(tmp_path / "cocoa")
    arguments = ["eval", str(ROOT / "configs/eval/cocoa.yaml"), f"data.root={root}", "data.split=val", f"out={out}",
                 "trainer.progress=false"]  # fmt: skip
    assert main(arguments) == 0
    assert (out / "report.html").is_file()


def test_broken_json_is_reported_with_its_position(coco, out, capsys):
    coco[0].write_text('{"images": [1, 2,}\n')
    refused(capsys, occlude(*coco, out), str(coco[0]), "line 1")
    assert not out.exists()


def test_missing_files_and_folders(coco, out, capsys, tmp_path):
    refused(capsys, occlude(tmp_path / "absent.json", coco[1], out), "absent.json")
    refused(capsys, occlude(coco[0], tmp_path / "nowhere", out), "nowhere")
    refused(capsys, ["train", "absent.yaml"], "absent.yaml")


def test_annotation_without_image(coco, out, capsys):
    edit_json(coco[0], lambda content: content["images"].pop())
    refused(capsys, occlude(*coco, out), str(coco[0]), "image")


def test_photos_that_cannot_be_decoded_are_refused(coco, out, capsys):
    photos = sorted(coco[1].iterdir())
    photos[0].write_bytes(b"no picture")
    refused(capsys, occlude(*coco, out), photos[0].name, "1 of 3 photos", "data.skip_broken=true")
    assert main(occlude(*coco, out, "data.skip_broken=true")) == 0
    assert "1 of 3 photos are left out" in capsys.readouterr().err


def test_photo_and_mask_of_different_size(coco, out, capsys):
    photo = sorted(coco[1].iterdir())[1]
    cv2.imwrite(str(photo), np.zeros((50, 40, 3), np.uint8))
    refused(capsys, occlude(*coco, out), photo.name, "size")


def test_annotations_and_images_must_pair(coco, out, capsys):
    arguments = [a for a in occlude(*coco, out) if not a.startswith("data.images")]
    refused(capsys, [*arguments, "data.images=[a,b]"], "images")


def test_modal_masks_alone_cannot_be_scored(coco, out, capsys):
    arguments = ["eval", str(ROOT / "configs/eval/cocoa.yaml"), "data.name=coco", f"data.annotations=[{coco[0]}]",
                 f"data.images=[{coco[1]}]", f"out={out}"]  # fmt: skip
    refused(capsys, arguments, "coco_occlude")


def test_invalid_models_are_refused(coco, out, capsys, tmp_path):
    torch.save({"a": 1}, tmp_path / "pickle.safetensors")
    refused(capsys, [*occlude(*coco, out), f"models=[{tmp_path}/pickle.safetensors]"], "pickle")
    refused(capsys, [*occlude(*coco, out), "models=[convex_hul]"], "did you mean 'convex_hull'")
    assert not out.exists()


def test_an_output_folder_with_other_files_is_refused(coco, out, capsys):
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    refused(capsys, occlude(*coco, out), "choose another out=")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_ceiling_draw_cost_and_models(tmp_path, capsys):
    config = str(ROOT / "configs/eval/synthetic.yaml")
    assert main(["data", "ceiling", config, "data.num_objects=3", "data.size=64"]) == 0
    assert "square   96 px" in capsys.readouterr().out
    target = tmp_path / "folder/objects.png"
    assert main(["data", "draw", config, "data.num_objects=3", "--count", "3", "--to", str(target)]) == 0
    assert cv2.imread(str(target)).ndim == 3
    assert main(["cost", str(ROOT / "configs/experiment/photos_tiny.yaml")]) == 0
    assert "5.56 M parameters" in capsys.readouterr().out
    assert main(["cost", str(ROOT / "configs/experiment/photos_direct.yaml")]) == 0
    assert "direct, 96 px" in (printed := capsys.readouterr().out) and "4.62 M parameters" in printed
    assert main(["cost", str(ROOT / "configs/experiment/photos_pcnet_m.yaml")]) == 0
    assert "3.35 M parameters" in capsys.readouterr().out
    assert main(["cost", "conddiff_amo_lite"]) == 0
    assert "4.73 M parameters    2.40 GFLOP" in capsys.readouterr().out
    assert main(["models"]) == 0
    assert "convex_hull" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "command"),
        (["evaluate"], "invalid choice: 'evaluate'"),
        (["train"], "required: CONFIG.yaml"),
        (["eval", "a.yaml", "--foo=1"], "unrecognized arguments: --foo=1"),
        (["data", "draw", "a.yaml", "--count", "x"], "'x' is not a whole number of at least 1"),
        (["data", "draw", "a.yaml", "--count", "0"], "'0' is not a whole number of at least 1"),
        (["data", "draw", "a.yaml", "--count", "-1"], "--count"),
        (["data", "draw", "a.yaml", "--to", ""], "ends in .png"),
        (["data", "draw", "a.yaml", "--to", "a.jpg"], "ends in .png"),
        (["data", "draw", "a.yaml", "--to", "."], "ends in .png"),
    ],
)
def test_mistyped_commands(arguments, part, capsys):
    refused(capsys, arguments, part)


def test_pictures_that_cannot_be_written_are_reported(tmp_path, capsys):
    draw = ["data", "draw", str(ROOT / "configs/eval/synthetic.yaml"), "data.size=64", "--count", "1", "--to"]
    (tmp_path / "folder.png").mkdir()
    refused(capsys, [*draw, str(tmp_path / "folder.png")], "folder.png' is not a picture file")
    (tmp_path / "file").write_text("mine")
    refused(capsys, [*draw, str(tmp_path / "file/a.png")], "cannot write", "a.png")


@pytest.mark.parametrize("command", [[], ["eval"], ["data", "draw"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: amodalseg")


@pytest.mark.parametrize(
    ("command", "kind"),
    [("train", TrainConfig), ("eval", EvalConfig), ("calibrate", EvalConfig), ("edit", EditConfig)],
)
def test_the_configuration_that_help_names_is_of_the_right_kind(command, kind, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    (name,) = re.findall(r"shipped\s+configuration:\s+'(\w+)'", capsys.readouterr().out)
    assert find_config(kind, name).is_file()


def test_messages_are_one_line(monkeypatch, capsys):
    def several_lines(_):
        raise UserError("one\n  two")

    monkeypatch.setattr("amodalseg.cli.commands._models", several_lines)
    refused(capsys, ["models"], "error: one two\n")


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("cannot decode the image a.jpg: copy it again")


def test_a_mistake_found_in_a_loader_worker_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(
        "amodalseg.cli.commands._models", lambda _: list(torch.utils.data.DataLoader(Broken(), num_workers=1))
    )
    refused(capsys, ["models"], "error: cannot decode the image a.jpg: copy it again\n")


def test_messages_of_the_package_are_plain_lines_on_standard_output(monkeypatch, capsys):
    logger, root, levels = logging.getLogger("amodalseg"), logging.getLogger(), []

    def run(_):
        logging.getLogger("amodalseg.data.open").info("two objects are left out")
        levels.append(logger.level)
        raise UserError("one")

    monkeypatch.setattr("amodalseg.cli.commands._models", run)
    other = logging.StreamHandler()
    root.addHandler(other)  # as libraries add handlers
    try:
        before = logger.level, logger.propagate, list(logger.handlers)
        for _ in range(2):
            assert main(["models"]) == 2
            shown = capsys.readouterr()
            assert shown.out == "two objects are left out\n" and shown.err == "error: one\n"
        assert (logger.level, logger.propagate, logger.handlers) == before and levels == [logging.INFO] * 2
    finally:
        root.removeHandler(other)


def test_ceiling_and_draw_without_objects_are_refused(coco, capsys):
    edit_json(coco[0], lambda content: content["annotations"].clear())
    config = [str(ROOT / "configs/eval/photos.yaml"), f"data.annotations=[{coco[0]}]", f"data.images=[{coco[1]}]"]
    refused(capsys, ["data", "ceiling", *config, "data.name=coco"], "no object")
    refused(capsys, ["data", "draw", *config, "data.name=coco"], "no object")


def test_ceiling_keeps_no_pixels_in_memory(monkeypatch):
    kept = []
    monkeypatch.setattr("amodalseg.data.window.geometry_ceiling", lambda records, _: kept.extend(records) or [
        {"full": 1.0, "occluded": None}])  # fmt: skip
    assert main(["data", "ceiling", str(ROOT / "configs/eval/synthetic.yaml"), "data.num_objects=2"]) == 0
    assert len(kept) == 16 and all(isinstance(record.image, Path) for record in kept)


@pytest.mark.skipif("AMODALSEG_DATA" not in os.environ, reason="needs the real COCOA photos")
def test_published_figures_of_the_two_cocoa_photos(out):
    """Computed independently of this project."""
    assert main(["eval", str(ROOT / "configs/eval/cocoa.yaml"), f"out={out}", "trainer.progress=false"]) == 0
    results = {r["model"]: r for r in json.loads((out / "metrics.json").read_text())["results"]}
    assert results["modal"]["num_objects"] == 13 and results["modal"]["num_occluded"] == 6

    def figure(model, protocol, region):
        return results[model]["scores"][protocol][region]

    assert figure("modal", "pooled", "full") == pytest.approx(0.8049, abs=5e-5)
    assert figure("modal", "per_object", "full") == pytest.approx(0.8759, abs=5e-5)
    assert figure("modal", "per_object_occluded", "full") == pytest.approx(0.7311, abs=5e-5)
    assert figure("box", "pooled", "full") == pytest.approx(0.6594, abs=5e-5)
    assert figure("box", "pooled", "occluded_of_occluded") == pytest.approx(0.5417, abs=5e-5)
    assert figure("convex_hull", "pooled", "full") == pytest.approx(0.874, abs=0.005)
    assert figure("convex_hull", "pooled", "occluded_of_occluded") == pytest.approx(0.652, abs=0.01)
