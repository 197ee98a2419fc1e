"""Low-rank adaptation (LoRA): a few weights beside a network's attention, tuned to one object and taken out again."""

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
    """Low-rank parts in a network, of ``adapted``. Untuned and switched off they change nothing, to the last bit."""

    def __init__(self, layers: list[Any], parameters: list[torch.nn.Parameter]) -> None:
        self.layers, self.parameters = layers, parameters

    @contextmanager
    def off(self) -> Iterator[None]:
        """While it is open, the network is the one that it was."""
        for layer in self.layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.enable_adapters(True)


@contextmanager
def adapted(backend: InpaintingBackend, rank: int, seed: int) -> Iterator[Adapter]:
    """While it is open, the backend's network has low-rank parts; afterwards nothing of them is left.

    W x becomes W x + B A x in the projections of all attention layers, with A drawn from N(0, 1 / rank) and B zero, in
    float32 whatever the network's precision is. The parts are peft's.

    Args:
        backend: whose network has attention layers that can be stepped into.
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
    with torch.random.fork_rng(devices=[]):  # it draws weights of its own, from everybody's generator
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
    """Teach low-rank parts how one object looks (DiffOOM, figure 2b): denoising, with the loss on its visible part.

    Each update noises the picture anew, at one of the levels that sampling will visit.

    Args:
        backend: the model, which ``adapter`` is in.
        adapter: of ``adapted``.
        prepared: of one object; what it looks like is ``known``.
        where: bool or float (1, 1, h, w) on the grid: the visible part.
        seed: of levels and noise.
        steps: of the sampling.
        updates: of the weights.
        rate: of Adam.

    Returns:
        The loss of each update before it: the mean squared error of the noise where the object is visible.

    Raises:
        UserError: no place of the grid is visible.
    """
    assert len(prepared) == 1, "a prediction must not depend on the objects beside it"
    weight = where.to(prepared.known).expand_as(prepared.known)
    if not weight.any():
        raise UserError("no cell of the model's grid lies in the visible part, so there is nothing to adapt to")
    generator = torch.Generator().manual_seed(stable_seed("tune", seed))
    levels, shape = backend.levels(steps)[:-1], prepared.known.shape
    optimizer = torch.optim.Adam(adapter.parameters, lr=rate)
    halved = any(weights.dtype == torch.float16 for weights in backend.network.parameters())
    scaler = torch.amp.GradScaler(backend.device.type, enabled=halved)  # or gradients vanish on their way
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
