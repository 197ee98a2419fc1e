"""Polygons drawn with labelme: one json file per photo.

Shapes with the same ``group_id`` form one object, a shape without one is an object of its own. The label says which of
the object's masks a shape belongs to:

| label | the shape belongs to |
|---|---|
| ``NAME`` | both masks, as a visible part |
| ``NAME:modal`` | the modal mask |
| ``NAME:amodal`` | the amodal mask: the whole object, or just its occluded region |

Shapes of one kind are united. An object without an amodal shape is fully visible: both masks are equal. An object with
amodal shapes only is refused: nearly always its ``group_id`` was forgotten, and its visible region would become another
object. Occluders are never subtracted from an object: draw its visible region too. The typical occluded object is thus
a shape ``cup`` around the visible region and a shape ``cup:amodal`` around the whole, both in group 1.

Shapes that enclose nothing (points, lines, polygons of two points or fewer) and belong to no group are left out and
counted.
"""

from __future__ import annotations

import base64
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg import masks
from amodalseg.data.images import image_size, image_turning
from amodalseg.data.mask_files import read_mask_bytes
from amodalseg.data.readers.files import load_json, require
from amodalseg.data.readers.record import make_record, read_mask
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.types import AmodalRecord

KINDS = {"": ("modal", "amodal"), "modal": ("modal",), "amodal": ("amodal",)}
"""Suffix of a label -> masks that the shape belongs to."""
CORNERS = {
    "polygon": (3,),
    "rectangle": (2, 4),
    "circle": (2,),
    "mask": (2,),
    "rotation": (4,),
    "oriented_rectangle": (4,),
}
"""Shape types that enclose pixels, and their numbers of points; for a polygon the minimum."""
STRAY = ("point", "points", "line", "linestrip")
"""Shape types that enclose no pixels."""

Entry = dict[str, Any]


def read_labelme(folder: Path, split: str = "train") -> list[AmodalRecord]:
    """Read all json files in a folder.

    | in the file | in the record |
    |---|---|
    | its name without the ending | ``image_id`` |
    | ``imagePath``, relative to the file | ``image``; ``imageData`` is not used |
    | shape ``group_id`` | ``object_id``: ``g<group>``; without one ``s<number of the shape, from 1>`` |
    | shape ``label`` before the last ``:`` | ``category`` |
    | shape ``points``, ``shape_type`` polygon, rectangle or circle | the masks, filled as in COCO |
    | shape ``flags``: ``stuff``, ``crowd`` (of any shape of the object) | ``is_stuff``, flag ``crowd`` |

    Raises:
        UserError: no json file; a file, key or photo that is missing or wrong; a photo of another size than the file
            says, or one that viewers rotate; a label, shape type or group that does not fit the convention above; a
            shape without pixels. The message names file and shape.
    """
    sources = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not sources:
        raise UserError(f"no labelme json file in {folder}; give the folder that holds them")
    records = []
    stray: Counter[str] = Counter()
    for source in sources:
        content = load_json(source)
        sizes = {"imageHeight": (int, type(None)), "imageWidth": (int, type(None))}
        require(content, {"shapes": (list,), "imagePath": (str,)}, str(source), sizes)
        photo = source.parent / content["imagePath"].replace("\\", "/")
        if Path(content["imagePath"]).is_absolute():
            # labelme writes relative paths; files from others must not read arbitrary files of this machine
            raise UserError(f"{source}: imagePath '{photo}' is absolute: make it relative to the json file")
        height, width = _photo_size(photo, content, source)
        objects: dict[str, list[tuple[Entry, str, str, str]]] = {}
        for number, shape in enumerate(content["shapes"], start=1):
            where = f"{source}: shape {number}"
            if _is_stray(shape):
                stray[shape.get("shape_type", "polygon")] += 1
                continue
            group, name, kind = _checked(shape, where)
            objects.setdefault(f"s{number}" if group is None else f"g{group}", []).append((shape, name, kind, where))
        for object_id, members in objects.items():
            records.append(_record(members, (height, width), photo, split, source.stem, object_id))
    if stray:
        kinds = ", ".join(f"{count} {kind}" for kind, count in stray.items())
        warnings.warn(
            f"{folder}: {sum(stray.values())} shapes enclose no area and are left out ({kinds})", stacklevel=2
        )
    return records


def _is_stray(shape: Any) -> bool:
    """Whether a shape is a stray click: no area and no group."""
    if not isinstance(shape, dict) or shape.get("group_id") is not None:
        return False
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    return kind in STRAY or (kind == "polygon" and isinstance(points, list) and len(points) < 3)


def _photo_size(photo: Path, content: Entry, source: Path) -> tuple[int, int]:
    if not photo.is_file():
        raise UserError(f"{source}: no photo at {photo} (its imagePath)")
    height, width = image_size(photo)
    if image_turning(photo) != 1:
        raise UserError(
            f"{photo} is stored rotated (by its EXIF data), so points drawn on the upright picture do not fit its "
            "pixels; save it upright and draw it again"
        )
    said = content.get("imageHeight") or height, content.get("imageWidth") or width
    if said != (height, width):
        raise UserError(f"{source} was drawn on a photo of {said[1]}x{said[0]}, {photo} is {width}x{height}")
    return height, width


