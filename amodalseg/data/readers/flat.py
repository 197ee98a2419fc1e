"""Flat COCO files: every annotation is one object, with an amodal and a modal mask under two keys.

COCOA-cls, KINS, D2SA and SAIL-VOS are such files; their own modules define keys, names and locations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import PublishedData
from amodalseg.data.readers.files import (
    ID,
    Keys,
    by_id,
    check_join,
    is_crowd,
    load_json,
    missing_photos,
    photo_paths,
    require,
)
from amodalseg.data.readers.places import photo_folder
from amodalseg.data.readers.record import make_record, mask_of_size, read_mask, stated_sizes
from amodalseg.errors import UserError
from amodalseg.masks import MAX_SIDE, Rle
from amodalseg.types import AmodalRecord

NUMBER, NULL = (int, float, type(None)), type(None)
Entry = dict[str, Any]


def plain_name(photo: Entry) -> str:
    """The image id of the file, as a text."""
    return str(photo["id"])


@dataclass(frozen=True)
class Form:
    """The keys that one data set uses.

    Attributes:
        amodal, modal: keys of the masks, of any of COCO's encodings.
        rate: key of the stored occlusion rate, if it has one.
        stored: keys of stored quantities (``area``, ``bbox``, ``modal_area``, ``modal_bbox``), by their name in
            ``extra``. They are compared with the masks and never used.
        kept: further numbers that go to ``extra`` under their own key.
        optional: other keys that the data set's own module reads, with their types.
        image_name: image entry -> ``image_id``.
        group: annotation, image entry -> ``group``.
        drop: names of categories whose objects are left out.
    """

    amodal: str = "segmentation"
    modal: str = "visible_mask"
    rate: str = "occlude_rate"
    stored: Mapping[str, str] = field(default_factory=lambda: {"area": "area", "bbox": "bbox"})
    kept: Sequence[str] = ()
    optional: Keys = field(default_factory=dict)
    image_name: Callable[[Entry], str] = plain_name
    group: Callable[[Entry, Entry], dict[str, Any] | None] = lambda entry, photo: None
    drop: Collection[str] = ()


def read_flat(
    source: Path, folders: Sequence[str], config: PublishedData, form: Form, split: str,
    *, photos: bool = True, prefix: str = "",
) -> list[AmodalRecord]:  # fmt: skip
    """Read one file.

    Objects keep the order of the file. Its image ids join annotations and images, never their positions. Masks are
    read and checked, not decoded: half a million objects take a minute or two.

    The size of an object's masks is that of its run lengths if it has any, else the file's for its image, else the
    photo's; ``size_mismatch`` where those differ. Polygons that leave their image are cut at its border as COCO's tools
    do. An empty list as the modal mask is an object without a visible pixel (``empty_modal``).

    Args:
        source: the json file.
        folders: under ``config.root`` that may hold its photos, the usual one first.
        config: ``root``, ``images``, ``skip_broken`` (leaves out objects with a missing photo or with a mask that
            cannot be read, with a warning), ``fix_subset``.
        form: the keys that the data set uses.
        split: name for the records.
        photos: off: photos need not be there.
        prefix: put before image and object ids, where several files make one split.

    Returns:
        Records with everything that follows from the file alone. Warnings say how many polygons were cut and how many
        stored occlusion rates differ from the masks' by more than 0.01.

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong; the message names file and annotation.
    """
    content = load_json(source)
    require(content, {"images": (list,), "annotations": (list,)}, str(source), {"categories": (list,)})
    if not content["annotations"]:
        raise UserError(f"{source} holds no annotation: nothing to train on or to score")
    images, names = _images(content["images"], form, source, prefix), _categories(content, source)
    unknown = set(form.drop) - set(names.values())
    if unknown:
        raise UserError(f"{source} has no category '{min(unknown)}' that could be left out; see its list of categories")
    keys: Keys = {"id": (int,), "image_id": ID, form.amodal: (), form.modal: ()}
    numbers = [form.rate, *form.kept, *(key for name, key in form.stored.items() if name.endswith("area"))]
    boxes = [key for name, key in form.stored.items() if name.endswith("bbox")]
    optional: Keys = {
        "category_id": (int, NULL), **dict.fromkeys(numbers, NUMBER), **dict.fromkeys(boxes, (list, NULL)),
        **form.optional,
    }  # fmt: skip
    entries = by_id(content.pop("annotations"), keys, "annotation", source, optional)
    check_join(entries.values(), images, source)
    needed = {image_id: images[image_id] for image_id in {entry["image_id"] for entry in entries.values()}}
    folder = photo_folder(config, folders, [photo["file_name"] for _, photo in needed.values()], photos)
    listed = {image_id: photo for image_id, (_, photo) in needed.items()}
    paths = photo_paths(folder, listed, source, config.skip_broken, config.outside)
    missing = missing_photos(folder, paths.values(), config.skip_broken) if photos else set()
    there = {key: photo for key, (_, photo) in needed.items() if key in paths and paths[key] not in missing}
    sizes = {key: stated_sizes(photo, paths[key], photos) for key, photo in there.items()}
    records, notes = [], _Notes(source, len(entries))
    kinds: dict[frozenset[str], frozenset[str]] = {}  # records with the same flags share them: a tenth of the memory
    for object_id, entry in _popped(entries):
        image_id, category = entry["image_id"], names.get(entry.get("category_id"))
        if image_id not in sizes or category in form.drop:
            continue
        try:
            amodal, modal = _read_masks(entry, form, sizes[image_id], f"{source}: annotation {object_id}")
        except UserError as error:
            if not config.skip_broken:
                raise
            notes.broken.append(str(error))
            continue
        name, photo = images[image_id]
        flags = ["crowd"] if is_crowd(entry) else []
        if any(size != amodal["size"] for size in sizes[image_id]):
            flags.append("size_mismatch")
        rate, found = entry.get(form.rate), {name: entry.get(key) for name, key in form.stored.items()}
        found |= {key: entry.get(key) for key in form.kept}
        record = make_record(
            config.name,
            split,
            name,
            f"{prefix}{object_id}",
            paths[image_id],
            modal,
            amodal,
            fix_subset=config.fix_subset,
            flags=flags,
            category_id=entry.get("category_id"),
            category=category,
            raw_rate=None if rate is None else float(rate),
            group=form.group(entry, photo),
            extra={name: value for name, value in found.items() if value is not None},
        )
        record.flags = kinds.setdefault(record.flags, record.flags)
        records.append(record)
        if any(_exceeds_image(entry[key], amodal["size"]) for key in (form.amodal, form.modal)):
            notes.cut.append(object_id)
        if rate is not None and not abs(rate - hidden_share(amodal, modal)) <= 0.01:
            notes.rates.append(object_id)
    notes.warn()
    return records


def hidden_share(amodal: Rle, modal: Rle) -> float:
    """The occlusion rate, in [0, 1], from run lengths: nothing is decoded. 0 for an empty amodal mask."""
    hidden = masks.area(masks.union([amodal, modal])) - masks.area(modal)
    return hidden / max(1, masks.area(amodal))


class _Notes:
    """Messages given once per file, not once per object."""

    def __init__(self, source: Path, total: int) -> None:
        self.source, self.total = source, total
        self.cut: list[int] = []
        self.rates: list[int] = []
        self.broken: list[str] = []

    def warn(self) -> None:
        texts = []
        if self.cut:
            texts.append(
                f"polygons of {len(self.cut)} of {self.total} objects leave their image and are cut at its border, as "
                f"COCO's tools do (first: annotation {self.cut[0]})"
            )
        if self.rates:
            texts.append(
                f"the stored occlusion rate of {len(self.rates)} of {self.total} objects differs by more than 0.01 "
                f"from the masks, which are used (first: annotation {self.rates[0]})"
            )
        if self.broken:
            texts.append(f"{len(self.broken)} of {self.total} objects are left out: {self.broken[0]}")
        for text in texts:
            warnings.warn(f"{self.source}: {text}", stacklevel=4)


def _popped(entries: dict[int, Entry]) -> Iterator[tuple[int, Entry]]:
    """Yield ids and entries, removing each: the entries of a large file need not stay in memory beside the records."""
    for object_id in tqdm(list(entries), desc="reading objects", disable=len(entries) < 50_000):
        yield object_id, entries.pop(object_id)


def _images(entries: list[Any], form: Form, source: Path, prefix: str) -> dict[Any, tuple[str, Entry]]:
    """The file's image id -> the image's name in records, and its entry."""
    photos = by_id(entries, {"id": ID, "file_name": (str,)}, "image", source, {"height": (int,), "width": (int,)})
    found = {image_id: (prefix + form.image_name(photo), photo) for image_id, photo in photos.items()}
    seen: dict[str, Any] = {}
    for image_id, (name, photo) in found.items():
        if name in seen or "/" in name:
            what = f"has the same name as image {seen[name]}" if name in seen else "has a name with a slash in it"
            raise UserError(f"{source}: image {image_id} ('{name}') {what}; objects could not be told apart")
        seen[name] = image_id
        sides = [photo.get("height", 1), photo.get("width", 1)]
        if not all(0 < side <= MAX_SIDE for side in sides):
            raise UserError(
                f"{source}: image {image_id} has a stated size of {sides[1]}x{sides[0]} (width x height); sides are "
                f"1 to {MAX_SIDE} pixels"
            )
    return found


def _categories(content: Entry, source: Path) -> dict[int | None, str]:
    names: dict[int | None, str] = {}
    for place, entry in enumerate(content.get("categories", [])):
        require(entry, {"id": (int,), "name": (str,)}, f"{source}: category number {place + 1}")
        names[entry["id"]] = entry["name"]
    return names


def _read_masks(entry: Entry, form: Form, sizes: list[list[int]], where: str) -> tuple[Rle, Rle]:
    """Amodal and modal mask, in the same size."""
    found: dict[str, Rle] = {}
    size = sizes[0] if sizes else None
    for key in sorted((form.amodal, form.modal), key=lambda key: not isinstance(entry[key], dict)):
        stored, place = entry[key], f"{where} ('{key}')"
        if isinstance(stored, dict) and not found:
            found[key] = read_mask(stored, [1, 1], place)
            size = list(found[key]["size"])
            continue
        if size is None:
            raise UserError(f"{where}: the size of its masks is unknown: no run lengths, size in the file or photo")
        if key == form.modal and stored == []:
            stored = {"size": size, "counts": [size[0] * size[1]]}
        found[key] = mask_of_size(stored, size, place)
        found[key]["size"] = size
    return found[form.amodal], found[form.modal]


def _exceeds_image(segmentation: Any, size: Sequence[int]) -> bool:
    """Whether a mask consists of polygons of which one has a point outside of its image; [0, W] x [0, H] is inside."""
    if not isinstance(segmentation, list) or not segmentation:
        return False
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return any(
        min(ring) < 0 or max(ring[0::2]) > size[1] or max(ring[1::2]) > size[0]
        for ring in rings
    )  # fmt: skip
