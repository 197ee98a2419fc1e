import json
import shutil

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import CocoaClsData
from amodalseg.data.readers import read_cocoa_cls
from amodalseg.errors import UserError
from tests.worlds import cocoa_cls_world, compressed, edit_json

FILE = "annotations/COCO_amodal_val2014_with_classes.json"


@pytest.fixture
def root(tmp_path):
    return cocoa_cls_world(tmp_path / "cls")


def read(root, **options):
    return read_cocoa_cls(CocoaClsData(root=str(root), **options))


def test_the_stored_box_is_that_of_the_amodal_mask(root):
    hidden = [record for record in read(root) if record.occluded.any() and record.modal.any()]
    other = 0
    for record in hidden:
        boxes = [masks.box_xyxy(mask) for mask in (record.amodal, record.modal)]
        amodal, modal = ([x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes)
        assert record.extra["bbox"] == amodal and set(record.extra) == {"area", "bbox"}
        other += amodal != modal
    assert other >= 4, "or the test shows nothing"


def test_stored_invisible_masks_are_not_used(root):
    before = [(record.modal_rle, record.amodal_rle, record.occlusion_rate) for record in read(root)]

    def change(content):
        for entry in content["annotations"]:
            size = entry["segmentation"]["size"]
            entry["invisible_mask"] = compressed(np.ones(size, bool))

    edit_json(root / FILE, change)
    assert [(record.modal_rle, record.amodal_rle, record.occlusion_rate) for record in read(root)] == before


def test_a_missing_visible_mask_is_refused(root):
    edit_json(root / FILE, lambda content: content["annotations"][4].pop("visible_mask"))
    with pytest.raises(UserError, match="annotation number 5 lacks 'visible_mask'"):
        read(root)


def test_detectron_files_with_polygons_are_read(root, tmp_path):
    path = tmp_path / "COCO_amodal_test2014_detectron_no_stuff.json"
    shutil.copy(root / FILE, path)
    polygon = [20, 10, 70, 10, 70, 60, 20, 60]

    def change(content):
        content["categories"] = [{"id": 1, "name": "object"}]
        for entry in content["annotations"]:
            entry.update(category_id=1, segmentation=[polygon])
            entry.pop("occlude_rate")

    edit_json(path, change)
    with pytest.raises(UserError, match="no photos of cocoa_cls, split test"):
        read(root, split="test", annotations=str(path))
    records = read(root, split="test", annotations=str(path), images=str(root / "val2014"))
    assert {record.category for record in records} == {"object"} and {record.split for record in records} == {"test"}
    assert all(record.amodal.sum() == 50 * 50 and record.amodal[10:60, 20:70].all() for record in records)


def test_join_is_by_id(root):
    def change(content):
        content["images"].insert(0, {"id": 1, "file_name": "absent.jpg", "height": 3, "width": 3})

    before = [(record.key, record.image) for record in read(root)]
    edit_json(root / FILE, change)
    assert [(record.key, record.image) for record in read(root)] == before, "a photo that nobody needs may be absent"
    names = {entry["id"]: entry["file_name"] for entry in json.loads((root / FILE).read_text())["images"]}
    assert all(record.image.name == names[int(record.image_id)] for record in read(root))
