"""Captioned pictures as training samples for the text-conditioned prior and the text-driven segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from amodalseg.data.draw.captions import ANYTHING, COLOURS, FORMS, CaptionedWorld, Scene, with_article
from amodalseg.types import stable_seed

UNNAMED = 0.1  # probability that a caption leaves out a thing's colour, its form, or the ground
PHOTO = 0.1  # probability that it begins with "a photo of"


class Captioned(NamedTuple):
    """One picture.

    picture: uint8 (S, S, 3) RGB. caption: its description. query: prompt for a segmenter; mask: uint8 (S, S) in {0, 1},
    the visible pixels that match it. key: identifies it in messages and random seeds. scene: the scene shown.
    """

    picture: np.ndarray
    caption: str
    query: str
    mask: np.ndarray
    key: str
    scene: Scene


class CaptionBatch(NamedTuple):
    """A batch of samples: uint8 (B, 3, S, S), B texts, B queries, uint8 (B, 1, S, S), B keys."""

    picture: Any
    captions: list[str]
    queries: list[str]
    mask: Any
    keys: list[str]


def stack_captioned(drawn: Sequence[Captioned]) -> CaptionBatch:
    """Stack samples of one size into a batch."""
    import torch  # only here: loader workers of other data need none

    pictures = torch.from_numpy(np.stack([one.picture for one in drawn])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([one.mask for one in drawn]))[:, None]
    texts = ([getattr(one, name) for one in drawn] for name in ("caption", "query", "key"))
    captions, queries, keys = texts
    return CaptionBatch(pictures, captions, queries, masks, keys)


class CaptionedPictures:
    """Training samples; each is a pure function of (seed, epoch, index, side).

    Keys are (epoch, index, side in pixels), as ``RunSampler`` yields them.
    """

    def __init__(self, world: CaptionedWorld) -> None:
        self.world, self.fresh = world, world.config.fresh

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, key: tuple[int, int, int]) -> Captioned:
        epoch, index, side = key
        scene = self.world.scene(index, epoch if self.fresh else 0, side)
        rng = np.random.default_rng(stable_seed("caption", self.world.config.seed, epoch, index))
        named = [_vary_name(rng, thing.colour, thing.form) for thing in scene.things]
        caption = scene.caption(named, ground=rng.random() >= UNNAMED)
        if rng.random() < PHOTO:
            caption = f"a photo of {caption}"
        query, mask = draw_query(rng, scene)
        name = f"captions/{self.world.config.split}/{epoch}-{index}"
        return Captioned(scene.picture(), caption, query, mask.astype(np.uint8), name, scene)


class HeldOutCaptions:
    """Validation samples: fixed pictures with full captions, queried by the full names of their things."""

    def __init__(self, world: CaptionedWorld, side: int) -> None:
        self.world, self.side = world, side

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, place: int) -> Captioned:
        num = 1 + place % 2
        scene = self.world.scene(place, 0, self.side, num)
        asked = stable_seed("asked", place) % num
        mask = scene.modal[asked].astype(np.uint8)
        name = f"captions/{self.world.config.split}/{place}"
        return Captioned(scene.picture(), scene.caption(), scene.things[asked].name, mask, name, scene)


def _vary_name(rng: np.random.Generator, colour: str, form: str) -> str:
    """A thing's name, sometimes without its colour or its shape."""
    chance = rng.random()
    if chance < UNNAMED:
        return form
    return f"{colour} {ANYTHING}" if chance < 2 * UNNAMED else f"{colour} {form}"


def draw_query(rng: np.random.Generator, scene: Scene) -> tuple[str, np.ndarray]:
    """A random prompt and its mask: a thing by name, colour or shape, the ground, or something absent.

    Returns:
        The prompt, sometimes with an article, and bool (S, S): visible pixels.
    """
    nothing = np.zeros((scene.size, scene.size), bool)
    chance = rng.random()
    if chance < 0.1:
        words, mask = f"{scene.ground} ground", ~scene.cover(-1)
    elif chance < 0.35 or not scene.things:
        colours, forms = {thing.colour for thing in scene.things}, {thing.form for thing in scene.things}
        absent = [
            [word for word in names if word not in there] for names, there in ((COLOURS, colours), (FORMS, forms))
        ]
        colour, form = (str(rng.choice(names)) for names in absent)
        words, mask = (form if rng.random() < 0.3 else f"{colour} {rng.choice([*FORMS, ANYTHING])}"), nothing
    else:
        place = int(rng.integers(len(scene.things)))
        words, mask = _vary_name(rng, scene.things[place].colour, scene.things[place].form), scene.modal[place]
    return (with_article(words) if rng.random() < 0.5 else words), mask
