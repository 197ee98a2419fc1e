"""The common code of flat COCO-like sets: encodings, sizes, joins, mistakes; tested on COCOA-cls and KINS."""

import json
import warnings

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from amodalseg.config.schema import PUBLISHED, CocoaClsData, KinsData
from amodalseg.data import images
from amodalseg.data.readers import READERS, read_cocoa_cls, read_kins
from amodalseg.data.source import PackedRecords
from amodalseg.errors import UserError
from tests.worlds import WORLDS, cocoa_cls_world, compressed, edit_json, kins_world, run_lengths
from tests.worlds.compare import held

FILES = {
    "cocoa_cls": ("annotations/COCO_amodal_val2014_with_classes.json", "segmentation", "visible_mask"),
    "kins": ("update_test_2020.json", "a_segm", "i_segm"),
    "kins_2019": ("instances_val.json", "segmentation", "inmodal_seg"),
    "d2sa": ("d2s_amodal_annotations_v1/D2S_amodal_validation.json", "segmentation", "visible_mask"),
    "sailvos": ("valid.json", "segmentation", "visible_mask"),
}
CLS, KINS = FILES["cocoa_cls"][0], FILES["kins"][0]


@pytest.fixture
def cls(tmp_path):
    return cocoa_cls_world(tmp_path / "cls")


@pytest.fixture
def kins(tmp_path):
    return kins_world(tmp_path / "kins")


def read_cls(root, **options):
    return read_cocoa_cls(CocoaClsData(root=str(root), **options))


def read_2020(root, **options):
    return read_kins(KinsData(root=str(root), **options))


def decode(stored, size):
    """Decode a stored mask with pycocotools, without the reader."""
    if isinstance(stored, dict):
        return coco.decode(stored).astype(bool)
    return coco.decode(coco.merge(coco.frPyObjects([[float(n) for n in ring] for ring in stored], *size))).astype(bool)


@pytest.mark.parametrize("name", FILES)
def test_masks_equal_an_independent_decoding(name, tmp_path):
    world = WORLDS[name](tmp_path / name)
    file, amodal, modal = FILES[name]
    content = json.loads((world.root / file).read_text())
    photos = {entry["id"]: entry for entry in content["images"]}
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    options = dict(option.split("=") for option in world.options)
    config = PUBLISHED[world.name](root=str(world.root), split=world.test, **options)
    for wanted in (True, False):
        records = READERS[world.name](config, photos=wanted)
        assert [record.object_id for record in records] == [str(entry["id"]) for entry in content["annotations"]]
        for record, entry in zip(records, content["annotations"], strict=True):
            photo = photos[entry["image_id"]]
            size = [photo["height"], photo["width"]]
            assert np.array_equal(record.amodal, decode(entry[amodal], size))
            assert np.array_equal(record.modal, decode(entry[modal], size))
            assert str(record.image).endswith(photo["file_name"]) and images.image_size(record.image) == tuple(size)
            assert record.category == names[entry["category_id"]] and record.category_id == entry["category_id"]
            assert record.raw_rate == pytest.approx(entry["occlude_rate"]) if "occlude_rate" in entry else True
            assert record.extra["area"] == record.amodal.sum()
    hidden = [record for record in records if record.occluded.any()]
    assert len(hidden) >= 4 and any("fully_visible" in record.flags for record in records)
    assert name == "kins" or any("empty_modal" in record.flags for record in records)


def test_both_encodings_of_a_mask_give_the_same_record(cls):
    before = [(record.modal_rle, record.amodal_rle, record.flags) for record in read_cls(cls)]

    def uncompressed(content):
        for entry in content["annotations"][::2]:
            for key in ("segmentation", "visible_mask"):
                entry[key] = run_lengths(decode(entry[key], None))

    edit_json(cls / CLS, uncompressed)
    assert [(record.modal_rle, record.amodal_rle, record.flags) for record in read_cls(cls)] == before


def test_polygons_of_several_rings_are_united(kins):
    car = next(record for record in read_2020(kins) if record.category == "car")
    rows = car.modal[50]
    assert rows[10:30].all() and rows[36:60].all() and not rows[30:36].any()

    def squeeze(content):  # as if only the first ring were read
        entry = next(entry for entry in content["annotations"] if entry["category_id"] == 4)
        entry["i_segm"] = entry["i_segm"][:1]

    edit_json(kins / KINS, squeeze)
    assert not next(record for record in read_2020(kins) if record.category == "car").modal[50, 36:60].any()


