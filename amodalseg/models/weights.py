"""Saving and loading of weights. Loading never executes code: safetensors, or a checkpoint with ``weights_only``."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from amodalseg.atomic import replacing
from amodalseg.config.load import build, to_dict
from amodalseg.config.schema import NetworkConfig
from amodalseg.errors import UserError

FORMAT = "amodalseg-1"
READABLE = (FORMAT,)
"""Formats of model files that this version reads."""


def save_weights(
    path: Path,
    state: dict[str, Tensor],
    config: NetworkConfig,
    about: dict[str, Any],
    *,
    dtype: str = "float32",
) -> None:
    """Write a model file: weights, and the configuration that rebuilds the model inside it.

    Args:
        path: ends in .safetensors; written under a temporary name and renamed, so a reader never sees half a file.
        state: the network's state dict.
        config: the model's configuration.
        about: anything worth keeping (training configuration, step, scores); stored as json.
        dtype: ``float32`` keeps every tensor unchanged; ``float16`` halves the file, see ``_to_half``. Both load to the
            network's own types.
    """
    assert dtype in ("float32", "float16"), dtype
    metadata = {"format": FORMAT, "model": json.dumps(to_dict(config)), "about": json.dumps(about)}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    if dtype == "float16":
        tensors = {key: _to_half(key, value) for key, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def _to_half(key: str, value: Tensor) -> Tensor:
    """float32 -> float16, except counters, batch-norm statistics (used as divisors), and values that do not fit."""
    if not value.is_floating_point() or key.endswith(("running_mean", "running_var")):
        return value
    half = value.half()
    return half if torch.isfinite(half).all() else value


def read_weights(path: Path) -> tuple[dict[str, Tensor], NetworkConfig, dict[str, Any]]:
    """Read a ``.safetensors`` model file or a ``.ckpt`` of a training run.

    Returns:
        (state dict on the CPU, model configuration, metadata).

    Raises:
        UserError: the file is missing, truncated, a pickle, or of another program.
    """
    if not path.is_file():
        raise UserError(f"no model file at {path}")
    return _read_checkpoint(path) if path.suffix == ".ckpt" else _read_safetensors(path)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], NetworkConfig, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        if _is_pickle(path):
            text = f"{path} is a pickle, which could run code when loaded; expected a .safetensors file"
            raise UserError(text) from error
        raise UserError(f"{path} is not a complete safetensors file ({error}); copy or train it again") from error
    if metadata.get("format") not in READABLE:
        raise _wrong_format(path, metadata.get("format"))
    try:
        plain, about = json.loads(metadata["model"]), json.loads(metadata["about"])
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} has no readable configuration inside; copy or train it again") from error
    return state, model_config(plain, path), about if isinstance(about, dict) else {}


def _wrong_format(path: Path, found: str | None) -> UserError:
    program, _, number = (found or "").partition("-")
    if program != "amodalseg" or not number.isdecimal():
        return UserError(f"{path} holds no amodalseg model: its metadata says {found or 'nothing'!r}")
    newer = int(number) > int(FORMAT.partition("-")[2])
    advice = "update amodalseg" if newer else "save it again with the version that wrote it, or train again"
    return UserError(f"{path} has the format {found}, but this version reads {', '.join(READABLE)} only; {advice}")


def _is_pickle(path: Path) -> bool:
    """Whether a file that is not in safetensors format starts like a pickle, or a zip archive of pickles."""
    with path.open("rb") as file:
        head = file.read(4)
    return head == b"PK\x03\x04" or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], NetworkConfig, dict[str, Any]]:
    checkpoint = read_checkpoint(path)
    prefix = "network."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    return state, model_config(checkpoint["amodalseg"]["model"], path), {"step": checkpoint["global_step"]}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint as plain data.

    Raises:
        UserError: it is missing, truncated, needs code to load, or is not from this program.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint file at {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is a pickle that needs code to load, or damaged; it was not loaded") from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, LookupError) as error:
        raise UserError(f"{path} is damaged or truncated; use another checkpoint, or start over") from error
    parts = {"amodalseg", "state_dict", "global_step", "pytorch-lightning_version"}
    if not isinstance(checkpoint, dict) or not parts <= checkpoint.keys() or not _is_own_checkpoint(checkpoint):
        raise UserError(f"{path} was not written by an amodalseg training run")
    return checkpoint


def _is_own_checkpoint(checkpoint: dict[str, Any]) -> bool:
    own, state, step = checkpoint["amodalseg"], checkpoint["state_dict"], checkpoint["global_step"]
    return (
        isinstance(own, dict) and isinstance(own.get("model"), dict) and isinstance(step, int)
        and isinstance(state, dict) and all(isinstance(key, str) for key in state)
    )  # fmt: skip


def model_config(plain: dict[str, Any], path: Path) -> NetworkConfig:
    """Rebuild the configuration stored with weights, without downloading pretrained ones."""
    from amodalseg.config.schema import NETWORKS, ModelOnly

    if not isinstance(plain, dict) or plain.get("name") not in (*NETWORKS, "inpainting_prior"):
        name = plain.get("name") if isinstance(plain, dict) else type(plain).__name__
        raise UserError(f"{path} holds the options of {name!r:.60}, which is not a network with weights; copy it again")
    try:
        return without_download(build(ModelOnly, [(str(path), {"model": plain})]).model)
    except RecursionError as error:
        raise UserError(f"{path} has no readable configuration inside: it is nested too deeply") from error


def without_download(config: Any) -> Any:
    """A model's configuration with pretrained weights of its pyramid, if any, switched off."""
    if not hasattr(config, "pcn"):
        return config
    return replace(config, pcn=replace(config.pcn, pretrained=False))


def check_state(network: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that do not match the network exactly: with some random layers, results look almost right."""
    own = network.state_dict()
    odd = [key for key, value in state.items() if not isinstance(value, Tensor) or value.layout != torch.strided]
    odd += [key for key in own.keys() & state.keys() if key not in odd and _kind(own[key]) != _kind(state[key])]
    if odd:
        raise UserError(f"{path} is damaged: {len(odd)} of its weights are not plain numbers ({_some(sorted(odd))})")
    shapes = [
        f"{key} is {_shape(state[key])}, not {_shape(own[key])}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    parts = (
        (sorted(own.keys() - state.keys()), "missing"),
        (sorted(state.keys() - own.keys()), "unknown"),
        (shapes, "of another shape"),
    )
    found = [f"{len(names)} {what} ({_some(names)})" for names, what in parts if names]
    if found:
        raise UserError(f"{path} holds another architecture: weights {', '.join(found)}")
    check_finite(state, path)


def check_finite(state: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that contain NaN or infinity: their output would look like a prediction."""
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise UserError(
            f"{path} is damaged, or its training has diverged: {len(bad)} of {len(state)} weights hold NaN or infinity "
            f"({_some(sorted(bad))}); copy it again, or train with a lower optim.lr"
        )


def _kind(tensor: Tensor) -> str:
    if tensor.is_quantized or tensor.is_complex():
        return str(tensor.dtype)
    return "float" if tensor.is_floating_point() else "whole"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def load_state(network: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load every weight. Raises UserError as ``check_state`` does."""
    check_state(network, state, path)
    own = network.state_dict()
    network.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})
