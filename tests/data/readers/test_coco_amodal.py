import numpy as np
import pytest
from pycocotools.coco import COCO

from amodalseg import masks
from amodalseg.config.schema import CocoAmodalData
from amodalseg.data.open import open_source
from amodalseg.data.readers.coco_amodal import file_ids, read_coco_amodal
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from tests.worlds import coco_amodal_world, compressed, edit_json
from tests.worlds.compare import held


def read(root, split="val", **options):
    photos = options.pop("photos", True)
    return read_coco_amodal(CocoAmodalData(root=str(root), split=split, **options), photos=photos)


@pytest.fixture
def root(tmp_path):
    return coco_amodal_world(tmp_path / "set")


def both(root):
    return [root / f"annotations/val_{kind}.json" for kind in ("modal", "amodal")]


def entry(content, annotation_id):
    return next(item for item in content["annotations"] if item["id"] == annotation_id)


def test_hand_made_files_are_joined_by_id(root, capsys):
    modal, amodal = (COCO(path) for path in both(root))  # each is a valid COCO file
    capsys.readouterr()
    records = read(root)
    assert len(records) == 8 and [record.object_id for record in records] == [str(key) for key in amodal.anns]
    for record in records:
        key = int(record.object_id)
        assert record.key == f"coco_amodal/val/{amodal.anns[key]['image_id']}/{key}"
        assert np.array_equal(record.modal, modal.annToMask(modal.anns[key]))
        assert np.array_equal(record.amodal, amodal.annToMask(amodal.anns[key]))
        assert record.category == amodal.cats[record.category_id]["name"]
        assert record_image(record).shape == (record.height, record.width, 3)
        assert record.group is None and record.extra == {} and record.modal_source == "gt"
    flags = {record.category: record.flags for record in records}
    assert flags == {
        "box": {"fully_visible"}, "plate": set(), "dog": {"fully_visible"}, "ball": {"empty_modal"},
    }  # fmt: skip
    assert held(read(root, photos=False)) == held(records)


def test_stored_areas_and_boxes_of_hand_made_files_are_kept_for_comparison(root):
    modal, amodal = both(root)
    edit_json(modal, lambda c: entry(c, 889).update(area=5, bbox=[1, 2, 3, 4]))
    edit_json(amodal, lambda c: entry(c, 889).update(area=6.5, bbox=[4, 3, 2, 1]))
    extra = next(record.extra for record in read(root) if record.object_id == "889")
    assert extra == {"area": 6.5, "bbox": [4, 3, 2, 1], "modal_area": 5, "modal_bbox": [1, 2, 3, 4]}


def test_alternative_file_locations(root, tmp_path):
    records = read(root)
    moved = tmp_path / "elsewhere"
    (root / "images/val").rename(moved)
    with pytest.raises(UserError, match=r"no image file at .*photo40\.png \(2 of 2"):
        read(root)
    assert {record.image.parent for record in read(root, images=str(moved))} == {moved}
    for name in ("modal", "amodal"):
        (root / f"annotations/val_{name}.json").rename(tmp_path / f"mine_{name}.json")
    given = read(root, annotations=str(tmp_path / "mine_modal.json"), images=str(moved))
    assert [record.amodal_rle for record in given] == [record.amodal_rle for record in records]
    with pytest.raises(UserError, match=r"must end in _modal\.json or _amodal\.json"):
        read(root, annotations=str(tmp_path / "mine.json"))
    for path in moved.iterdir():
        path.rename(root / "images" / path.name)
    plain = {"annotations": str(tmp_path / "mine_amodal.json")}
    assert {record.image.parent for record in read(root, **plain)} == {root / "images"}


def test_a_photo_of_a_different_size_is_flagged(root):
    def taller(content):
        for image in content["images"]:
            image["height"] += 4

    for path in both(root):
        edit_json(path, taller)
    for record in read(root):
        assert "size_mismatch" in record.flags and record_image(record).shape[:2] == (record.height, record.width)


