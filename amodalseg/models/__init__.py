"""Every model by name. ``load_model`` turns a name or a file into an ``AmodalModel``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel
from amodalseg.models.geometric.model import ConvexHull, FilledBox, ModalCopy

MODELS: dict[str, Callable[[], AmodalModel]] = {
    "modal": ModalCopy,
    "box": FilledBox,
    "convex_hull": ConvexHull,
}
"""Models that need no weights."""

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
"""Where the weights that ship with the project lie."""


def list_models() -> list[str]:
    """Names that ``load_model`` takes: models without weights, and the checkpoints at hand."""
    return [*MODELS, *sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors"))]


def load_model(name: str | Path, device: str = "auto") -> AmodalModel:
    """Open a model.

    Args:
        name: one of ``list_models()``, a ``.safetensors`` model file, a training ``.ckpt``, or a run folder that holds
            ``model.safetensors``.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ...

    Raises:
        UserError: no such model (the nearest name is given), or a file that cannot be used.
    """
    if str(name) in MODELS:
        return MODELS[str(name)]()
    path = _find(name)
    from amodalseg.models.conddiff_amo.model import CondDiffAMO

    model = CondDiffAMO.load(path, name=str(name))
    return model.to(pick_device(device))


def _find(name: str | Path) -> Path:
    path = Path(name)
    shipped = CHECKPOINTS / f"{name}.safetensors"
    if path.suffix in {".safetensors", ".ckpt", ".pt", ".pth", ".bin"} or path.is_file():
        return path
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            raise UserError(f"the folder {path} holds no model.safetensors: did its training run reach a validation?")
        return inside
    if shipped.is_file():
        return shipped
    near = difflib.get_close_matches(str(name), list_models(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; choose one of {', '.join(list_models())} or give a file"
    raise UserError(f"there is no model '{name}'{hint}")


def pick_device(device: str) -> str:
    """A device's name with ``auto`` resolved. Raises UserError if this machine does not have it."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device
