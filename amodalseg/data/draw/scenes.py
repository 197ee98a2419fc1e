"""Training scenes of many kinds, which a model needs to generalise from pasted occluders to natural ones.

A model that only sees whole objects under pasted ones learns to look for paste artefacts, enlarges fully visible
objects, and never sees a table under its plates. So the roles vary from scene to scene: sometimes the occluder is
pasted, sometimes the object itself, behind what the photo already contains, so that seams do not reveal the occluder.
"""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.config.schema import ScenesData, SyntheticData
from amodalseg.data.draw.cover import Silhouette, random_pixel
from amodalseg.data.draw.cutout import Cutout, Tone, cut_out
from amodalseg.data.draw.occlude import MIN_WHOLE, Occluder
from amodalseg.data.draw.paint import Layer
from amodalseg.data.draw.roles import Role
from amodalseg.data.draw.scene import Scene
from amodalseg.data.draw.surfaces import random_surface
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

NEAR = 3  # pixels around a neighbour where the annotations of two objects may disagree
MIN_PLACE = 0.02  # of the photo's area, for the part of a pasted object inside it
THING = 0.1  # of the photo's longer side, the smallest thing put on a surface
TRIES = 200  # before a kind of scene is considered impossible to draw from these photos


class Scenes:
    """Draws training scenes; every scene is a pure function of (seed, epoch, index).

    - ``covered``: a whole object in its own photo under pasted objects, as ``Occluder`` draws it.
    - ``natural``: any object, even one cut off by the photo's border, among its real neighbours, with or without a
      pasted occluder. Behind a real neighbour it may continue: the ground truth there is unknown and not trained on.
    - ``behind``: an object pasted into another photo, behind some of the objects there and in front of others.
    - ``surface``: a large shape with a photo's texture, behind a photo's own objects and under pasted ones.
    - ``pair``: two objects pasted into a photo, one over a part of the other. Either may be the target, so
      that seams, contact or pasting reveal nothing about which is in front.
    - ``synthetic``: the procedural world.

    Args:
        records: objects with modal masks, their photos files.
        config: shares of the kinds, and how things are occluded.

    Raises:
        UserError: as for ``Occluder``; no kind has a share; no object is large enough for the kinds that have one.
    """

    def __init__(self, records: list[AmodalRecord], config: ScenesData) -> None:
        self.config = config
        self.occluder = Occluder(
            records,
            config.occlude,
            seed=config.seed,
            dataset=config.name,
            split=config.split,
            max_side=config.max_side,
            shares=config.occluders,
            cache_mb=config.cache_mb,
        )
        self.records, self.photos = records, self.occluder.photos
        mix = config.mix
        self.kinds = ("covered", "natural", "behind", "surface", "pair", "synthetic")
        shares = np.array([getattr(mix, kind) for kind in self.kinds], float)
        if (shares < 0).any() or shares.sum() <= 0:
            raise UserError("the shares in data.mix must not be negative, and one must be positive")
        self.shares = np.cumsum(shares / shares.sum())
        self.in_photo: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            self.in_photo.setdefault(str(record.image), []).append(index)
        natives = [index for own in self.in_photo.values() for index in self._single(own) if self._is_large(index)]
        if not natives and mix.natural + mix.behind + mix.surface > 0:
            raise UserError(
                f"none of {len(records)} objects has {4 * MIN_WHOLE} pixels at max_side={config.max_side}, which the "
                "kinds natural, behind and surface of data.mix need: give larger photos or set their shares to 0"
            )
        packs = [record.extra.get("pack", "") for record in records]
        self.natives = Role("hosts", natives, packs, config.hosts)
        self.targets = Role("targets", self.occluder.whole, packs, config.targets)
        self.world = SyntheticWorld(
            SyntheticData(split=config.split, seed=config.seed, unoccluded=config.occlude.unoccluded)
        )

    def describe(self) -> str:
        """The composition of scenes, for the start of a run's log; one line per role."""
        roles = {"hosts": self.natives, "targets": self.targets, "occluders": self.occluder.occluders}
        return "\n".join(f"  {name}: {role.describe()}" for name, role in roles.items())

    def _single(self, indices: list[int]) -> list[int]:
        """Those of the objects that are not crowds."""
        return [index for index in indices if "crowd" not in self.records[index].flags]

    def _is_large(self, index: int) -> bool:
        """Whether an object's modal mask has enough pixels after its photo is downscaled."""
        record = self.records[index]
        shrink = min(1.0, (self.config.max_side or np.inf) / max(1, record.height, record.width))
        return masks.area(record.modal_rle) * shrink**2 >= 4 * MIN_WHOLE

    def __len__(self) -> int:
        return self.config.num_objects

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Draw one scene. ``extra["kind"]`` is its kind.

        Raises:
            UserError: the photos allow no scene of a kind that has a share.
        """
        scene = self.plan(index, epoch)
        return scene.record() if isinstance(scene, Scene) else scene

    def plan(self, index: int, epoch: int = 0) -> Scene | AmodalRecord:
        """``get`` without painting, except for the procedural world, which is always painted."""
        rng = np.random.default_rng(stable_seed("scene", self.config.split, self.config.seed, epoch, index))
        kind = self.kinds[int(np.searchsorted(self.shares, rng.random(), side="right"))]
        if kind == "synthetic":
            record = self.world.get(index, epoch)
            record.extra["kind"] = kind
            return record
        if kind == "covered":
            number = int(rng.integers(2**31))
            source = self.targets.sample(rng) if self.config.targets else None
            scene = self.occluder.plan(number, epoch, source)
            scene.about["extra"]["kind"] = kind
            return scene
        scene = self._found(rng, kind)
        scene.about = {
            "dataset": self.config.name,
            "split": self.config.split,
            "object_id": f"{epoch}-{index}",
            "extra": {"kind": kind},
        }
        return scene

    def _found(self, rng: np.random.Generator, kind: str) -> Scene:
        """Try until a scene of the kind is valid: falling back to another kind would shift the shares."""
        make = {"natural": self._natural, "behind": self._behind, "surface": self._surface, "pair": self._pair}[kind]
        for _ in range(TRIES):
            scene = make(rng)
            if scene is not None:
                return scene
        raise UserError(f"no scene of the kind {kind} in {TRIES} tries: give more photos, or set data.mix.{kind}=0")

    def _natural(self, rng: np.random.Generator) -> Scene | None:
        source = self.natives.sample(rng)
        record = self.records[source]
        scene = Scene(record, self.photos.photo(record), self.photos.modal(record))
        others = np.zeros_like(scene.amodal)
        for other in self.in_photo[str(record.image)]:
            if other != source:
                self.photos.cropped(self.records[other]).add_to(others)
        near = cv2.dilate(others.view(np.uint8), np.ones((2 * NEAR + 1,) * 2, np.uint8)).view(bool)
        scene.unknown = near & ~scene.amodal
        if rng.random() >= self.config.occlude.unoccluded:
            self._cover(rng, scene, source)
        return scene if self._is_visible_enough(scene) else None

    def _behind(self, rng: np.random.Generator) -> Scene | None:
        """Paste an object so that it overlaps an object of another photo, in front or behind."""
        meets = self.natives.sample(rng)
        source = self.targets.sample(rng)
        record = self.records[meets]
        if record.image == self.records[source].image:
            return None
        photo, native = self.photos.photo(record), self.photos.cropped(record)
        longer = max(photo.shape[:2]) * rng.uniform(0.25, 1.1)
        soft = self.config.occlude.soft_edge * rng.uniform(0.4, 1.2)
        pasted = cut_out(self.records[source], self.photos, longer, rng.random() < 0.5, soft)
        if pasted is None:
            return None
        corner = native.box[:2] + random_pixel(rng, native.mask) - random_pixel(rng, pasted.mask)
        pasted.x, pasted.y = (int(v) for v in corner)
        if not self._has_place(pasted, photo):
            return None
        scene = Scene(record, photo, pasted.mask_in(photo.shape))
        self.occluder.paste(rng, scene, pasted, under=self._front(rng, scene))
        return self._around(rng, scene, source)

    def _surface(self, rng: np.random.Generator) -> Scene | None:
        """Paste a large shape with a photo's texture behind a photo's objects, and more objects on it."""
        record = self.records[self.natives.sample(rng)]
        photo = self.photos.photo(record)
        name, alpha = random_surface(rng, *photo.shape[:2])
        other = self.photos.photo(self.records[int(rng.integers(len(self.records)))])
        y0, x0 = (int(rng.integers(0, n - n // 3 + 1)) for n in other.shape[:2])
        texture = other[y0 : y0 + other.shape[0] // 3, x0 : x0 + other.shape[1] // 3]
        blur, calm = rng.uniform(0.5, 6), rng.uniform(0.1, 0.8) if rng.random() < 0.7 else 1.0
        noise, seed = rng.uniform(0, 6), int(rng.integers(2**63))
        mean, spread = texture.mean((0, 1)), float(texture.std())
        shape = Cutout(name, alpha, texture, False, Tone(float(mean.mean()), calm * spread))
        if not self._has_place(shape, photo):
            return None
        # most such things are calmer than a photo
        calmed = np.rint(mean + calm * (np.arange(256)[:, None] - mean)).clip(0, 255).astype(np.uint8)
        scene = Scene(record, photo, shape.mask_in(photo.shape))
        front, soft = self._front(rng, scene), self.config.occlude.soft_edge
        table = shape.harmonised(rng, scene.tone)[calmed]
        scene.layers.append(Layer(shape, texture, table, False, front, soft, blur, noise, seed))
        return self._around(rng, scene, -1)

    def _pair(self, rng: np.random.Generator) -> Scene | None:
        """Paste one object over another. One time in three the nearer one, whole and in contact, is the target."""
        config = self.config.occlude
        host, source = self.records[self.natives.sample(rng)], self.targets.sample(rng)
        photo = self.photos.photo(host)
        longer = max(photo.shape[:2]) * rng.uniform(0.25, 1.1)
        far = cut_out(self.records[source], self.photos, longer, rng.random() < 0.5, config.soft_edge)
        if far is None or host.image == self.records[source].image:
            return None
        corner = [rng.integers(n + 1) for n in photo.shape[1::-1]] - random_pixel(rng, far.mask)
        far.x, far.y = (int(v) for v in corner)
        far_mask = far.mask_in(photo.shape)
        if not self._has_place(far, photo):
            return None
        goal = max(1, round(rng.uniform(config.rate_min, config.rate_max) * np.count_nonzero(far_mask)))
        near = self.occluder.place(rng, source, far_mask, far_mask, goal)
        if near is None:
            return None
        of_near = rng.random() < 1 / 3
        scene = Scene(host, photo, near.mask_in(photo.shape) if of_near else far_mask)
        self.occluder.paste(rng, scene, far)
        self.occluder.paste(rng, scene, near)
        if not of_near:
            scene.cover(near)
        if rng.random() < 0.3:
            self._cover(rng, scene, source)
        return scene if self._is_visible_enough(scene) else None

    def _front(self, rng: np.random.Generator, scene: Scene) -> np.ndarray:
        """bool (H, W): the photo's own objects that stay in front of the pasted one; they occlude the target."""
        front = np.zeros_like(scene.amodal)
        keep_all = rng.random() < self.config.front  # in front of everything: the amodal mask is the modal one
        for index in self._single(self.in_photo[str(scene.host.image)]):
            if not keep_all and rng.random() < 0.8:
                self.photos.cropped(self.records[index]).add_to(front)
        scene.hidden |= front & scene.amodal
        scene.occluder |= front  # as a whole: the part over the target alone would reveal the ground truth
        return front

    def _around(self, rng: np.random.Generator, scene: Scene, source: int) -> Scene | None:
        """Sometimes paste more objects over a pasted target."""
        if rng.random() < (0.75 if source < 0 else 0.4):
            self._cover(rng, scene, source)
        return scene if self._is_visible_enough(scene) else None

    def _has_place(self, shape: Silhouette, photo: np.ndarray) -> bool:
        """Whether enough of a pasted object lies inside the photo."""
        return int(np.count_nonzero(shape.mask_in(photo.shape))) >= MIN_PLACE * photo.shape[0] * photo.shape[1]

    def _is_visible_enough(self, scene: Scene) -> bool:
        """Whether enough of the target is visible for a query."""
        total = int(np.count_nonzero(scene.amodal))
        left = total - int(np.count_nonzero(scene.hidden))
        return left >= max(MIN_WHOLE, (1 - self.config.occlude.rate_max) * total)

    def _cover(self, rng: np.random.Generator, scene: Scene, source: int) -> None:
        """Paste objects over the visible target: one to occlude a share of it, or several things on a surface."""
        config = self.config.occlude
        if source >= 0:
            goal = rng.uniform(config.rate_min, config.rate_max) * scene.amodal.sum()
            for share in [1.0] if rng.random() < 0.6 else [0.5, 1.0]:
                left = scene.amodal & ~scene.hidden
                wanted = round(goal * share - scene.hidden.sum())
                cover = self.occluder.place(rng, source, left, scene.amodal, wanted) if wanted >= 1 else None
                if cover:
                    self._lay(rng, scene, cover)
            return
        for _ in range(rng.integers(1, 6)):
            index = self.occluder.occluders.sample(rng)
            longer = max(scene.amodal.shape) * rng.uniform(THING, 0.5)
            cover = cut_out(self.records[index], self.photos, longer, rng.random() < 0.5, config.soft_edge)
            if cover is None or self.occluder.sides[index]:
                continue  # it may lie anywhere, so it must have no straight cut
            cover.x, cover.y = (int(v) for v in random_pixel(rng, scene.amodal) - random_pixel(rng, cover.mask))
            self._lay(rng, scene, cover)

    def _lay(self, rng: np.random.Generator, scene: Scene, cover: Cutout) -> None:
        self.occluder.paste(rng, scene, cover)
        scene.cover(cover)
