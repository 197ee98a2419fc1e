"""The exchange format: two plain COCO-instances files, modal and amodal, that share ids.

Any COCO tool can open both. Information without a field in plain COCO is stored under ``amodalseg`` in the entries:
written by ``amodalseg data convert``, not required in files made by hand.

| in the file | under ``amodalseg`` |
|---|---|
| ``info`` | ``dataset``, ``split``; ``photos``: the photo folder, relative to the file's own |
| image | ``image_id``: the record's |
| annotation | ``object_id``, ``is_stuff``, ``order``, ``raw_rate``, ``group``, ``extra`` |
| | ``modal_source``, ``modal_score``; ``flags`` that do not follow from the masks |
| | ``category_id``, ``category``, if the file had to invent one |
| | masks: ``given`` (a predicted modal mask), ``occluder``, ``unknown`` |
| | ``whole_rgb``: a file, relative to the json's folder |

The entries of annotations are in the amodal file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from amodalseg.config.schema import CocoAmodalData
from amodalseg.data.readers.files import (
    ID,
    by_id,
    check_join,
    is_crowd,
    load_json,
    missing_photos,
    photo_paths,
    require,
)
from amodalseg.data.readers.record import image_mask_size, make_record, mask_of_size
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

KEY = "amodalseg"
"""Key of the project's own entries."""
KINDS = ("modal", "amodal")
FROM_MASKS = frozenset({"empty_modal", "empty_amodal", "fully_visible", "modal_outside_amodal"})
"""Flags that are always recomputed, so that they are right after a mask has been corrected."""
NUMBER = (int, float)
OWN_KEYS: dict[str, tuple[type, ...]] = {
    "object_id": (str,), "is_stuff": (bool,), "order": (int,), "raw_rate": NUMBER, "group": (dict,), "extra": (dict,),
    "modal_source": (str,), "modal_score": NUMBER, "flags": (list,), "category_id": (int, type(None)),
    "category": (str, type(None)), "given": (dict,), "occluder": (dict,), "unknown": (dict,), "whole_rgb": (str,),
    "dataset": (str,), "split": (str,),
}  # fmt: skip

Entry = dict[str, Any]


