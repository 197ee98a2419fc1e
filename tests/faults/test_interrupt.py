"""After Ctrl-C, resumable commands say how to resume; output that cannot be printed gives one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from amodalseg.cli import main
from amodalseg.models.geometric.model import ConvexHull
from benchmarks.faults import commands, make_inputs

ROOT = Path(__file__).parents[2]


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("in") / "inputs")


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("predict", [], "run the same command again to continue"),
        ("predict", ["--overwrite"], "run the same command without --overwrite to continue"),
        ("masks", [], "run the same command again to continue after the masks that are written"),
        (
            "masks",
            ["--overwrite"],
            "run the same command without --overwrite to continue after the masks that are written",
        ),
        ("eval", [], "run the same command again to continue after the objects that are predicted"),
    ],
)
def test_resumable_commands_say_how_to_resume(inputs, tmp_path, monkeypatch, capsys, name, more, says):
    monkeypatch.setattr(ConvexHull, "predict_batch", interrupted)
    assert main([*commands(inputs)[name](tmp_path), *more]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; {says}"


def test_other_commands_do_not_offer_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("amodalseg.data.pack.convert.write_coco_amodal", interrupted)
    assert main(["data", "convert", "synthetic", "num_objects=2", "--out", str(tmp_path / "x")]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


def test_a_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "amodalseg", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1
