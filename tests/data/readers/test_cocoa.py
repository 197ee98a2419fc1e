import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodalseg import masks
from amodalseg.config.schema import CocoaData
from amodalseg.data import readers
from amodalseg.data.images import image_size, load_image, save_png
from amodalseg.data.open import open_source
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from tests.worlds import cocoa_world, compressed, edit_json
from tests.worlds.compare import held

FILE = "annotations/COCO_amodal_val2014.json"


def read_cocoa(root, split="val", images=None, **options):
    images = None if images is None else str(images)
    return readers.read_cocoa(CocoaData(root=str(root), split=split, images=images, **options))


@pytest.fixture
def root(tmp_path):
    return cocoa_world(tmp_path / "cocoa")


def region(content, index, annotation=-1):
    """A region of the first photo, whose annotation is the last one in the file."""
    return content["annotations"][annotation]["regions"][index]


def of_first_photo(records):
    return [record for record in records if record.image_id == "1000"]


def test_every_region_becomes_a_record(root):
    records = read_cocoa(root)
    content = json.loads((root / FILE).read_text())
    files = {entry["id"]: entry for entry in content["images"]}
    place = 0
    for annotation in content["annotations"]:
        photo = files[annotation["image_id"]]
        for index, entry in enumerate(annotation["regions"]):
            record, place = records[place], place + 1
            assert record.key == f"cocoa/val/{annotation['image_id']}/{annotation['id']}-{index}"
            assert record.image == root / "val2014" / photo["file_name"]
            assert (record.height, record.width) == (photo["height"], photo["width"]) == image_size(record.image)
            assert (record.order, record.is_stuff) == (entry["order"], bool(entry["isStuff"]))
            assert record.category == entry["name"].strip() and record.category_id is None
            assert record.group == {"annotator": annotation["author"]}
            assert isinstance(record.raw_rate, float) and record.raw_rate == pytest.approx(record.occlusion_rate)
            assert record.amodal.sum() == entry["area"]
    assert place == len(records) == 12
    assert [record.category for record in records[:6]] == ["cup", "plate", "dog", "ball", "spoon", "table"]


def test_modal_masks_follow_from_the_depth_order(root):
    records = of_first_photo(read_cocoa(root))
    nearer = np.zeros((90, 120), bool)
    for record in records:  # sorted by order in this world
        assert np.array_equal(record.modal, record.amodal & ~nearer)
        nearer |= record.amodal
    cup, plate, dog, ball, spoon, table = records
    for whole in (cup, dog):
        assert whole.flags == {"fully_visible"} and whole.occluder_rle is None and whole.occlusion_rate == 0
        assert np.array_equal(whole.modal, whole.amodal)
    assert ball.flags == {"empty_modal"} and ball.raw_rate == 1 and not ball.modal.any() and ball.amodal.any()
    assert plate.flags == spoon.flags == table.flags == frozenset()
    edit_json(root / FILE, lambda content: region(content, 2).update(visible_mask=compressed(dog.amodal)))
    assert of_first_photo(read_cocoa(root))[2].flags == {"fully_visible"}
    assert table.is_stuff and 0 < plate.occlusion_rate < 1


def test_occluders_are_the_nearer_regions_that_meet_the_hidden_part(root):
    cup, plate, dog, ball, spoon, table = of_first_photo(read_cocoa(root))
    assert np.array_equal(plate.occluder, cup.amodal)
    assert np.array_equal(ball.occluder, dog.amodal)
    # the ball is behind the dog and hides nothing by itself, but its amodal mask meets the hidden part
    meeting = [other for other in (cup, plate, dog, ball, spoon) if (other.amodal & table.occluded).any()]
    assert np.array_equal(table.occluder, np.any([other.amodal for other in meeting], axis=0))
    meeting = [other for other in (cup, plate, dog, ball) if (other.amodal & spoon.occluded).any()]
    assert 0 < len(meeting) < 4
    assert np.array_equal(spoon.occluder, np.any([other.amodal for other in meeting], axis=0))


def test_split_names_and_stuff(root):
    plain, long = read_cocoa(root, "val"), read_cocoa(str(root), "val2014")
    assert [record.key for record in plain] == [record.key for record in long]
    things = read_cocoa(root, include_stuff=False)
    assert [record.key for record in things] == [record.key for record in plain if not record.is_stuff]
    assert len(things) == 10
    train = cocoa_world(root.parent / "other", split="train")
    assert read_cocoa(train, "train")[0].key.startswith("cocoa/train/")


