"""A graph whose weights are in the model file next to it: it predicts the same, or reports the fault in one line."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from amodalseg import UserError
from amodalseg.export.runtime import OnnxPredictor
from amodalseg.export.write import leave_weights
from tests.models.contract import query


@pytest.fixture(scope="module")
def pair(exported, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    exported.model.save(folder / "small.safetensors")
    shutil.copy(exported.onnx, folder / "small.onnx")
    leave_weights(folder / "small.onnx", folder / "small.safetensors")
    return folder


@pytest.fixture
def copied(pair, tmp_path) -> Path:
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_graph_is_small_and_predicts_like_the_whole_file(exported, pair):
    graph, whole = pair / "small.onnx", exported.onnx
    assert graph.stat().st_size < 0.3 * whole.stat().st_size
    asked = query(50, 60, (5, 5, 40, 30))
    one, other = (
        OnnxPredictor(path, num_threads=1).predict(asked.image, asked.modal, seed=2) for path in (graph, whole)
    )
    assert np.array_equal(one.probability, other.probability) and one.amodal.any()


def test_missing_damaged_or_wrong_weights_are_refused(copied):
    weights, graph = copied / "small.safetensors", copied / "small.onnx"
    state, content = load_file(weights), weights.read_bytes()

    def refused(match):
        with pytest.raises(UserError, match=match):
            OnnxPredictor(graph)

    key = (
        "denoiser.decoder.0.weight" if "denoiser.decoder.0.weight" in state else max(state, key=lambda k: state[k].size)
    )
    save_file(state | {key: state[key] + 1}, weights)
    refused("was exported from other weights than those beside it")
    save_file(state | {key: np.full_like(state[key], np.nan)}, weights)
    refused(f"'{key}' holds NaN or infinity")
    save_file({name: value for name, value in state.items() if name != key}, weights)
    refused(f"has no weights '{key}'")
    weights.write_bytes(content[:1000])
    refused("not a complete safetensors file")
    weights.unlink()
    refused("needs its weights, .*small.safetensors: No such file")


@pytest.mark.parametrize("place", ["../small.safetensors", "/etc/passwd", "passwd", ".safetensors", "a/b.safetensors"])
def test_weights_at_any_other_path_are_not_read(copied, place):
    graph = onnx.load(copied / "small.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            entry.value = place
    (copied / "small.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match="refers to other files for its weights, which are not read"):
        OnnxPredictor(copied / "small.onnx")


def test_weights_are_left_out_only_if_they_equal_the_model_file(exported, copied):
    shutil.copy(exported.onnx, copied / "small.onnx")
    state = load_file(copied / "small.safetensors")
    key = max(state, key=lambda name: state[name].size)
    save_file(state | {key: -state[key]}, copied / "small.safetensors")
    with pytest.raises(UserError, match=f"holds other weights than the exported model .*{key}"):
        leave_weights(copied / "small.onnx", copied / "small.safetensors")
    with pytest.raises(UserError, match=r"no model file at .*absent"):
        leave_weights(copied / "small.onnx", copied / "absent.safetensors")
