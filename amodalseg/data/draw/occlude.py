"""Whole objects + occluders -> training pairs: exact amodal masks from photos with modal masks only.

A fully visible object is covered with objects cut from other photos, as in the Pix2gestalt training set. The occluded
region is known exactly, since it was visible before.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from amodalseg import masks
from amodalseg.config.schema import OccludeConfig, WholeObjectsData
from amodalseg.data.draw.cover import nearest, overlap, random_direction, random_pixel, slide
from amodalseg.data.draw.cutout import Cutout, PhotoCache, cut_out, num_pieces, sides_cut
from amodalseg.data.draw.paint import Layer
from amodalseg.data.draw.roles import Role
from amodalseg.data.draw.scene import Scene
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

COMPOSITES = 40  # tries before an object is considered impossible to occlude as configured
PLACES = 6  # tries for each occluder
BEHIND = 0.5  # probability that an object without an occluder gets a pasted neighbour behind it
BEHIND_COVERED = 0.25  # the same for an occluded object
MIN_AREA = 256  # pixels: a smaller object is too coarse to cover another one
MIN_WHOLE = 64  # pixels after downscaling: shares of smaller objects cannot be occluded precisely


class Occluder:
    """Occludes whole objects with other objects; every scene is a pure function of (seed, epoch, index).

    A *whole* object is not a crowd, covers [min_area, max_area] of its photo, stays two pixels away from the photo's
    border, is in one piece (all but 5 % of its area), and is not annotated as occluded. *Occluders* are all objects but
    crowds and tiny ones, whole or not. An occluder cut off by its photo's border on one side is pasted with that side
    against the same border, so that its straight edge never shows; one that is cut off on several sides is not used.

    Args:
        records: objects with modal masks; any mixture of data sets.
        config: how to occlude them.
        seed: of all random numbers.
        dataset, split: names of the drawn records.
        max_side: shrink photos whose longer side exceeds this, pixels.
        shares: how often occluders come from each pack of data, as in ``Role``; default: by their number.
        cache_mb: cache of decoded photos and masks.

    Raises:
        UserError: no object is whole, or there is no occluder for it.
    """

    def __init__(
        self,
        records: list[AmodalRecord],
        config: OccludeConfig,
        *,
        seed: int,
        dataset: str = "coco_occlude",
        split: str = "train",
        max_side: int | None = None,
        shares: dict[str, float] | None = None,
        cache_mb: int = 384,
    ) -> None:
        self.records, self.config, self.seed = records, config, seed
        self.dataset, self.split = dataset, split
        self.photos = PhotoCache(max_side, cache_mb * 2**20)
        self.whole: list[int] = []
        self.sides: dict[int, str] = {}  # occluder -> the side that its photo cuts off: "", or one of "lrtb"
        dropped: Counter[str] = Counter()
        for index, record in enumerate(records):
            reason = why_not_whole(record, config, max_side)
            if reason:
                dropped[reason] += 1
            else:
                self.whole.append(index)
            if "crowd" not in record.flags and masks.area(record.modal_rle) >= MIN_AREA:
                sides = sides_cut(record)
                if len(sides) < 2:
                    self.sides[index] = sides
        if not self.whole:
            reasons = (
                ", ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "there is none at all"
            )
            raise UserError(f"no whole object among {len(records)} that could be occluded: {reasons}")
        if len(self.sides) < 2 and self.sides.keys() <= set(self.whole):
            raise UserError(
                f"{len(records)} objects hold no second one to use as occluder: it must not be a crowd, must "
                f"have {MIN_AREA} pixels or more, and must be cut off by the photo's border on one side at most"
            )
        packs = [record.extra.get("pack", "") for record in records]
        self.occluders = Role("occluders", list(self.sides), packs, shares or {})

    def __len__(self) -> int:
        """Number of whole objects."""
        return len(self.whole)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Occlude one whole object.

        Args:
            index: of the composite; any number from 0. Indices that are equal modulo ``len`` share the object.
            epoch: another epoch gives other occluders.

        Returns:
            A record whose ``image`` holds pixels, uint8 (H, W, 3); ``amodal`` is the object's own modal mask and
            ``modal`` the part that stays visible; ``extra`` names the ``source`` and the ``occluders``.

        Raises:
            UserError: no occluder gives a rate within [rate_min, rate_max] in 40 tries.
        """
        return self.plan(index, epoch).record()

    def plan(self, index: int, epoch: int = 0, source: int | None = None) -> Scene:
        """``get`` without painting. ``source``: the record to occlude, instead of the one given by the index."""
        source = self.whole[index % len(self.whole)] if source is None else source
        record = self.records[source]
        rng = np.random.default_rng(stable_seed("occlude", self.dataset, self.split, self.seed, epoch, index))
        photo, amodal = self.photos.photo(record), self.photos.modal(record)
        hide = rng.random() >= self.config.unoccluded
        covers = self.covers(rng, source, amodal) if hide else []
        neighbour = None
        if rng.random() < (BEHIND_COVERED if hide else BEHIND):
            neighbour = self.place(
                rng, source, amodal, amodal, goal=max(1, round(rng.uniform(0.1, 0.6) * amodal.sum()))
            )
        scene = Scene(record, photo, amodal)
        scene.shows_whole = True
        if neighbour:
            self.paste(rng, scene, neighbour, under=amodal)
        for cover in covers:
            self.paste(rng, scene, cover)
            scene.cover(cover)
        scene.about = {
            "dataset": self.dataset,
            "split": self.split,
            "object_id": f"{epoch}-{index}",
            "category_id": record.category_id,
            "category": record.category,
            "is_stuff": record.is_stuff,
            "extra": {
                "source": record.key,
                "occluders": [cover.name for cover in covers],
                "behind": neighbour.name if neighbour else None,
            },
        }
        return scene

    def covers(self, rng: np.random.Generator, source: int, amodal: np.ndarray) -> list[Cutout]:
        """Occluders that together cover a share of the object within the range."""
        config, total = self.config, int(amodal.sum())
        for attempt in range(COMPOSITES):
            if attempt % 8 == 0:  # retry a rate several times, or the easy low ones would crowd out the others
                goal = max(1, round(rng.uniform(config.rate_min, config.rate_max) * total))
            num = int(rng.integers(1, config.max_occluders + 1))
            left, covers = amodal.copy(), []
            for rank in range(1, num + 1):
                wanted = round(goal * (1 if rank == num else rank / num)) - (total - int(left.sum()))
                cover = self.place(rng, source, left, amodal, wanted) if wanted >= 1 else None
                if cover:
                    covers.append(cover)
                    left &= ~cover.mask_in(amodal.shape)
            if covers and config.rate_min <= 1 - left.sum() / total <= config.rate_max:
                return covers
        raise UserError(
            f"{self.records[source].key}: no occluders hide between {config.rate_min} and {config.rate_max} of it in "
            f"{COMPOSITES} tries: widen the range, raise scale_max, or give more objects"
        )

    def place(
        self, rng: np.random.Generator, source: int, left: np.ndarray, amodal: np.ndarray, goal: int
    ) -> Cutout | None:
        """Place another object so that it covers ``goal`` pixels of ``left``; None if none of a few candidates can."""
        box = masks.box_xyxy(amodal)
        assert box is not None
        height, width = amodal.shape
        x0, y0, x1, y1 = box
        left = left[y0:y1, x0:x1]  # positions below are relative to the corner of the object's box
        longer = max(x1 - x0, y1 - y0)
        for _ in range(PLACES):
            index = self.occluders.sample(rng)
            side = self.sides[index]
            scale = rng.uniform(self.config.scale_min, self.config.scale_max)
            flip = bool(self.config.flip and rng.random() < 0.5)
            if index == source:
                continue
            cover = cut_out(self.records[index], self.photos, longer * scale, flip, self.config.soft_edge)
            if cover is None:
                continue
            if flip:
                side = side.translate(str.maketrans("lr", "rl"))
            end = random_pixel(rng, left) - random_pixel(rng, cover.mask)
            away = random_direction(rng)
            if side in ("t", "b"):  # flush with the photo's border, so it may only slide along it
                rows = np.flatnonzero(cover.mask.any(axis=1))
                end[1] = (-rows[0] if side == "t" else height - 1 - rows[-1]) - y0
                away = np.array([np.sign(away[0]), 0])
            elif side:
                columns = np.flatnonzero(cover.mask.any(axis=0))
                end[0] = (-columns[0] if side == "l" else width - 1 - columns[-1]) - x0
                away = np.array([0, np.sign(away[1])])
            spot = nearest(goal, *slide(left, cover.mask, end + away * (height + width), end, goal))
            if spot.hidden >= 0.8 * goal:
                cover.x, cover.y = spot.x + x0, spot.y + y0
                return cover
        return None

    def paste(self, rng: np.random.Generator, scene: Scene, cover: Cutout, under: np.ndarray | None = None) -> None:
        """Paste a cut-out over a scene; ``under``: bool (H, W) of an object that stays in front."""
        (rows, columns), _ = overlap(scene.amodal.shape, cover.alpha.shape, cover.x, cover.y)
        if rows.start == rows.stop or columns.start == columns.stop:
            return
        table = cover.harmonised(rng, scene.tone)
        scene.layers.append(Layer(cover, cover.colours, table, cover.flip, under, self.config.soft_edge))