def test_excluded_stuff_still_occludes(root):
    edit_json(root / FILE, lambda content: region(content, 0).__setitem__("isStuff", 1))
    plate = of_first_photo(read_cocoa(root, include_stuff=False))[0]
    assert plate.category == "plate" and plate.occluder is not None and plate.occluder.any()


def test_stored_invisible_mask_rate_and_area_are_not_used(root):
    before = [(record.occlusion_rate, record.modal_rle, record.amodal_rle) for record in read_cocoa(root)]

    def change(content):
        region(content, 1)["invisible_mask"] = compressed(np.ones((90, 120), bool))
        region(content, 1).update(occlude_rate=0.123, area=5)
        region(content, 0)["invisible_mask"] = compressed(np.ones((90, 120), bool))

    edit_json(root / FILE, change)
    records = read_cocoa(root)
    assert [(record.occlusion_rate, record.modal_rle, record.amodal_rle) for record in records] == before
    assert of_first_photo(records)[1].raw_rate == 0.123


def test_optional_keys_may_be_absent(root):
    def change(content):
        for key in ("order", "occlude_rate", "isStuff", "name"):
            del region(content, 1)[key]
        del content["annotations"][-1]["author"]
        content["annotations"][0]["regions"][0]["name"] = "  "

    edit_json(root / FILE, change)
    records = read_cocoa(root)
    plate = of_first_photo(records)[1]
    assert (plate.order, plate.raw_rate, plate.category, plate.is_stuff) == (None, None, None, False)
    assert plate.group == {"annotator": None} and plate.occluder_rle is None and plate.occlusion_rate > 0
    assert records[0].category is None
    assert of_first_photo(records)[4].occluder_rle is None, "the plate alone hid the spoon; now nobody knows"


def test_modal_outside_amodal(root):
    outside = np.zeros((90, 120), bool)
    outside[:3, :5] = True

    def change(content):
        modal = masks.decode(masks.from_segmentation(region(content, 1)["visible_mask"], 90, 120))
        region(content, 1)["visible_mask"] = compressed(modal | outside)

    before = of_first_photo(read_cocoa(root))[1]
    edit_json(root / FILE, change)
    kept = of_first_photo(read_cocoa(root))[1]
    united = of_first_photo(read_cocoa(root, fix_subset="union"))[1]
    assert kept.flags == united.flags == {"modal_outside_amodal"}
    assert np.array_equal(kept.modal, before.modal | outside) and np.array_equal(united.modal, kept.modal)
    assert np.array_equal(kept.amodal, before.amodal) and np.array_equal(united.amodal, before.amodal | outside)
    assert np.array_equal(kept.occluder, before.occluder)


def test_join_is_by_id_not_by_position(root):
    def change(content):
        content["images"].reverse()
        content["images"].insert(0, {"id": 1, "file_name": "absent.jpg", "height": 3, "width": 3})

    before = [(record.key, record.image) for record in read_cocoa(root)]
    edit_json(root / FILE, change)
    assert [(record.key, record.image) for record in read_cocoa(root)] == before


def test_photo_of_another_size_is_resized_to_the_masks(root):
    path = of_first_photo(read_cocoa(root))[0].image
    smaller = load_image(path)[::2, ::2]
    save_png(path, smaller)  # the file extension does not matter
    records = read_cocoa(root)
    assert all(("size_mismatch" in record.flags) == (record.image == path) for record in records)
    record = of_first_photo(records)[0]
    assert record_image(record).shape == (90, 120, 3) and record.modal.shape == (90, 120)
    blocks = record_image(record).reshape(45, 2, 60, 2, 3).mean(axis=(1, 3))
    assert np.abs(blocks - smaller).mean() < 25


def test_a_grey_photo_is_read_as_rgb(root):
    record = read_cocoa(root)[0]
    with Image.open(record.image) as photo:
        photo.convert("L").save(record.image)
    pixels = record_image(read_cocoa(root)[0])
    assert pixels.shape == (record.height, record.width, 3) and (pixels == pixels[..., :1]).all()


