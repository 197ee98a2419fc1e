"""The same file on OpenVINO: it keeps the models' contract and predicts ONNX Runtime's masks."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from amodalseg import UserError, load_model
from amodalseg.models.exported import OnnxPredictor
from amodalseg.models.openvino import OpenVinoPredictor
from tests.models.contract import ModelContract, query

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


class TestOpenVinoPredictor(ModelContract):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, exported):
        return OpenVinoPredictor(exported.onnx, num_threads=1)


def test_masks_equal_those_of_onnx_runtime(exported):
    asked = query(60, 70, (5, 5, 40, 30))
    modal = np.stack([asked.modal] + [np.roll(asked.modal, shift, axis=1) for shift in (3, 9)])
    wanted = OnnxPredictor(exported.onnx).predict(asked.image, modal, seed=3, num_samples=2)
    found = load_model(exported.onnx, "openvino").predict(asked.image, modal, seed=3, num_samples=2)
    assert wanted.raw.any() and not wanted.raw.all()
    assert np.abs(found.probability - wanted.probability).max() < 1e-4
    assert (found.amodal == wanted.amodal).mean() >= 0.9999


def test_several_threads_at_once(exported):
    predictor, asked = OpenVinoPredictor(exported.onnx), query(60, 70, (5, 5, 40, 30))
    masks = [np.roll(asked.modal, shift, axis=1) for shift in range(6)]
    wanted = [predictor.predict(asked.image, mask).probability for mask in masks]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda mask: predictor.predict(asked.image, mask).probability, 4 * masks))
    assert all(np.array_equal(one, wanted[place % 6]) for place, one in enumerate(found))


def test_a_model_name_opens_its_exported_file():
    assert isinstance(load_model("conddiff_amo_lite", "openvino"), OpenVinoPredictor)
    with pytest.raises(UserError, match=r"OpenVINO runs exported files, made by 'amodalseg export run"):
        load_model("run", "openvino")
    with pytest.raises(UserError, match="'telea' cannot be exported"):
        load_model("telea", "openvino")


def test_the_shipped_graph_with_its_weights_in_a_separate_file(tmp_path):
    name, asked = "conddiff_amo_lite", query(60, 70, (5, 5, 40, 30))
    path = CHECKPOINTS / f"{name}.onnx"
    wanted, found = (load_model(path, device).predict(asked.image, asked.modal) for device in ("cpu", "openvino"))
    assert np.abs(found.probability - wanted.probability).max() < 1e-3
    shutil.copy(path, tmp_path / path.name)
    with pytest.raises(UserError, match="needs its weights"):
        load_model(tmp_path / path.name, "openvino")


def test_precision_and_a_missing_library_are_reported(exported, monkeypatch):
    predictor = OpenVinoPredictor(exported.onnx)
    with pytest.raises(UserError, match=r"invalid value for precision: fp8 \(choose from fp32, bf16\)"):
        predictor.accelerate(precision="fp8")
    with pytest.raises(UserError, match="choose from auto, cpu, cuda, openvino"):
        load_model(exported.onnx, "tpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"OpenVINO is missing \(openvino\): pip install 'amodalseg\[openvino\]'"):
        OpenVinoPredictor(exported.onnx)
