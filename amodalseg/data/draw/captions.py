"""The procedural world in named colours and shapes, with captions: the mask of every word is known exactly.

A scene is kept separate from its picture, so that the same scene can be painted without an object, or with one in
another colour: the exact ground truth of an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.config.schema import CaptionsData
from amodalseg.data.draw import synthetic_shapes as shapes
from amodalseg.data.draw.cover import Patch, Silhouette, random_direction
from amodalseg.data.draw.synthetic_paint import lay, rasterise, shade
from amodalseg.types import AmodalRecord, stable_seed

Rng = np.random.Generator
COLOURS = {"red": 0, "orange": 28, "yellow": 56, "green": 120, "blue": 222, "purple": 288}
"""Hues of objects, degrees."""
GROUNDS = {"black": 24, "grey": 128, "white": 232}
"""Grey levels of grounds, which have no hue, of 255."""
FORMS: dict[str, Callable[[Rng], shapes.Silhouette]] = {
    "cross": shapes.cross, "cup": shapes.mug, "fish": shapes.fish, "flower": shapes.flower, "heart": shapes.heart,
    "leaf": shapes.leaf, "moon": shapes.crescent, "person": shapes.person, "star": shapes.star, "tree": shapes.fir,
    "vase": shapes.vase, "wheel": shapes.wheel,
}  # fmt: skip
"""Silhouette families of the procedural world by their names."""
ANYTHING = "thing"
"""Stands for a shape that a caption does not name."""
PLAIN_WORDS = ("a", "an", "and", "in", "front", "of", "on", "ground", "photo", ANYTHING)
WORDS = (*COLOURS, *GROUNDS, *FORMS, *PLAIN_WORDS)
"""All words that occur in captions."""
MOST_HIDDEN = 0.6  # of an object, by the others
LEAST_AREA = 0.03  # of the picture, for an object
NUM_SHARES = np.cumsum([0.08, 0.5])  # of pictures without an object, with one; the rest have two


@dataclass(frozen=True)
class Thing:
    """One object. shape: its silhouette, positioned. seed: of its tone and shading, the same for every colour."""

    colour: str
    form: str
    shape: Silhouette
    seed: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.form}"


@dataclass(frozen=True)
class Scene:
    """The content of a picture. size: pixels on a side. ground: its name. things: farthest first."""

    size: int
    ground: str
    seed: int
    things: tuple[Thing, ...]

    def without(self, place: int) -> Scene:
        """The same scene, one thing less."""
        return replace(self, things=self.things[:place] + self.things[place + 1 :])

    def recoloured(self, place: int, colour: str) -> Scene:
        """The same scene, one thing in another colour."""
        thing = replace(self.things[place], colour=colour)
        return replace(self, things=(*self.things[:place], thing, *self.things[place + 1 :]))

    @cached_property
    def amodal(self) -> list[np.ndarray]:
        """bool (size, size) for each thing, its amodal mask."""
        return [thing.shape.mask_in((self.size, self.size)) for thing in self.things]

    @cached_property
    def modal(self) -> list[np.ndarray]:
        """bool (size, size) for each thing, its visible pixels."""
        return [whole & ~self.cover(place) for place, whole in enumerate(self.amodal)]

    def cover(self, place: int) -> np.ndarray:
        """bool (size, size): everything in front of a thing."""
        nearer = np.zeros((self.size, self.size), bool)
        for other in self.amodal[place + 1 :]:
            nearer |= other
        return nearer

    def picture(self) -> np.ndarray:
        """Paint it. Returns: uint8 (size, size, 3) RGB."""
        rng = np.random.default_rng(self.seed)
        light = random_direction(rng).astype(np.float32)
        slope = np.linspace(-1, 1, self.size, dtype=np.float32)
        tilt = light[0] * slope + light[1] * slope[:, None]
        level = GROUNDS[self.ground] + rng.uniform(-14, 14) + tilt * rng.uniform(0, 8)
        canvas = np.repeat(level[..., None], 3, axis=2).astype(np.float32)
        for thing in self.things:
            lay(canvas, self._painted(thing, light))
        return np.rint(canvas).clip(0, 255).astype(np.uint8)

    def whole_rgb(self, place: int) -> np.ndarray:
        """The picture of one thing alone, uint8 (size, size, 3), 0 outside its amodal mask."""
        alone = replace(self, things=(self.things[place],)).picture()
        return alone * self.amodal[place][..., None]

    def _painted(self, thing: Thing, light: np.ndarray) -> Patch:
        rng, shape = np.random.default_rng(thing.seed), thing.shape
        hue = COLOURS[thing.colour] + rng.uniform(-5, 5)
        tone = np.array(hsv_to_rgb(hue / 360 % 1, rng.uniform(0.85, 1), rng.uniform(0.8, 1)), np.float32) * 255
        plain = np.broadcast_to(tone, (*shape.alpha.shape, 3))
        return Patch(shape.name, shape.alpha, shade(rng, plain, shape.alpha, light), x=shape.x, y=shape.y)

    def caption(self, named: Sequence[str] | None = None, ground: bool = True) -> str:
        """Its description: ``a red star in front of a blue fish on a grey ground``, nearest first.

        Args:
            named: other names of the things, in the order of ``things``.
            ground: whether to name the ground; that of an empty scene is always named.
        """
        names = [with_article(name) for name in named or [thing.name for thing in self.things]][::-1]
        behind = with_article(f"{self.ground} ground")
        if not names:
            return behind
        between = " in front of " if any(self.cover(0)[self.amodal[0]]) else " and "
        return between.join(names) + (f" on {behind}" if ground else "")


class CaptionedWorld:
    """Scenes drawn on the fly, each a pure function of (seed, split, epoch, index) and its size.

    Args:
        config: size of the set and of its pictures.
    """

    def __init__(self, config: CaptionsData) -> None:
        self.config = config

    def __len__(self) -> int:
        return self.config.num_objects

    def scene(self, index: int, epoch: int = 0, size: int | None = None, num: int | None = None) -> Scene:
        """Draw one scene.

        Args:
            index: any number from 0, also beyond ``len``.
            epoch: another epoch gives another scene.
            size: pixels on a side; default: as configured.
            num: of things, 0 to 2; default: drawn.
        """
        config, size = self.config, size or self.config.size
        rng = np.random.default_rng(stable_seed("captions", config.seed, config.split, epoch, index))
        num = int(np.searchsorted(NUM_SHARES, rng.random())) if num is None else num
        colours, forms = rng.permutation([*COLOURS])[:num], rng.permutation([*FORMS])[:num]
        ground, seed = str(rng.choice([*GROUNDS])), int(rng.integers(2**62))
        while True:
            things = tuple(
                Thing(str(colour), str(form), _shape(rng, str(form), size, num), int(rng.integers(2**62)))
                for colour, form in zip(colours, forms, strict=True)
            )
            scene = Scene(size, ground, seed, things)
            pairs = list(zip(scene.amodal, scene.modal, strict=True))
            if all(modal.sum() >= (1 - MOST_HIDDEN) * whole.sum() for whole, modal in pairs):
                return scene

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """The farther of one or two things (or the only one) as a record, with the caption in ``extra``.

        Args:
            index: which object; any number from 0, also beyond ``len``.
            epoch: another epoch gives another picture.
        """
        num = 1 + stable_seed("captions num", self.config.seed, self.config.split, epoch, index) % 2
        scene = self.scene(index, epoch, num=num)
        whole, occluder = scene.amodal[0], scene.cover(0)
        return AmodalRecord(
            dataset="captions",
            split=self.config.split,
            image_id=f"{epoch}-{index}",
            object_id=f"{index}",
            image=scene.picture(),
            modal_rle=masks.encode(scene.modal[0]),
            amodal_rle=masks.encode(whole),
            category=scene.things[0].name,
            order=num,
            occluder_rle=masks.encode(occluder),
            whole_rgb=scene.whole_rgb(0),
            flags=frozenset() if (whole & occluder).any() else frozenset({"fully_visible"}),
            extra={"caption": scene.caption()},
        )


def with_article(name: str) -> str:
    """``a red star``, ``an orange star``."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _shape(rng: Rng, form: str, size: int, num: int) -> Silhouette:
    """A silhouette of a given shape, large enough and entirely inside the picture."""
    upright = FORMS[form] in shapes.UPRIGHT
    while True:
        silhouette = FORMS[form](rng)
        c, s = np.cos(angle := rng.uniform(-1, 1) * (np.radians(12) if upright else np.pi)), np.sin(angle)
        matrix = np.array([[c, -s], [s, c]])
        points = np.concatenate([ring for rings, value in silhouette if value for ring in rings]) @ matrix.T
        side = size * (rng.uniform(0.45, 0.9) if num == 1 else rng.uniform(0.35, 0.65))
        alpha = rasterise(silhouette, matrix * (side / np.ptp(points, axis=0).max()))
        room_y, room_x = (size - length for length in alpha.shape)
        if min(room_y, room_x) >= 0 and (alpha > 0.5).sum() >= LEAST_AREA * size * size:
            return Silhouette(form, alpha, x=int(rng.integers(room_x + 1)), y=int(rng.integers(room_y + 1)))


def colour_shares(picture: np.ndarray) -> dict[str, float]:
    """Share of a picture, uint8 (H, W, 3), that each colour of objects covers, by the nearest hue."""
    value = picture.astype(np.float32)
    spread = np.ptp(value, axis=-1)
    vivid = (spread > 60) & (spread > 0.5 * value.max(axis=-1))
    hues = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 0][vivid] * 2.0
    away = np.abs((hues[:, None] - np.array([*COLOURS.values()]) + 180) % 360 - 180)
    nearest = np.bincount(away.argmin(axis=1), minlength=len(COLOURS)) / vivid.size
    return dict(zip(COLOURS, nearest.tolist(), strict=True))