def test_size_comes_from_run_lengths_then_json_then_photo(root):
    def wrong(content):
        for entry in content["images"]:
            entry |= {"height": entry["height"] + 10, "width": entry["width"] + 20}

    edit_json(root / FILE, wrong)
    records = read_cocoa(root)
    assert all((record.height, record.width) == image_size(record.image) for record in records)
    assert all("size_mismatch" in record.flags for record in records)

    def no_runs(content):
        for annotation in content["annotations"]:
            for entry in annotation["regions"]:
                entry.pop("visible_mask", None)

    edit_json(root / FILE, no_runs)
    records = read_cocoa(root)
    assert [record.height - image_size(record.image)[0] for record in records] == [10] * 12
    assert all(record.flags == {"size_mismatch", "fully_visible"} for record in records)

    def no_size(content):
        for entry in content["images"]:
            del entry["height"], entry["width"]

    edit_json(root / FILE, no_size)
    records = read_cocoa(root)
    assert all((record.height, record.width) == image_size(record.image) for record in records)
    assert all(record.flags == {"fully_visible"} for record in records)


def test_single_record(root, tmp_path):
    for entry in (content := json.loads((root / FILE).read_text()))["annotations"]:
        del entry["depth_constraint"]
    (root / FILE).write_text(json.dumps(content))
    annotation = content["annotations"][-1]
    path = tmp_path / "one.json"
    path.write_text(json.dumps(annotation))
    expected = of_first_photo(read_cocoa(root))
    assert held(read_cocoa(path, images=root / "val2014")) == held(expected)
    (tmp_path / expected[0].image.name).write_bytes(expected[0].image.read_bytes())
    beside = read_cocoa(path)
    assert [record.image for record in beside] == [tmp_path / expected[0].image.name] * 6
    assert held(read_cocoa(root / FILE, images=root / "val2014")[6:]) == held(expected)
    del annotation["url"]
    path.write_text(json.dumps(annotation))
    with pytest.raises(UserError, match=r"one\.json: annotation number 1 lacks 'url'"):
        read_cocoa(path)


def test_list_of_bare_records(root, tmp_path):
    edit_json(root / FILE, lambda content: [entry.pop("depth_constraint") for entry in content["annotations"]])
    path, whole = tmp_path / "some.json", read_cocoa(root)
    path.write_text(json.dumps(json.loads((root / FILE).read_text())["annotations"]))
    assert held(read_cocoa(path, images=root / "val2014")) == held(whole)
    edit_json(path, lambda content: content[0].update(id=content[1]["id"]))
    with pytest.raises(UserError, match=r"some\.json: 1 annotation ids occur more than once: 40"):
        read_cocoa(path, images=root / "val2014")
    edit_json(path, lambda content: content[1].pop("url"))
    with pytest.raises(UserError, match=r"some\.json: annotation number 2 lacks 'url'"):
        read_cocoa(path, images=root / "val2014")


def test_annotations_are_read_without_photos(root, tmp_path):
    whole, content = read_cocoa(root), json.loads((root / FILE).read_text())
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(content["annotations"]))
    for path in (root / "val2014").iterdir():
        path.unlink()
    (root / "val2014").rmdir()
    assert held(readers.read_cocoa(CocoaData(root=str(root)), photos=False)) == held(whole)
    found = readers.read_cocoa(CocoaData(root=str(bare), images=str(root / "val2014")), photos=False)
    assert held(found) == held(whole), "the sizes come from the run lengths"
    for annotation in content["annotations"]:
        annotation["regions"] = [entry for entry in annotation["regions"] if "visible_mask" not in entry]
    bare.write_text(json.dumps(content["annotations"]))
    with pytest.raises(UserError, match=r"the size of .*COCO_val2014_000000000700\.jpg is unknown"):
        readers.read_cocoa(CocoaData(root=str(bare)), photos=False)


def test_depth_constraint(root):
    behind = [record.extra.get("behind") for record in of_first_photo(read_cocoa(root))]
    assert behind == [None, [1], None, None, [2], None], "of the text 1-2,2-6"
    for text in ("", "x-1", "1-2,", None, 5, "1" * 5000 + "-2"):
        edit_json(root / FILE, lambda content, text=text: content["annotations"][-1].update(depth_constraint=text))
        assert not any("behind" in record.extra for record in of_first_photo(read_cocoa(root)))


