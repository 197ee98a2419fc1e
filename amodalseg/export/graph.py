"""The whole sampler as one module: from the pixels of a window to the amodal mask in it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from amodalseg.config.schema import CondDiffAMOConfig
from amodalseg.diffusion.sampler import num_noise_maps, sample
from amodalseg.models.conddiff_amo.evaluation import NetworkDenoiser
from amodalseg.models.network_model import normalise

INPUTS = ("image", "modal", "noise")
OUTPUTS = ("probability", "mask")


class SamplerGraph(nn.Module):
    """Normalisation, all steps of the sampler, VGPE, threshold and union, for a fixed configuration.

    The loop over the steps is unrolled when the module is traced, so ``config.sampler.steps`` is part of the graph.

    Args:
        network: on the CPU; any module with the call signature of ``CondDiffAMONetwork``. It becomes a part of this
            module, in evaluation mode.
        config: of the model.
    """

    def __init__(self, network: nn.Module, config: CondDiffAMOConfig) -> None:
        super().__init__()
        # weights in the default memory format: files preserve channels_last poorly, and the results are the same
        self.network: Any = network.to(memory_format=torch.contiguous_format)
        self.config = config
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor, modal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Complete a batch of windows.

        Args:
            image: uint8 (B, 3, S, S) RGB.
            modal: uint8 (B, 1, S, S); every nonzero value is visible.
            noise: float32 (num_maps, B, 1, S, S), standard normal; ``models/noise.py`` samples it.

        Returns:
            The probability, float32 (B, 1, S, S) in [0, 1], before the union; and the mask, uint8 (B, 1, S, S) in
            {0, 1}: probability above the threshold, united with the modal mask if ``post.union_visible``.
        """
        config, visible = self.config, modal > 0
        mask = visible.float()
        denoise = NetworkDenoiser(self.network, normalise(image), mask, config, config.sampler)
        probability = sample(denoise, mask, noise, config.sampler, config.gauss, config.ust, config.vgpe)
        final = probability > config.post.threshold
        if config.post.union_visible:
            final = final | visible
        return probability, final.to(torch.uint8)


def trace(graph: SamplerGraph) -> torch.export.ExportedProgram:
    """Trace a graph for batches of any size from 1."""
    size, batch = graph.config.window.size, 2  # a batch of 1 would be taken for a constant
    example = (
        torch.zeros(batch, 3, size, size, dtype=torch.uint8),
        torch.ones(batch, 1, size, size, dtype=torch.uint8),
        torch.zeros(num_noise_maps(graph.config.sampler), batch, 1, size, size),
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, example, dynamic_shapes=batch_shapes(), strict=False)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # local paths do not belong in a file to share
    return program


def batch_shapes() -> tuple[dict[int, torch.export.Dim], ...]:
    """The only dynamic axis of each input: the batch."""
    batch = torch.export.Dim("batch", min=1)
    return {0: batch}, {0: batch}, {1: batch}
