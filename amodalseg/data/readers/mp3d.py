"""MP3D-Amodal (Zhan et al. 2024): COCOA's nested form in a pickle, on photos of Matterport3D."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg.atomic import replacing
from amodalseg.config.schema import MP3DData
from amodalseg.data.readers.files import load_json, require
from amodalseg.data.readers.places import annotation_file, known_split, photo_folder
from amodalseg.data.readers.regions import open_regions, region_records
from amodalseg.data.readers.safe_pickle import load_pickle
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

logger = logging.getLogger(__name__)

SPLITS = {"eval": "eval", "val": "eval", "test": "eval", "train": "train"}
NAME = "MP3D_seleted_{}_10.29"
"""Name of the files, misspelt as published."""


def read_mp3d(config: MP3DData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``root/MP3D_seleted_<split>_10.29.json`` or ``.pkl`` with the photos in ``root/mp3d_<split>``.

    The pickle is read without executing it (``safe_pickle``). The json is the output of ``convert_pickle``; if it
    exists, it is preferred, because it opens several times faster.

    | in the file | in the record |
    |---|---|
    | annotation ``image_id``, ``id``; image ``file_name``; region ``order``, ``isStuff``, ``name`` | as in COCOA |
    | region ``segmentation``, ``visible_mask`` (run lengths, bytes in the pickle) | ``amodal_rle``, ``modal_rle`` |
    | region ``occlusion_rate`` (COCOA: ``occlude_rate``) | ``raw_rate`` |
    | region ``category_id`` | ``category_id``; a text there is the ``category`` |
    | ``categories`` with ``id`` and ``name``, if the file has them | ``category`` |

    As published, every region has both masks and is occluded; a warning counts exceptions.

    Args:
        config: ``split`` eval (also val or test) or train. ``root`` may also be the file. ``images`` names the photo
            folder if mp3d_<split>.zip was unpacked elsewhere.
        photos: off: photos need not be there.

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong; the pickle holds anything but plain data.
    """
    split, root = known_split(config, SPLITS), Path(config.root)
    if root.is_file() and config.annotations is None:
        source = root
    else:
        names = [NAME.format(split) + ending for ending in (".json", ".pkl")]
        origin = "they are at thor.robots.ox.ac.uk/amodal"
        source = annotation_file(config, names, [".", "annotations"], origin)
    content = load_pickle(source) if source.suffix == ".pkl" else load_json(source)
    if source.suffix == ".pkl":
        logger.info(
            f"{source} is read as a pickle; 'amodalseg data convert mp3d-pickle' converts it to json, which is faster"
        )
    require(content, {"images": (list,), "annotations": (list,)}, str(source), {"categories": (list,)})
    annotations, images = open_regions(content, source)
    needed = [images[annotation["image_id"]]["file_name"] for annotation in annotations]
    folder = photo_folder(config, [f"mp3d_{split}", "images", split, "."], needed, photos)
    records = region_records(annotations, images, source, folder, config, split, photos=photos, rate="occlusion_rate")
    regions = {
        f"{entry['id']}-{index}".replace("/", "-"): region
        for entry in annotations for index, region in enumerate(entry["regions"])
    }  # fmt: skip
    names_of = {}
    for place, entry in enumerate(content.get("categories", [])):
        require(entry, {"id": (int, str), "name": (str,)}, f"{source}: category number {place + 1}")
        names_of[entry["id"]] = entry["name"]
    for record in records:
        given = regions[record.object_id].get("category_id")
        record.category_id = given if type(given) is int else None
        name = names_of.get(given) if isinstance(given, (int, str)) else None
        record.category = name or record.category or (given if isinstance(given, str) else None)
    without = sum("visible_mask" not in region for region in regions.values())
    visible = sum("fully_visible" in record.flags for record in records)
    if visible:
        warnings.warn(
            f"{source}: {visible} of {len(records)} objects are not occluded, although all should be"
            f"{f'; {without} of them have no visible mask' if without else ''}",
            stacklevel=2,
        )
    return records


def convert_pickle(source: Path, target: Path) -> int:
    """Convert the pickle to plain json: the same nested structure, with bytes as text and arrays as lists.

    Args:
        source: the pickle; it is read without executing it.
        target: the json file; written whole or not at all.

    Returns:
        Number of annotations.

    Raises:
        UserError: the pickle cannot be read, or holds no ``images`` and ``annotations``; the target is not a json file.
    """
    if target.suffix != ".json":
        raise UserError(f"{target} must be a json file: give a name that ends in .json")
    content = load_pickle(source)
    require(content, {"images": (list,), "annotations": (list,)}, str(source))
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for place, (key, value) in enumerate(content.items()):
            file.write(f"{'{' if place == 0 else ','}\n{json.dumps(str(key))}: ")
            for part in _json(value, key, source):
                file.write(part)
        file.write("\n}\n")
    return len(content["annotations"])


def _json(value: Any, key: str, source: Path) -> Iterator[str]:
    """Yield a value's JSON text, that of a list in parts: the text of a whole data set would double the memory."""
    if not isinstance(value, list):
        yield json.dumps(_plain(value, source))
        return
    for place, item in enumerate(tqdm(value, desc=f"writing {key}", disable=len(value) < 500)):
        yield f"{'[' if place == 0 else ','}\n{json.dumps(_plain(item, source))}"
    yield "\n]" if value else "[]"


def _plain(value: Any, source: Path) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode("ascii")
        except UnicodeDecodeError as error:
            raise UserError(f"{source} holds bytes that are not text: {value!r:.60}; json cannot store them") from error
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(_plain(key, source)): _plain(item, source) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item, source) for item in value]
    return value
