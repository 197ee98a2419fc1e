"""What one evaluation of the network costs, part by part. Nothing is computed: shapes alone run through it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from amodalseg.config.schema import CondDiffAMOConfig
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork

PARTS = {
    "PCN": ("pcn",),
    "OCR": ("ocr",),
    "LE": tuple(f"fusion.emphasis.{i}" for i in range(4)),
    "linear fusion": ("fusion.fuse3", "fusion.fuse2"),
    "AFG": ("fusion.fuse1",),
    "denoiser": ("denoiser",),
}
"""The network's parts and the submodules that make them up. With ``afg.enabled=false`` AFG is the third fusion."""


def describe_cost(config: CondDiffAMOConfig) -> list[tuple[str, int, float]]:
    """Count parameters and operations of one evaluation of one window.

    A multiplication with its addition counts as two operations. Convolutions, linear layers and both products of
    attention count; norms, activations, resizing and softmax do not.

    Args:
        config: the model's configuration; the window's size is ``window.size``.

    Returns:
        (part, parameters, GFLOP) for each part of ``PARTS``, then their ("total", ...).
    """
    config = replace(config, pcn=replace(config.pcn, pretrained=False))
    size = config.window.size
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        network = CondDiffAMONetwork(config).eval()
        mask = torch.empty(1, 1, size, size)
        with counter:
            network(torch.empty(1, 3, size, size), mask, mask, torch.empty(1))
    flops = counter.get_flop_counts()
    rows = []
    for part, names in PARTS.items():
        num = sum(p.numel() for key, p in network.named_parameters() if key.startswith(tuple(f"{n}." for n in names)))
        operations = sum(sum(flops.get(f"{type(network).__name__}.{name}", {}).values()) for name in names)
        rows.append((part, num, operations / 1e9))
    return [*rows, ("total", sum(row[1] for row in rows), sum(row[2] for row in rows))]
