"""Every model by name. ``load_model`` turns a name or a file into an ``AmodalModel``."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodalseg.config import schema
from amodalseg.config.load import build, load_config
from amodalseg.errors import UserError, explain_missing
from amodalseg.models.base import AmodalModel
from amodalseg.models.geometric.model import ConvexHull, FilledBox, HullInOccluders, ModalCopy, Nothing

if TYPE_CHECKING:
    from amodalseg.models.network_model import NetworkModel

MODELS: dict[str, Callable[[], AmodalModel]] = {
    "modal": ModalCopy,
    "box": FilledBox,
    "convex_hull": ConvexHull,
    "hull_in_occluders": HullInOccluders,
    "nothing": Nothing,
}
"""Models that need no weights and no options."""
PARTS = ("inpainting_prior", "word_prior", "word_segmenter")
"""Components of methods: trained by ``train.py``, but not models that predict masks."""
METHODS = tuple(name for name in schema.MODELS if name not in {*schema.NETWORKS, *PARTS})
"""Models that complete pictures, by the ``model.name`` of their options, which a YAML file may change."""

CHECKPOINTS = (Path(__file__).resolve().parents[1] / "checkpoints", Path(__file__).resolve().parents[2] / "checkpoints")
"""Folders of the shipped weights: inside an installed package, beside the package in a checkout."""
DEFAULT = "conddiff_amo_lite"
"""The model that ``load_model`` opens by default."""
HUB = "hf:"
"""Prefix of names on the Hugging Face hub."""


def list_models() -> list[str]:
    """Names that ``load_model`` accepts: models without weights of their own, and the available checkpoints."""
    return [*MODELS, *METHODS, *sorted(_shipped())]


def _shipped(suffix: str = ".safetensors") -> dict[str, Path]:
    """Checkpoints, or their exported files, by name; if both folders have one, the package's own."""
    return {path.stem: path for folder in reversed(CHECKPOINTS) for path in folder.glob(f"*{suffix}")}


def load_model(name: str | Path = DEFAULT, device: str = "auto", override: dict[str, Any] | None = None) -> AmodalModel:
    """Open a model.

    Args:
        name: one of ``list_models()``, a ``.safetensors`` model file, a training ``.ckpt``, a folder with a
            ``model.safetensors``, ``hf:owner/name`` on the Hugging Face hub (``hf:owner/name@revision``), a
            ``.yaml`` file whose section ``model`` holds the options of one of ``METHODS``, or an exported ``.onnx``
            file. If PyTorch is not installed, the name of shipped weights opens their exported file.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ...; for an exported file also
            ``openvino``: the CPU through OpenVINO.
        override: options that replace the model's own, nested as its ``override`` takes them, and applied before any
            file or model that its own options name is looked up. Models without options ignore them.

    Raises:
        UserError: there is no such model (the message suggests the nearest name), a file cannot be used, or a package
            that the model needs is not installed.
    """
    if str(name) in MODELS:
        return MODELS[str(name)]()
    if device == "openvino":
        file = _shipped(".onnx").get(str(name), Path(name))
        if str(name) in METHODS or file.suffix in {".yaml", ".yml"}:
            raise UserError(
                f"'{name}' cannot be exported, and OpenVINO runs exported files only: device auto, cpu or cuda"
            )
        if file.suffix != ".onnx":
            raise UserError(f"OpenVINO runs exported files, made by 'amodalseg export {name} --out model.onnx'")
        return _load_exported(file, device, override)
    try:
        return _load(name, device, override)
    except ModuleNotFoundError as error:
        told = explain_missing(error, f"the model '{name}'")
        if told is None:
            raise
        exported = _shipped(".onnx").get(str(name))
        if exported is None:
            raise told from error
    return _load_exported(exported, device, override)


