"""A data configuration -> a source of records. Without torch, so worker processes stay small."""

from __future__ import annotations

import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from amodalseg.config.schema import (
    CaptionsData,
    CocoData,
    CocoOccludeData,
    EditsData,
    MovesData,
    PublishedData,
    SailVosData,
    ScenesData,
    ShardsData,
    SyntheticData,
    WholeObjectsData,
)
from amodalseg.data.check.known_sets import expected_parts, usual_split
from amodalseg.data.draw.captions import CaptionedWorld
from amodalseg.data.draw.edits import Edits
from amodalseg.data.draw.moves import Moves
from amodalseg.data.draw.occlude import Composites, Occluder
from amodalseg.data.draw.scenes import Scenes
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.draw.whole_objects import whole_records
from amodalseg.data.images import image_turning
from amodalseg.data.pack.shards import Shards
from amodalseg.data.readers import READERS, read_coco_files
from amodalseg.data.readers.predicted import use_predictions
from amodalseg.data.readers.sailvos import TolerantSource
from amodalseg.data.record_pictures import check_size, record_image
from amodalseg.data.source import PackedRecords, RecordList, Source, Subset
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

logger = logging.getLogger(__name__)

T = TypeVar("T")
HELD_OUT = 0.1
"""Share of photos held out for validation if no validation set is named; at least four photos, at most half."""


def open_source(config: Any, photos: bool = True) -> Source:
    """Open the data set of a data configuration.

    Args:
        config: one of the dataclasses in ``config.schema.DATA``.
        photos: off: published data sets are read from their annotations alone; photos may be missing.

    Raises:
        UserError: something is wrong with the files; photos that cannot be decoded are listed and counted, unless
            ``skip_broken`` skips them with a warning.
    """
    if isinstance(config, SyntheticData):
        return SyntheticWorld(config)
    if isinstance(config, MovesData) and config.world == "synthetic":
        return Moves(config)
    if isinstance(config, CaptionsData):
        return CaptionedWorld(config)
    if isinstance(config, EditsData):
        return Edits(config)
    if isinstance(config, PublishedData):
        return _published(config, photos)
    if isinstance(config, ShardsData):
        return _some_of(Shards(Path(config.root), config.split), config)
    assert isinstance(config, (CocoData, CocoOccludeData, MovesData, ScenesData, WholeObjectsData)), type(config)
    records = read_coco_files(
        config.annotations,
        config.images,
        split=config.split,
        dataset=config.name,
        skip_broken=config.skip_broken,
        skip_missing=isinstance(config, ScenesData) and config.missing == "skip",
        outside=config.outside,
    )
    _handle_crowds(records, config.crowd)
    if config.upright:
        _set_upright(records)
    records = decodable(records, config.skip_broken)
    if isinstance(config, MovesData):
        return Moves(config, records)
    if not isinstance(config, CocoData):
        records = _of_photos(records, config.photos)
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


def _where_expected(config: PublishedData, problem: str) -> str:
    """The message for a missing published set: the problem, the expected files, and where to read more."""
    part = expected_parts(config).get(usual_split(config, config.split))
    files = [*(names[0] for names in part.annotations), *part.photos[:1]] if part else []
    # a reader that tried several places has listed them
    expected = f"; expected in {config.root}: {', '.join(files)}" if files and "tried" not in problem else ""
    check = f"amodalseg data check {config.name} {config.root}"
    return f"{problem}{expected}; '{check}' lists all files, and where to get them"


