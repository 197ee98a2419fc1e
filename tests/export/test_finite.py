"""An exported file whose weights contain NaN or infinity is refused, wherever they are in the file."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amodalseg import UserError
from amodalseg.export.runtime import OnnxPredictor
from amodalseg.models.exported_weights import bad_weights, holds_external_data


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_one_non_finite_number_in_any_weight_is_refused(exported, tmp_path, value, place):
    content = onnx.load(exported.onnx)
    weights = [tensor for tensor in content.graph.initializer if tensor.data_type == TensorProto.FLOAT and tensor.dims]
    tensor = max(weights, key=lambda tensor: np.prod(tensor.dims)) if place else weights[0]
    numbers = numpy_helper.to_array(tensor).copy()
    numbers.flat[-1] = value
    if numbers.size == 1:
        pytest.skip("a single number")
    tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    onnx.save(content, tmp_path / "bad.onnx")
    with pytest.raises(UserError, match=rf"bad\.onnx .* 1 of its tensors hold NaN or infinity \({tensor.name}\)"):
        OnnxPredictor(tmp_path / "bad.onnx")
    assert bad_weights(exported.onnx.read_bytes()) == []
    assert not holds_external_data(exported.onnx.read_bytes())


def test_all_kinds_of_tensors_are_checked():
    nan = np.array([1, np.nan])
    tensors = [
        helper.make_tensor("raw", TensorProto.FLOAT, [2], nan.astype(np.float32).tobytes(), raw=True),
        helper.make_tensor("listed", TensorProto.FLOAT, [2], nan),
        helper.make_tensor("half", TensorProto.FLOAT16, [2], nan.astype(np.float16).tobytes(), raw=True),
        helper.make_tensor("double", TensorProto.DOUBLE, [2], nan),
        helper.make_tensor("brain", TensorProto.BFLOAT16, [2], np.uint16([0x3F80, 0x7FC0]).tobytes(), raw=True),
        helper.make_tensor("whole", TensorProto.INT64, [1], [5]),
        helper.make_tensor("constant", TensorProto.FLOAT, [], [np.inf]),
    ]
    node = helper.make_node("Constant", [], ["y"], value=helper.make_tensor("inner", TensorProto.FLOAT, [2], nan))
    branch = helper.make_graph([node], "branch", [], [])
    graph = helper.make_graph([helper.make_node("If", ["x"], ["z"], then_branch=branch), node], "g", [], [], tensors)
    data = helper.make_model(graph).SerializeToString()
    assert bad_weights(data) == ["raw", "listed", "half", "double", "brain", "inner", "inner"]
    for cut in range(0, len(data), 7):
        bad_weights(data[:cut])
    bad_weights(b"\xff" * 100)


def test_weights_in_an_external_file_are_refused_without_reading_it(tmp_path):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    node = helper.make_node("Identity", ["w"], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([node], "g", [], [out], [weight])
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 8)
    path = tmp_path / "model/a.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(UserError, match="refers to other files for its weights, which are not read"):
        OnnxPredictor(path)