def _checked(shape: Any, where: str) -> tuple[int | None, str, str]:
    """Group, name and kind of a shape. Raises UserError if it does not fit the convention."""
    optional = {"group_id": (int, type(None)), "shape_type": (str,), "flags": (dict, type(None))}
    require(shape, {"label": (str,), "points": (list,)}, where, optional)
    head, colon, tail = shape["label"].rpartition(":")
    name, kind = (head.strip(), tail.strip()) if colon else (tail.strip(), "")
    if not name or (colon and kind not in ("modal", "amodal")):
        raise UserError(f"{where}: the label '{shape['label']}' is not NAME, NAME:modal or NAME:amodal")
    shape_type = shape.get("shape_type", "polygon")
    if shape_type not in CORNERS:
        raise UserError(f"{where} is a {shape_type}; draw objects as polygon, rectangle, circle or mask")
    return shape.get("group_id"), name, kind


def _record(
    members: list[tuple[Entry, str, str, str]], size: tuple[int, int], photo: Path, split: str, image_id: str,
    object_id: str,
) -> AmodalRecord:  # fmt: skip
    parts: dict[str, list[Rle]] = {"modal": [], "amodal": []}
    _, name, _, first = members[0]
    for shape, other, kind, where in members:
        if other != name:
            raise UserError(f"{where} is labelled '{other}', but another shape of its group '{name}' ({first})")
        if shape.get("shape_type") == "mask":
            rle = masks.encode(_bitmap(shape, size, where))
        else:
            rle = read_mask(_outline(shape, where), size, where)
        if not masks.area(rle):
            raise UserError(f"{where} covers no pixel of its photo of {size[1]}x{size[0]} (width x height)")
        for mask in KINDS[kind]:
            parts[mask].append(rle)
    kinds = {kind for _, _, kind, _ in members}
    if kinds == {"amodal"}:
        raise UserError(
            f"{first} is the whole of '{name}', but no shape is its visible part: give both the same group_id (Group "
            f"ID), or call it '{name}' if it is fully visible"
        )
    if "amodal" not in kinds:
        parts["amodal"] = parts["modal"]
    modal, amodal = (masks.union(parts[mask] or parts["amodal"]) for mask in ("modal", "amodal"))
    flags = [shape.get("flags") or {} for shape, *_ in members]
    return make_record(
        "labelme",
        split,
        image_id,
        object_id,
        photo,
        modal,
        amodal,
        flags=["crowd"] if any(flag.get("crowd") for flag in flags) else [],
        category=name,
        is_stuff=any(flag.get("stuff") for flag in flags) if any("stuff" in flag for flag in flags) else None,
    )


def _bitmap(shape: Entry, size: tuple[int, int], where: str) -> np.ndarray:
    """The mask of an AI tool or a brush: a base64 picture that fills the box of the shape's two points."""
    (x0, y0), (x1, y1) = np.round(_points(shape, where)).astype(int)
    try:
        data = base64.b64decode(shape.get("mask") or "", validate=True)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: its mask is not a picture in base64") from error
    mask = read_mask_bytes(data, f"{where}, its mask")
    if mask.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise UserError(
            f"{where}: its mask is {mask.shape[1]}x{mask.shape[0]}, the box of its points {x1 - x0 + 1}x{y1 - y0 + 1}"
        )
    whole = np.zeros(size, bool)
    top, left = max(0, -y0), max(0, -x0)  # a brush may go beyond the photo
    part = mask[top : max(top, size[0] - y0), left : max(left, size[1] - x0)]
    whole[y0 + top : y0 + top + part.shape[0], x0 + left : x0 + left + part.shape[1]] = part
    return whole


def _points(shape: Entry, where: str) -> np.ndarray:
    """The points of a shape, float (N, 2). Raises UserError: they do not fit its type."""
    kind = shape.get("shape_type", "polygon")
    try:
        points = np.array(shape["points"], np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: its points are not x, y pairs of numbers") from error
    if not np.isfinite(points).all():
        raise UserError(f"{where}: its points hold nan or infinity")
    counts = CORNERS[kind]
    fits = len(points) >= counts[0] if kind == "polygon" else len(points) in counts
    if points.ndim != 2 or points.shape[1] != 2 or not fits:
        number = "3 or more" if kind == "polygon" else " or ".join(map(str, counts))
        raise UserError(f"{where}: a {kind} has {number} points x, y")
    return points


def _outline(shape: Entry, where: str) -> list[float]:
    """A shape as a flat polygon x, y, x, y, ..."""
    kind, points = shape.get("shape_type", "polygon"), _points(shape, where)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    if kind == "circle":  # the centre, and a point on the line
        radius = float(np.hypot(*(points[1] - points[0])))
        corners = int(np.clip(np.ceil(np.pi * radius), 16, 4000))
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        points = points[0] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [float(value) for value in points.ravel()]
