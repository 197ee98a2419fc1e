"""The predictor without PyTorch keeps the models' contract and predicts like the trained model."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from amodalseg import UserError
from amodalseg.cli import main
from amodalseg.export.runtime import OnnxPredictor
from amodalseg.export.write import export_model
from amodalseg.metrics.counts import read_rows
from tests.models.contract import ModelContract, query
from tests.refusals import refused

ROOT = Path(__file__).parents[2]


class TestOnnxPredictor(ModelContract):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, exported):
        return OnnxPredictor(exported.onnx, num_threads=1)


def agree(one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape and one.dtype == other.dtype == bool
    assert (one == other).mean() >= 0.9999


@pytest.mark.parametrize(("height", "width", "box"), [(90, 120, (20, 10, 80, 60)), (30, 30, (0, 5, 12, 29))])
def test_the_same_seed_gives_the_same_mask_as_pytorch(exported, height, width, box):
    asked = query(height, width, box)
    found = OnnxPredictor(exported.onnx).predict(asked.image, asked.modal, seed=4)
    wanted = exported.model.predict(asked.image, asked.modal, seed=4)
    agree(found.amodal, wanted.amodal)
    agree(found.raw, wanted.raw)
    assert (np.abs(found.probability - wanted.probability) < 1e-4).mean() >= 0.9999
    other = OnnxPredictor(exported.onnx).predict(asked.image, asked.modal, seed=5)
    assert (other.probability != found.probability).any()


def test_stacks_samples_and_small_batches(exported):
    first, second = query(50, 60, (5, 5, 40, 30)), query(50, 60, (20, 10, 60, 50))
    modal = np.stack([first.modal, second.modal, first.modal])
    predictor = OnnxPredictor(exported.onnx, batch_size=2)
    found = predictor.predict(first.image, modal, seed=1, num_samples=2)
    wanted = exported.model.predict(first.image, modal, seed=1, num_samples=2)
    agree(found.amodal, wanted.amodal)
    agree(found.samples, wanted.samples)
    assert found.samples.shape == (3, 2, 50, 60) and (found.amodal[0] == found.amodal[2]).all()


def test_the_threshold_can_be_overridden_and_repr(exported):
    predictor, asked = OnnxPredictor(exported.onnx, num_threads=1), query(50, 60, (5, 5, 40, 30))
    assert repr(predictor) == f"OnnxPredictor('{exported.onnx.stem}', size unknown, cpu)"
    assert predictor.override({"post": {"threshold": 1.0}}) == {"post": {"threshold": 1.0}}
    assert not predictor.predict(asked.image, asked.modal).raw.any(), "nothing lies above 1"
    with pytest.raises(UserError, match=r"override\.sampler cannot change after training; post can"):
        predictor.override({"sampler": {"steps": 3}})
    with pytest.raises(UserError, match=r"is fixed at 64 px in its file: export the model again with another --size$"):
        predictor.override({"window": {"size": 96}})
    own = {"window": {"size": 64}, "sampler": {"steps": 1}}
    assert predictor.override(own) == own, "its own values are no change"


def test_an_exported_file_cannot_be_exported(exported, tmp_path):
    with pytest.raises(UserError, match=r"is an exported file: export the model that it was made from"):
        export_model(OnnxPredictor(exported.onnx), tmp_path / "again.onnx")


def test_a_process_with_the_predictor_imports_no_torch_and_writes_no_telemetry(exported, tmp_path):
    code = (
        "import sys, numpy as np; from amodalseg.export.runtime import OnnxPredictor\n"
        "modal = np.zeros((40, 50), bool); modal[10:30, 5:25] = True\n"
        f"result = OnnxPredictor({str(exported.onnx)!r}).predict(np.full((40, 50, 3), 90, np.uint8), modal)\n"
        "assert result.amodal.shape == (40, 50) and result.probability.any()\n"
        "heavy = {'torch', 'timm', 'lightning', 'torchvision', 'onnx', 'albumentations'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    told = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    told["TMPDIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=told)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_the_number_of_steps_is_fixed_in_the_file(exported):
    asked = query(40, 40, (5, 5, 30, 30))
    predictor = OnnxPredictor(exported.onnx)
    assert predictor.predict(asked.image, asked.modal, steps=1).amodal.any()
    with pytest.raises(UserError, match=r"samples in 1 steps; export it again with --steps 5"):
        predictor.predict(asked.image, asked.modal, steps=5)


def test_files_that_are_not_exported_models_are_refused(exported, tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "cut.onnx").write_bytes(exported.onnx.read_bytes()[:100_000])
    for name in ("text", "cut"):
        with pytest.raises(UserError, match=rf"{name}\.onnx is not a complete ONNX file") as caught:
            OnnxPredictor(tmp_path / f"{name}.onnx")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no model file at .*absent\.onnx"):
        OnnxPredictor(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, "was written by another program"),
        ({"format": "amodalseg-onnx-9"}, "in the format 'amodalseg-onnx-9'.*this release reads 'amodalseg-onnx-1'"),
        ({"model": "{"}, "no readable configuration inside"),
        ({"about": None}, "no readable configuration inside"),
    ],
)
def test_invalid_metadata_is_refused(exported, tmp_path, change, message):
    content = onnx.load(exported.onnx)
    metadata = {entry.key: entry.value for entry in content.metadata_props} | change
    del content.metadata_props[:]
    onnx.helper.set_model_props(content, {key: value for key, value in metadata.items() if value is not None})
    onnx.save(content, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=message):
        OnnxPredictor(tmp_path / "other.onnx")


def test_invalid_arrays_providers_and_a_missing_library_are_refused(exported, monkeypatch):
    predictor = OnnxPredictor(exported.onnx)
    image, modal = np.zeros((2, 3, 64, 64), np.uint8), np.ones((2, 1, 64, 64), np.uint8)
    noise = np.zeros((1, 2, 1, 64, 64), np.float32)
    assert predictor.run(image, modal, noise)[0].shape == (2, 1, 64, 64)
    with pytest.raises(UserError, match=r"takes 'image' as uint8 \(2, 3, 64, 64\), not uint8 \(2, 3, 32, 32\)"):
        predictor.run(image[..., :32, :32], modal, noise)
    with pytest.raises(UserError, match=r"takes 'modal' as uint8 .* not bool"):
        predictor.run(image, modal > 0, noise)
    with pytest.raises(UserError, match=r"takes 'noise' as float32 \(1, 2, 1, 64, 64\), not float32 \(1, 1, 1"):
        predictor.run(image, modal, noise[:, :1])
    with pytest.raises(UserError, match=r"has no NoSuchProvider here; it has .*CPUExecutionProvider"):
        OnnxPredictor(exported.onnx, providers=["NoSuchProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        OnnxPredictor(exported.onnx)


CUDA = "CUDAExecutionProvider"


def test_a_missing_gpu_is_reported(exported, monkeypatch):
    import onnxruntime

    asked, session = [], onnxruntime.InferenceSession

    def falls_back(path, options, providers):
        """Like a GPU wheel without CUDA: it lists the provider, cannot load it and falls back to the CPU."""
        asked.append(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    for providers in (CUDA, [CUDA], [(CUDA, {"device_id": 0})]):
        with pytest.raises(UserError, match="cannot use CUDAExecutionProvider on this machine"):
            OnnxPredictor(exported.onnx, providers=providers)
    assert asked == [[(CUDA, {})], [(CUDA, {})], [(CUDA, {"device_id": 0})]]
    with pytest.warns(UserWarning, match="predicting on the CPU, which the list of providers allows"):
        OnnxPredictor(exported.onnx, providers=[CUDA, "CPUExecutionProvider"])
    with pytest.raises(UserError, match=r"a provider is a name or \(name, options\), not 5"):
        OnnxPredictor(exported.onnx, providers=[5])


def test_providers_in_all_forms_of_onnx_runtime(exported):
    for providers in ("CPUExecutionProvider", [("CPUExecutionProvider", {})], None):
        assert OnnxPredictor(exported.onnx, providers=providers)._session.get_providers() == ["CPUExecutionProvider"]


def test_the_command_line_predicts_with_an_exported_file(exported, tmp_path, capsys):
    asked = query(50, 60, (5, 5, 40, 30))
    cv2.imwrite(str(tmp_path / "photo.png"), asked.image[..., ::-1])
    cv2.imwrite(str(tmp_path / "mask.png"), asked.modal.astype(np.uint8) * 255)
    command = ["predict", str(exported.onnx), "--image", str(tmp_path / "photo.png"), "--mask",
               str(tmp_path / "mask.png"), "--out", str(tmp_path / "out.png")]  # fmt: skip
    assert main([*command, "--seed", "3"]) == 0
    wanted = OnnxPredictor(exported.onnx).predict(asked.image, asked.modal, seed=3)
    agree(cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_GRAYSCALE) > 127, wanted.amodal)
    capsys.readouterr()
    for more, part in (
        (["--steps", "7"], "samples in 1 steps"),
        (["--device", "mps"], "choose from auto, cpu, cuda"),
    ):
        refused(capsys, [*command, *more], part)


def test_the_exported_file_is_evaluated_like_its_model(exported, tmp_path):
    exported.model.save(tmp_path / "own.safetensors")
    names = [str(exported.onnx), str(tmp_path / "own.safetensors")]
    options = ["data.num_objects=4", "report.steps_curve=[]", f"out={tmp_path / 'eval'}"]
    assert main(["eval", "synthetic", f"models=[{','.join(names)}]", *options]) == 0
    rows = read_rows(tmp_path / "eval/objects.csv")
    one, other = ([row for row in rows if row["model"] == name] for name in names)
    assert len(one) == len(other) == 4
    for mine, yours in zip(one, other, strict=True):
        assert mine["object_id"] == yours["object_id"] and abs(mine["out_inter"] - yours["out_inter"]) <= 2