def read_coco_amodal(config: CocoAmodalData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``root/annotations/<split>_modal.json`` and ``<split>_amodal.json``.

    Photos are in the folder that ``info`` names; without one in ``root/images/<split>``, or in ``root/images`` if that
    does not exist.

    | in the files | in the record |
    |---|---|
    | annotation ``id``, the same in both files | ``object_id`` |
    | annotation ``image_id`` = image ``id`` | ``image_id`` |
    | ``segmentation`` of the modal and the amodal file, in any COCO encoding | the masks |
    | annotation ``category_id``, categories' ``name``, of the amodal file | ``category_id``, ``category`` |
    | annotation ``iscrowd`` | flag ``crowd`` |
    | ``area``, ``bbox`` of files made by hand | ``extra`` |

    Entries under ``amodalseg`` (see above) take precedence over this table. ``dataset`` is the name of the converted
    set, else ``coco_amodal``.

    Args:
        config: ``annotations`` names one of the two files, the other is found by its name.
        photos: off: photos need not be there.

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong, an id that one file lacks; the message names
            file and annotation.
    """
    modal_file, amodal_file = files = _files(config)
    opened = [_open(source) for source in files]
    (modal_images, modal_objects, _), (images, objects, content) = opened
    _check_ids(modal_objects, objects, "annotation", files)
    _check_same_photos(modal_objects, objects, modal_images, images, files)
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    own = _own(content["info"], f"{amodal_file}: info", {"photos": (str,), "dataset": (str,), "split": (str,)})
    folder, split = _photo_folder(config, own, amodal_file), own.get("split") or config.split
    paths = photo_paths(folder, images, amodal_file, config.skip_broken, config.outside)
    needed = (paths[entry["image_id"]] for entry in objects.values() if entry["image_id"] in paths)
    missing = missing_photos(folder, needed, config.skip_broken) if photos else set()

    members: dict[Any, list[Any]] = {}
    for object_id, entry in objects.items():
        members.setdefault(entry["image_id"], []).append(object_id)
    sizes = {}
    for image_id, ids in members.items():
        if image_id in paths and paths[image_id] not in missing:
            stored = _first_run_lengths([(modal_objects, modal_file), (objects, amodal_file)], ids)
            sizes[image_id] = image_mask_size(stored, images[image_id], paths[image_id], photos)
    image_names = {
        key: _own(entry, f"{amodal_file}: image {key}", {"image_id": (str,)}).get("image_id", str(key))
        for key, entry in images.items()
    }
    found: dict[tuple[str, str, str, str], Any] = {}
    records = []
    for object_id, entry in objects.items():
        image_id = entry["image_id"]
        if image_id not in sizes:
            continue
        (size, mismatch), where = sizes[image_id], f"{amodal_file}: annotation {object_id}"
        own_keys = _own(entry, where, OWN_KEYS)
        modal = mask_of_size(modal_objects[object_id]["segmentation"], size, f"{modal_file}: annotation {object_id}")
        further = {key: mask_of_size(own_keys[key], size, f"{where}, '{key}',") if key in own_keys else None
                   for key in ("given", "occluder", "unknown")}  # fmt: skip
        flags = [*own_keys.get("flags", []), *(["size_mismatch"] if mismatch else [])]
        record = make_record(
            own_keys.get("dataset") or own.get("dataset") or "coco_amodal",
            own_keys.get("split") or split,
            image_names[image_id],
            own_keys.get("object_id", str(object_id)),
            paths[image_id],
            modal,
            mask_of_size(entry["segmentation"], size, where),
            fix_subset=config.fix_subset,
            flags=[*flags, "crowd"] if is_crowd(entry) else flags,
            category_id=own_keys.get("category_id", entry.get("category_id")),
            category=own_keys.get("category", names.get(entry.get("category_id"))),
            is_stuff=own_keys.get("is_stuff"),
            order=own_keys.get("order"),
            raw_rate=own_keys.get("raw_rate"),
            modal_source=own_keys.get("modal_source", "gt"),
            modal_score=own_keys.get("modal_score"),
            occluder_rle=further["occluder"],
            unknown_rle=further["unknown"],
            whole_rgb=_from(amodal_file, own_keys["whole_rgb"]) if "whole_rgb" in own_keys else None,
            group=own_keys.get("group"),
            extra=own_keys.get("extra", {}) if own_keys else _stored(modal_objects[object_id], entry),
        )
        if further["given"] is not None:
            record.modal_rle, record.gt_modal_rle = further["given"], modal
            record.flags -= {"empty_modal"}  # the given mask is not empty
        key = record.dataset, record.split, record.image_id, record.object_id
        if key in found:
            raise UserError(f"{where} is the same object as annotation {found[key]}: {record.key}; rename one")
        found[key] = object_id
        records.append(record)
    return records


def file_ids(config: CocoAmodalData) -> tuple[dict[str, str], dict[str, str]]:
    """The meaning of the files' own ids, which a detector's results on these files use.

    Returns:
        Image ``id`` -> the records' ``image_id``, and annotation ``id`` -> their ``object_id``, all as text.
    """
    source = _files(config)[1]
    images, objects, _ = _open(source)
    image_ids = {str(key): str(_own(entry, f"{source}: image {key}", {}).get("image_id", key))
                 for key, entry in images.items()}  # fmt: skip
    object_ids = {str(key): str(_own(entry, f"{source}: annotation {key}", {}).get("object_id", key))
                  for key, entry in objects.items()}  # fmt: skip
    return image_ids, object_ids


def _files(config: CocoAmodalData) -> tuple[Path, Path]:
    if config.annotations is None:
        folder = Path(config.root) / "annotations"
        return folder / f"{config.split}_modal.json", folder / f"{config.split}_amodal.json"
    given = Path(config.annotations)
    for ending in ("_amodal.json", "_modal.json"):
        if given.name.endswith(ending):
            stem = given.name.removesuffix(ending)
            return given.with_name(f"{stem}_modal.json"), given.with_name(f"{stem}_amodal.json")
    raise UserError(f"data.annotations={given} must end in _modal.json or _amodal.json; the other file lies beside it")


def _open(source: Path) -> tuple[dict[Any, Entry], dict[Any, Entry], Entry]:
    """Images by id, annotations by id, and the content with ``categories`` and ``info``."""
    content = load_json(source)
    require(content, {"images": (list,), "annotations": (list,)}, str(source), {"categories": (list,), "info": (dict,)})
    content = {"categories": [], "info": {}, **content}
    for place, entry in enumerate(content["categories"]):
        require(entry, {"id": ID, "name": (str,)}, f"{source}: category number {place + 1}")
    photo_keys, sizes = {"id": ID, "file_name": (str,)}, {"height": (int,), "width": (int,)}
    images = by_id(content["images"], photo_keys, "image", source, sizes)
    optional = {"category_id": (int, type(None))}
    objects = by_id(
        content["annotations"], {"id": ID, "image_id": ID, "segmentation": ()}, "annotation", source, optional
    )
    check_join(objects.values(), images, source)
    return images, objects, content


def _own(entry: Entry, where: str, keys: dict[str, tuple[type, ...]]) -> Entry:
    """The ``amodalseg`` part of an entry, checked; empty if there is none."""
    own: Entry = entry.get(KEY, {})
    require(own, {}, f"{where}, '{KEY}',", keys)
    return own


def _check_ids(some: dict[Any, Any], others: dict[Any, Any], kind: str, files: tuple[Path, Path]) -> None:
    for has, lacks, source, other in ((some, others, *files), (others, some, *files[::-1])):
        alone = [key for key in has if key not in lacks]
        if alone:
            shown = ", ".join(map(str, alone[:3])) + (", ..." if len(alone) > 3 else "")
            raise UserError(
                f"{len(alone)} {kind}s of {source} are not in {other} ({kind} ids {shown}); the two files are "
                "joined by their ids: give each object the same id in both"
            )


def _check_same_photos(
    modal_objects: dict[Any, Entry], objects: dict[Any, Entry], modal_images: dict[Any, Entry],
    images: dict[Any, Entry], files: tuple[Path, Path],
) -> None:  # fmt: skip
    for object_id, entry in objects.items():
        image_id, other = entry["image_id"], modal_objects[object_id]["image_id"]
        if image_id != other:
            raise UserError(
                f"annotation {object_id} is on image {other} in {files[0]}, on image {image_id} in {files[1]}"
            )
        for key in ("file_name", "height", "width"):
            said, other = images[image_id].get(key), modal_images[image_id].get(key)
            if said != other:
                raise UserError(f"image {image_id}: its '{key}' is {other} in {files[0]}, {said} in {files[1]}")


def _photo_folder(config: CocoAmodalData, own: Entry, source: Path) -> Path:
    if config.images is not None:
        return Path(config.images)
    if "photos" in own:
        return _from(source, own["photos"])
    folder = Path(config.root) / "images"
    return folder / config.split if (folder / config.split).is_dir() else folder


def _from(source: Path, path: str) -> Path:
    """A path named in a file, relative to that file's folder."""
    return Path(os.path.normpath(Path(os.path.realpath(source.parent)) / path))


def _first_run_lengths(sides: list[tuple[dict[Any, Entry], Path]], ids: list[Any]) -> list[tuple[Any, str]]:
    """The first mask of an image that states its own size, as ``image_mask_size`` expects it."""
    for object_id in ids:
        for objects, source in sides:
            segmentation = objects[object_id]["segmentation"]
            if isinstance(segmentation, dict):
                return [(segmentation, f"{source}: annotation {object_id}")]
    return []


def _stored(modal: Entry, amodal: Entry) -> Entry:
    """Areas and boxes as given in the files."""
    found = {"area": amodal.get("area"), "bbox": amodal.get("bbox"),
             "modal_area": modal.get("area"), "modal_bbox": modal.get("bbox")}  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}
