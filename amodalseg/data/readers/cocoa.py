"""COCOA in its original json (Zhu et al. 2017): annotators outlined whole objects, nearest first."""

from __future__ import annotations

from pathlib import Path

from amodalseg.config.schema import CocoaData
from amodalseg.data.readers.files import load_json
from amodalseg.data.readers.regions import open_regions, region_records
from amodalseg.types import AmodalRecord

REGION = {"order": (int,), "name": (str,)}


def read_cocoa(config: CocoaData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``root/annotations/COCO_amodal_<split>2014.json`` with the photos in ``root/<split>2014``.

    | in the file | in the record |
    |---|---|
    | annotation ``image_id`` = image ``id`` | ``image_id``; never joined by position |
    | annotation ``id`` and index of the region in it | ``object_id``: ``<id>-<index>`` |
    | image ``file_name`` | ``image`` (a bare annotation: last part of its ``url``) |
    | region ``segmentation`` (flat polygon) | ``amodal_rle`` |
    | region ``visible_mask`` | ``modal_rle``; absent: equal to the amodal mask; empty: stays empty (``empty_modal``) |
    | region ``order`` (1 = nearest, with gaps) | ``order`` |
    | nearer regions that overlap the occluded region | ``occluder_rle``, the union of their amodal masks |
    | region ``occlude_rate`` | ``raw_rate``; ``occlusion_rate`` is computed from the masks |
    | region ``isStuff`` | ``is_stuff`` |
    | region ``name``, stripped | ``category`` |
    | annotation ``author`` | ``group["annotator"]`` |
    | annotation ``depth_constraint`` | ``extra["behind"]``: the orders that it puts before this region, if any |

    Flags: ``empty_modal``; ``fully_visible``; ``modal_outside_amodal``; ``size_mismatch`` where the sizes of masks,
    json entry and photo differ (the size of the masks is used, and the photo is resized to it). ``touches_border`` is
    set by the code that decodes the masks. The stored ``invisible_mask`` is never used; ``area`` is kept in ``extra``.
    Other entries of the file (``date_captured``, sometimes misspelt; ``license``; ``size``, the number of regions
    before some were removed) are not read.

    Args:
        config: ``root`` is the data set's folder, or a json file: of the same form, or one bare annotation or a list of
            them (whose photos lie beside it, or in ``config.images``). ``include_stuff``: also regions of stuff (wall,
            sky, ...); they count as occluders in any case.
        photos: off: photos need not be there.

    Raises:
        UserError: a file, key, photo or mask that is missing or wrong; the message names file and region.
    """
    root, split = Path(config.root), config.split.removesuffix("2014")
    if root.is_file() or root.suffix == ".json":
        source, folder = root, root.parent
    else:
        source, folder = root / "annotations" / f"COCO_amodal_{split}2014.json", root / f"{split}2014"
    source = source if config.annotations is None else Path(config.annotations)
    folder = folder if config.images is None else Path(config.images)
    annotations, images = open_regions(load_json(source), source)
    records = region_records(annotations, images, source, folder, config, split, photos=photos, optional=REGION)
    return [record for record in records if config.include_stuff or not record.is_stuff]
