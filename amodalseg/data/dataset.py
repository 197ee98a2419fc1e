"""Configuration -> objects, and record -> Sample. Knows no torch: worker processes stay small."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import (
    AugmentConfig,
    CocoaData,
    CocoData,
    CocoOccludeData,
    Pix2gestaltData,
    ScenesData,
    SyntheticData,
    WindowConfig,
)
from amodalseg.data.augment import Augment
from amodalseg.data.images import record_image
from amodalseg.data.occlude import Occluder
from amodalseg.data.readers import read_coco_files, read_cocoa, read_pix2gestalt
from amodalseg.data.scenes import Scenes
from amodalseg.data.synthetic import SyntheticWorld
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, Query, Sample, stable_seed

T = TypeVar("T")


class Source(Protocol):
    """Objects that can be drawn in any order; a draw is a pure function of (its own seed, epoch, index)."""

    def __len__(self) -> int: ...

    def draw(self, index: int, epoch: int = 0) -> AmodalRecord: ...


class RecordList:
    """A data set that is read, not drawn: every epoch sees the same records."""

    def __init__(self, records: Sequence[AmodalRecord]) -> None:
        self.records = list(records)

    def __len__(self) -> int:
        return len(self.records)

    def draw(self, index: int, epoch: int = 0) -> AmodalRecord:
        return self.records[index]


class Composites:
    """Objects of an ``Occluder`` in a shuffled order, as many as asked for: a prefix is a fair sample of the files."""

    def __init__(self, occluder: Occluder, num_objects: int | None, seed: int) -> None:
        self.occluder = occluder
        self.num_objects = num_objects or len(occluder)
        self.order = np.random.default_rng(stable_seed("composites", seed)).permutation(len(occluder))

    def __len__(self) -> int:
        return self.num_objects

    def draw(self, index: int, epoch: int = 0) -> AmodalRecord:
        lap, place = divmod(index, len(self.order))
        return self.occluder.draw(int(self.order[place]) + lap * len(self.order), epoch)


def prompted(source: Source) -> tuple[Source, int]:
    """Leave out what cannot be asked for: objects without a visible pixel. Returns: the others, how many were left out.

    Only records that are all at hand are looked through; what is opened one by one is refused when it is asked for.
    """
    if not isinstance(source, RecordList):
        return source, 0
    kept = [record for record in source.records if "empty_modal" not in record.flags]
    return RecordList(kept), len(source) - len(kept)


def open_source(config: Any) -> Source:
    """Open the data set that a data configuration names.

    Args:
        config: one of the dataclasses in ``config.schema.DATA``.

    Raises:
        UserError: whatever is wrong with the files; photos that cannot be decoded are named and counted, unless
            ``skip_broken`` leaves them out and warns.
    """
    if isinstance(config, SyntheticData):
        return SyntheticWorld(config)
    if isinstance(config, Pix2gestaltData):
        found = read_pix2gestalt(Path(config.root), config.split)
        found.ids = _some(found.ids, config.num_objects, config.seed)
        return found
    if isinstance(config, CocoaData):
        records = read_cocoa(
            Path(config.root),
            config.split,
            include_stuff=config.include_stuff,
            fix_subset=config.fix_subset,
            skip_broken=config.skip_broken,
        )
        outside = sum("modal_outside_amodal" in record.flags for record in records)
        if outside:
            done = (
                "added to their amodal mask"
                if config.fix_subset == "union"
                else "kept (data.fix_subset=union adds them)"
            )
            print(f"{outside} of {len(records)} objects have modal pixels outside their amodal mask: {done}")
        return RecordList(_some(decodable(records, config.skip_broken), config.num_objects, config.seed))
    assert isinstance(config, (CocoData, CocoOccludeData, ScenesData)), type(config)
    records = read_coco_files(
        config.annotations, config.images, split=config.split, dataset=config.name, skip_broken=config.skip_broken
    )
    records = decodable(records, config.skip_broken)
    if isinstance(config, CocoData):
        return RecordList(_some(records, config.num_objects, config.seed))
    if isinstance(config, ScenesData):
        return Scenes(records, config)
    occluder = Occluder(
        records, config.occlude, seed=config.seed, dataset=config.name, split=config.split, max_side=config.max_side
    )
    return Composites(occluder, config.num_objects, config.seed)


def _some(items: list[T], count: int | None, seed: int) -> list[T]:
    """``count`` of the items, drawn by the seed, in their own order; all of them without a count."""
    if count is None or count >= len(items):
        return items
    keep = np.random.default_rng(stable_seed("subset", seed)).permutation(len(items))[:count]
    return [items[i] for i in sorted(keep)]


def decodable(records: list[AmodalRecord], skip_broken: bool) -> list[AmodalRecord]:
    """Decode every photo once, and compare its size with its masks', before hours of training depend on it.

    Raises:
        UserError: photos that are broken, with their count (``skip_broken``: they are left out, with a warning).
    """
    cases: dict[tuple[Path, int, int], AmodalRecord] = {}
    for record in records:
        if isinstance(record.image, Path):
            cases.setdefault((record.image, record.height, record.width), record)
    first_of = [cases[key] for key in sorted(cases)]

    def problem(record: AmodalRecord) -> str | None:
        try:
            record_image(record)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        found = pool.map(problem, first_of)
        checks = tqdm(found, total=len(cases), desc="checking photos", disable=len(cases) < 2000)
        broken = {record.image: text for record, text in zip(first_of, checks, strict=True) if text}
    if not broken:
        return records
    first, num_photos = next(iter(broken.values())), len({path for path, *_ in cases})
    if not skip_broken:
        raise UserError(f"{first} ({len(broken)} of {num_photos} photos are broken; data.skip_broken=true goes on)")
    warnings.warn(f"{first}; {len(broken)} of {num_photos} photos are left out (data.skip_broken=true)", stacklevel=2)
    return [record for record in records if record.image not in broken]


class TrainingSet:
    """Record -> window -> augmented ``Sample``. Workers need no state besides the keys.

    A key is (epoch, index, side of the window in pixels); without the side it is the configured one.
    """

    def __init__(
        self, source: Source, window: WindowConfig, augment: AugmentConfig | None, seed: int, fresh: bool
    ) -> None:
        self.source, self.window, self.seed, self.fresh = source, window, seed, fresh
        self.augment = Augment(augment) if augment is not None else None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | tuple[int, int, int]) -> Sample:
        epoch, index, size = key if len(key) == 3 else (*key, self.window.size)
        record = self.source.draw(index, epoch if self.fresh else 0)
        rng = np.random.default_rng(stable_seed("augment", self.seed, epoch, index))
        modal, amodal, occluder = record.modal, record.amodal, record.occluder
        scale, shift = self.augment.window_jitter(rng) if self.augment else (1.0, (0.0, 0.0))
        if not modal.any():
            raise UserError(f"{record.key} has no visible pixel, so there is nothing to train on; leave it out")
        window = object_window(modal, replace(self.window, size=size), scale=scale, shift=shift)
        image = crop_image(record_image(record), window)
        unknown = np.zeros_like(modal) if record.unknown_rle is None else masks.decode(record.unknown_rle)
        modal, amodal, unknown = (crop_mask(mask, window) for mask in (modal, amodal, unknown))
        if self.augment:
            occluder = None if occluder is None else crop_mask(occluder, window)
            image, modal, amodal, unknown = self.augment(image, modal, amodal, rng, occluder, unknown)
        return Sample(image, np.stack([modal, amodal, unknown]).astype(np.uint8), record.key)


class EvaluationSet:
    """Record -> (record, query): full images, one fixed seed for each object.

    Attributes:
        num_unprompted: objects of the data set without a visible pixel; they cannot be asked for and are left out.
    """

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.num_unprompted = prompted(source)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: int) -> tuple[AmodalRecord, Query]:
        record = self.source.draw(place)
        return record, record_query(record, self.seed)


def record_query(record: AmodalRecord, seed: int) -> Query:
    """The question a record puts to a model; its seed depends on the object's key, never on its place in a batch."""
    return Query(record_image(record), record.modal, stable_seed(seed, record.key), record.occluder, record.category)
