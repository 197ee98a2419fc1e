"""A procedural world with exact ground truth and no download.

A picture contains one target and one to four further objects on a cluttered ground. Some lie behind the target, some
occlude it. Most silhouettes are concave, thin or have holes, so the convex hull is a poor guess of the occluded region,
while every family is regular enough to be learnt.
"""

from __future__ import annotations

import numpy as np

from amodalseg import masks
from amodalseg.config.schema import SyntheticData
from amodalseg.data.draw.cover import Patch, nearest, random_direction, random_pixel, slide
from amodalseg.data.draw.synthetic_glyphs import letter, pictogram
from amodalseg.data.draw.synthetic_paint import background, lay, rasterise, shade, texture
from amodalseg.data.draw.synthetic_scene import Shadows, WorldScene, laid
from amodalseg.data.draw.synthetic_shapes import ANY_WAY_UP, UPRIGHT
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

SHAPES, GLYPHS = (*ANY_WAY_UP, *UPRIGHT), (letter, pictogram)
GLYPH_SHARE = 0.2  # of all objects; the other families share the rest equally
MARGIN = 2  # pixels between the target and the picture's border
MIN_AREA = 0.02  # of the picture, for the target
SCENES = 50  # tries before a range of occlusion rates is considered unreachable


class SyntheticWorld:
    """Pictures drawn on the fly, each a pure function of (seed, split, epoch, index).

    Args:
        config: size of the set and of its pictures, range of occlusion rates.

    Raises:
        UserError: a range that is empty or outside [0, 1), a share outside [0, 1], a size below 32, no object.
    """

    def __init__(self, config: SyntheticData) -> None:
        if not 0 <= config.rate_min <= config.rate_max < 1:
            raise UserError(f"0 <= rate_min <= rate_max < 1 does not hold for {config.rate_min} and {config.rate_max}")
        if not 0 <= config.unoccluded <= 1:
            raise UserError(f"invalid value for unoccluded: {config.unoccluded} (must be from 0 to 1)")
        if config.size < 32:
            raise UserError(f"size={config.size} is too small for a synthetic picture: give 32 or more")
        if config.num_objects < 1:
            raise UserError(f"num_objects={config.num_objects}: a synthetic set needs at least one object")
        self.config = config

    def __len__(self) -> int:
        return self.config.num_objects

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Draw one picture and its ground truth.

        Args:
            index: which object; any number from 0, also beyond ``len``.
            epoch: another epoch gives another picture.

        Returns:
            A record whose ``image`` holds pixels, uint8 (size, size, 3), with ``amodal_rle``, ``occluder_rle`` and
            ``whole_rgb``. ``category`` names the silhouette family; ``order`` counts every object of the picture.

        Raises:
            UserError: the configured occlusion rates were not reached in 50 scenes.
        """
        return self.scene(index, epoch).record

    def scene(self, index: int, epoch: int = 0) -> WorldScene:
        """As ``get``, with the components of the picture."""
        config = self.config
        rng = np.random.default_rng(stable_seed("synthetic", config.seed, config.split, epoch, index))
        hide = rng.random() >= config.unoccluded
        for _ in range(SCENES):
            target = self._target(rng)
            amodal = target.mask_in((config.size, config.size))
            covers = self._covers(rng, amodal) if hide else []
            occluder = np.zeros_like(amodal)
            for cover in covers:
                occluder |= cover.mask_in((config.size, config.size))
            rate = (amodal & occluder).sum() / amodal.sum()
            if not hide or config.rate_min <= rate <= config.rate_max:
                break
        else:
            wanted = f"[{config.rate_min}, {config.rate_max}]"
            raise UserError(
                f"no synthetic picture with an occlusion rate in {wanted} in {SCENES} tries: widen the range"
            )

        behind, apart = self._neighbours(rng, amodal, num=int(rng.integers(not covers, 5 - len(covers))))
        near = [*apart, *covers]
        sprites = [*behind, target, *near]
        ground, shadows = self._painted(rng, sprites)
        whole = np.zeros((config.size, config.size, 3), np.float32)
        lay(whole, Patch(target.name, np.ones_like(target.alpha), target.rgb, x=target.x, y=target.y))
        record = AmodalRecord(
            dataset="synthetic",
            split=config.split,
            image_id=f"{epoch}-{index}",
            object_id=f"{index}",
            image=laid(ground, sprites, shadows),
            modal_rle=masks.encode(amodal & ~occluder),
            amodal_rle=masks.encode(amodal),
            category=target.name,
            order=1 + len(near),
            occluder_rle=masks.encode(occluder),
            whole_rgb=np.rint(whole).clip(0, 255).astype(np.uint8) * amodal[..., None],
            flags=frozenset() if hide and rate > 0 else frozenset({"fully_visible"}),
        )
        return WorldScene(record, ground, shadows, sprites, target)

    def _sprite(self, rng: np.random.Generator, side: float) -> Patch:
        """A random object whose longer side is about ``side`` pixels, not yet painted."""
        families = GLYPHS if rng.random() < GLYPH_SHARE else SHAPES
        family = families[rng.integers(len(families))]
        silhouette = family(rng)
        turn = np.pi if family in ANY_WAY_UP else np.radians(15)
        c, s = np.cos(angle := rng.uniform(-turn, turn)), np.sin(angle)
        flip = -1 if family not in GLYPHS and rng.random() < 0.5 else 1
        stretch, shear = np.exp(rng.uniform(-0.22, 0.22)), rng.uniform(-0.15, 0.15)
        matrix = np.array([[c, -s], [s, c]]) @ np.array([[flip * stretch, shear], [0, 1 / stretch]])
        points = np.concatenate([ring for rings, value in silhouette if value for ring in rings]) @ matrix.T
        alpha = rasterise(silhouette, matrix * (side / np.ptp(points, axis=0).max()))
        return Patch(family.__name__, alpha, np.empty(0))

    def _target(self, rng: np.random.Generator) -> Patch:
        """A large enough object entirely inside the picture."""
        size = self.config.size
        while True:
            sprite = self._sprite(rng, side=size * rng.uniform(0.4, 0.8))
            room_y, room_x = (size - 2 * MARGIN - n for n in sprite.alpha.shape)
            if min(room_x, room_y) >= 0 and sprite.mask.sum() >= MIN_AREA * size * size:
                sprite.x, sprite.y = MARGIN + int(rng.integers(room_x + 1)), MARGIN + int(rng.integers(room_y + 1))
                return sprite

    def _covers(self, rng: np.random.Generator, amodal: np.ndarray) -> list[Patch]:
        """One or two objects that together give an occlusion rate sampled from the range, up to whole pixels."""
        config, left = self.config, amodal.copy()
        goal = max(1, round(rng.uniform(config.rate_min, config.rate_max) * amodal.sum()))
        shares = [1.0] if rng.random() < 0.55 else [rng.uniform(0.3, 0.7), 1.0]
        covers = []
        for share in shares:
            wanted = round(goal * share) - int((amodal & ~left).sum())
            if wanted < 1:
                continue
            for side in config.size * np.linspace(rng.uniform(0.35, 0.9), 1.2, 6):  # grow until it occludes enough
                cover = self._sprite(rng, side)
                end = random_pixel(rng, left) - random_pixel(rng, cover.mask)
                start = end + random_direction(rng) * 2 * config.size
                spot = nearest(wanted, *slide(left, cover.mask, start, end, wanted))
                if spot.hidden >= 0.9 * wanted:
                    break
            cover.x, cover.y = spot.x, spot.y
            covers.append(cover)
            left &= ~cover.mask_in((config.size, config.size))
        return covers

    def _neighbours(self, rng: np.random.Generator, amodal: np.ndarray, num: int) -> tuple[list[Patch], list[Patch]]:
        """Objects that do not occlude the target: most behind it, some nearer but beside it."""
        size, behind, apart = self.config.size, [], []
        for _ in range(num):
            sprite = self._sprite(rng, side=size * rng.uniform(0.3, 0.8))
            spot = random_pixel(rng, amodal) - random_pixel(rng, sprite.mask)
            if rng.random() < 0.7:
                sprite.x, sprite.y = (int(v) for v in spot)
                behind.append(sprite)
            else:
                away = random_direction(rng)
                clear, _ = slide(amodal, sprite.mask, spot + away * 2 * size, spot, goal=1)
                gap = away * rng.uniform(1.5, size / 8)
                sprite.x, sprite.y = clear.x + round(gap[0]), clear.y + round(gap[1])
                if not (amodal & sprite.mask_in((size, size))).any():  # may still overlap a limb of the target
                    apart.append(sprite)
        return behind, apart

    def _painted(self, rng: np.random.Generator, sprites: list[Patch]) -> tuple[np.ndarray, Shadows | None]:
        """Paint the sprites, in place. Returns: a ground for them, float32 (size, size, 3), and their shadows."""
        size = self.config.size
        ground = background(rng, size)
        light = random_direction(rng).astype(np.float32)
        has_shadows = rng.random() < 0.4
        softness, strength, drop = (
            size * rng.uniform(0.01, 0.03),
            rng.uniform(0.2, 0.6),
            light * rng.uniform(0, size / 20),
        )
        for sprite in sprites:
            sprite.rgb = shade(rng, texture(rng, *sprite.alpha.shape), sprite.alpha, light)
        return ground, Shadows(drop, softness, strength) if has_shadows else None
