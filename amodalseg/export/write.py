"""Export a model as an ONNX graph, and as a module for ``torch.export``. Files that fail the check are not kept."""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodalseg.atomic import replacing
from amodalseg.config.load import to_dict
from amodalseg.config.schema import CondDiffAMOConfig
from amodalseg.errors import UserError
from amodalseg.export.graph import INPUTS, OUTPUTS, SamplerGraph, batch_shapes, trace
from amodalseg.export.verify import Comparison, Run, VerificationSet, compare
from amodalseg.models import load_model
from amodalseg.models.base import AmodalModel, whole_number
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.exported import FORMAT, OnnxPredictor
from amodalseg.models.exported_weights import PREFIX, read_state

OPSET = 20
"""ONNX opset: the first with GELU as one operation; as five operations it takes half as long again."""
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def export_model(
    model: str | Path | AmodalModel,
    path: str | Path,
    *,
    pt2: str | Path | None = None,
    steps: int | None = None,
    size: int | None = None,
    graph_only: bool = False,
) -> list[Comparison]:
    """Write a model, sampler included, to one ONNX file, and check it against PyTorch.

    Args:
        model: a CondDiff-AMO, or a name or file of one, as for ``load_model``.
        path: the ONNX file, ending in .onnx.
        pt2: also write the module for ``torch.export.load``, to a file ending in .pt2.
        steps: of the sampler; default: the model's own.
        size: of the window, pixels; default: the model's own. As for ``override`` of ``window.size``.
        graph_only: keep the weights in the model file, which must lie beside ``path`` as NAME.safetensors.

    Returns:
        How each file compares with PyTorch, the ONNX file first.

    Raises:
        UserError: the model has no network, the size or a file name is wrong, a library is not installed, or the masks
            differ from PyTorch's; then no file is written and existing files are kept. With ``graph_only``: there is no
            model file beside ``path``, or its weights differ.
    """
    model = model if isinstance(model, AmodalModel) else load_model(model, "cpu")
    if isinstance(model, OnnxPredictor):
        raise UserError(f"'{model.name}' is an exported file: export the model that it was made from")
    if not isinstance(model, CondDiffAMO):
        raise UserError(f"'{model.name}' has no sampler to export; only CondDiff-AMO models can be exported")
    for name, suffix in ((path, ".onnx"), (pt2, ".pt2")):
        if name is not None and Path(name).suffix != suffix:
            raise UserError(f"cannot export to '{name}': give a name that ends in {suffix}")
    require_libraries()
    reference = CondDiffAMO(model.config, copy.deepcopy(model.network).cpu().float(), name=model.name)
    reference.own_size = model.own_size
    if steps is not None:
        reference.override({"sampler": {"steps": whole_number(steps, "steps", 1)}})
    if size is not None:
        reference.override({"window": {"size": whole_number(size, "size", 1)}})
    config = reference.config
    program = trace(SamplerGraph(copy.deepcopy(reference.network), config))
    metadata = describe(config, model.about)
    world = VerificationSet(reference)
    with ExitStack() as files:
        temporary = files.enter_context(replacing(path))
        write_onnx(program, temporary, metadata)
        if graph_only:
            leave_weights(temporary, Path(path).with_suffix(".safetensors"))
        found = [compare(str(path), OnnxPredictor(temporary).run, world)]
        if pt2 is not None:
            temporary = files.enter_context(replacing(pt2))
            write_pt2(program, temporary, metadata)
            found.append(compare(str(pt2), read_pt2(temporary), world))
    return found


def require_libraries() -> None:
    """Raise UserError, with the command that installs them, if a library of the extra ``export`` is missing."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"export needs {', '.join(missing)}: install it with pip install 'amodalseg[export]'")


def describe(config: CondDiffAMOConfig, about: dict[str, Any]) -> dict[str, str]:
    """The metadata of a file. ``model`` is the whole configuration; the next three keys repeat parts of it."""
    return {
        "format": FORMAT,
        "model": json.dumps(to_dict(config)),
        "window": str(config.window.size),
        "steps": str(config.sampler.steps),
        "threshold": str(config.post.threshold),
        "about": json.dumps(about),
    }


def write_onnx(program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    """Translate a traced graph to ONNX, with embedded weights."""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=batch_shapes(),
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
    assert translated is not None
    # Only the rewrites that the runtime cannot do on loading; the others of ``optimize=True`` take minutes on an
    # unrolled sampler, whereas the runtime does them in a second.
    optimizer.fold_constants(translated.model)
    for change in (
        passes.RemoveUnusedNodesPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.ClearMetadataAndDocStringPass(),  # local file paths, three quarters of the graph's own size
    ):
        change(translated.model)
    translated.model.metadata_props.update(metadata)
    translated.save(path, external_data=False)


def leave_weights(path: Path, beside: Path) -> None:
    """Replace the weights in an ONNX file by references to the model file beside it.

    Raises:
        UserError: there is no such file, or its weights differ from the graph's.
    """
    import onnx

    if not beside.is_file():
        raise UserError(f"no model file at {beside}: a graph without weights needs them beside it")
    state, digest = read_state(beside)
    graph = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer if tensor.name.startswith(PREFIX)}
    for name, tensor in tensors.items():
        own, kept = onnx.numpy_helper.to_array(tensor), state.get(name.removeprefix(PREFIX))
        if own.dtype != np.float32 or own.size == 1:
            continue  # counters, and constants that the runtime folds away
        if kept is None or not np.array_equal(own, np.asarray(kept, np.float32)):
            raise UserError(f"{beside} holds other weights than the exported model ('{name}')")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=beside.name)
    graph.metadata_props.add(key="weights_sha256", value=digest)
    path.write_bytes(graph.SerializeToString())


def write_pt2(program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    """Save a traced graph for ``torch.export.load``; the metadata is its extra file ``metadata.json``."""
    with warnings.catch_warnings(), path.open("wb") as file:
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata)})


def read_pt2(path: Path) -> Run:
    """Load the function of a .pt2 file, as a function of arrays."""
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        module = torch.export.load(file).module()

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            probability, mask = module(*map(torch.from_numpy, arrays))
        return probability.numpy(), mask.numpy()

    return run
