"""The nested form of COCOA, BSDS-A and MP3D-Amodal: one annotation for a photo, with a list of regions in it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import PublishedData
from amodalseg.data.readers.files import ID, NONE, Keys, by_id, check_join, missing_photos, photo_paths, require
from amodalseg.data.readers.record import image_mask_size, make_record, mask_of_size, meets_hidden
from amodalseg.types import AmodalRecord

Entry = dict[str, Any]
ANNOTATION: Keys = {"id": ID, "image_id": ID, "regions": (list,)}


def open_regions(content: Any, source: Path) -> tuple[list[Entry], dict[Any, Entry]]:
    """Check the outer parts of a file.

    Args:
        content: of the file: an object with ``images`` and ``annotations``; or one bare annotation, or a list of them,
            each with a ``url`` whose last part is the name of its photo.
        source: the file, for messages.

    Returns:
        The annotations in their order, and the image entries by id.

    Raises:
        UserError: a key is missing, a value of the wrong type, or an id occurs twice or is unknown.
    """
    if isinstance(content, dict) and "regions" in content:
        content = [content]
    if isinstance(content, list):
        bare = list(by_id(content, {**ANNOTATION, "url": (str,)}, "annotation", source).values())
        return bare, {entry["image_id"]: {"file_name": entry["url"].rpartition("/")[2]} for entry in bare}
    require(content, {"images": (list,), "annotations": (list,)}, str(source))
    images = by_id(content["images"], {"id": ID, "file_name": (str,)}, "image", source)
    annotations = list(by_id(content["annotations"], ANNOTATION, "annotation", source).values())
    check_join(annotations, images, source)
    return annotations, images


def region_records(
    annotations: list[Entry], images: dict[Any, Entry], source: Path, folder: Path, config: PublishedData, split: str,
    *, photos: bool = True, rate: str = "occlude_rate", optional: Keys = NONE,
) -> list[AmodalRecord]:  # fmt: skip
    """Make records of all regions, in the order of the file.

    Args:
        annotations, images: of ``open_regions``.
        source: the file, for messages.
        folder: of the photos.
        config: ``name``, ``skip_broken`` and ``fix_subset`` are honoured.
        split: name for the records.
        photos: off: photos need not be there.
        rate: the key of the stored occlusion rate.
        optional: further keys of a region, whose types are checked if they are present.

    Raises:
        UserError: a photo, key or mask that is missing or wrong; the message names file, annotation and region.
    """
    paths = photo_paths(folder, images, source, config.skip_broken, config.outside)
    needed = (paths[entry["image_id"]] for entry in annotations if entry["image_id"] in paths)
    missing = missing_photos(folder, needed, config.skip_broken) if photos else set()
    works = Counter((entry["image_id"], str(entry.get("author"))) for entry in annotations)
    records = []
    for annotation in tqdm(annotations, desc=f"reading {source.name}", disable=len(annotations) < 500):
        path = paths.get(annotation["image_id"])
        if path is None or path in missing or not annotation["regions"]:
            continue
        regions = annotation["regions"]
        places = [f"{source}: annotation {annotation['id']}, region {index}" for index in range(len(regions))]
        types: Keys = {rate: (int, float), "area": (int, float), "isStuff": (int, float, type(None)), **optional}
        for region, where in zip(regions, places, strict=True):
            require(region, {"segmentation": ()}, where, types)
        stored = [
            (region.get(key), where)
            for region, where in zip(regions, places, strict=True) for key in ("segmentation", "visible_mask")
        ]  # fmt: skip
        size, mismatch = image_mask_size(stored, images[annotation["image_id"]], path, photos)
        amodals = [mask_of_size(r["segmentation"], size, where) for r, where in zip(regions, places, strict=True)]
        author = annotation.get("author")
        if works[annotation["image_id"], str(author)] > 1:  # equal or missing names: still different annotators
            author = f"{author}, annotation {annotation['id']}"
        orders = [_order(region) for region in regions]
        pairs = _constraint(annotation)
        for index, (region, where) in enumerate(zip(regions, places, strict=True)):
            amodal, order = amodals[index], orders[index]
            modal = mask_of_size(region["visible_mask"], size, where) if "visible_mask" in region else amodal
            both = masks.union([amodal, modal])
            nearer = [
                other for other, its in zip(amodals, orders, strict=True)
                if order is not None and its is not None and its < order
            ]  # fmt: skip
            occluders = [other for other in nearer if meets_hidden(other, modal, both)]
            behind = [first for first, second in pairs if second == order]
            record = make_record(
                config.name,
                split,
                str(annotation["image_id"]).replace("/", "-"),
                f"{annotation['id']}-{index}".replace("/", "-"),
                path,
                modal,
                amodal,
                fix_subset=config.fix_subset,
                flags=["size_mismatch"] if mismatch else [],
                category=(region["name"].strip() or None) if isinstance(region.get("name"), str) else None,
                is_stuff=bool(region.get("isStuff", 0)),
                order=order,
                raw_rate=float(region[rate]) if rate in region else None,
                occluder_rle=masks.union(occluders) if occluders else None,
                group={"annotator": author},
                extra={
                    **({"area": region["area"]} if "area" in region else {}),
                    **({"behind": behind} if behind else {}),
                },
            )
            records.append(record)
    return records


def _order(region: Entry) -> int | None:
    return region["order"] if type(region.get("order")) is int else None


def _constraint(annotation: Entry) -> list[tuple[int, int]]:
    """Pairs of orders, the nearer one first, of a text like ``1-2,1-5``; none for any other text."""
    text = annotation.get("depth_constraint")
    if not isinstance(text, str) or not re.fullmatch(r"\d{1,6}-\d{1,6}(,\d{1,6}-\d{1,6})*", text):
        return []
    return [(int(first), int(second)) for first, second in (pair.split("-") for pair in text.split(","))]
