"""The interface of inpainting models for all methods: prepare, one estimate at a noise level, decode.

A backend works on its own *grid*: pixels, or the latents of an autoencoder, possibly packed to tokens. Everything a
method does to intermediate states (blending, swapping, holding) needs the grid's shape only for broadcasting.

Every diffusion model is described by levels (alpha, sigma) with x_t = alpha x_0 + sigma eps. One deterministic step
to the next level is x' = alpha' x_0 + sigma' eps with the network's estimates of both: DDIM for a variance-preserving
schedule, Euler's step for a flow (alpha = 1 - sigma).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control, attended, attention_layers
from amodalseg.models.inpainting.backends.prior import (
    NUM_LEVELS,
    SHIPPED,
    evaluate,
    find_prior,
    load_prior,
    patch_of,
    seen_by,
)


class Level(NamedTuple):
    """A noise level: the network's time argument, and x_t = alpha x_0 + sigma eps."""

    time: float
    alpha: float
    sigma: float


CLEAN = Level(0.0, 1.0, 0.0)


class Estimate(NamedTuple):
    """A network's estimate for x_t: the clean state, the noise, and the requested features by name."""

    clean: Tensor
    noise: Tensor
    features: dict[str, Tensor]


@dataclass(frozen=True)
class Abilities:
    """The capabilities of a backend.

    size: side of its training pictures, pixels. multiple: sides must be multiples of this. factor: pixels on a side per
    grid position. text: whether it reads prompts. sees_hole: whether the hole and the known picture are inputs of the
    network; otherwise the known part must be blended in at every step. taps: names of the features it can return.
    attention: whether its attention layers can be controlled (``Prepared.attention``).
    """

    size: int
    multiple: int
    factor: int = 1
    text: bool = False
    sees_hole: bool = True
    taps: tuple[str, ...] = ()
    attention: bool = False


@dataclass
class Prepared:
    """Pictures to inpaint, on the grid of a backend; the first dimension of all tensors is the objects.

    known: the given pictures, including the hole's content. hole: float {0, 1}, broadcasts against ``known``.
    inputs: further inputs of the network (masked pictures, prompt embeddings), under the backend's names.
    attention: controls of the network's attention layers in every evaluation of these objects, and of no others: use
        ``dataclasses.replace`` to add some.
    """

    known: Tensor
    hole: Tensor
    inputs: dict[str, Tensor] = field(default_factory=dict)
    attention: tuple[Control, ...] = ()

    def __len__(self) -> int:
        return len(self.known)

    def with_text(self, text: Tensor) -> Prepared:
        """The same with other prompt embeddings, (B, tokens, width)."""
        return replace(self, inputs={**self.inputs, "text": text})


class InpaintingBackend(ABC):
    """An inpainting model. Stateless between calls: sampling keeps its own state (``sample.py``)."""

    name: str
    abilities: Abilities
    device: torch.device
    networks: Sequence[torch.nn.Module] = ()
    """All networks of the model."""
    network: Any = None
    """The network that ``estimate`` evaluates."""

    def num_parameters(self) -> int:
        """Parameters of all networks."""
        return sum(parameter.numel() for network in self.networks for parameter in network.parameters())

    @abstractmethod
    def prepare(self, pictures: Tensor, holes: Tensor, prompts: Sequence[str] | None = None) -> Prepared:
        """Convert pictures to the grid.

        Args:
            pictures: float32 (B, 3, H, W) RGB in [-1, 1].
            holes: bool (B, 1, H, W), the regions to inpaint.
            prompts: B texts; ignored by models that read no text.

        Raises:
            UserError: the model does not support this size.
        """

    @abstractmethod
    def unconditional(self, prepared: Prepared) -> Prepared:
        """The same states without any information for the network: the unconditional input of mask guidance.

        It has no attention controls: controls of the conditional evaluation do not apply to it.
        """

    @abstractmethod
    def levels(self, steps: int) -> list[Level]:
        """``steps + 1`` levels, from the noisiest to ``CLEAN``."""

    @abstractmethod
    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        """One evaluation of the network. Gradients flow through it unless the caller disables them, as ``advance``
        does.

        Args:
            x: noisy states on the grid.
            level: their noise level.
            prepared: for the same number of objects.
            taps: names of the features to return, of ``abilities.taps``.

        Raises:
            UserError: ``prepared`` has attention controls but the network does not support them; too little memory.
        """

    @abstractmethod
    def decode(self, x: Tensor, clamp: bool = True) -> Tensor:
        """Clean states -> pictures, float32 (B, 3, H, W). Gradients flow through it.

        clamp: to [-1, 1]. Clamped pixels have no gradient, so switch it off where gradients are needed.
        """

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures, float32 (B, 3, H, W) in [-1, 1] -> clean states; for a model on pixels, the pictures themselves."""
        return pictures.to(self.device)

    def tokens(self, prompt: str) -> list[str]:
        """The tokens of a text, in order: they correspond to the columns of a cross-attention map.

        The first and the last are the start and end tokens; the columns after them are padding.

        Raises:
            UserError: it reads no text.
        """
        raise UserError(f"{self.name} has no cross-attention to words: use Stable Diffusion")

    def unknown(self, prompt: str) -> list[str]:
        """Words of a text that the network does not know, in order; empty for models that read any word."""
        return []

    @staticmethod
    def add_noise(clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        """A clean state at a noise level. At ``CLEAN`` it is exactly the state itself."""
        return level.alpha * clean + level.sigma * noise


@contextmanager
def tapped(network: Any, taps: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collects the outputs of a network's submodules, by name, while the context is open."""
    features: dict[str, Any] = {}
    with ExitStack() as stack:
        for tap in taps:

            def keep(_: Any, __: Any, output: Any, tap: str = tap) -> None:
                features[tap] = output

            stack.callback(network.get_submodule(tap).register_forward_hook(keep).remove)
        yield features


