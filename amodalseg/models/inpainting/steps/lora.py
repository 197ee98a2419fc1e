"""Low-rank adaptation (LoRA): adapters in a network's attention, fine-tuned to one object and removed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import attention_layers
from amodalseg.models.inpainting.backends.backend import InpaintingBackend, Prepared
from amodalseg.types import stable_seed

PARTS = ("to_q", "to_k", "to_v", "to_out.0")
NAME = "object"


class Adapter:
    """Low-rank adapters in a network, from ``adapted``. Untrained or switched off, they change nothing at all."""

    def __init__(self, layers: list[Any], parameters: list[torch.nn.Parameter]) -> None:
        self.layers, self.parameters = layers, parameters

    @contextmanager
    def off(self) -> Iterator[None]:
        """Context in which the network is the original one."""
        for layer in self.layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.enable_adapters(True)


@contextmanager
def adapted(backend: InpaintingBackend, rank: int, seed: int) -> Iterator[Adapter]:
    """Context in which the backend's network has low-rank adapters, which are removed afterwards.

    W x becomes W x + B A x in the projections of all attention layers, with A drawn from N(0, 1 / rank) and B zero, in
    float32 regardless of the network's precision. The adapters are peft's.

    Args:
        backend: whose network has attention layers that can be controlled.
        rank: of B A.
        seed: of A.

    Raises:
        UserError: peft is missing; the network has no such layers.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError(f"low-rank adaptation needs peft ({error}): pip install 'amodalseg[inpaint]'") from error
    if not backend.abilities.attention:
        raise UserError(f"{backend.name} has no attention layers to adapt: take Stable Diffusion or the embedded prior")
    network, names = backend.network, list(attention_layers(backend.network))
    places = [(network.get_submodule(name), part) for name in names for part in PARTS]
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=[f"{name}.{p}" for name in names for p in PARTS])
    with torch.random.fork_rng(devices=[]):  # peft samples its own weights, from the global generator
        peft.inject_adapter_in_model(config, network, NAME)
    try:
        layers, parameters = [layer.get_submodule(part) for layer, part in places], list[torch.nn.Parameter]()
        generator = torch.Generator().manual_seed(stable_seed("lora", seed))
        for layer in layers:
            down, up = layer.lora_A[NAME].float().weight, layer.lora_B[NAME].float().weight
            down.data = (torch.randn(down.shape, generator=generator) / rank).to(down)
            parameters += [down, up]
        yield Adapter(layers, parameters)
    finally:
        for layer, part in places:
            layer.set_submodule(part, layer.get_submodule(part).get_base_layer())
        del network.peft_config


def tune(
    backend: InpaintingBackend,
    adapter: Adapter,
    prepared: Prepared,
    where: Tensor,
    seed: int,
    *,
    steps: int = 20,
    updates: int = 80,
    rate: float = 5e-4,
) -> list[float]:
    """Fine-tune adapters to one object's appearance (DiffOOM, figure 2b): denoising, with the loss on its visible
    region.

    Each update noises the picture again, at one of the levels visited in sampling.

    Args:
        backend: the model that contains ``adapter``.
        adapter: from ``adapted``.
        prepared: of one object, with its appearance as ``known``.
        where: bool or float (1, 1, h, w) on the grid: the visible region.
        seed: of levels and noise.
        steps: of the sampling.
        updates: of the weights.
        rate: of Adam.

    Returns:
        The loss before each update: the mean squared error of the noise where the object is visible.

    Raises:
        UserError: no grid position is visible.
    """
    assert len(prepared) == 1, "a prediction must not depend on the objects beside it"
    weight = where.to(prepared.known).expand_as(prepared.known)
    if not weight.any():
        raise UserError("no cell of the model's grid lies in the visible part, so there is nothing to adapt to")
    generator = torch.Generator().manual_seed(stable_seed("tune", seed))
    levels, shape = backend.levels(steps)[:-1], prepared.known.shape
    optimizer = torch.optim.Adam(adapter.parameters, lr=rate)
    halved = any(weights.dtype == torch.float16 for weights in backend.network.parameters())
    scaler = torch.amp.GradScaler(backend.device.type, enabled=halved)  # otherwise gradients underflow
    losses = []
    for _ in range(updates):
        level = levels[int(torch.randint(len(levels), (), generator=generator))]
        noise = torch.randn(shape, generator=generator).to(prepared.known)
        with torch.enable_grad():
            found = backend.estimate(backend.add_noise(prepared.known, noise, level), level, prepared).noise
            loss = ((found - noise).square() * weight).sum() / weight.sum()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    return losses
