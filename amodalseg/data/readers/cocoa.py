"""COCOA in its original json (Zhu et al. 2017): people drew whole objects, nearest first."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from amodalseg import masks
from amodalseg.data.images import image_size
from amodalseg.data.readers.files import ID, by_id, check_join, load_json, missing_photos, require
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.types import AmodalRecord


def read_cocoa(
    root: str | Path,
    split: str = "val",
    include_stuff: bool = True,
    fix_subset: str = "keep",
    skip_broken: bool = False,
    *,
    images: str | Path | None = None,
) -> list[AmodalRecord]:
    """Read ``root/annotations/COCO_amodal_<split>2014.json`` with the photos in ``root/<split>2014``.

    | in the file | in the record |
    |---|---|
    | annotation ``image_id`` = image ``id`` | ``image_id``; never joined by position |
    | annotation ``id`` and index of the region in it | ``object_id``: ``<id>-<index>`` |
    | image ``file_name`` | ``image`` (a single record: last part of its ``url``) |
    | region ``segmentation`` (flat polygon) | ``amodal_rle`` |
    | region ``visible_mask`` | ``modal_rle``; absent: equal to the amodal mask; empty: stays empty (``empty_modal``) |
    | region ``order`` (1 = nearest, with gaps) | ``order`` |
    | nearer regions that meet the hidden part | ``occluder_rle``, the union of their amodal masks |
    | region ``occlude_rate`` | ``raw_rate``; ``occlusion_rate`` is computed from the masks |
    | region ``isStuff`` | ``is_stuff`` |
    | region ``name``, stripped | ``category`` |
    | annotation ``author`` | ``group["annotator"]`` |

    Flags: ``empty_modal``; ``fully_visible``; ``modal_outside_amodal``; ``size_mismatch`` where the sizes of masks,
    json entry and photo differ (the masks' is taken, and the photo is resized to it). ``touches_border`` is left to
    whoever decodes the masks. The stored ``invisible_mask`` and ``area`` are never used.

    Args:
        root: the data set's folder, or a json file: of the same form, or one bare annotation.
        split: ``train``, ``val`` or ``test``, with or without ``2014``.
        include_stuff: also regions of stuff (wall, sky, ...). They count as occluders in any case.
        fix_subset: modal pixels outside the amodal mask: ``keep`` them as annotated, or add them to the amodal mask
            (``union``).
        skip_broken: leave out objects whose photo is missing, with a warning, instead of raising.
        images: folder of the photos, if it is another one (a json file as ``root``: default is the file's own folder).

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong; the message names file and region.
    """
    if fix_subset not in ("keep", "union"):
        raise UserError(f"fix_subset={fix_subset} is no choice; choose one of: keep, union")
    root, split = Path(root), split.removesuffix("2014")
    if root.is_file():
        source, folder = root, root.parent
    else:
        source, folder = root / "annotations" / f"COCO_amodal_{split}2014.json", root / f"{split}2014"
    folder = folder if images is None else Path(images)
    annotations, photos = _open(source)
    paths = {key: folder / entry["file_name"] for key, entry in photos.items()}
    missing = missing_photos(folder, (paths[entry["image_id"]] for entry in annotations), skip_broken)
    records = []
    for annotation in annotations:
        path = paths[annotation["image_id"]]
        if path not in missing:
            found = _read_regions(annotation, photos[annotation["image_id"]], path, split, fix_subset, source)
            records += [record for record in found if include_stuff or not record.is_stuff]
    return records


def _open(source: Path) -> tuple[list[dict[str, Any]], dict[Any, dict[str, Any]]]:
    """Annotations, and image entries by id, of a whole file or of a single record."""
    content, keys = load_json(source), {"id": ID, "image_id": ID, "regions": (list,)}
    if isinstance(content, dict) and "regions" in content:
        require(content, {**keys, "url": (str,)}, str(source))
        return [content], {content["image_id"]: {"file_name": content["url"].rpartition("/")[2]}}
    require(content, {"images": (list,), "annotations": (list,)}, str(source))
    photos = by_id(content["images"], {"id": ID, "file_name": (str,)}, "image", source)
    annotations = list(by_id(content["annotations"], keys, "annotation", source).values())
    check_join(annotations, photos, source)
    return annotations, photos


def _read_regions(
    annotation: dict[str, Any], photo: dict[str, Any], path: Path, split: str, fix_subset: str, source: Path
) -> list[AmodalRecord]:
    places = [f"{source}: annotation {annotation['id']}, region {i}" for i in range(len(annotation["regions"]))]
    regions = list(zip(annotation["regions"], places, strict=True))
    for region, where in regions:
        optional = {"order": (int,), "occlude_rate": (int, float), "name": (str,)}
        require(region, {"segmentation": ()}, where, optional)
    size, mismatch = _mask_size(regions, photo, path)
    amodals = [_mask(region["segmentation"], size, where) for region, where in regions]
    records = []
    for index, (region, where) in enumerate(regions):
        amodal = amodals[index]
        modal = _mask(region["visible_mask"], size, where) if "visible_mask" in region else amodal
        both = masks.union([amodal, modal])
        nearer = [
            other for (entry, _), other in zip(regions, amodals, strict=True)
            if "order" in region and entry.get("order", region["order"]) < region["order"]
        ]  # fmt: skip
        occluders = [other for other in nearer if _meets_hidden(other, modal, both)]
        conditions = {
            "size_mismatch": mismatch,
            "empty_modal": masks.area(modal) == 0,
            "fully_visible": masks.area(both) == masks.area(modal),
            "modal_outside_amodal": masks.area(both) > masks.area(amodal),
        }
        record = AmodalRecord(
            dataset="cocoa",
            split=split,
            image_id=str(annotation["image_id"]),
            object_id=f"{annotation['id']}-{index}",
            image=path,
            modal_rle=modal,
            amodal_rle=both if fix_subset == "union" else amodal,
            category=region.get("name", "").strip() or None,
            is_stuff=bool(region.get("isStuff", 0)),
            order=region.get("order"),
            raw_rate=float(region["occlude_rate"]) if "occlude_rate" in region else None,
            occluder_rle=masks.union(occluders) if occluders else None,
            flags=frozenset(flag for flag, holds in conditions.items() if holds),
            group={"annotator": annotation.get("author")},
        )
        records.append(record)
    return records


def _mask_size(regions: list[tuple[dict[str, Any], str]], photo: dict[str, Any], path: Path) -> tuple[list[int], bool]:
    """[H, W] of one annotation's masks (from run lengths if any, else the json, else the photo); do they differ?"""
    stored = ((region.get(key), where) for region, where in regions for key in ("segmentation", "visible_mask"))
    run_lengths = ((mask, where) for mask, where in stored if isinstance(mask, dict))
    sizes = [_read_mask(mask, [1, 1], where)["size"] for mask, where in islice(run_lengths, 1)]
    if "height" in photo and "width" in photo:
        sizes.append([photo["height"], photo["width"]])
    try:
        sizes.append(list(image_size(path)))
    except UserError:
        if not sizes:  # otherwise `decodable` in data/dataset.py names it, and counts it among the others
            raise
    return sizes[0], any(size != sizes[0] for size in sizes)


def _read_mask(segmentation: Any, size: list[int], where: str) -> Rle:
    try:
        return masks.from_segmentation(segmentation, *size)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"{where} has a mask that cannot be read: {error}") from error


def _mask(segmentation: Any, size: list[int], where: str) -> Rle:
    rle = _read_mask(segmentation, size, where)
    if rle["size"] != size:
        raise UserError(f"{where} has a mask of {rle['size']} (height, width), other masks of its image are {size}")
    return rle


def _meets_hidden(other: Rle, modal: Rle, both: Rle) -> bool:
    """Whether ``other`` meets ``both`` without ``modal``, by areas of unions: run lengths have no difference."""
    area, union = masks.area, masks.union
    return area(both) - area(union([both, other])) > area(modal) - area(union([modal, other]))
