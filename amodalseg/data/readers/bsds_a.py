"""BSDS-A (Zhu et al. 2017): COCOA's form on BSDS500 photos, where several people annotated each photo."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from amodalseg.config.schema import BsdsAData
from amodalseg.data.readers.files import load_json
from amodalseg.data.readers.places import annotation_file, photo_folder
from amodalseg.data.readers.regions import open_regions, region_records
from amodalseg.types import AmodalRecord

logger = logging.getLogger(__name__)


def read_bsds_a(config: BsdsAData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``root/annotations/BSDS_amodal_<split>.json`` with the photos in ``root/BSR/BSDS500/data/images/<split>``.

    The photos lie where BSR_bsds500.tgz puts them; ``root/images/<split>`` and ``root/<split>`` are also searched. The
    fields are COCOA's (``read_cocoa``). If a region's ``order`` is not a whole number, its depth is unknown.

    Several annotations share an image. They are different people's annotations of the same objects, so they are never
    merged: each is a separate set of objects, with ``object_id`` ``<annotation id>-<index>``, ``order`` and occluders
    within it, and ``group["annotator"]`` its ``author`` (with the annotation's id if an image has several of one
    author, or without an author).

    Args:
        config: ``annotator`` ``first``: the first annotation of each image in the file, as the amodal API scores;
            ``all``: every one, so that an image's objects occur several times. ``include_stuff`` as in COCOA.
            ``root`` may also be the json file.
        photos: off: photos need not be there.

    Returns:
        Records, in the order of the file. What ``first`` leaves out is counted and logged.

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong; the message names file and region.
    """
    origin = "the archive of COCOA, linked from the README of the amodal API, holds them"
    root, split = Path(config.root), config.split
    if root.is_file() and config.annotations is None:
        source = root
    else:
        source = annotation_file(config, [f"BSDS_amodal_{split}.json"], ["annotations", "."], origin)
    annotations, images = open_regions(load_json(source), source)
    if config.annotator == "first":
        kept: dict[Any, dict[str, Any]] = {}
        for annotation in annotations:
            kept.setdefault(annotation["image_id"], annotation)
        if len(kept) < len(annotations):
            logger.info(
                f"{source}: the first annotation of each of {len(kept)} images is read, {len(annotations) - len(kept)} "
                "of other annotators are left out (data.annotator=all reads them too)"
            )
        annotations = list(kept.values())
    folders = [f"BSR/BSDS500/data/images/{split}", f"images/{split}", split, "."]
    needed = [images[annotation["image_id"]]["file_name"] for annotation in annotations]
    folder = photo_folder(config, folders, needed, photos)
    records = region_records(annotations, images, source, folder, config, split, photos=photos)
    return [record for record in records if config.include_stuff or not record.is_stuff]