def _load(name: str | Path, device: str, override: dict[str, Any] | None) -> AmodalModel:
    if str(name) in METHODS or Path(name).suffix in {".yaml", ".yml"}:
        named = [(str(name), {"model": {"name": str(name)}})]
        config = build(schema.ModelOnly, named) if str(name) in METHODS else load_config(schema.ModelOnly, name)
        method = create_method(config.model, override)
        method.name = str(name)
        return method.to(pick_device(device))
    if Path(name).suffix == ".onnx":
        return _load_exported(Path(name), device, override)
    path = None if str(name).startswith(HUB) else model_file(name)
    from amodalseg.models.network_model import NetworkModel

    if path is None:
        repository, _, revision = str(name).removeprefix(HUB).partition("@")
        model = NetworkModel.from_pretrained(repository, revision=revision or None)
        model.name = str(name)
    else:
        model = NetworkModel.load(path, name=str(name))
    if override:
        model.override(override)
    return model.to(pick_device(device))


def _load_exported(path: Path, device: str, override: dict[str, Any] | None) -> AmodalModel:
    from amodalseg.models.exported import OnnxPredictor
    from amodalseg.models.openvino import OpenVinoPredictor

    if device not in ("auto", "cpu", "cuda", "openvino"):
        raise UserError(f"invalid device {device} for an exported file (choose from auto, cpu, cuda, openvino)")
    if device == "openvino":
        model: OnnxPredictor = OpenVinoPredictor(path)
    else:
        model = OnnxPredictor(path, ["CUDAExecutionProvider"] if device == "cuda" else None)
    if override:
        model.override(override)
    return model


def network_model_class(name: str) -> type[NetworkModel]:
    """The class of a trained model, a ``NetworkModel``, by the ``model.name`` of its options."""
    from amodalseg.models.conddiff_amo.direct import Direct
    from amodalseg.models.conddiff_amo.model import CondDiffAMO
    from amodalseg.models.pcnet_m.model import PCNetM

    kinds: dict[str, type[NetworkModel]] = {"conddiff_amo": CondDiffAMO, "direct": Direct, "pcnet_m": PCNetM}
    return kinds[name]


def create_method(config: Any, override: dict[str, Any] | None = None) -> AmodalModel:
    """A model that completes pictures.

    Args:
        config: its options, one of the dataclasses of ``METHODS``.
        override: options that replace them, as in ``load_model``.

    Raises:
        UserError: the options belong to another kind of model; a library, an inpainting model, a segmenter or a depth
            model is missing.
    """
    from amodalseg.models.inpainting.methods.base_method import overridden
    from amodalseg.models.inpainting.methods.controls import NoiseFill, Telea
    from amodalseg.models.inpainting.methods.diffoom import DiffOOM
    from amodalseg.models.inpainting.methods.mixed_context import Inpaint, MixedContext
    from amodalseg.models.inpainting.methods.mrgd import MRGD
    from amodalseg.models.inpainting.methods.occlusion_free_bias import OcclusionFreeBias
    from amodalseg.models.inpainting.methods.outpaint import NaiveOutpaint

    methods: dict[str, Callable[[Any], AmodalModel]] = {
        "telea": Telea,
        "noise_fill": NoiseFill,
        "occlusion_free_bias": OcclusionFreeBias,
        "mixed_context": MixedContext,
        "inpaint": Inpaint,
        "naive_outpaint": NaiveOutpaint,
        "diffoom": DiffOOM,
        "mrgd": MRGD,
    }
    if config.name not in methods:
        raise UserError(f"model.name={config.name} needs trained weights: give its file, not its options")
    return methods[config.name](overridden(config, override) if override else config)


def model_file(name: str | Path) -> Path:
    """The weights file of a model, from any name that ``load_model`` accepts. Raises UserError if there is none."""
    path, shipped = Path(name), _shipped()
    if str(name) in shipped:
        if path.exists():
            warnings.warn(f"'{name}' means the shipped weights; for the local {path} give ./{name}", stacklevel=3)
        return shipped[str(name)]
    if path.suffix in {".safetensors", ".ckpt", ".pt", ".pth", ".bin"} or path.is_file():
        return path
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            raise UserError(f"the folder {path} holds no model.safetensors: did its training reach a validation?")
        return inside
    if str(name) in {*MODELS, *METHODS}:
        raise UserError(
            f"'{name}' has no weights of its own: give {', '.join(sorted(shipped))}, a run folder or a file"
        )
    near = difflib.get_close_matches(str(name), list_models(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(f"there is no model '{name}'{hint} (there are {', '.join(list_models())}, or give a file)")


def pick_device(device: str) -> str:
    """A device's name with ``auto`` resolved. Raises UserError if it is not available."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device