def test_invalid_values_of_unused_keys_are_ignored(root):
    def change(content):
        for image in content["images"]:
            image.update(data_captured="?", license="?", flickr_url=None)
        for annotation in content["annotations"]:
            annotation.update(size="?", url=None)

    before = read_cocoa(root)
    edit_json(root / FILE, change)
    assert held(read_cocoa(root)) == held(before)


NAN = float("nan")
HOSTILE = [
    ("segmentation", [NAN, 5.0, 20.0, 5.0, 20.0, 20.0], "nan or infinity"),
    ("segmentation", [["1", "5", "20", "5", "20", "20"]], "list of numbers"),
    ("segmentation", [1e300, 5.0, 20.0, 5.0, 20.0, 20.0], "far outside"),
    ("segmentation", [-1e6, 5.0, 20.0, 5.0, 20.0, 20.0], "far outside"),
    ("segmentation", [1.0, 2.0, 3.0, 4.0], "three x, y pairs"),
    ("segmentation", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "three x, y pairs"),
    ("segmentation", [], "a mask is a polygon"),
    ("segmentation", ["a", "b", "c", "d", "e", "f"], "cannot be read"),
    ("visible_mask", {"size": [90, 120], "counts": "0"}, "not to 90 x 120"),
    ("visible_mask", {"size": [90, 120], "counts": [5, 5]}, "not to 90 x 120"),
    ("visible_mask", {"size": [90, 120], "counts": [-5, 10805]}, "not negative"),
    ("visible_mask", {"size": [90, 120], "counts": "\x00\xff"}, "damaged"),
    ("visible_mask", {"size": [10**9, 10**9], "counts": [10**18]}, "from 1 to 20000"),
    ("visible_mask", {"size": [-90, -120], "counts": [10800]}, "from 1 to 20000"),
]


@pytest.mark.parametrize(("key", "value", "text"), HOSTILE)
def test_hostile_masks(root, key, value, text):
    edit_json(root / FILE, lambda content: region(content, 1).__setitem__(key, value))
    with pytest.raises(UserError, match=rf"COCO_amodal_val2014\.json: annotation 40, region 1 .*{text}") as error:
        read_cocoa(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [10**9, 0, -5, "90", 90.5, None])
def test_absurd_image_sizes(root, size):
    def change(content):
        for image in content["images"]:
            image["height"] = size
        for annotation in content["annotations"]:
            annotation["regions"] = [entry for entry in annotation["regions"] if "visible_mask" not in entry]

    edit_json(root / FILE, change)
    with pytest.raises(UserError, match=r"annotation 41, region 0 .*whole numbers from 1 to 20000"):
        read_cocoa(root)


MISTAKES = [
    (lambda c: c.pop("images"), "lacks 'images'"),
    (lambda c: c.pop("annotations"), "lacks 'annotations'"),
    (lambda c: c["annotations"][0].pop("regions"), "annotation number 1 lacks 'regions'"),
    (lambda c: c["images"][0].pop("file_name"), "image number 1 lacks 'file_name'"),
    (lambda c: region(c, 2).pop("segmentation"), "annotation 40, region 2 lacks 'segmentation'"),
    (lambda c: region(c, 2).__setitem__("segmentation", [1, 2]), "annotation 40, region 2 .* three x, y pairs"),
    (lambda c: region(c, 1).__setitem__("visible_mask", None), "annotation 40, region 1 .* cannot be read"),
    (lambda c: region(c, 3).update(visible_mask=compressed(np.ones((9, 8)))), r"annotation 40, region 3 .* \[9, 8\]"),
    (lambda c: region(c, 3)["visible_mask"].update(size=[5, 5]), "annotation 40, region 3 .* not to 5 x 5"),
    (lambda c: region(c, 1)["visible_mask"].update(size=[90]), r"annotation 40, region 1 .* size .* not \[90\]"),
    (lambda c: region(c, 1)["visible_mask"].update(size="ab"), "annotation 40, region 1 .* size .* not 'ab'"),
    (lambda c: region(c, 3)["visible_mask"].update(size="ab"), "annotation 40, region 3 .* size .* not 'ab'"),
    (lambda c: region(c, 2).update(order="1"), "annotation 40, region 2: 'order' must be a whole number, not a text"),
    (lambda c: region(c, 2).update(order=None), "annotation 40, region 2: 'order' must be a whole number, not null"),
    (lambda c: region(c, 2).update(name=None), "annotation 40, region 2: 'name' must be a text, not null"),
    (lambda c: region(c, 2).update(name=3), "annotation 40, region 2: 'name' must be a text, not a whole number"),
    (lambda c: region(c, 2).update(occlude_rate="0"), "region 2: 'occlude_rate' must be .* a number, not a text"),
    (lambda c: region(c, 2).update(occlude_rate=None), "region 2: 'occlude_rate' must be .* a number, not null"),
    (lambda c: c["annotations"][0].update(regions=None), "annotation number 1: 'regions' must be a list, not null"),
    (lambda c: c["annotations"][0].update(regions=[7]), "annotation 41, region 0 must be a json object"),
    (lambda c: c["annotations"][0].update(image_id=[5]), "annotation number 1: 'image_id' must be .* not a list"),
    (lambda c: c["images"][0].update(file_name=None), "image number 1: 'file_name' must be a text, not null"),
    (lambda c: c["annotations"][0].__setitem__("image_id", 5), r"annotation without image: .*\(annotation ids 41\)"),
    (lambda c: c["annotations"][0].__setitem__("id", 40), "1 annotation ids occur more than once: 40"),
]


