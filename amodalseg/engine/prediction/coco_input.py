"""The input of ``predict --coco``: annotations and their photos, in any of the forms that tools write."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg import masks
from amodalseg.data.images import image_size
from amodalseg.data.readers.files import ID, by_id, check_join, load_json, photo_path, require
from amodalseg.engine.prediction.complete import fit_to_photo
from amodalseg.errors import UserError

Entry = dict[str, Any]
SIZES: dict[str, tuple[type, ...]] = {"height": (int,), "width": (int,)}


@dataclass
class CocoInput:
    """Annotations and the locations of their photos.

    Attributes:
        content: of the file.
        files: that were read.
        entries: annotations by key: an id as json text, or a position in a list of results.
        image_of: key -> id of its photo.
        photos: image entries by id.
        paths: photos by id, without refused ones.
        refused: id -> what is wrong with its photo's name.
    """

    content: Any
    files: list[Path]
    entries: dict[str, Entry]
    image_of: dict[str, Any]
    photos: dict[Any, Entry]
    paths: dict[Any, Path] = field(default_factory=dict)
    refused: dict[Any, str] = field(default_factory=dict)

    def with_annotations(self, kept: list[Entry], upright: bool) -> Any:
        """The content with other annotations, and with the sizes of the photos as they were read."""
        if isinstance(self.content, list):
            return kept
        if "images" not in self.content:
            return {**self.content, "annotations": kept}
        shown = [self._as_read(entry, upright) for entry in self.content["images"]]
        return {**self.content, "images": shown, "annotations": kept}

    def _as_read(self, photo: Entry, upright: bool) -> Entry:
        path = self.paths.get(photo["id"])
        if not upright or path is None or "height" not in photo or "width" not in photo:
            return photo
        try:
            height, width = image_size(path, upright=True)
        except UserError:  # its annotations are listed as failed
            return photo
        turned = (photo["width"], photo["height"]) == (height, width)
        return {**photo, "height": height, "width": width} if turned else photo


def output_name(photo: Entry) -> str:
    """The name of a photo's outputs, without extension: its own, in its own folder below the output folder.

    A file name may lead out of the folder of photos, but outputs stay in the output folder.
    """
    path = Path(photo["file_name"].replace("\\", "/"))
    return "/".join(part for part in path.with_suffix("").parts if part not in ("..", path.anchor))


def modal_of(entry: Entry, photo: Entry, upright: bool, image: np.ndarray, turn: int) -> np.ndarray:
    """The annotation's mask, bool (H, W), for its photo as read. Raises UserError."""
    height, width = image.shape[:2]
    said = photo.get("height", height), photo.get("width", width)
    # for a photo read upright, the file may give the stored size
    if said != (height, width) and not (upright and turn >= 5 and said == (width, height)):
        how = ""
        if turn >= 5 and said == (width, height):
            how = f": the photo is stored rotated by its EXIF data (orientation {turn}); give --upright"
        raise UserError(f"its photo is {width}x{height}, but the file says {said[1]}x{said[0]} (width x height){how}")
    if not entry.get("segmentation"):
        raise UserError("it has no segmentation; a box alone does not say which pixels are the object's")
    try:
        mask = masks.decode(masks.from_segmentation(entry["segmentation"], height, width))
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"its mask cannot be read: {error}") from error
    return fit_to_photo(mask, image, turn, upright)


