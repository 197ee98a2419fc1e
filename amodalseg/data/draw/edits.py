"""Edits with exact ground truth: a scene of two named things, with and without one, or with it in two colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from amodalseg import masks
from amodalseg.config.schema import CaptionsData, EditsData
from amodalseg.data.draw.captions import COLOURS, CaptionedWorld, Scene
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, Edit, EditRequest, Region, stable_seed

TASKS = ("add", "remove", "change")
TRIES = 200  # scenes for each edit

Box = tuple[float, float, float, float]


class Edits:
    """Edits of pictures of the captioned world; each is a pure function of (seed, split, epoch, index) and the options.

    One of two things is added, removed or recoloured; the other, the record's object, is unchanged.

    Args:
        config: which edits.
    """

    def __init__(self, config: EditsData) -> None:
        self.config = config
        self.world = CaptionedWorld(CaptionsData(split=config.split, seed=config.seed, size=config.size))

    def __len__(self) -> int:
        return self.config.num_objects

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        """Draw one picture with its edit.

        Args:
            index: which edit; any number from 0, also beyond ``len``.
            epoch: another epoch gives another edit.

        Raises:
            UserError: none of many scenes has boxes with so little overlap.
        """
        config = self.config
        # "all" cycles through the three tasks
        number = index if config.task == "all" else len(TASKS) * index + TASKS.index(config.task)
        rng = np.random.default_rng(stable_seed("edit", config.split, config.seed, epoch, number))
        for attempt in range(TRIES):
            scene = self.world.scene(number, epoch * TRIES + attempt, num=2)
            edited = _draw(rng, TASKS[number % len(TASKS)], scene)
            boxes = [_padded(mask, config.padding) for mask in edited.seen]
            if _overlap(*boxes) <= config.overlap:
                return edited.record(f"edits_{config.task}", config.split, f"{epoch}-{index}", boxes)
        raise UserError(
            f"no two things whose boxes overlap by {config.overlap} of the smaller one at most in {TRIES} scenes: "
            "raise overlap, or lower padding"
        )


class _EditedScene(NamedTuple):
    """both: the scene with its two things. place: index of the edited one. before, after: the scene around the edit.

    stays: the index in ``before`` of the thing that stays.
    """

    both: Scene
    place: int
    before: Scene
    after: Scene
    stays: int

    @property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """bool (size, size) each: visible pixels of the unchanged thing, before the edit, and of the edited one (an
        added one after the edit).

        Boxes around them therefore reveal nothing about occluded regions.
        """
        return self.before.modal[self.stays], self.both.modal[self.place]

    def request(self, boxes: list[Box]) -> EditRequest:
        """Regions of the ground, the unchanged and the edited thing; each text is a caption of that thing alone."""
        other = 1 - self.place
        ground, stays = self.both.without(0).without(0).caption(), self.both.without(self.place).caption()
        source, target = (
            scene.without(other).caption() if len(scene.things) == 2 else None for scene in (self.before, self.after)
        )
        regions = Region(ground, ground), Region(stays, stays, boxes[0]), Region(source, target, boxes[1])
        return EditRequest(regions, self.before.caption(), self.after.caption())

    def record(self, dataset: str, split: str, name: str, boxes: list[Box]) -> AmodalRecord:
        """The thing that stays, in the picture before the edit."""
        before, stays = self.before, self.stays
        whole, occluder = before.amodal[stays], before.cover(stays)
        kept = self.both.modal[1 - self.place]
        return AmodalRecord(
            dataset=dataset,
            split=split,
            image_id=name,
            object_id="0",
            image=before.picture(),
            modal_rle=masks.encode(before.modal[stays]),
            amodal_rle=masks.encode(whole),
            category=before.things[stays].name,
            order=len(before.things) - stays,
            occluder_rle=masks.encode(occluder),
            whole_rgb=before.whole_rgb(stays),
            edit=Edit(self.request(boxes), self.after.picture(), masks.encode(kept)),
            flags=frozenset() if (whole & occluder).any() else frozenset({"fully_visible"}),
        )


def _draw(rng: np.random.Generator, task: str, both: Scene) -> _EditedScene:
    place = int(rng.integers(2))
    if task == "change":
        own = {thing.colour for thing in both.things}
        colour = str(rng.choice([colour for colour in COLOURS if colour not in own]))
        return _EditedScene(both, place, both, both.recoloured(place, colour), 1 - place)
    alone = both.without(place)
    return (
        _EditedScene(both, place, alone, both, 0)
        if task == "add"
        else _EditedScene(both, place, both, alone, 1 - place)
    )


def _padded(mask: np.ndarray, padding: float) -> Box:
    """The box of a mask, extended on each side by a share of its sides, as fractions of the picture."""
    height, width = mask.shape
    x0, y0, x1, y1 = masks.box_xyxy(mask) or (0, 0, 0, 0)
    wide, tall = padding * (x1 - x0), padding * (y1 - y0)
    return (
        max(0.0, (x0 - wide) / width), max(0.0, (y0 - tall) / height),
        min(1.0, (x1 + wide) / width), min(1.0, (y1 + tall) / height),
    )  # fmt: skip


def _overlap(one: Box, other: Box) -> float:
    """Share of the smaller box that lies in the other."""
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    tall = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    return wide * tall / min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
