"""Configuration -> objects, and record -> Sample. Knows no torch: worker processes stay small."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from amodalseg.config.schema import (
    AugmentConfig,
    CocoData,
    CocoOccludeData,
    PublishedData,
    SailVosData,
    ScenesData,
    ShardsData,
    SyntheticData,
    WholeObjectsData,
    WindowConfig,
)
from amodalseg.data.augment import Augment
from amodalseg.data.images import check_size, record_image
from amodalseg.data.occlude import Occluder
from amodalseg.data.predicted import use_predictions
from amodalseg.data.readers import READERS, read_coco_files
from amodalseg.data.readers.sailvos import TolerantSource
from amodalseg.data.scene import Scene
from amodalseg.data.scenes import Scenes
from amodalseg.data.shards import Shards
from amodalseg.data.source import PackedRecords, RecordList, Source, Subset, prompted
from amodalseg.data.synthetic import SyntheticWorld
from amodalseg.data.whole_objects import whole_records
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, Query, Sample, stable_seed

T = TypeVar("T")


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


def open_source(config: Any, photos: bool = True) -> Source:
    """Open the data set that a data configuration names.

    Args:
        config: one of the dataclasses in ``config.schema.DATA``.
        photos: off: published data sets are read from their annotations alone, and no photo need be there.

    Raises:
        UserError: whatever is wrong with the files; photos that cannot be decoded are named and counted, unless
            ``skip_broken`` leaves them out and warns.
    """
    if isinstance(config, SyntheticData):
        return SyntheticWorld(config)
    if isinstance(config, PublishedData):
        return _published(config, photos)
    if isinstance(config, ShardsData):
        return _some_of(Shards(Path(config.root), config.split), config)
    assert isinstance(config, (CocoData, CocoOccludeData, ScenesData, WholeObjectsData)), type(config)
    records = read_coco_files(
        config.annotations,
        config.images,
        split=config.split,
        dataset=config.name,
        skip_broken=config.skip_broken,
        skip_missing=isinstance(config, ScenesData) and config.missing == "skip",
    )
    records = decodable(records, config.skip_broken)
    if isinstance(config, CocoData):
        return RecordList(_some(records, config.num_objects, config.seed))
    if isinstance(config, WholeObjectsData):
        return RecordList(_some(whole_records(records, config), config.num_objects, config.seed))
    if isinstance(config, ScenesData):
        return Scenes(records, config)
    occluder = Occluder(
        records, config.occlude, seed=config.seed, dataset=config.name, split=config.split, max_side=config.max_side
    )
    return Composites(occluder, config.num_objects, config.seed)


def _published(config: PublishedData, photos: bool) -> Source:
    found = READERS[config.name](config, photos=photos)
    if not isinstance(found, list):  # too many to be held as records
        if config.modal_source == "pred":
            raise UserError(f"predicted masks cannot be put into '{config.name}': convert it to coco_amodal first")
        return _some_of(found, config)
    records: list[AmodalRecord] = found
    outside = sum("modal_outside_amodal" in record.flags for record in records)
    if outside:
        done = (
            "added to their amodal mask" if config.fix_subset == "union" else "kept (data.fix_subset=union adds them)"
        )
        print(f"{outside} of {len(records)} objects have modal pixels outside their amodal mask: {done}")
    if photos and config.check_photos != "no":
        records = decodable(records, config.skip_broken, headers_only=config.check_photos == "headers")
    if config.modal_source == "pred":
        records = use_predictions(records, config)
    packed = PackedRecords(_some(records, config.num_objects, config.seed))
    return TolerantSource(packed, config.tolerance) if isinstance(config, SailVosData) and config.tolerance else packed


def _some_of(source: Source, config: Any) -> Source:
    if config.num_objects is None or config.num_objects >= len(source):
        return source
    return Subset(source, np.array(_some(list(range(len(source))), config.num_objects, config.seed)))


def _some(items: list[T], count: int | None, seed: int) -> list[T]:
    """``count`` of the items, drawn by the seed, in their own order; all of them without a count."""
    if count is None or count >= len(items):
        return items
    keep = np.random.default_rng(stable_seed("subset", seed)).permutation(len(items))[:count]
    return [items[i] for i in sorted(keep)]


def decodable(records: list[AmodalRecord], skip_broken: bool, headers_only: bool = False) -> list[AmodalRecord]:
    """Decode every photo once, and compare its size with its masks', before hours of training depend on it.

    Args:
        records: whose photos are files.
        skip_broken: leave out the objects of broken photos, with a warning, instead of raising.
        headers_only: look at the photos' sizes and no further, where decoding all would take too long.

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
            check_size(record) if headers_only else record_image(record)
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
        # a scene that is drawn for its window alone need not be painted as a whole
        draw = getattr(self.source, "plan", self.source.draw)
        return self.sample(draw(index, epoch if self.fresh else 0), epoch, index, size)

    def sample(self, drawn: AmodalRecord | Scene, epoch: int, index: int, size: int) -> Sample:
        """Cut and change one object. Its number in the set and the epoch alone say how; ``size`` is the window's."""
        rng = np.random.default_rng(stable_seed("augment", self.seed, epoch, index))
        modal, covers, unknown = drawn.modal, drawn.occluder, drawn.unknown
        scale, shift = self.augment.window_jitter(rng) if self.augment else (1.0, (0.0, 0.0))
        if not modal.any():
            raise UserError(f"{drawn.key} has no visible pixel, so there is nothing to train on; leave it out")
        window = object_window(modal, replace(self.window, size=size), scale=scale, shift=shift)
        image = drawn.crop(window) if isinstance(drawn, Scene) else crop_image(record_image(drawn), window)
        modal, amodal = crop_mask(modal, window), crop_mask(drawn.amodal, window)
        occluder = np.zeros_like(modal) if covers is None else crop_mask(covers, window)
        unknown = np.zeros_like(modal) if unknown is None else crop_mask(unknown, window)
        if self.augment:
            image, modal, amodal, unknown, occluder = self.augment(image, modal, amodal, rng, occluder, unknown)
        return Sample(image, np.stack([modal, amodal, unknown, occluder]).view(np.uint8), drawn.key)


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