MISTAKES = [
    (0, lambda c: c["annotations"].pop(), r"1 annotations of .*val_amodal\.json are not in .*val_modal.json .* 823"),
    (1, lambda c: c["annotations"].pop(), r"1 annotations of .*val_modal\.json are not in .*val_amodal.json .* 900"),
    (1, lambda c: entry(c, 900).update(image_id=40), "annotation 900 is on image 70 in .*modal.json, on image 40"),
    (1, lambda c: entry(c, 900).update(image_id=41), "annotation without image"),
    (1, lambda c: c["images"][0].update(height=3), "image 40: its 'height' is 98 in .*, 3 in"),
    (1, lambda c: c["images"][0].update(file_name="a.png"), "image 40: its 'file_name' is photo40.png in .*, a.png in"),
    (0, lambda c: entry(c, 889).update(segmentation=compressed(np.ones((9, 8)))), r"val_modal.json: annotation 889"),
    (0, lambda c: entry(c, 889).update(segmentation=[[1, 2, float("nan"), 1, 4, 5]]), "val_modal.json: annotation 889"),
    (1, lambda c: entry(c, 889).update(segmentation=[]), "val_amodal.json: annotation 889"),
    (1, lambda c: entry(c, 878)["segmentation"].update(counts=[5]), "val_amodal.json: annotation 878 .* add up to 5"),
    (1, lambda c: entry(c, 900).pop("segmentation"), "val_amodal.json: annotation number 8 lacks 'segmentation'"),
    (1, lambda c: entry(c, 900).update(id=889), "1 annotation ids occur more than once: 889"),
    (1, lambda c: entry(c, 900).update(category_id="cup"), "'category_id' must be"),
    (1, lambda c: c["categories"][0].pop("name"), "category number 1 lacks 'name'"),
    (1, lambda c: entry(c, 900).update(amodalseg={"order": "near"}), "900.* 'order' must be a whole number"),
    (1, lambda c: entry(c, 900).update(amodalseg={"object_id": "889"}), "900 is the same object as .* 889"),
    (1, lambda c: entry(c, 900).update(amodalseg={"occluder": {"size": [2, 2], "counts": [4]}}), "900, 'occl.*', has"),
    (1, lambda c: c.update(info={"amodalseg": []}), "info, 'amodalseg', must be a json object"),
]  # fmt: skip


@pytest.mark.parametrize("file, change, message", MISTAKES)
def test_mistakes_are_located(root, file, change, message):
    edit_json(both(root)[file], change)
    with pytest.raises(UserError, match=message) as error:
        read(root)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused_by_name(root):
    both(root)[0].unlink()
    with pytest.raises(UserError, match=r"cannot read .*val_modal\.json"):
        read(root)


def test_skip_broken_and_fix_subset(root):
    outside = np.zeros((92, 120), bool)
    outside[:3, :5] = True
    edit_json(both(root)[0], lambda c: entry(c, 889).update(segmentation=compressed(outside)))
    kept, united = (
        {record.object_id: record for record in read(root, fix_subset=how)}["889"] for how in ("keep", "union")
    )
    assert "modal_outside_amodal" in kept.flags and not (kept.amodal & outside).any()
    assert np.array_equal(united.amodal, kept.amodal | outside)
    (root / "images/val/photo70.png").unlink()
    with pytest.warns(UserWarning, match="left out"):
        assert {record.image_id for record in read(root, skip_broken=True)} == {"40"}


def test_opens_as_a_data_set(root):
    source = open_source(CocoAmodalData(root=str(root), split="val"))
    assert len(source) == 8 and source.get(0).dataset == "coco_amodal"
    assert file_ids(CocoAmodalData(root=str(root), split="val"))[0] == {"70": "70", "40": "40"}
    assert masks.area(source.get(0).amodal_rle) > 0