def _of_photos(records: list[AmodalRecord], which: str) -> list[AmodalRecord]:
    """The objects of some photos: ``all``, those that are ``held_out`` of training, or the others, ``most``."""
    if which == "all":
        return records
    photos = sorted({record.image_id for record in records})
    if len(photos) < 2:
        raise UserError(
            "a single photo cannot be split into training and validation: give more photos, or name a validation "
            "set by val.annotations=[FILE] and val.images=[FOLDER]"
        )
    count = max(min(4, len(photos) // 2), round(HELD_OUT * len(photos)))
    order = np.random.default_rng(stable_seed("held out")).permutation(len(photos))
    held = {photos[place] for place in order[:count]}
    if which == "held_out":
        print(f"{count} of {len(photos)} photos are held out of training for validation (val.annotations sets others)")
    return [record for record in records if (record.image_id in held) == (which == "held_out")]


def _published(config: PublishedData, photos: bool) -> Source:
    try:
        found = READERS[config.name](config, photos=photos)
    except UserError as error:
        if Path(config.root).exists() and not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise UserError(_where_expected(config, str(error))) from error
    if not isinstance(found, list):  # too many to hold as records
        if config.modal_source == "pred":
            raise UserError(f"predicted masks cannot be used with '{config.name}': convert it to coco_amodal first")
        return _some_of(found, config)
    records: list[AmodalRecord] = found
    outside = sum("modal_outside_amodal" in record.flags for record in records)
    if outside:
        done = (
            "added to their amodal mask" if config.fix_subset == "union" else "kept (data.fix_subset=union adds them)"
        )
        logger.info(f"{outside} of {len(records)} objects have modal pixels outside their amodal mask: {done}")
    if config.upright:
        _set_upright(records)
    if photos and config.check_photos != "off":
        records = decodable(records, config.skip_broken, headers_only=config.check_photos == "headers")
    if config.modal_source == "pred":
        records = use_predictions(records, config)
    packed = PackedRecords(_some(records, config.num_objects, config.seed))
    return TolerantSource(packed, config.tolerance) if isinstance(config, SailVosData) and config.tolerance else packed


def _handle_crowds(records: list[AmodalRecord], how: str) -> None:
    """Report how many objects are marked as crowds and therefore not used; or treat each as one object."""
    crowds = [record for record in records if "crowd" in record.flags]
    if crowds and how == "complete":
        for record in crowds:
            record.flags -= {"crowd"}
    elif crowds:
        logger.info(
            f"{len(crowds)} of {len(records)} objects are marked as crowds (iscrowd=1) and not used; if they "
            "are single objects in several pieces, data.crowd=complete treats each as one object"
        )


def _set_upright(records: list[AmodalRecord]) -> None:
    for record in records:
        record.flags |= {"upright"}


def _some_of(source: Source, config: Any) -> Source:
    if config.num_objects is None or config.num_objects >= len(source):
        return source
    return Subset(source, np.array(_some(list(range(len(source))), config.num_objects, config.seed)))


def _some(items: list[T], count: int | None, seed: int) -> list[T]:
    """``count`` of the items, sampled by the seed, in their original order; all of them without a count."""
    if count is None or count >= len(items):
        return items
    keep = np.random.default_rng(stable_seed("subset", seed)).permutation(len(items))[:count]
    return [items[i] for i in sorted(keep)]


def decodable(records: list[AmodalRecord], skip_broken: bool, headers_only: bool = False) -> list[AmodalRecord]:
    """Decode every photo once, and compare its size with its masks', before hours of training depend on it.

    Args:
        records: whose photos are files.
        skip_broken: skip the objects of broken photos, with a warning, instead of raising.
        headers_only: check only the photos' sizes, if decoding all of them would take too long.

    Raises:
        UserError: some photos are broken; the message gives their count (with ``skip_broken``: they are skipped).
    """
    cases: dict[tuple[Path, int, int], AmodalRecord] = {}
    for record in records:
        if isinstance(record.image, Path):
            cases.setdefault((record.image, record.height, record.width), record)
    first_of = [cases[key] for key in sorted(cases)]

    turned: list[Path] = []

    def problem(record: AmodalRecord) -> str | None:
        assert isinstance(record.image, Path)
        if "upright" not in record.flags and image_turning(record.image) != 1:
            turned.append(record.image)
        try:
            check_size(record) if headers_only else record_image(record)
        except UserError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        found = pool.map(problem, first_of)
        checks = tqdm(found, total=len(cases), desc="checking photos", disable=len(cases) < 2000)
        broken = {record.image: text for record, text in zip(first_of, checks, strict=True) if text}
    if turned:
        warnings.warn(
            f"{len(turned)} of {len(cases)} photos are stored rotated or mirrored by their EXIF data (the first: "
            f"{min(turned)}), and are read as stored; if their masks were drawn on upright pictures: data.upright=true",
            stacklevel=2,
        )
    if not broken:
        return records
    first, num_photos = next(iter(broken.values())), len({path for path, *_ in cases})
    if not skip_broken:
        raise UserError(
            f"{first} ({len(broken)} of {num_photos} photos are broken; data.skip_broken=true leaves them out)"
        )
    warnings.warn(f"{first}; {len(broken)} of {num_photos} photos are left out (data.skip_broken=true)", stacklevel=2)
    return [record for record in records if record.image not in broken]