def test_a_polygon_that_leaves_its_image_is_clipped_with_a_message(kins):
    first = json.loads((kins / KINS).read_text())["annotations"][0]["id"]
    shape = [-20.0, 30.5, 60.25, -8.5, 150.0, 41.0, 70.5, 120.0]

    def leave(content):
        for entry in content["annotations"][:2]:
            entry["a_segm"] = [shape]

    edit_json(kins / KINS, leave)
    text = rf"{KINS}: polygons of 2 of 12 objects leave .* \(first: annotation {first}\)"
    with pytest.warns(UserWarning, match=text):
        record = read_2020(kins)[0]
    moved = [value + (100, 100)[place % 2] for place, value in enumerate(shape)]
    whole = decode([moved], [400, 400])[100 : 100 + record.height, 100 : 100 + record.width]
    square = np.ones((3, 3), np.uint8)  # COCO rounds negative numbers differently: by a pixel, on the outline
    outline = cv2.dilate(whole.astype(np.uint8), square) - cv2.erode(whole.astype(np.uint8), square) > 0
    assert np.array_equal(record.amodal & ~outline, whole & ~outline) and (whole & ~outline).sum() > 8000

    def edge(content):  # coordinates of exactly W and H are inside
        for entry in content["annotations"][:2]:
            entry["a_segm"] = [[0, 0, 130, 0, 130, 88, 0, 88]]

    edit_json(kins / KINS, edge)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_2020(kins)


def test_the_size_is_taken_from_the_masks_then_the_file_then_the_photo(cls, kins):
    def wrong(content):
        content["images"][0].update(height=200, width=300)

    edit_json(cls / CLS, wrong)
    wrong_id = str(json.loads((cls / CLS).read_text())["images"][0]["id"])
    for record in read_cls(cls):
        assert ("size_mismatch" in record.flags) == (record.image_id == wrong_id)
        assert (record.height, record.width) == images.image_size(record.image)

    def none(content):
        for entry in content["images"]:
            del entry["height"], entry["width"]

    before = [record.amodal_rle for record in read_2020(kins)]
    edit_json(kins / KINS, none)
    assert [record.amodal_rle for record in read_2020(kins)] == before
    with pytest.raises(UserError, match=rf"{KINS}: annotation \d+: the size of its masks is unknown"):
        read_kins(KinsData(root=str(kins)), photos=False)
    edit_json(cls / CLS, none)
    assert len(read_cocoa_cls(CocoaClsData(root=str(cls)), photos=False)) == 12


def test_a_wrong_stored_rate_is_reported_and_not_used(cls):
    before = [record.occlusion_rate for record in read_cls(cls)]
    edit_json(cls / CLS, lambda content: content["annotations"][3].update(occlude_rate=0.77))
    with pytest.warns(UserWarning, match="occlusion rate of 1 of 12 objects differs by more than 0.01"):
        records = read_cls(cls)
    assert [record.occlusion_rate for record in records] == before and records[3].raw_rate == 0.77


def test_modal_outside_amodal_crowds_and_unlisted_categories(cls):
    def change(content):
        entry = content["annotations"][0]
        mask = decode(entry["visible_mask"], None)
        mask[:2, :4] = True
        entry.update(visible_mask=compressed(mask), iscrowd=1, category_id=77)
        content["annotations"][1]["category_id"] = None

    edit_json(cls / CLS, change)
    kept, united = read_cls(cls)[0], read_cls(cls, fix_subset="union")[0]
    assert kept.flags >= {"modal_outside_amodal", "crowd"} and (kept.modal & ~kept.amodal).sum() == 8
    assert not (united.modal & ~united.amodal).any() and united.flags == kept.flags
    assert (kept.category_id, kept.category) == (77, None) and read_cls(cls)[1].category is None


