"""Inputs that change between a killed run and the next one: reported, and predictions are never mixed."""

import json
import shutil
import signal
from pathlib import Path

import cv2
import pytest

from benchmarks.faults import Disturbance, commands, differences, log_of, make_inputs, run


@pytest.fixture
def inputs(tmp_path):
    return make_inputs(tmp_path / "inputs")


def change_photo(inputs):
    path = inputs / "photos/0.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))


def change_mask(inputs):
    mask = cv2.imread(str(inputs / "masks/0.png"), 0)
    mask[:, :24] = 0
    cv2.imwrite(str(inputs / "masks/0.png"), mask)


def change_annotation(inputs):
    content = json.loads((inputs / "coco.json").read_text())
    content["annotations"][0]["segmentation"] = [[1, 1, 20, 1, 20, 20, 1, 20]]
    (inputs / "coco.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("predict", change_photo, "the photos have changed: predicting all annotations again"),
        ("predict", change_annotation, "the annotations have changed: predicting all annotations again"),
        ("masks", change_mask, "1 masks are older than their photo or mask file: predicting them again"),
    ],
)
def test_a_resumed_run_predicts_the_changed_inputs(inputs, tmp_path, name, change, says):
    command, folder, whole = commands(inputs)[name], tmp_path / "cut", tmp_path / "whole"
    assert run(command(whole), whole) == 0
    late = int(Path(f"{whole}.operations").read_text()) * 3 // 4
    assert run(command(folder), folder, Disturbance(kill_at=late)) == -signal.SIGKILL
    change(inputs)
    shutil.rmtree(whole)
    assert run(command(whole), whole) == 0
    assert run(command(folder), folder) == 0 and says in log_of(folder)
    assert not differences(folder, whole)


def test_a_killed_overwriting_run_leaves_no_old_masks_among_new_ones(inputs, tmp_path):
    folder, whole = tmp_path / "cut", tmp_path / "whole"
    old, new = (["predict", model, *commands(inputs)["masks"](folder)[2:]] for model in ("box", "convex_hull"))
    assert run(old, folder) == 0
    middle = int(Path(f"{folder}.operations").read_text()) * 2 // 3
    assert run([*new, "--overwrite"], folder, Disturbance(kill_at=middle)) == -signal.SIGKILL
    assert run(new, folder) == 0, log_of(folder)
    assert run(commands(inputs)["masks"](whole), whole) == 0
    assert not [text for text in differences(folder, whole) if "amodalseg.json" not in text]