@contextmanager
def within_memory(count: int) -> Iterator[None]:
    """Turns an out-of-memory error into one line. count: objects processed at once."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        how = (
            "take a smaller batch or smaller pictures"
            if count > 1
            else "take a smaller model, or one in half precision or offloaded"
        )
        raise UserError(f"out of memory with {count} objects at once: {how}") from error


class EmbeddedPrior(InpaintingBackend):
    """The project's own prior: a small network on pixels, without text.

    Args:
        prior: anything that ``find_prior`` accepts; default: ``checkpoints/inpainting_prior``.
        device: cpu, cuda, ...

    Raises:
        UserError: diffusers is missing, or the folder holds no usable prior.
    """

    name = "embedded"

    def __init__(self, prior: str | Path = SHIPPED, device: str | torch.device = "cpu") -> None:
        unet, scheduler, self.about = load_prior(find_prior(prior))
        self._set(unet.to(device).requires_grad_(False), scheduler.alphas_cumprod)

    @classmethod
    def of_network(cls, unet: Any, alphas_cumprod: Tensor) -> EmbeddedPrior:
        """Wrap an existing network, for instance in training. alphas_cumprod: float (1000,), of its schedule."""
        backend = cls.__new__(cls)
        backend.about = {}
        backend._set(unet, alphas_cumprod)
        return backend

    def _set(self, unet: Any, alphas_cumprod: Tensor) -> None:
        self.unet = self.network = unet
        self.device, self.networks = unet.device, [unet]
        self.alphas_cumprod = alphas_cumprod.double().cpu()
        widths = unet.config.block_out_channels
        taps = (*(f"up_blocks.{i}" for i in range(len(widths))), "mid_block")
        patch = patch_of(unet)
        self.abilities = Abilities(
            size=unet.config.sample_size * patch, multiple=patch * 2 ** (len(widths) - 1), taps=taps,
            attention=bool(attention_layers(unet)),
        )  # fmt: skip

    def prepare(self, pictures: Tensor, holes: Tensor, prompts: Sequence[str] | None = None) -> Prepared:
        height, width = pictures.shape[-2:]
        step = self.abilities.multiple
        if height % step or width % step or min(height, width) < 2 * step:
            raise UserError(f"the prior takes pictures with sides that are multiples of {step}, not {width}x{height}")
        known, hole = pictures.to(self.device), holes.to(self.device, torch.float32)
        return Prepared(known, hole, {"seen": seen_by(known, hole)})

    def unconditional(self, prepared: Prepared) -> Prepared:
        seen = torch.zeros_like(prepared.inputs["seen"])
        seen[:, 3:] = 1
        return replace(prepared, inputs={"seen": seen}, attention=())

    def levels(self, steps: int) -> list[Level]:
        times = [round(NUM_LEVELS - i * NUM_LEVELS / steps) - 1 for i in range(steps)]  # trailing
        cumulated = [float(self.alphas_cumprod[time]) for time in times]
        return [*(Level(t, a**0.5, (1 - a) ** 0.5) for t, a in zip(times, cumulated, strict=True)), CLEAN]

    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        assert set(taps) <= set(self.abilities.taps), taps
        patch = patch_of(self.unet)
        grid = (x.shape[-2] // patch, x.shape[-1] // patch)
        with (
            within_memory(len(x)),
            attended(self.unet, prepared.attention, grid),
            tapped(self.unet, taps) as features,
        ):
            v = evaluate(self.unet, x, prepared.inputs["seen"], level.time).float()
        clean = (level.alpha * x - level.sigma * v).clamp(-1, 1)
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, features)

    def decode(self, x: Tensor, clamp: bool = True) -> Tensor:
        return x.clamp(-1, 1) if clamp else x