MISTAKES = [
    (lambda c: c.pop("images"), "lacks 'images'"),
    (lambda c: c.update(annotations=[]), "holds no annotation"),
    (lambda c: c["annotations"][0].pop("a_segm"), r"annotation number 1 lacks 'a_segm'.*version=2019"),
    (lambda c: c["annotations"][0].update(a_segm=[[float("nan"), 1, 5, 1, 5, 5]]), r"'a_segm'\) .* nan or infinity"),
    (lambda c: c["annotations"][0].update(a_segm=[[1e300, 1, 5, 1, 5, 5]]), r"'a_segm'\) .* far outside"),
    (lambda c: c["annotations"][0].update(a_segm=[[1, 1, 5, 1]]), r"'a_segm'\) .* three x, y pairs"),
    (lambda c: c["annotations"][0].update(a_segm=[]), r"'a_segm'\) .* cannot be read"),
    (lambda c: c["annotations"][0].update(a_segm="polygon"), r"'a_segm'\) .* not str"),
    (lambda c: c["annotations"][0].update(i_segm=[[1, 1, "x", 1, 5, 5]]), r"'i_segm'\) .* list of numbers"),
    (lambda c: c["annotations"][0].update(i_segm={"size": [90, 130], "counts": [5, 5]}), r"'i_segm'\) .* 10 pixels"),
    (lambda c: c["annotations"][0].update(i_segm={"size": [90, 130], "counts": "zz"}), r"'i_segm'\) .* cannot be read"),
    (lambda c: c["annotations"][0].update(i_segm={"size": [10**9, 9], "counts": [1]}), r"'i_segm'\) .* size"),
    (lambda c: c["images"][0].update(height=10**7), r"image 10 has a stated size of 130x10000000"),
    (lambda c: c["images"][0].update(width=0), r"image 10 has a stated size of 0x90"),
    (lambda c: c["images"][0].update(file_name="x/000000.png"), r"image 40 \('000000'\) has the same name as image 10"),
    (lambda c: c["annotations"][0].update(image_id=77), r"annotation without image.*annotation ids"),
    (lambda c: c["annotations"][0].update(c["annotations"][1]), "1 annotation ids occur more than once"),
    (lambda c: c["annotations"][0].update(a_area="big"), "'a_area' must be a whole number or a number"),
    (lambda c: c["annotations"][0].update(oco_id=None), "'oco_id' must be a whole number, not null"),
    (lambda c: c["categories"][0].pop("name"), "category number 1 lacks 'name'"),
]


@pytest.mark.parametrize(("change", "text"), MISTAKES)
def test_mistakes_are_located_in_one_line(kins, change, text):
    edit_json(kins / KINS, change)
    with pytest.raises(UserError, match=f"{KINS}.*{text}") as caught:
        read_2020(kins)
    assert "\n" not in str(caught.value)


def test_masks_of_one_object_must_be_of_one_size(cls):
    edit_json(cls / CLS, lambda c: c["annotations"][2].update(visible_mask=compressed(np.ones((9, 8), bool))))
    number = json.loads((cls / CLS).read_text())["annotations"][2]["id"]
    with pytest.raises(UserError, match=rf"annotation {number} .*\[9, 8\]"):
        read_cls(cls)


def test_skip_broken_skips_unreadable_masks_and_missing_photos(kins):
    edit_json(kins / KINS, lambda c: c["annotations"][0].update(a_segm=[[1, 1, 5, 1]]))
    with pytest.warns(UserWarning, match="1 of 12 objects are left out: .*three x, y pairs"):
        records = read_2020(kins, skip_broken=True)
    assert len(records) == 11
    records[0].image.unlink()
    with pytest.warns(UserWarning, match="1 of 2 photos are missing"):
        rest = read_2020(kins, skip_broken=True)
    assert 0 < len(rest) < 11 and records[0].image not in {record.image for record in rest}


def test_alternative_file_locations(cls, tmp_path):
    expected = [record.key for record in read_cls(cls)]
    (cls / "COCOA_annotations_detectron").mkdir()
    (cls / CLS).rename(cls / "COCOA_annotations_detectron" / (cls / CLS).name)
    (cls / "images").mkdir()
    (cls / "val2014").rename(cls / "images/val2014")
    assert [record.key for record in read_cls(cls)] == expected
    (cls / "images/val2014").rename(tmp_path / "photos")
    with pytest.raises(UserError, match=r"no photos of cocoa_cls, split val; these folders were tried: .*data.images"):
        read_cls(cls)
    assert [record.key for record in read_cls(cls, images=str(tmp_path / "photos"))] == expected
    assert len(read_cocoa_cls(CocoaClsData(root=str(cls)), photos=False)) == 12
    with pytest.raises(UserError, match=r"no annotations of cocoa_cls, split train; .*detectron.*COCO\.zip"):
        read_cls(cls, split="train")
    with pytest.raises(UserError, match="cocoa_cls has no split 'test': it has train, val"):
        read_cls(cls, split="test")


def test_packed_records_equal_the_original_ones(cls):
    records = read_cls(cls)
    packed = PackedRecords(records)
    assert held(packed.get(i) for i in range(len(packed))) == held(records)
