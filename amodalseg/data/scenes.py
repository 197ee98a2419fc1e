"""Training scenes of many kinds: what a model must meet to step from pasted occluders to natural ones.

A model that only ever sees whole objects under pasted ones learns to look for the paste, grows objects that nothing
hides, and never meets a table under its plates. So the roles change from scene to scene: at times the occluder is
pasted, at times the object itself, behind what the photo already holds, so that neither seam tells them apart.
"""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.config.schema import ScenesData, SyntheticData
from amodalseg.data.cover import random_pixel
from amodalseg.data.cutout import Cutout, cut_out
from amodalseg.data.occlude import MIN_WHOLE, Occluder
from amodalseg.data.surfaces import draw_surface
from amodalseg.data.synthetic import SyntheticWorld
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

NEAR = 3  # pixels around a neighbour where annotations of two objects do not agree to the pixel
MIN_PLACE = 0.02  # of the photo's area, for the part of a pasted object that falls into it
THING = 0.1  # of the photo's longer side, the smallest thing put on a surface
TRIES = 200  # before a kind of scene is called impossible to draw from these photos


class Scenes:
    """Draws training scenes; every draw is a pure function of (seed, epoch, index).

    - ``covered``: a whole object in its own photo under pasted objects, as ``Occluder`` draws it.
    - ``natural``: any object, also one that the photo's border cuts, among its real neighbours, with a part hidden
      under a pasted one or none. Behind a real neighbour it may go on: there the truth is unknown and not trained on.
    - ``behind``: an object pasted into another photo, behind some of the objects there and in front of others.
    - ``surface``: a large shape with a photo's texture, behind a photo's own objects and under pasted ones.
    - ``synthetic``: the procedural world.

    Args:
        records: objects with modal masks, their photos files.
        config: shares of the kinds, and how things are covered.

    Raises:
        UserError: as ``Occluder``; no kind has a share; no object is large enough for the kinds that have one.
    """

    def __init__(self, records: list[AmodalRecord], config: ScenesData) -> None:
        self.config = config
        self.occluder = Occluder(
            records, config.occlude, seed=config.seed, dataset=config.name, split=config.split, max_side=config.max_side
        )
        self.records, self.photos = records, self.occluder.photos
        mix = config.mix
        self.kinds = ("covered", "natural", "behind", "surface", "synthetic")
        shares = np.array([getattr(mix, kind) for kind in self.kinds], float)
        if (shares < 0).any() or shares.sum() <= 0:
            raise UserError("the shares in data.mix must not be negative, and one must be positive")
        self.shares = shares / shares.sum()
        self.in_photo: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            self.in_photo.setdefault(str(record.image), []).append(index)
        self.natives = [index for own in self.in_photo.values() for index in self._single(own) if self._is_large(index)]
        if not self.natives and mix.natural + mix.behind + mix.surface > 0:
            raise UserError(
                f"none of {len(records)} objects has {4 * MIN_WHOLE} pixels at max_side={config.max_side}, which the "
                "kinds natural, behind and surface of data.mix need: give larger photos or set their shares to 0"
            )
        self.world = SyntheticWorld(
            SyntheticData(split=config.split, seed=config.seed, unoccluded=config.occlude.unoccluded)
        )

    def _single(self, indices: list[int]) -> list[int]:
        """Those of the objects that are no crowds."""
        return [index for index in indices if "crowd" not in self.records[index].flags]

    def _is_large(self, index: int) -> bool:
        """Whether an object's modal mask has pixels enough after its photo is shrunk."""
        record = self.records[index]
        shrink = min(1.0, (self.config.max_side or np.inf) / max(1, record.height, record.width))
        return masks.area(record.modal_rle) * shrink**2 >= 4 * MIN_WHOLE

    def __len__(self) -> int:
        return self.config.num_objects

    def draw(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Draw one scene. ``extra["kind"]`` names its kind.

        Raises:
            UserError: the photos allow no scene of a kind that has a share.
        """
        rng = np.random.default_rng(stable_seed("scene", self.config.split, self.config.seed, epoch, index))
        kind = str(rng.choice(self.kinds, p=self.shares))
        if kind == "synthetic":
            record = self.world.draw(index, epoch)
        elif kind == "covered":
            record = self.occluder.draw(int(rng.integers(2**31)), epoch)
        else:
            record = self._record(self._found(rng, kind), f"{epoch}-{index}")
        record.extra["kind"] = kind
        return record

    def _found(self, rng: np.random.Generator, kind: str) -> _Scene:
        """Try until a scene of the kind is sound: another kind in its place would shift the shares."""
        make = {"natural": self._natural, "behind": self._behind, "surface": self._surface}[kind]
        for _ in range(TRIES):
            scene = make(rng)
            if scene is not None:
                return scene
        raise UserError(f"no scene of the kind {kind} in {TRIES} tries: give more photos, or set data.mix.{kind}=0")

    def _natural(self, rng: np.random.Generator) -> _Scene | None:
        source = int(rng.choice(self.natives))
        record = self.records[source]
        photo, target = self.photos(record)
        image, others = photo.astype(np.float32), np.zeros_like(target)
        for other in self.in_photo[str(record.image)]:
            if other != source:
                others |= self.photos(self.records[other])[1]
        near = cv2.dilate(others.astype(np.uint8), np.ones((2 * NEAR + 1,) * 2, np.uint8)).astype(bool)
        scene = _Scene(record.image_id, image, target, np.zeros_like(target), unknown=near & ~target)
        if rng.random() >= self.config.occlude.unoccluded:
            self._cover(rng, scene, source)
        return scene if scene.is_sound(self.config.occlude.rate_max) else None

    def _behind(self, rng: np.random.Generator) -> _Scene | None:
        """Paste an object so that it meets an object of another photo, which covers it or is covered."""
        meets, source = int(rng.choice(self.natives)), int(rng.choice(self.occluder.whole))
        record = self.records[meets]
        if record.image == self.records[source].image:
            return None
        photo, native = self.photos(record)
        longer = max(photo.shape[:2]) * rng.uniform(0.25, 1.1)
        soft = self.config.occlude.soft_edge * rng.uniform(0.4, 1.2)
        pasted = cut_out(self.records[source], self.photos, longer, rng.random() < 0.5, soft)
        if pasted is None:
            return None
        pasted.x, pasted.y = (int(v) for v in random_pixel(rng, native) - random_pixel(rng, pasted.mask))
        return self._pasted(rng, photo, record, pasted, source)

    def _surface(self, rng: np.random.Generator) -> _Scene | None:
        """Lay a large shape with the texture of a photo behind a photo's objects, and more objects on it."""
        record = self.records[int(rng.choice(self.natives))]
        photo, _ = self.photos(record)
        height, width = photo.shape[:2]
        name, alpha = draw_surface(rng, height, width)
        other, _ = self.photos(self.records[int(rng.integers(len(self.records)))])
        y0, x0 = (int(rng.integers(0, n - n // 3 + 1)) for n in other.shape[:2])
        y1, x1 = (int(v) for v in (y0 + other.shape[0] // 3, x0 + other.shape[1] // 3))
        texture = cv2.resize(other[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_LINEAR)
        texture = cv2.GaussianBlur(texture, (0, 0), rng.uniform(0.5, 6)).astype(np.float32)
        if rng.random() < 0.7:  # most such things are calmer than a photo
            texture = texture.mean((0, 1)) + rng.uniform(0.1, 0.8) * (texture - texture.mean((0, 1)))
        texture += rng.normal(0, rng.uniform(0, 6), (height, width, 1)).astype(np.float32)
        pasted = Cutout(name, alpha, texture.clip(0, 255).astype(np.uint8))
        return self._pasted(rng, photo, record, pasted, -1)

    def _pasted(
        self, rng: np.random.Generator, photo: np.ndarray, record: AmodalRecord, pasted: Cutout, source: int
    ) -> _Scene | None:
        """The scene in which a pasted object is the target, with the photo's own objects around it."""
        target, image = pasted.mask_in(photo.shape), photo.astype(np.float32)
        if target.sum() < MIN_PLACE * target.size:
            return None
        front = np.zeros_like(target)
        keep_all = rng.random() < self.config.front  # in front of everything: the answer is the modal mask
        for index in self._single(self.in_photo[str(record.image)]):
            if not keep_all and rng.random() < 0.8:
                front |= self.photos(self.records[index])[1]
        self.occluder.paste(rng, image, pasted, under=front)
        scene = _Scene(record.image_id, image, target, front & target)
        if rng.random() < (0.75 if source < 0 else 0.4):
            self._cover(rng, scene, source)
        return scene if scene.is_sound(self.config.occlude.rate_max) else None

    def _cover(self, rng: np.random.Generator, scene: _Scene, source: int) -> None:
        """Paste objects over what is left of the target: one to hide a share of it, or several things on a surface."""
        config = self.config.occlude
        if source >= 0:
            goal = rng.uniform(config.rate_min, config.rate_max) * scene.target.sum()
            for share in [1.0] if rng.random() < 0.6 else [0.5, 1.0]:
                left = scene.target & ~scene.hidden
                wanted = round(goal * share - scene.hidden.sum())
                cover = self.occluder.place(rng, source, left, scene.target, wanted) if wanted >= 1 else None
                if cover:
                    self._lay(rng, scene, cover)
            return
        for _ in range(rng.integers(1, 6)):
            index, side = self.occluder.occluders[rng.integers(len(self.occluder.occluders))]
            longer = max(scene.target.shape) * rng.uniform(THING, 0.5)
            cover = cut_out(self.records[index], self.photos, longer, rng.random() < 0.5, config.soft_edge)
            if cover is None or side:
                continue  # it may lie anywhere, so none that shows a straight cut
            cover.x, cover.y = (int(v) for v in random_pixel(rng, scene.target) - random_pixel(rng, cover.mask))
            self._lay(rng, scene, cover)

    def _lay(self, rng: np.random.Generator, scene: _Scene, cover: Cutout) -> None:
        self.occluder.paste(rng, scene.image, cover)
        mask = cover.mask_in(scene.target.shape)
        scene.hidden |= mask & scene.target
        scene.occluder |= mask

    def _record(self, scene: _Scene, name: str) -> AmodalRecord:
        modal = scene.target & ~scene.hidden
        return AmodalRecord(
            dataset=self.config.name,
            split=self.config.split,
            image_id=scene.photo,  # scenes of one photo are not independent: intervals are drawn over photos
            object_id=name,
            image=np.rint(scene.image).clip(0, 255).astype(np.uint8),
            modal_rle=masks.encode(modal),
            amodal_rle=masks.encode(scene.target),
            occluder_rle=masks.encode(scene.hidden | scene.occluder),
            unknown_rle=masks.encode(scene.unknown) if scene.unknown is not None else None,
            flags=frozenset() if scene.hidden.any() else frozenset({"fully_visible"}),
        )


class _Scene:
    """A picture in the making: float32 (H, W, 3), and bool (H, W) target, hidden part, and what is unknown."""

    def __init__(
        self, photo: str, image: np.ndarray, target: np.ndarray, hidden: np.ndarray, unknown: np.ndarray | None = None
    ) -> None:
        self.photo, self.image = photo, image
        self.target, self.hidden, self.unknown = target, hidden, unknown
        self.occluder = np.zeros_like(target)

    def is_sound(self, rate_max: float) -> bool:
        """Whether enough of the target is visible to ask for the rest."""
        left = int(self.target.sum() - self.hidden.sum())
        return left >= max(MIN_WHOLE, (1 - rate_max) * self.target.sum())
