"""The cost of one network evaluation, part by part. Only shapes are propagated; nothing is computed."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from amodalseg.config.schema import NetworkConfig
from amodalseg.models import network_model_class
from amodalseg.models.weights import without_download


def describe_cost(config: NetworkConfig) -> list[tuple[str, int, float]]:
    """Count the parameters and operations of one evaluation of one window.

    A multiply-add counts as two operations. Convolutions, linear layers and both products of attention are counted;
    norms, activations, resizing and softmax are not.

    Args:
        config: the model's configuration; ``window.size`` is the size of the window.

    Returns:
        (part, parameters, GFLOP) for each of the network's ``parts``, then the ("total", ...) over all.
    """
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        network = network_model_class(config.name).network_class(without_download(config)).eval()
        with counter:
            network(*network.example(config.window.size))
    flops = counter.get_flop_counts()
    rows = []
    for part, names in network.parts.items():
        num = sum(p.numel() for key, p in network.named_parameters() if key.startswith(tuple(f"{n}." for n in names)))
        operations = sum(sum(flops.get(f"{type(network).__name__}.{name}", {}).values()) for name in names)
        rows.append((part, num, operations / 1e9))
    return [*rows, ("total", sum(row[1] for row in rows), sum(row[2] for row in rows))]
