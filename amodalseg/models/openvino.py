"""An exported file on OpenVINO instead of ONNX Runtime: faster on x86 processors, above all in batches.

Needs the extra ``openvino``. The file is opened and checked by ``OnnxPredictor``, and run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from amodalseg.atomic import read_regular
from amodalseg.errors import UserError
from amodalseg.models.exported import OnnxPredictor
from amodalseg.models.exported_weights import holds_external_data, weights_beside

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""Names in ``accelerate`` -> names in OpenVINO."""


class OpenVinoPredictor(OnnxPredictor):
    """``OnnxPredictor`` on OpenVINO's CPU device; its predictions differ from ONNX Runtime's by rounding only.

    Args:
        path, batch_size: as ``OnnxPredictor``.
        num_threads: on the CPU; default: OpenVINO's own choice.
        precision: see ``accelerate``.

    Raises:
        UserError: as ``OnnxPredictor``; OpenVINO, or the library ``onnx``, is not installed.
    """

    def __init__(
        self, path: str | Path, num_threads: int | None = None, *, batch_size: int = 16, precision: str = "fp32"
    ) -> None:
        super().__init__(path, num_threads=num_threads, batch_size=batch_size)
        self._graph, self._num_threads = whole_graph(self.path), num_threads
        self.accelerate(precision=precision)

    def accelerate(self, *, precision: str = "fp32") -> OpenVinoPredictor:
        """Choose the precision: ``fp32``, or ``bf16``, which is faster on CPUs that support it (avx512_bf16, amx).

        Raises:
            UserError: the precision is unknown, or not supported by this CPU.
        """
        if precision not in PRECISIONS:
            raise UserError(f"invalid value for precision: {precision} (choose from {', '.join(PRECISIONS)})")
        self._session = _Session(self._graph, PRECISIONS[precision], self._num_threads)
        return self


class _Session:
    """The method of an ONNX Runtime session that ``OnnxPredictor`` calls.

    Compiled with static shapes, which is faster than with dynamic ones; batches are therefore padded to powers of two.
    """

    def __init__(self, graph: bytes, precision: str, num_threads: int | None) -> None:
        openvino = _library()
        self.core, self.graph = openvino.Core(), graph
        self.options = {"INFERENCE_PRECISION_HINT": precision}
        if num_threads is not None:
            self.options["INFERENCE_NUM_THREADS"] = str(num_threads)
        can = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in can:
            raise UserError("this CPU does not compute in bf16: leave precision out")
        self.requests: dict[int, Any] = {}
        self.turn = Lock()

    def run(self, names: Sequence[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Returns: the named outputs, new arrays."""
        count = len(given["image"])
        batch = 1 << (count - 1).bit_length()
        places = np.arange(batch) % count
        filled = {name: array.take(places, axis=int(name == "noise")) for name, array in given.items()}
        with self.turn:  # a request holds the inputs and outputs of one run
            if batch not in self.requests:
                model = self.core.read_model(self.graph)
                model.reshape({name: list(array.shape) for name, array in filled.items()})
                self.requests[batch] = self.core.compile_model(model, "CPU", self.options).create_infer_request()
            request = self.requests[batch]
            request.infer(filled)
            return [request.get_tensor(name).data[:count].copy() for name in names]


def _library() -> Any:
    try:
        import onnx  # noqa: F401
        import openvino
    except ImportError as error:
        raise UserError(f"OpenVINO is missing ({error.name}): pip install 'amodalseg[openvino]'") from error
    return openvino


def whole_graph(path: Path) -> bytes:
    """The bytes of an ONNX file with all weights embedded."""
    _library()
    import onnx

    data = read_regular(path)
    if not holds_external_data(data):
        return data
    weights, _ = weights_beside(path, data)
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    return bytes(model.SerializeToString())