class Composites:
    """A given number of objects of an ``Occluder``, in shuffled order: a prefix is a fair sample of the files."""

    def __init__(self, occluder: Occluder, num_objects: int | None, seed: int) -> None:
        self.occluder = occluder
        self.num_objects = num_objects or len(occluder)
        self.order = np.random.default_rng(stable_seed("composites", seed)).permutation(len(occluder))

    def __len__(self) -> int:
        return self.num_objects

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        lap, place = divmod(index, len(self.order))
        return self.occluder.get(int(self.order[place]) + lap * len(self.order), epoch)


def why_not_whole(record: AmodalRecord, config: OccludeConfig | WholeObjectsData, max_side: int | None) -> str | None:
    """The first rule that a record breaks, in words; None for a whole object. Expensive rules come last."""
    area = masks.area(record.modal_rle)
    share = area / max(1, record.height * record.width)
    shrink = min(1.0, (max_side or np.inf) / max(1, record.height, record.width))
    if "crowd" in record.flags:
        return "are crowds"
    if share < config.min_area:
        return f"are smaller than min_area={config.min_area:g} of the photo"
    if share > config.max_area:
        return f"are larger than max_area={config.max_area:g} of the photo"
    if area * shrink**2 < MIN_WHOLE:
        return f"have less than {MIN_WHOLE} pixels" + (f" at max_side={max_side}" if shrink < 1 else "")
    if sides_cut(record):
        return "touch the photo's border"
    if record.amodal_rle is not None and record.occlusion_rate > 0:
        return "are annotated as occluded"
    return None if num_pieces(record) == 1 else "are in several pieces"
