"""COCOA-cls (Follmann et al. 2019): COCOA's objects that belong to one of COCO's 80 categories."""

from __future__ import annotations

from amodalseg.config.schema import CocoaClsData
from amodalseg.data.readers.flat import Form, read_flat
from amodalseg.data.readers.places import annotation_file, known_split
from amodalseg.types import AmodalRecord

ORIGIN = "They come in COCO.zip, folder COCOA_annotations_detectron, linked from github.com/YihongSun/Bayesian-Amodal"
SPLITS = {"train": "train", "train2014": "train", "val": "val", "val2014": "val"}


def read_cocoa_cls(config: CocoaClsData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``root/annotations/COCO_amodal_<split>2014_with_classes.json`` with the photos in ``root/<split>2014``.

    The file may also lie in ``root/COCOA_annotations_detectron`` or in ``root``. ``COCO_amodal_<split>2014_detectron_
    no_stuff.json`` (one category, masks that may be polygons) is read through ``config.annotations``.

    | in the file | in the record |
    |---|---|
    | annotation ``id``, ``image_id`` | ``object_id``, ``image_id`` |
    | ``segmentation``, ``visible_mask`` (always present) | ``amodal_rle``, ``modal_rle`` |
    | ``category_id`` (COCO's, up to 90), categories' ``name`` | ``category_id``, ``category`` |
    | ``occlude_rate`` | ``raw_rate``; ``occlusion_rate`` is computed from the masks |
    | ``area``, ``bbox`` (of the amodal mask) | ``extra`` |
    | ``iscrowd`` | flag ``crowd`` |

    The stored ``invisible_mask`` is never used. The only box is the amodal one; cropping by it would leak ground truth.

    Args:
        config: ``root`` and the options of every published set.
        photos: off: photos need not be there.

    Raises:
        UserError: as ``read_flat``.
    """
    split = known_split(config, SPLITS)
    name = f"COCO_amodal_{split}2014_with_classes.json"
    source = annotation_file(config, [name], ["annotations", "COCOA_annotations_detectron", "."], ORIGIN)
    return read_flat(source, [f"{split}2014", f"images/{split}2014", "."], config, Form(), split, photos=photos)
