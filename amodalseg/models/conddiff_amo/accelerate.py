"""Which network predicts: a folded copy of the weights, in the precision asked for, and never an outdated one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.fold import FoldedNetwork
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.models.memory import keep_freed_memory

PRECISIONS = ("fp32", "bf16")
TIME_PARTS = ("pyramid.time_tokens.", "denoiser.time_mlp.", "denoiser.block.scale_shift.")
"""Layers that run once for a sampling run, and stay in float32."""


@dataclass
class Acceleration:
    """A folded network that follows the weights it was made from.

    Attributes:
        precision: ``fp32``, the network's own numbers up to rounding, or ``bf16`` weights and features (the sampler
            stays in float32).
        compile: run through ``torch.compile`` with static shapes; on a GPU each step is a CUDA graph.
    """

    precision: str = "fp32"
    compile: bool = False
    _folded: FoldedNetwork | None = field(default=None, repr=False)
    _seen: list[Seen] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")

    def fold(self, network: CondDiffAMONetwork) -> FoldedNetwork:
        """The folded network of these weights as they are now; made anew after they changed or moved."""
        tensors = [*network.parameters(), *network.buffers()]
        # fused optimisers and batch norms write without counting; only frozen weights can be trusted to their counters
        trainable = any(tensor.requires_grad for tensor in tensors)
        known = self._folded is not None and len(self._seen) == len(tensors)
        if not known or not all(seen.holds(now, trainable) for seen, now in zip(self._seen, tensors, strict=True)):
            # the copy outlives this call, which may stand in inference mode, whose tensors are of little use elsewhere
            with torch.inference_mode(False), torch.no_grad():
                self._folded = self._create(network)
                self._seen = [Seen(now, trainable) for now in tensors]
        assert self._folded is not None
        return self._folded

    def _create(self, network: CondDiffAMONetwork) -> FoldedNetwork:
        folded = FoldedNetwork(network)
        if self.precision == "bf16":
            for name, parameter in folded.named_parameters():
                if not name.startswith(TIME_PARTS):
                    parameter.data = parameter.data.to(torch.bfloat16)
        device = folded.noisy_weight.device.type
        if device == "cpu":
            keep_freed_memory()
        if self.compile:
            compile_evaluations(folded, device)
        return folded

    def padded(self, batch: int) -> int:
        """How many objects to run for ``batch`` of them: compiled shapes are static, so only powers of two occur."""
        return 1 << (batch - 1).bit_length() if self.compile else batch


class Seen:
    """A tensor as it was when the network was folded.

    Args:
        tensor: a weight or a buffer.
        trainable: whether to remember its values, rather than how often it was written to.
    """

    def __init__(self, tensor: Tensor, trainable: bool) -> None:
        self.tensor = tensor.detach()  # keeps its memory in use, which so cannot come back as that of other weights
        self.version = version(tensor)
        self.values = self.tensor.clone() if trainable else None

    def holds(self, now: Tensor, trainable: bool) -> bool:
        """Whether the tensor is still the same."""
        if now.device != self.tensor.device or trainable != (self.values is not None):
            return False
        if self.values is not None:
            return now.dtype == self.values.dtype and torch.equal(now, self.values)
        return now.data_ptr() == self.tensor.data_ptr() and version(now) == self.version


def version(tensor: Tensor) -> int:
    """How often a tensor was written to, as far as PyTorch counts: not through ``.data``."""
    return 0 if tensor.is_inference() else tensor._version


def compile_evaluations(folded: FoldedNetwork, device: str) -> None:
    """Compile both evaluations in place."""
    on_gpu = device == "cuda"
    how = {"mode": "reduce-overhead"} if on_gpu else {"options": {"freezing": True}}
    evaluate = torch.compile(folded.evaluate, dynamic=False, **how)  # type: ignore[call-overload]
    denoise = torch.compile(folded.denoise, dynamic=False, **how)  # type: ignore[call-overload]
    if not on_gpu:
        folded.evaluate, folded.denoise = evaluate, denoise  # type: ignore[method-assign]
        return

    # a CUDA graph writes every result to the same memory, and a condition may be kept over several steps
    def evaluate_graph(embedded, x_t, time):  # type: ignore[no-untyped-def]
        torch.compiler.cudagraph_mark_step_begin()
        logits, condition = evaluate(embedded, x_t, time)
        return logits.clone(), condition.clone()

    def denoise_graph(condition, x_t, time):  # type: ignore[no-untyped-def]
        torch.compiler.cudagraph_mark_step_begin()
        return denoise(condition, x_t, time).clone()

    folded.evaluate, folded.denoise = evaluate_graph, denoise_graph  # type: ignore[method-assign]
