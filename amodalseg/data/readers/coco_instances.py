"""COCO-instances files: modal masks of any origin."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amodalseg import masks
from amodalseg.data.readers.files import (
    ID,
    by_id,
    check_join,
    is_crowd,
    load_json,
    missing_photos,
    other_form,
    photo_paths,
    require,
)
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

logger = logging.getLogger(__name__)


def read_coco_instances(
    annotations: str | Path,
    images: str | Path,
    split: str,
    dataset: str = "coco",
    skip_broken: bool = False,
    *,
    prefix: str = "",
    outside: bool = False,
) -> list[AmodalRecord]:
    """Read one COCO-instances json. Decodes neither masks nor photos, so it handles half a million objects.

    | in the file | in the record |
    |---|---|
    | annotation ``id`` | ``object_id`` |
    | annotation ``image_id`` = image ``id`` | ``image_id`` (after ``prefix``) |
    | image ``file_name`` | ``image``, a path in the folder ``images`` |
    | annotation ``segmentation`` | ``modal_rle``: polygon, list of polygons (their union), RLE of either kind |
    | annotation ``category_id``, categories' ``name`` | ``category_id``, ``category`` (None if not listed) |
    | annotation ``iscrowd`` | flag ``crowd`` |
    | the name of the file's folder | ``extra["pack"]`` |

    ``amodal_rle`` is None. A mask without pixels is flagged ``empty_modal``; ``touches_border`` is set by the code that
    decodes the mask. ``bbox`` and ``area`` are not read, as both follow from the mask.

    Args:
        annotations: the json file.
        images: the folder with its photos.
        split, dataset: names for the records.
        skip_broken: skip objects whose photo is missing or whose mask cannot be read, with a warning, instead of
            raising.
        prefix: put before the image ids.
        outside: allow photos outside the folder, as in ``photo_path``.

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong; the message names file and annotations.
    """
    source, folder = Path(annotations), Path(images)
    content = load_json(source)
    require(content, {"images": (list,), "annotations": (list,)}, str(source), {"categories": (list,)})
    photo_keys = {"id": ID, "file_name": (str,), "height": (int,), "width": (int,)}
    photos = by_id(content["images"], photo_keys, "image", source)
    object_keys, optional = {"id": ID, "image_id": ID, "segmentation": ()}, {"category_id": (*ID, type(None))}
    objects = by_id(content["annotations"], object_keys, "annotation", source, optional)
    check_join(objects.values(), photos, source)
    names = {}
    for place, entry in enumerate(content.get("categories", [])):
        require(entry, {"id": ID, "name": (str,)}, f"{source}: category number {place + 1}")
        names[entry["id"]] = entry["name"]
    names |= {other_form(key): name for key, name in names.items() if other_form(key) not in names}
    paths = photo_paths(folder, photos, source, skip_broken, outside)
    needed = (paths[entry["image_id"]] for entry in objects.values() if entry["image_id"] in paths)
    missing = missing_photos(folder, needed, skip_broken)
    records = []
    unreadable: dict[Any, str] = {}
    scraps = 0
    for object_id, entry in objects.items():
        image_id = entry["image_id"]
        path = paths.get(image_id)
        if path is None or path in missing:
            continue
        try:
            rle = _modal(entry, photos[image_id], source)
        except UserError as error:
            unreadable[object_id] = str(error)
            continue
        scraps += masks.num_scraps(entry["segmentation"]) > 0
        flags = {"crowd"} if is_crowd(entry) else set()
        if not masks.area(rle):
            flags.add("empty_modal")
        category_id = entry.get("category_id")
        record = AmodalRecord(
            dataset=dataset,
            split=split,
            image_id=f"{prefix}{image_id}",
            object_id=str(object_id),
            image=path,
            modal_rle=rle,
            category_id=category_id,
            category=names.get(category_id),
            flags=frozenset(flags),
            extra={"pack": source.absolute().parent.name},
        )
        records.append(record)
    if scraps:
        logger.info(
            f"{source}: {scraps} annotations have polygons of two points or fewer beside valid ones, which are ignored"
        )
    if unreadable:
        some = ", ".join(map(str, [*unreadable][:10])) + (", ..." if len(unreadable) > 10 else "")
        text = f"{next(iter(unreadable.values()))} ({len(unreadable)} of {len(objects)} annotations, ids {some})"
        if not skip_broken:
            raise UserError(f"{text}; correct them, or leave them out with data.skip_broken=true")
        warnings.warn(f"{text}: left out (data.skip_broken=true)", stacklevel=2)
    return records


def _modal(annotation: dict[str, Any], photo: dict[str, Any], source: Path) -> masks.Rle:
    where, size = f"{source}: annotation {annotation['id']}", [photo["height"], photo["width"]]
    try:
        rle = masks.from_segmentation(annotation["segmentation"], *size)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"{where} has a mask that cannot be read: {error}") from error
    if rle["size"] != size:
        raise UserError(
            f"{where} has a mask of {rle['size'][1]}x{rle['size'][0]}, but the file says that its image "
            f"{photo['file_name']} is {size[1]}x{size[0]} (width x height); correct one of them"
        )
    return rle


def read_coco_files(
    annotations: Sequence[str | Path],
    images: Sequence[str | Path],
    *,
    split: str,
    dataset: str = "coco",
    skip_broken: bool = False,
    skip_missing: bool = False,
    outside: bool = False,
) -> list[AmodalRecord]:
    """Read several COCO-instances files as one data set.

    Ids restart in every file, so image ids are preceded by ``<folder>-<file>-``, the names of the json file and of its
    folder; a single file keeps its plain ids.

    Args:
        annotations: json files.
        images: the folder of photos of each.
        split, dataset, skip_broken, outside: as in ``read_coco_instances``.
        skip_missing: skip missing json files and print their names; at least one must exist.

    Raises:
        UserError: there is no file, the lists differ in length, files cannot be distinguished by folder and name; and
            as ``read_coco_instances``.
    """
    if not annotations or len(annotations) != len(images):
        raise UserError(
            f"data.annotations lists {len(annotations)} files and data.images {len(images)} folders: give at least one "
            "json file, and for each the folder of its photos"
        )
    prefixes, missing = [""], [source for source in annotations if not Path(source).exists()]
    if len(annotations) > 1:
        sources = [Path(source).absolute() for source in annotations]
        prefixes = [f"{source.parent.name}-{source.stem}-" for source in sources]
    for prefix in prefixes:
        if prefixes.count(prefix) > 1:
            same = ", ".join(str(a) for a, p in zip(annotations, prefixes, strict=True) if p == prefix)
            raise UserError(
                f"data.annotations: file and folder of {same} have the same names; rename one, or list it once"
            )
    if skip_missing and missing and len(missing) < len(annotations):
        logger.info(f"not found and left out: {', '.join(map(str, missing))} (data.missing=error refuses them)")
    records = []
    for source, folder, prefix in zip(annotations, images, prefixes, strict=True):
        if skip_missing and source in missing and len(missing) < len(annotations):
            continue
        records += read_coco_instances(source, folder, split, dataset, skip_broken, prefix=prefix, outside=outside)
    return records