@pytest.mark.parametrize(("change", "text"), MISTAKES)
def test_mistakes_in_the_file_are_located(root, change, text):
    edit_json(root / FILE, change)
    with pytest.raises(UserError, match=f"COCO_amodal_val2014.json.*{text}"):
        read_cocoa(root)


def test_missing_files(root, tmp_path):
    with pytest.raises(UserError, match=r"COCO_amodal_test2014\.json: No such file"):
        read_cocoa(root, "test")
    with pytest.raises(UserError, match=r"nowhere/annotations/COCO_amodal_val2014\.json: No such file"):
        read_cocoa(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no image folder at .*absent"):
        read_cocoa(root, images=tmp_path / "absent")
    gone = of_first_photo(read_cocoa(root))[0].image
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name} \(1 of 2 photos are missing\)"):
        read_cocoa(root)
    with pytest.warns(UserWarning, match=rf"{gone.name} \(1 of 2 photos are missing\)"):
        records = read_cocoa(root, skip_broken=True)
    assert len(records) == 6 and not of_first_photo(records)


@pytest.mark.parametrize("data", [b"no photo", None])
def test_broken_photos_are_counted_or_skipped(root, data):
    path = of_first_photo(read_cocoa(root))[0].image
    path.write_bytes(data or path.read_bytes()[:-300])
    text = rf"{path.name}.* ?\(1 of 2 photos are broken; data\.skip_broken=true leaves them out\)"
    with pytest.raises(UserError, match=text):
        open_source(CocoaData(root=str(root)))
    with pytest.warns(UserWarning, match=rf"{path.name}.*; 1 of 2 photos are left out"):
        source = open_source(CocoaData(root=str(root), skip_broken=True))
    assert len(source) == 6 and path not in {source.get(i).image for i in range(6)}


def test_a_broken_photo_of_unknown_size_is_refused(root):
    def change(content):
        del content["images"][0]["height"]
        for entry in content["annotations"][-1]["regions"]:
            entry.pop("visible_mask", None)

    path = of_first_photo(read_cocoa(root))[0].image
    path.write_bytes(b"no photo")
    edit_json(root / FILE, change)
    with pytest.raises(UserError, match=path.name):
        read_cocoa(root, skip_broken=True)


@pytest.mark.skipif("AMODALSEG_DATA" not in os.environ, reason="AMODALSEG_DATA is not set: no real COCOA photos")
def test_real_annotations():
    records = read_cocoa(Path(os.environ["AMODALSEG_DATA"]) / "cocoa")
    pairs = [(record.modal, record.amodal) for record in records]
    inter = np.array([(modal & amodal).sum() for modal, amodal in pairs])
    union = np.array([(modal | amodal).sum() for modal, amodal in pairs])
    assert len(records) == 13 and sum("fully_visible" not in record.flags for record in records) == 6
    assert inter.sum() / union.sum() == pytest.approx(0.8049, abs=5e-5)
    assert (inter / union).mean() == pytest.approx(0.8759, abs=5e-5)
    for record in records:
        assert record.flags <= {"fully_visible"} and record.occlusion_rate == pytest.approx(record.raw_rate, abs=1e-9)
        assert record_image(record).shape[:2] == (record.height, record.width)
        if "fully_visible" not in record.flags:
            assert not (record.occluded & ~record.occluder).any()
