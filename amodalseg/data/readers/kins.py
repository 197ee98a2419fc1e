"""KINS (Qi et al. 2019): street scenes of KITTI, in the files of 2019 or of 2020."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from amodalseg import masks
from amodalseg.config.schema import KinsData
from amodalseg.data.readers.files import Keys
from amodalseg.data.readers.flat import Entry, Form, read_flat
from amodalseg.data.readers.places import annotation_file, known_split
from amodalseg.data.readers.record import meets_hidden
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

ORIGIN = "They come from github.com/qqlu/Amodal-Instance-Segmentation-through-KINS-Dataset, the photos from KITTI"
SPLITS = {"train": "train", "test": "test", "val": "test"}
FILES = {
    ("2020", "train"): ["update_train_2020.json"],
    ("2020", "test"): ["update_test_2020.json"],
    ("2019", "train"): ["instances_train.json"],
    ("2019", "test"): ["instances_val.json", "instances_val_upate.json"],  # misspelt like this in published files
}
FOLDERS = {"train": ["training/image_2", "train_imgs", "."], "test": ["testing/image_2", "test_imgs", "."]}


def read_kins(config: KinsData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read one file of KINS, from ``root`` or ``root/annotations``.

    | in the file of 2020 | of 2019 | in the record |
    |---|---|---|
    | ``update_{train,test}_2020.json`` | ``instances_{train,val}.json`` | splits ``train``, ``test`` (also ``val``) |
    | ``a_segm`` (polygons) | ``segmentation`` (polygons) | ``amodal_rle``, their union |
    | ``i_segm`` (polygons) | ``inmodal_seg`` (run lengths) | ``modal_rle`` |
    | ``a_area``, ``i_area`` | ``area`` | ``extra``: ``area``, ``modal_area`` |
    | ``a_bbox``, ``i_bbox`` | ``bbox``, ``inmodal_bbox`` (some wrong) | ``extra``: ``bbox``, ``modal_bbox`` |
    | ``oco_id``, ``ico_id`` | - | ``group``: ``cluster``, ``rank`` (0: overlaps nothing, 1: nearest) |
    | image ``file_name``, its stem | the same | ``image_id``; photos in ``training/image_2``, ``testing/image_2`` |
    | annotation ``id`` | the same | ``object_id`` |

    Ids restart in every file, hence the stem. The masks of either file may have any of COCO's encodings.
    ``occluder_rle`` is the union of the nearer members of an object's cluster whose amodal masks overlap its occluded
    region; ``order`` stays None, because a rank has no meaning outside its cluster. No occlusion rate is stored.

    Args:
        config: ``root``, ``version`` and the options of every published set.
        photos: off: photos need not be there.

    Raises:
        UserError: as ``read_flat``; a file of the other version.
    """
    split = known_split(config, SPLITS)
    source = annotation_file(config, FILES.get((config.version, split), []), [".", "annotations"], ORIGIN)
    stored = {"area": "a_area", "bbox": "a_bbox", "modal_area": "i_area", "modal_bbox": "i_bbox"}
    ranks: Keys = {"oco_id": (int,), "ico_id": (int,)}
    form = Form("a_segm", "i_segm", stored=stored, optional=ranks, image_name=_stem, group=_cluster)
    if config.version == "2019":
        stored = {"area": "area", "bbox": "bbox", "modal_bbox": "inmodal_bbox"}
        form = Form("segmentation", "inmodal_seg", stored=stored, image_name=_stem)
    try:
        records = read_flat(source, FOLDERS.get(split, ["."]), config, form, split, photos=photos)
    except UserError as error:
        if f"lacks '{form.amodal}'" in str(error) or f"lacks '{form.modal}'" in str(error):
            other = "2019" if config.version == "2020" else "2020"
            raise UserError(f"{error}; is it a file of {other}? Then give data.version={other}") from error
        raise
    clusters: dict[tuple[str, int], list[AmodalRecord]] = defaultdict(list)
    for record in records:
        if record.group and record.group["rank"] > 0:
            clusters[record.image_id, record.group["cluster"]].append(record)
    for members in clusters.values():
        _find_occluders(members)
    return records


def _stem(photo: Entry) -> str:
    return PurePosixPath(photo["file_name"]).stem


def _cluster(entry: Entry, photo: Entry) -> dict[str, Any] | None:
    return {"cluster": entry["oco_id"], "rank": entry["ico_id"]} if {"oco_id", "ico_id"} <= entry.keys() else None


def _find_occluders(members: list[AmodalRecord]) -> None:
    """Set ``occluder_rle`` of the members of one overlap cluster."""
    amodals = [record.amodal_rle for record in members if record.amodal_rle is not None]
    ranks = [record.group["rank"] for record in members if record.group]
    for record, amodal, rank in zip(members, amodals, ranks, strict=True):
        both = masks.union([amodal, record.modal_rle])
        found = [
            other for other, near in zip(amodals, ranks, strict=True)
            if near < rank and other["size"] == amodal["size"] and meets_hidden(other, record.modal_rle, both)
        ]  # fmt: skip
        record.occluder_rle = masks.union(found) if found else None
