"""Files of published models: in a folder, in the cache of the Hugging Face hub, or downloaded to it."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

from amodalseg.errors import UserError

NEVER = ("*.fp16.safetensors", "*non_ema*", "safety_checker/*", "*onnx*", "*openvino*", "*flax*")
"""Duplicate weights, and files that are not used."""
WEIGHTS = "model*.safetensors"
FILES = ("*.json", WEIGHTS)
"""Files of a transformers model."""
DAMAGE = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError)
"""Exceptions of the libraries for files that are missing, damaged or inconsistent."""


def find_files(name: str, short: Mapping[str, str], patterns: Sequence[str]) -> Path:
    """The folder with a model's files: the given folder, else the hub's cache, else downloaded.

    Args:
        name: folder, one of the short names, or ``owner/name`` on the hub.
        short: names on the hub by short name.
        patterns: of the required files.

    Raises:
        UserError: it cannot be found; the message says what to download and where to put it.
    """
    if Path(name).is_dir():
        return Path(name)
    given, name = name, short.get(name, name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise _no_model(given, short) from error
    except LocalEntryNotFoundError:
        if "/" not in name:  # the hub would be queried for an impossible repository
            raise _no_model(given, short) from None
    here = f"hf download {name} --local-dir FOLDER"
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=list(NEVER)))
    except GatedRepoError as error:
        raise UserError(f"{name} requires a licence: accept it on its page on the hub, then `hf auth login`") from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{name} is not in the cache ({constants.HF_HUB_CACHE}) and cannot be downloaded ({first_line(error)}); "
            f"with a network connection run `{here}`, and give that folder here instead of the name"
        ) from error


def _no_model(name: str, short: Mapping[str, str]) -> UserError:
    return UserError(f"'{name}' is not a folder, not one of {', '.join(short)}, and not owner/name on the hub")


def read_kind(path: Path, key: str) -> str:
    """The kind of model in a folder, as stated in one of its json files. Raises UserError."""
    try:
        return str(json.loads(path.read_text("utf-8"))[key])
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent} holds no {path.name}: it is not a complete model folder; copy all of it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); copy it again") from error


def find_whole(name: str, short: Mapping[str, str], kinds: Container[str], wanted: str) -> tuple[Path, str]:
    """The folder of a transformers model, as for ``load_whole``, and its ``model_type``; weights are not read.

    Args:
        name, short: as for ``find_files``.
        kinds: the supported types.
        wanted: what is supported, for the message.

    Raises:
        UserError: transformers is missing; the model cannot be found; its configuration or weights are not in the
            folder; it is of another type.
    """
    import_transformers()
    folder = find_files(name, short, FILES)
    kind = read_kind(folder / "config.json", "model_type")
    if not any(folder.glob(WEIGHTS)):
        raise UserError(f"{folder} holds no {WEIGHTS}, the only format of weights that is read; copy the whole folder")
    if kind not in kinds:
        raise UserError(f"{folder} is a '{kind}'; {wanted} can be used")
    return folder, kind


def import_transformers() -> Any:
    """The library ``transformers``. Raises UserError, with the extra to install, if it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"this model needs transformers ({error}): pip install 'amodalseg[inpaint]'") from error
    return transformers


def load_whole(model: Any, processor: Any, folder: Path) -> tuple[Any, Any]:
    """A transformers model in float32 with its processor, from safetensors only.

    Args:
        model, processor: classes.
        folder: with both.

    Raises:
        UserError: a file is missing or damaged, or weights are.
    """
    try:
        prepare = processor.from_pretrained(folder, local_files_only=True)
        loaded, report = model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (*DAMAGE, ImportError) as error:
        raise UserError(f"{folder} cannot be loaded ({first_line(error)}); download or copy all of it again") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} weights of a {model.__name__} ({missing[0]}, ...); copy it again"
        )
    return loaded.float().eval(), prepare


def first_line(error: BaseException) -> str:
    """The first line of an error, short enough for a one-line message."""
    return " ".join(str(error).split())[:160] or type(error).__name__
