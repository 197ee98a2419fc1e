"""Moves with exact ground truth: a scene is composed twice, the second time with the object at its target, on top."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amodalseg import masks
from amodalseg.config.schema import MixConfig, MovesData, OccludeConfig, ScenesData, SyntheticData
from amodalseg.data.draw.cutout import Cutout
from amodalseg.data.draw.paint import paint
from amodalseg.data.draw.scene import Scene
from amodalseg.data.draw.scenes import Scenes
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, Move, stable_seed

PLACES = 12  # candidate targets per object; the one that overlaps the origin least is used
OVERLAP = 0.25  # of its area, the maximum overlap with the origin
TRIES = 200  # scenes for each object


class Moves:
    """Partly occluded objects, each with a move; every scene is a pure function of (seed, epoch, index).

    The object is entirely inside the picture before and after. Its occluders stay in place, and the object lies in
    front of everything else at its target.

    - ``synthetic``: the procedural world.
    - ``photos``: an object of one photo pasted into another, behind objects of that photo (the kind ``behind`` of
      ``Scenes``).

    Args:
        config: which world, and the range of occlusion rates.
        records: for ``photos``: objects with modal masks, their photos files.

    Raises:
        UserError: an empty range of rates, or as ``Scenes``.
    """

    def __init__(self, config: MovesData, records: list[AmodalRecord] | None = None) -> None:
        self.config, self.records = config, records or []
        low, high, split, seed = config.rate_min, config.rate_max, config.split, config.seed
        if not 0 < low <= high < 1:
            raise UserError(f"0 < rate_min <= rate_max < 1 does not hold for {low} and {high}")
        if config.world == "synthetic":
            self.world = SyntheticWorld(
                SyntheticData(split=split, seed=seed, size=config.size, rate_min=low, rate_max=high)
            )
        else:
            mix = MixConfig(covered=0, natural=0, behind=1, surface=0)
            occlude = OccludeConfig(rate_min=low, rate_max=high)
            self.scenes = Scenes(
                self.records, ScenesData(split=split, seed=seed, max_side=config.max_side, mix=mix, occlude=occlude)
            )
            self.categories = {record.key: record.category for record in self.records}

    def __len__(self) -> int:
        return self.config.num_objects

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Draw one object with its move.

        Raises:
            UserError: none of many scenes allows one.
        """
        config = self.config
        rng = np.random.default_rng(stable_seed("move", config.world, config.split, config.seed, epoch, index))
        make = self._synthetic if config.world == "synthetic" else self._pasted
        for attempt in range(TRIES):
            record = make(rng, index, epoch * TRIES + attempt)
            if record is not None:
                record.dataset, record.object_id = f"moves_{config.world}", f"{epoch}-{index}"
                return record
        wanted = f"[{config.rate_min}, {config.rate_max}]"
        raise UserError(f"no move of an object with an occlusion rate in {wanted} in {TRIES} scenes: widen the range")

    def _synthetic(self, rng: np.random.Generator, index: int, attempt: int) -> AmodalRecord | None:
        scene = self.world.scene(index, attempt)
        record = scene.record
        shift = _new_place(rng, record.amodal)
        if shift is None:
            return None
        return _with_move(record, shift, scene.moved(*shift))

    def _pasted(self, rng: np.random.Generator, index: int, attempt: int) -> AmodalRecord | None:
        scene = self.scenes.plan(index, attempt)
        assert isinstance(scene, Scene)
        layer = scene.layers[0]  # the object; its occluders come after it
        shape = layer.shape
        assert isinstance(shape, Cutout)
        area = int(np.count_nonzero(scene.amodal))
        if area < np.count_nonzero(shape.mask):  # part of it lies outside the photo, where nothing is predicted
            return None
        rate = np.count_nonzero(scene.hidden) / area
        shift = _new_place(rng, scene.amodal)
        if shift is None or not self.config.rate_min <= rate <= self.config.rate_max:
            return None
        free = replace(layer, under=None)
        there = replace(free, shape=replace(shape, x=shape.x + shift[0], y=shape.y + shift[1]))
        record = scene.record()
        record.whole_rgb = paint(scene.photo, [free]) * scene.amodal[..., None]
        record.category = self.categories[shape.name]
        return _with_move(record, shift, paint(scene.photo, [*scene.layers[1:], there]))


def _with_move(record: AmodalRecord, shift: tuple[int, int], picture: np.ndarray) -> AmodalRecord:
    """The record with a move. picture: uint8 (H, W, 3), the photo after it."""
    x0, y0, x1, y1 = masks.box_xyxy(record.modal) or (0, 0, 0, 0)
    to = (x0 + x1) // 2 + shift[0], (y0 + y1) // 2 + shift[1]
    record.move = Move(to, picture, masks.encode(_shifted(record.amodal, shift)))
    return record


def _new_place(rng: np.random.Generator, amodal: np.ndarray) -> tuple[int, int] | None:
    """A shift (dx, dy) that keeps an object, bool (H, W), inside the picture and far enough from its origin."""
    x0, y0, x1, y1 = masks.box_xyxy(amodal) or (0, 0, 0, 0)
    height, width = amodal.shape
    best, least = None, int(OVERLAP * np.count_nonzero(amodal))
    for _ in range(PLACES):
        shift = int(rng.integers(-x0, width - x1 + 1)), int(rng.integers(-y0, height - y1 + 1))
        both = int(np.count_nonzero(amodal & _shifted(amodal, shift)))
        if both < least:
            best, least = shift, both
    return best


def _shifted(mask: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """A bool (H, W) mask, none of whose pixels leaves the picture, shifted by (dx, dy)."""
    found: np.ndarray = np.roll(mask, (shift[1], shift[0]), (0, 1))
    return found
