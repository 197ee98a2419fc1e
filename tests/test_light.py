"""An installation without the extra ``train``: predictions use ONNX Runtime; the rest fails with one clear line."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement

from amodalseg.errors import TRAINING

ROOT = Path(__file__).parents[1]
ABSENT = sorted({*TRAINING, "diffusers", "transformers", "onnx", "scipy"})
LIGHT = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # as if it were not installed
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", LIGHT + code], capture_output=True, text=True, cwd=ROOT)


def command(*arguments: object) -> subprocess.CompletedProcess:
    return run(f"from amodalseg.cli import main; sys.exit(main({[str(one) for one in arguments]}))")


def test_the_extra_contains_the_libraries_of_the_message():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(text).name for text in project["optional-dependencies"]["train"]} == TRAINING
    assert not TRAINING & {Requirement(text).name for text in project["dependencies"]}


@pytest.fixture
def files(tmp_path) -> Path:
    rows, columns = np.mgrid[:90, :120]
    ball = (rows - 45) ** 2 + (columns - 60) ** 2 < 30**2
    photo = np.where(ball[..., None], (60, 70, 200), (90, 140, 90)).astype(np.uint8)
    photo[:, 70:80] = 30
    ball[:, 70:80] = False
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    cv2.imwrite(str(tmp_path / "mask.png"), ball.astype(np.uint8) * 255)
    return tmp_path


def test_the_shipped_weights_predict_as_with_pytorch(files):
    done = command("predict", "conddiff_amo_lite", "--image", files / "photo.png", "--mask", files / "mask.png",
                   "--out", files / "light.png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    import amodalseg
    from amodalseg.data.images import load_image

    modal = load_image(files / "mask.png", grey=True) > 0
    result = amodalseg.load_model("conddiff_amo_lite", "cpu").predict(load_image(files / "photo.png"), modal)
    assert result.occluded.any()
    assert ((load_image(files / "light.png", grey=True) > 0) == result.amodal).mean() >= 0.9999


def test_the_model_is_the_onnx_predictor():
    done = run("import amodalseg; print(repr(amodalseg.load_model()))")
    assert done.stdout.startswith("OnnxPredictor('conddiff_amo_lite'"), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["data", "--help"]])
def test_commands_that_work_without_the_extra(arguments):
    done = command(*arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "configs/experiment/demo.yaml"], "error: 'amodalseg train' needs "),
        (["eval", "configs/eval/synthetic.yaml"], "error: 'amodalseg eval' needs "),
        (["export", "conddiff_amo_lite", "--out", "a.onnx"], "error: 'amodalseg export' needs "),
        (["predict", "mixed_context", "--image", "a.png", "--mask", "b.png", "--out", "c.png"],
         "error: the model 'mixed_context' needs "),
    ],
)  # fmt: skip
def test_commands_that_need_the_extra_are_refused(arguments, said):
    done = command(*arguments)
    assert done.returncode == 2 and done.stderr.startswith(said), done.stderr
    assert "pip install 'amodalseg[train]'" in done.stderr and done.stderr.count("\n") == 1


def test_public_names_that_need_the_extra_are_refused():
    done = run("import amodalseg\ntry: amodalseg.evaluate\nexcept amodalseg.UserError as error: print(error)")
    assert "amodalseg.evaluate needs" in done.stdout and "amodalseg[train]" in done.stdout, done.stderr
