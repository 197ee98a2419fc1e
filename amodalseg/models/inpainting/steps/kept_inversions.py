"""Inversions kept in a folder, so that further edits of a photo do not invert it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from amodalseg.atomic import write_whole
from amodalseg.errors import UserError
from amodalseg.models.fingerprint import tensor_bytes
from amodalseg.models.inpainting.backends.backend import InpaintingBackend, Prepared

SAMPLES = 64
"""Values of each parameter that identify a network; reading all of a large one would take longer than the gain."""

Inverted = tuple[Tensor, list[Tensor]]
"""The noisiest state, and the null text at each step; no texts without guidance."""


class KeptInversions:
    """A folder of inversions, one file for each region of a photo.

    A file is used only for the same network, picture, text, guidance and options; anything else gives another name.

    Args:
        folder: where to keep them; it is created. None: nothing is kept.
        options: of the inversion, everything that determines it besides the network and its inputs.

    Raises:
        UserError: the folder is a file.
    """

    def __init__(self, folder: str | None, options: tuple[float, ...] = ()) -> None:
        self.folder, self.options = Path(folder) if folder else None, options
        self._networks: bytes | None = None
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"inversion.folder={folder} is a file: give a folder")

    def get(
        self,
        backend: InpaintingBackend,
        asked: Prepared,
        null: Prepared | None,
        first: int,
        make: Callable[[], Inverted],
    ) -> Inverted:
        """The kept inversion of a region, or a new one, which is then kept.

        Args:
            backend: the network that inverts.
            asked, null: its inputs with the region's text and with the null text.
            first: the step from which null texts are fitted.
            make: inverts.

        Raises:
            UserError: a file is damaged, or cannot be written.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{self._digest(backend, asked, null, first)}.safetensors"
        if path.exists():
            return _read(path, asked.known.device)
        start, texts = make()
        tensors = {"start": start.cpu().contiguous()}
        if texts:
            tensors["texts"] = torch.stack(texts).cpu()
        write_whole(path, save(tensors))
        return start, texts

    def _digest(self, backend: InpaintingBackend, asked: Prepared, null: Prepared | None, first: int) -> str:
        if self._networks is None:  # once for all regions of a photo
            self._networks = _digest_of(backend)
        digest = hashlib.blake2b(self._networks + repr((self.options, first)).encode(), digest_size=16)
        for inputs in (asked, null):
            for values in [] if inputs is None else _tensors(inputs):
                digest.update(f"{values.dtype} {tuple(values.shape)}".encode() + tensor_bytes(values))
        return digest.hexdigest()


def _digest_of(backend: InpaintingBackend) -> bytes:
    """Digest of a backend's networks, of some values of each parameter."""
    digest = hashlib.blake2b(digest_size=16)
    for network in backend.networks:
        for name, values in sorted(network.state_dict().items()):
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            flat = values.detach().reshape(-1)
            digest.update(tensor_bytes(flat[:: max(1, len(flat) // SAMPLES)]))
    return digest.digest()


def _tensors(prepared: Prepared) -> Iterator[Tensor]:
    yield from (prepared.known, prepared.hole, *(values for _, values in sorted(prepared.inputs.items())))


def _read(path: Path, device: torch.device) -> Inverted:
    try:
        tensors = load(path.read_bytes())
        start = tensors["start"].to(device)
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and the photo is inverted again") from error
    return start, list(tensors["texts"].to(device)) if "texts" in tensors else []
