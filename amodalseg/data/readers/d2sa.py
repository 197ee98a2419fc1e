"""D2SA (Follmann et al. 2019): groceries on a turntable."""

from __future__ import annotations

from amodalseg.config.schema import D2SAData
from amodalseg.data.readers.flat import Form, read_flat
from amodalseg.data.readers.places import annotation_file, known_split
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

ORIGIN = "They come from mvtec.com/company/research/datasets (D2S Amodal, d2s_amodal_annotations_v1)"
FORM = Form(kept=("occl_depth",))


def read_d2sa(config: D2SAData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read ``D2S_amodal_*.json`` in ``root/d2s_amodal_annotations_v1``, photos in ``root/d2s_amodal_images_v1/images``.

    | split | files |
    |---|---|
    | ``train`` | ``training_rot0`` and ``augmented``; ids may repeat and are prefixed ``rot0-`` or ``augmented-`` |
    | ``val`` | ``validation`` |
    | ``test`` | refused: ``test_info`` has no masks |

    | in the file | in the record |
    |---|---|
    | annotation ``id``, ``image_id`` | ``object_id``, ``image_id`` |
    | ``segmentation``, ``visible_mask`` (run lengths, always present) | ``amodal_rle``, ``modal_rle`` |
    | ``category_id`` (1 to 60), categories' ``name`` | ``category_id``, ``category`` |
    | ``occlude_rate`` | ``raw_rate`` |
    | ``area``, ``bbox`` (of the amodal mask, floats), ``occl_depth`` | ``extra`` |
    | ``iscrowd`` (true or false) | flag ``crowd`` |

    Masks may be padded (1534 x 1920 for a photo of 1440 x 1920): ``size_mismatch``. ``amodal_region.order`` ranks
    occluded objects as nearest, so ``order`` stays None.

    Args:
        config: ``root`` and the options of every published set; ``annotations`` is read as the only file of its split.
        photos: off: photos need not be there.

    Raises:
        UserError: as ``read_flat``.
    """
    if config.split == "test" and config.annotations is None:
        raise UserError(
            "d2sa's split 'test' (D2S_amodal_test_info.json) was published without masks: there is nothing to score; "
            "papers evaluate on split=val"
        )
    split = known_split(config, {"train": "train", "val": "val", "validation": "val"})
    parts = {"": "validation"} if split == "val" else {"rot0-": "training_rot0", "augmented-": "augmented"}
    if config.annotations is not None:
        parts = {"": ""}
    sources = {
        prefix: annotation_file(
            config, [f"D2S_amodal_{part}.json"], ["d2s_amodal_annotations_v1", "annotations", "."], ORIGIN
        )
        for prefix, part in parts.items()
    }
    folders, records = ["d2s_amodal_images_v1/images", "images", "."], []
    for prefix, source in sources.items():
        records += read_flat(source, folders, config, FORM, split, photos=photos, prefix=prefix)
    return records
