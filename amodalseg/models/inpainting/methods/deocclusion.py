"""DiffOOM's de-occlusion branch: an object alone on a flat colour, completed from the level where its shape appears.

docs/models.md maps the steps to equations, and says what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from amodalseg.config.schema import DiffOOMConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import InpaintingBackend, Prepared
from amodalseg.models.inpainting.methods.completion import Crop
from amodalseg.models.inpainting.parts.backgrounds import background
from amodalseg.models.inpainting.prior_training.validation import to_pictures
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.lora import Adapter, adapted, tune
from amodalseg.models.inpainting.steps.maps import word_columns
from amodalseg.models.inpainting.steps.progressive_mask import ProgressiveMask
from amodalseg.models.inpainting.steps.sample import Hold, Hook, Sampling, begin

FAR = 80  # of 255, in one channel: how far the fill's colour is from the object's mean colour
ALL = 0.99  # share of a grid position that must be visible for the position to be held


@dataclass
class Deocclusion:
    """Objects at the start of the branch; ``advance(sampling, hooks)`` continues from there.

    visible: bool (B, 1, h, w), the visible region on the grid. fills: uint8 (S, S, 3) each, the backgrounds.
    attention: the attention control that tracks the object, or None. adapter: low-rank adapters in the network, or
    None. spent: network evaluations so far, per object. per_step: evaluations in each further step.
    """

    sampling: Sampling
    hooks: list[Hook]
    visible: Tensor
    fills: list[np.ndarray]
    attention: ProgressiveMask | None
    adapter: Adapter | None
    spent: int
    per_step: int


@contextmanager
def deocclusion(
    config: DiffOOMConfig, backend: InpaintingBackend, crops: Sequence[Crop], steps: int
) -> Iterator[Deocclusion]:
    """Prepare objects for the branch; low-rank adapters stay in the network until the context is left.

    Args:
        config: the options.
        backend: the inpainting model.
        crops: B objects; only one if weights are fine-tuned to it.
        steps: in total.

    Raises:
        UserError: this inpainting model does not support an option.
    """
    check_abilities(config, backend)
    prompts, seeds = [prompt_of(config, crop.category) for crop in crops], [crop.seed for crop in crops]
    fills = [flat_fill(crop) for crop in crops]
    photos = to_pictures([crop.picture for crop in crops])
    modal = torch.from_numpy(np.stack([crop.modal for crop in crops]))[:, None]
    filled = torch.where(modal, photos, to_pictures(fills))
    prepared = backend.prepare(filled, ~modal, prompts)
    source = _to_invert(backend, filled if config.invert == "filled" else photos, prompts)
    visible = visible_places(modal, prepared.known.shape[-2:]).to(prepared.known.device)
    adapter: Adapter | None = None
    with ExitStack() as stack:
        if config.lora.rank:
            assert len(crops) == 1, "weights are tuned to one object at a time"
            adapter = stack.enter_context(adapted(backend, config.lora.rank, seeds[0]))
            updates, rate = config.lora.steps, config.lora.rate
            tune(backend, adapter, source, visible, seeds[0], steps=steps, updates=updates, rate=rate)
        sampling = begin(backend, prepared, seeds, steps, 1 - config.skip)
        first = sampling.index
        states = invert(backend, source, steps, config.rounds, first)
        # equation 6; equation 5 if no steps are skipped and the fill is noise
        around = sampling.noise if config.fill == "noise" else sampling.known_at(sampling.level)
        inside = sampling.known_at(sampling.level) if config.hold == "noised" else states[first]
        sampling.x = torch.where(visible, inside, around)
        hooks: list[Hook] = []
        attention = None
        if config.attention != "off" or config.answer == "attention":
            columns = word_places(config, backend, crops)
            attention = ProgressiveMask(visible, columns, config.attention, config.power)
            sampling.prepared = replace(prepared, attention=attention.controls)
            hooks.append(attention)
        guided = backend.abilities.text and config.guidance != 1 and any(prompts)
        if guided:
            null = backend.prepare(filled, ~modal, [""] * len(crops))
            mask = () if attention is None or attention.mask is None else (attention.mask,)
            hooks.append(MaskGuidance(replace(null, attention=mask), config.guidance - 1))
        if config.hold == "inverted":
            hooks.append(Hold(lambda _: visible, lambda at: states[at.index]))
        elif config.hold == "noised":
            hooks.append(Hold(lambda _: visible, lambda at: at.known_at(at.level)))
        spent = (config.lora.steps if adapter else 0) + (1 + config.rounds) * (steps - first)
        yield Deocclusion(sampling, hooks, visible, fills, attention, adapter, spent, 1 + guided)


def check_abilities(config: DiffOOMConfig, backend: InpaintingBackend) -> None:
    """Raises UserError: this inpainting model does not support an option."""
    can = backend.abilities
    wanted = {"attention": config.attention != "off", "answer": config.answer == "attention"}
    for option, instead in (("attention", "off"), ("answer", "read_off")):
        if wanted[option] and not can.attention:
            raise UserError(
                f"{option}={getattr(config, option)} reads attention layers, but {backend.name} has none that can "
                f"be read: use {option}={instead}"
            )
    if config.seed == "word" and any(wanted.values()) and not can.text:
        raise UserError(f"seed=word needs a model that reads text, and {backend.name} does not: take seed=visible")


def flat_fill(crop: Crop) -> np.ndarray:
    """A random colour that differs from the object's, so that its outline is not lost: uint8 (S, S, 3)."""
    rng, mean = crop.generator(), crop.picture[crop.modal].mean(axis=0)
    while True:
        fill = background("flat", crop.picture, crop.modal, rng)
        if abs(fill[0, 0] - mean).max() >= FAR:
            return fill


def visible_places(modal: Tensor, grid: Sequence[int]) -> Tensor:
    """Grid positions that show only the object, bool (B, 1, h, w).

    A position that includes an occluder pixel would be held as occluder. For an object too thin to fill any position,
    the positions with its largest share count.

    Args:
        modal: bool (B, 1, H, W), no object empty.
        grid: height and width.
    """
    share = interpolate(modal.float(), tuple(grid), mode="area")
    return share >= share.amax((1, 2, 3), keepdim=True).clamp(max=ALL)


def prompt_of(config: DiffOOMConfig, category: str | None) -> str:
    """The prompt for a model that reads text; empty without a category."""
    return config.prompt.replace("{}", category) if category else ""


def word_places(config: DiffOOMConfig, backend: InpaintingBackend, crops: Sequence[Crop]) -> list[list[int] | None]:
    """The columns of each object's word; None: the visible region is used, by option or without a category."""
    named = [crop.category if config.seed == "word" else None for crop in crops]
    return [word_columns(backend, prompt_of(config, name), name) if name else None for name in named]


def _to_invert(backend: InpaintingBackend, pictures: Tensor, prompts: Sequence[str]) -> Prepared:
    """Pictures as inputs for inversion; a network that sees the picture as known would predict no noise in it."""
    nowhere = torch.zeros(len(pictures), 1, *pictures.shape[-2:], dtype=torch.bool)
    prepared = backend.prepare(pictures, nowhere, prompts)
    return backend.unconditional(prepared) if backend.abilities.sees_hole else prepared
