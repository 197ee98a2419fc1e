"""The one view that all methods have of an inpainting model: prepare, one estimate at a noise level, decode.

A backend works on its own *grid*: pixels, or the latents of an autoencoder, also packed to tokens. Everything a method
does to a state on the way (blending, swapping, holding) needs the grid's shape only to broadcast.

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
    """A noise level: what the network is told, and x_t = alpha x_0 + sigma eps."""

    time: float
    alpha: float
    sigma: float


CLEAN = Level(0.0, 1.0, 0.0)


class Estimate(NamedTuple):
    """What a network says about x_t: the clean state and the noise in it, and the features asked for, by name."""

    clean: Tensor
    noise: Tensor
    features: dict[str, Tensor]


@dataclass(frozen=True)
class Abilities:
    """What a backend can do.

    size: side of the pictures it was trained on, pixels. multiple: of which sides must be. factor: pixels on a side of
    a place of its grid. text: it reads prompts. sees_hole: the hole and the known picture are inputs of the network;
    without that, the known part has to be blended in at every step. taps: names of the features it can hand out.
    attention: controls can step into its attention layers (``Prepared.attention``).
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
    """Pictures to complete, on the grid of a backend; all tensors have the objects first.

    known: the given pictures, what lies in the hole included. hole: float {0, 1}, broadcasts against ``known``.
    inputs: what else the network is given (masked pictures, embeddings of prompts), as the backend names it.
    attention: what steps into the network's attention layers in every evaluation of these objects, and of no others:
        ``dataclasses.replace`` a prepared to give it some.
    """

    known: Tensor
    hole: Tensor
    inputs: dict[str, Tensor] = field(default_factory=dict)
    attention: tuple[Control, ...] = ()

    def __len__(self) -> int:
        return len(self.known)

    def with_text(self, text: Tensor) -> Prepared:
        """The same with other embeddings of a prompt, (B, tokens, width)."""
        return replace(self, inputs={**self.inputs, "text": text})


class InpaintingBackend(ABC):
    """An inpainting model. Stateless between calls: sampling holds its own state (``sample.py``)."""

    name: str
    abilities: Abilities
    device: torch.device
    networks: Sequence[torch.nn.Module] = ()
    """All that it is made of."""
    network: Any = None
    """The one of them that ``estimate`` evaluates."""

    def num_parameters(self) -> int:
        """Of all its networks."""
        return sum(parameter.numel() for network in self.networks for parameter in network.parameters())

    @abstractmethod
    def prepare(self, pictures: Tensor, holes: Tensor, prompts: Sequence[str] | None = None) -> Prepared:
        """Bring pictures to the grid.

        Args:
            pictures: float32 (B, 3, H, W) RGB in [-1, 1].
            holes: bool (B, 1, H, W), what is to be completed.
            prompts: B texts; ignored without the ability.

        Raises:
            UserError: a size that the model cannot take.
        """

    @abstractmethod
    def unconditional(self, prepared: Prepared) -> Prepared:
        """The same states to complete, about which the network is told nothing: the null of mask guidance.

        It has no attention controls: what watches or masks the one evaluation has no part in the other.
        """

    @abstractmethod
    def levels(self, steps: int) -> list[Level]:
        """``steps + 1`` levels, from the noisiest to ``CLEAN``."""

    @abstractmethod
    def estimate(self, x: Tensor, level: Level, prepared: Prepared, taps: Sequence[str] = ()) -> Estimate:
        """One evaluation of the network. Gradients flow through it; who wants none says so (``advance`` does).

        Args:
            x: noisy states on the grid.
            level: their noise level.
            prepared: of as many objects.
            taps: names of the features to return, of ``abilities.taps``.

        Raises:
            UserError: ``prepared`` has attention controls, and the network no layers for them; too little memory.
        """

    @abstractmethod
    def decode(self, x: Tensor, clamp: bool = True) -> Tensor:
        """Clean states -> pictures, float32 (B, 3, H, W). Gradients flow through it.

        clamp: to [-1, 1]. Where a picture is clamped no gradient comes back, so who needs one leaves it out.
        """

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures, float32 (B, 3, H, W) in [-1, 1] -> clean states; of a model on pixels they are the pictures."""
        return pictures.to(self.device)

    def tokens(self, prompt: str) -> list[str]:
        """What the network reads of a text: the pieces that the columns of a cross-attention map stand for, in order.

        The first and the last are the marks of begin and end; the columns behind them are padding.

        Raises:
            UserError: it reads no text.
        """
        raise UserError(f"{self.name} has no cross-attention to words: use Stable Diffusion")

    def unknown(self, prompt: str) -> list[str]:
        """Words of a text that say nothing to the network, in their order; there are none where any word is read."""
        return []

    @staticmethod
    def add_noise(clean: Tensor, noise: Tensor, level: Level) -> Tensor:
        """A clean state at a noise level. At ``CLEAN`` it is the state itself, to the last bit."""
        return level.alpha * clean + level.sigma * noise


@contextmanager
def tapped(network: Any, taps: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collects what submodules of a network, by their names, put out while the context is open."""
    features: dict[str, Any] = {}
    with ExitStack() as stack:
        for tap in taps:

            def keep(_: Any, __: Any, output: Any, tap: str = tap) -> None:
                features[tap] = output

            stack.callback(network.get_submodule(tap).register_forward_hook(keep).remove)
        yield features


@contextmanager
def within_memory(count: int) -> Iterator[None]:
    """Turns running out of memory into one line. count: objects that are worked on at once."""
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
    """The prior that the project trains itself: a small network on pixels, without text.

    Args:
        prior: whatever ``find_prior`` takes; default: ``checkpoints/inpainting_prior``.
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
        """Around a network at hand, for instance in training. alphas_cumprod: float (1000,), of its schedule."""
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