def read_coco_input(
    source: Path, images: Path | None, *, listing: Path | None = None, image: Path | None = None, outside: bool = False
) -> CocoInput:
    """Read annotations and find their photos.

    Args:
        source: a COCO-instances file; SA-1B's json of one photo; a list of results of a detector or of an automatic
            mask generator.
        images: the folder of photos.
        listing: a COCO file with the images of a list of results.
        image: the one photo of all annotations, instead of ``images``.
        outside: allow photos outside of the folder.

    Raises:
        UserError: files or keys are missing or broken, or annotations have no image.
    """
    content = load_json(source)
    files = [source, *([listing] if listing else [])]
    if isinstance(content, list):
        listed = content
        for place, entry in enumerate(listed):
            require(entry, {}, f"{source}: result number {place + 1}", {"image_id": ID, "file_name": (str,)})
    else:
        require(content, {"annotations": (list,)}, str(source), {"images": (list,), "image": (dict,)})
        listed = content["annotations"]
    if image is not None:
        found = _of_one_photo(content, listed, files, image)
    elif isinstance(content, dict) and ("images" in content or "image" in content):
        if listing is not None:
            raise UserError(f"{source} has its own images; --coco-images is for lists of results")
        found = _of_one_json(content, source)
    else:
        found = _of_results(content, listed, files, listing)
    folder = image.parent if image is not None else images
    assert folder is not None
    for key in dict.fromkeys(found.image_of.values()):
        try:
            path = photo_path(folder, found.photos[key]["file_name"], outside or image is not None)
        except UserError as error:
            found.refused[key] = str(error)
            continue
        found.paths[key] = path
        if path.parent != folder and not path.is_file() and (folder / path.name).is_file():
            found.refused[key] = f"no photo at {path}, but at {folder / path.name}: correct its file_name"
    for key, entry in found.photos.items():  # photos without annotations: only their sizes may be needed
        if key not in found.refused and key not in found.paths:
            found.paths[key] = folder / entry["file_name"].replace("\0", "")
    return found


def _of_one_photo(content: Any, listed: list[Entry], files: list[Path], image: Path) -> CocoInput:
    images = {entry["image_id"] for entry in listed if "image_id" in entry}
    if len(images) > 1:
        raise UserError(
            f"{files[0]} has annotations of {len(images)} images, but --image names one photo: give --images"
        )
    if not image.is_file():
        raise UserError(f"no photo at {image}")
    entries = _by_key(content, listed, files[0])
    return CocoInput(content, files, entries, dict.fromkeys(entries, 0), {0: {"file_name": image.name}})


def _of_one_json(content: Entry, source: Path) -> CocoInput:
    if "images" in content:
        photos = by_id(content["images"], {"id": ID, "file_name": (str,)}, "image", source, SIZES)
        found = by_id(content["annotations"], {"id": ID, "image_id": ID}, "annotation", source)
        check_join(found.values(), photos, source)
        entries = {json.dumps(key): entry for key, entry in found.items()}
        return CocoInput(content, [source], entries, {key: e["image_id"] for key, e in entries.items()}, photos)
    require(content["image"], {"file_name": (str,)}, f"{source}: image", SIZES)  # SA-1B: one photo, one json
    entries = _by_key(content, content["annotations"], source)
    return CocoInput(content, [source], entries, dict.fromkeys(entries, 0), {0: content["image"]})


def _of_results(content: Any, listed: list[Entry], files: list[Path], listing: Path | None) -> CocoInput:
    source, entries = files[0], _by_key(content, listed, files[0])
    lacking = sum("image_id" not in entry for entry in listed)
    if listing is None and listed and all("file_name" in entry for entry in listed):
        names = {key: entry["file_name"] for key, entry in entries.items()}
        return CocoInput(content, files, entries, names, {name: {"file_name": name} for name in names.values()})
    if lacking:
        raise UserError(
            f"{source}: {lacking} of {len(listed)} masks have no image_id, like those of automatic mask generators: "
            "name their photo with --image PHOTO instead of --images"
        )
    if listing is None:
        what = "is a list of results, without images" if isinstance(content, list) else "has annotations, but no images"
        raise UserError(
            f"{source} {what}; give a COCO file with --coco-images, or, if all are of one photo, that by --image"
        )
    images = load_json(listing)
    require(images, {"images": (list,)}, str(listing))
    photos = by_id(images["images"], {"id": ID, "file_name": (str,)}, "image", listing, SIZES)
    joined = [{**entry, "id": f"number {place + 1}"} for place, entry in enumerate(listed)]
    check_join(joined, photos, source)
    return CocoInput(content, files, entries, {key: entry["image_id"] for key, entry in entries.items()}, photos)


def _by_key(content: Any, listed: list[Entry], source: Path) -> dict[str, Entry]:
    """Annotations of a list by position; those of a json object by id, if all have one."""
    if isinstance(content, list) or not all(isinstance(entry, dict) and "id" in entry for entry in listed):
        for place, entry in enumerate(listed):
            require(entry, {}, f"{source}: annotation number {place + 1}")
        return {str(place): entry for place, entry in enumerate(listed)}
    return {json.dumps(key): entry for key, entry in by_id(listed, {"id": ID}, "annotation", source).items()}
