"""How the network runs at inference: optionally in bfloat16 or compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork

PRECISIONS = ("fp32", "bf16")


@dataclass
class Acceleration:
    """Inference options.

    Attributes:
        precision: ``fp32``, or ``bf16`` for the network's matrix products (the sampler stays in float32).
        compile: run through ``torch.compile`` with static shapes; on a GPU as CUDA graphs.
    """

    precision: str = "fp32"
    compile: bool = False
    _compiled: CondDiffAMONetwork | None = field(default=None, repr=False)
    _made_of: list[tuple[Tensor, int]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")

    def prepare(self, network: CondDiffAMONetwork) -> CondDiffAMONetwork:
        """The network to run: the given one, or its compiled copy, recompiled after its weights changed or moved.

        Changes are detected by PyTorch's own counters, which miss writes through ``.data`` and by fused optimisers.
        """
        if not self.compile:
            return network
        tensors = [*network.parameters(), *network.buffers()]
        same = len(self._made_of) == len(tensors) and all(
            now.data_ptr() == old.data_ptr() and now.device == old.device and version(now) == count
            for now, (old, count) in zip(tensors, self._made_of, strict=True)
        )
        if self._compiled is None or not same:
            # the copy outlives this call, but tensors made in inference mode are of little use outside it
            with torch.inference_mode(False), torch.no_grad():
                self._compiled = compiled_copy(network)
            # holding the tensors keeps their memory allocated, so that it cannot be reused for other weights
            self._made_of = [(tensor.detach(), version(tensor)) for tensor in tensors]
        return self._compiled

    def arithmetic(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context in which the network runs."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def padded(self, batch: int) -> int:
        """The padded batch size for ``batch`` objects: compiled shapes are static, so only powers of two are used."""
        return 1 << (batch - 1).bit_length() if self.compile else batch


def version(tensor: Tensor) -> int:
    """How often a tensor was written to, according to PyTorch's counter."""
    return 0 if tensor.is_inference() else tensor._version


def compiled_copy(network: CondDiffAMONetwork) -> CondDiffAMONetwork:
    """A frozen copy in evaluation mode whose condition network and denoiser are compiled."""
    made = copy.deepcopy(network).eval().requires_grad_(False)
    device = next(made.parameters()).device.type
    made.condition = compiled(made.condition, device)  # type: ignore[method-assign]
    made.denoiser.forward = compiled(made.denoiser.forward, device)  # type: ignore[method-assign]
    return made


def compiled(function: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """A compiled function: on a CPU with its weights as constants, on a GPU replayed as a CUDA graph."""
    if device != "cuda":
        return torch.compile(function, dynamic=False, options={"freezing": True})
    graph = torch.compile(function, dynamic=False, mode="reduce-overhead")

    def replay(*arguments: Tensor) -> Tensor:
        # a CUDA graph writes every result to the same memory, but a condition may be kept for several steps
        torch.compiler.cudagraph_mark_step_begin()
        return graph(*arguments).clone()

    return replay
