"""Fingerprints of models: whether weights still match stored predictions depends on content, not on file names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodalseg.config import schema
from amodalseg.config.load import build, load_config, to_dict
from amodalseg.errors import UserError
from amodalseg.models import HUB, METHODS, MODELS, model_file
from amodalseg.models.base import AmodalModel

if TYPE_CHECKING:
    from torch import Tensor

YAML = (".yaml", ".yml")
"""Endings of files that describe a model."""
FILES = (".safetensors", ".ckpt")
"""Endings of files of weights that options may name."""


def source_fingerprint(source: str, override: dict[str, Any] | None = None) -> str:
    """Fingerprint of a model given as for ``load_model``: a name, file, run folder, ``.yaml`` file or name on the hub.

    Args:
        source: the model. override: options that replace the method's own and may name other weights.
    """
    if source in MODELS:
        return source
    if source in METHODS or source.endswith(YAML):
        from amodalseg.models.inpainting.methods.base_method import overridden

        named = [(source, {"model": {"name": source}})]
        config = (build(schema.ModelOnly, named) if source in METHODS else load_config(schema.ModelOnly, source)).model
        return _of_options(overridden(config, override) if override else config)
    return _of_files([_hub_file(source.removeprefix(HUB)) if source.startswith(HUB) else model_file(source)])


def model_fingerprint(model: AmodalModel) -> str:
    """Fingerprint of a loaded model: the content of its network or exported file, and its options."""
    config: Any = getattr(model, "config", None)
    network, path = getattr(model, "network", None), getattr(model, "path", None)
    digest = hashlib.blake2b(repr((type(model).__name__, config and _options(config))).encode(), digest_size=16)
    if network is not None:
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor_bytes(tensor))
    elif isinstance(path, Path):
        digest.update(_of_files([path]).encode())
    elif config is not None:
        digest.update(_of_options(config).encode())
    return digest.hexdigest()


def tensor_bytes(values: Tensor) -> bytes:
    """The memory of a tensor of any dtype and device; NumPy has no bfloat16."""
    import torch  # exported files run without it

    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _options(config: Any) -> dict[str, Any]:
    """Options that determine predictions: all but the folder where inversions are kept."""
    found = to_dict(config)
    found.get("inversion", {}).pop("folder", None)
    return found


def _of_options(config: Any) -> str:
    """Fingerprint of a method's options and of all weights that they name."""
    options = _options(config)
    digest = hashlib.blake2b(repr(options).encode(), digest_size=16)
    for text in sorted(set(_texts(options))):
        place = _place(text)
        if place is not None:
            for path in [place] if place.is_file() else sorted(place.rglob("*.safetensors")):
                digest.update(_of_files([path]).encode())
    return digest.hexdigest()


def _place(text: str) -> Path | None:
    """The folder or file of weights that an option's value names, if it exists locally."""
    from amodalseg.models.inpainting.methods.opening import small_prior
    from amodalseg.models.inpainting.parts.small_segmenter import find_small

    given = Path(text)
    if given.is_dir() or (given.suffix in FILES and given.is_file()):
        return given
    try:
        prior = small_prior(text)
    except UserError:
        prior = None  # a shipped prior that is not installed
    return prior[1] if prior is not None else find_small(text) or _cached_snapshot(text)


def _cached_snapshot(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from amodalseg.models.inpainting.backends.hub_models import HUB_IDS
    from amodalseg.models.inpainting.parts.depth import DEPTHS
    from amodalseg.models.inpainting.parts.detector import DETECTORS
    from amodalseg.models.inpainting.parts.segmenter import SEGMENTERS
    from amodalseg.models.inpainting.parts.words import CLIPSEG_IDS

    name = {**HUB_IDS, **DEPTHS, **SEGMENTERS, **CLIPSEG_IDS, **DETECTORS}.get(name, name)
    if "/" not in name:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _hub_file(name: str) -> Path:
    """The cached file that ``from_pretrained`` has loaded. Raises UserError if it is missing."""
    from huggingface_hub import try_to_load_from_cache

    from amodalseg.models.hub import WEIGHTS

    if Path(name).is_dir():
        return Path(name) / WEIGHTS
    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, WEIGHTS, revision=revision or None)
    if not isinstance(found, str):
        raise UserError(f"{name} is not in the cache of the hub; load it once with amodalseg.load_model('{HUB}{name}')")
    return Path(found)


def _of_files(paths: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(1 << 24):
                digest.update(part)
    return digest.hexdigest()


def _texts(node: Any) -> Iterator[str]:
    """All strings among nested options."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, str) and node:
        yield node
