import json
import shutil
import warnings

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import CocoData
from amodalseg.data import record_pictures
from amodalseg.data.images import load_image, save_png
from amodalseg.data.open import open_source
from amodalseg.data.readers import read_coco_files, read_coco_instances
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from tests.worlds import coco_world, compressed, disc, edit_json
from tests.worlds.compare import held


@pytest.fixture
def world(tmp_path):
    return coco_world(tmp_path)


def break_json(world, change):
    edit_json(world[0], change)
    return world


def test_every_annotation_becomes_a_record(world):
    content = json.loads(world[0].read_text())
    records = read_coco_instances(*world, "train")
    assert len(records) == len(content["annotations"]) == 18
    assert len({record.key for record in records}) == 18
    files = {entry["id"]: entry for entry in content["images"]}
    for record, entry in zip(records, content["annotations"], strict=True):
        photo = files[entry["image_id"]]
        assert record.key == f"coco/train/{entry['image_id']}/{entry['id']}"
        assert record.image == world[1] / photo["file_name"]
        assert (record.height, record.width) == (photo["height"], photo["width"])
        assert record.category == {3: "car", 44: "bottle", 90: "toothbrush"}[record.category_id]
        assert record.amodal_rle is None and record.modal_source == "gt"
        assert record_image(record).shape == (photo["height"], photo["width"], 3)
        with pytest.raises(UserError, match=record.key):
            _ = record.amodal
    assert ["crowd" in record.flags for record in records] == [False, False, False, False, False, True] * 3
    assert all(record.flags <= {"crowd"} for record in records)


def test_all_four_encodings_give_the_drawn_mask(world):
    records = read_coco_instances(*world, "train")[:6]
    size = records[0].height, records[0].width
    ellipse, pair, runs, text, border, crowd = (record.modal for record in records)
    assert np.array_equal(runs, disc(*size, 32, 66, 20, 16)) and np.array_equal(text, disc(*size, 98, 28, 15, 20))
    assert np.array_equal(crowd, disc(*size, 70, 70, 9, 16) | disc(*size, 84, 72, 5, 10))
    for polygon, drawn in (
        (ellipse, disc(*size, 28.5, 26.25, 17, 13)),
        (pair, disc(*size, 64, 20, 9, 12) | disc(*size, 72.5, 26, 10, 14.5)),
    ):  # polygons have sixteen corners instead of a round outline
        assert (polygon & drawn).sum() / (polygon | drawn).sum() > 0.93
    assert masks.touches_border(border) and not any(map(masks.touches_border, (ellipse, pair, runs, text)))


def test_categories_are_optional(world):
    break_json(world, lambda content: content.pop("categories"))
    record = read_coco_instances(*world, "train", "mine")[0]
    assert (record.category_id, record.category, record.dataset) == (3, None, "mine")


def test_empty_mask_is_flagged(world):
    def change(content):
        content["annotations"][2]["segmentation"]["counts"] = [96 * 128]

    records = read_coco_instances(*break_json(world, change), "train")
    assert [i for i, record in enumerate(records) if "empty_modal" in record.flags] == [2]


def mutate(path, value):
    """A function that sets the entry at a path of keys, or deletes it if ``value`` is ``...``."""

    def change(content):
        for key in path[:-1]:
            content = content[key]
        if value is ...:
            del content[path[-1]]
        else:
            content[path[-1]] = value

    return change


MISTAKES = [
    (["images"], ..., "lacks 'images'"),
    (["annotations"], ..., "lacks 'annotations'"),
    (["images"], 3, "'images' must be a list"),
    (["annotations", 4, "segmentation"], ..., "annotation number 5 lacks 'segmentation'"),
    (["annotations", 4, "id"], ..., "annotation number 5 lacks 'id'"),
    (["annotations", 4, "image_id"], ..., "annotation number 5 lacks 'image_id'"),
    (["annotations", 4], 7, "annotation number 5 must be a json object"),
    (["images", 1, "file_name"], ..., "image number 2 lacks 'file_name'"),
    (["images", 1, "height"], ..., "image number 2 lacks 'height'"),
    (["categories", 1, "name"], ..., "category number 2 lacks 'name'"),
    (["annotations", 4, "image_id"], 999, r"annotation without image: .* 1 annotations .*\(annotation ids 972\)"),
    (["annotations", 4, "id"], 1000, "1 annotation ids occur more than once: 1000"),
    (["images", 1, "id"], 5, "1 image ids occur more than once: 5"),
    (["annotations", 0, "segmentation"], [[1, 2, 3, 4]], "annotation 1000 .* three x, y pairs"),
    (["annotations", 0, "segmentation"], [], "annotation 1000 .* cannot be read"),
    (["annotations", 0, "segmentation"], [[1, 2, 3, 4, 5, None]], "annotation 1000 .* cannot be read"),
    (
        ["annotations", 3, "segmentation", "size"],
        [96, 127],
        "annotation 979 .* add up to 12288 pixels, not to 96 x 127",
    ),
    (["annotations", 3, "segmentation"], compressed(np.ones((96, 127))), "979 has a mask of 127x96, .* is 128x96"),
    (["annotations", 2, "segmentation", "size"], [128, 96], "annotation 986 has a mask of 96x128, .* is 128x96"),
    (["annotations", 2, "segmentation", "size"], [96], r"annotation 986 .* \[height, width\]"),
    (["annotations", 2, "segmentation", "counts"], [96 * 128 + 1, -1], "annotation 986 .* not negative"),
    (["annotations", 3, "segmentation", "counts"], "!!!", "annotation 979 .* damaged or cut off"),
    (["annotations", 3, "segmentation", "counts"], 5, "annotation 979 .* list or a text"),
    (["annotations", 0, "segmentation"], [[1, 2, 3, 4, 5, 1e300]], "annotation 1000 .* far outside"),
    (["annotations", 0, "segmentation"], [[1, 2, 3, 4, 5, float("nan")]], "annotation 1000 .* nan or infinity"),
    (["images", 2, "height"], -96, r"annotation 1000 .* \[height, width\].* not \[-96, 128\]"),
    (["categories"], None, "'categories' must be a list, not null"),
    (["categories"], 3, "'categories' must be a list, not a whole number"),
    (["categories", 1, "id"], [1], "category number 2: 'id' must be a whole number or a text, not a list"),
    (["annotations", 4, "id"], [4], "annotation number 5: 'id' must be a whole number or a text, not a list"),
    (["annotations", 4, "image_id"], [5], "annotation number 5: 'image_id' must be a whole number or a text"),
    (["annotations", 4, "category_id"], [5], "annotation number 5: 'category_id' must be .* not a list"),
    (["images", 1, "id"], {}, "image number 2: 'id' must be a whole number or a text, not an object"),
    (["images", 1, "file_name"], 7, "image number 2: 'file_name' must be a text, not a whole number"),
    (["images", 1, "file_name"], None, "image number 2: 'file_name' must be a text, not null"),
    (["images", 1, "width"], 128.5, "image number 2: 'width' must be a whole number, not a number"),
]


@pytest.mark.parametrize(("path", "value", "text"), MISTAKES)
def test_mistakes_in_the_file_are_located(world, path, value, text):
    break_json(world, mutate(path, value))
    with pytest.raises(UserError, match=f"instances_train.json.*{text}"):
        read_coco_instances(*world, "train")


def test_a_list_is_refused_as_an_instances_file(world):
    world[0].write_text("[]")
    with pytest.raises(UserError, match=r"instances_train\.json must be a json object .* not a list"):
        read_coco_instances(*world, "train")


def test_missing_or_broken_files_are_refused(world, tmp_path):
    with pytest.raises(UserError, match=r"absent\.json: No such file"):
        read_coco_instances(tmp_path / "absent.json", world[1], "train")
    with pytest.raises(UserError, match="train is a folder: give the json file"):
        read_coco_instances(world[1], world[1], "train")
    with pytest.raises(UserError, match=r"no image folder at .*nowhere"):
        read_coco_instances(world[0], tmp_path / "nowhere", "train")
    text = world[0].read_text()
    world[0].write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(UserError, match=r"instances_train\.json is broken json at line 2, column 18"):
        read_coco_instances(*world, "train")
    world[0].write_text(text[:-100])
    with pytest.raises(UserError, match=r"instances_train\.json is broken json at line 1"):
        read_coco_instances(*world, "train")
    for odd in ("[" * 100_000, "9" * 5000):
        world[0].write_text(odd)
        with pytest.raises(UserError, match=r"instances_train\.json is broken json: nested too deeply, or a number"):
            read_coco_instances(*world, "train")
    world[0].write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(UserError, match=r"instances_train\.json is not json"):
        read_coco_instances(*world, "train")


def test_missing_photos_are_counted_or_skipped(world):
    names = sorted(path.name for path in world[1].iterdir())
    for name in names[1:]:
        (world[1] / name).unlink()
    with pytest.raises(UserError, match=rf"{names[1]} \(2 of 3 photos are missing\).*skip_broken"):
        read_coco_instances(*world, "train")
    with pytest.warns(UserWarning, match=rf"{names[1]} \(2 of 3 photos are missing\): their objects are left out"):
        records = read_coco_instances(*world, "train", skip_broken=True)
    assert {record.image.name for record in records} == {names[0]} and len(records) == 6


def test_photos_of_a_different_size_are_found_on_opening(world):
    names = sorted(path.name for path in world[1].iterdir())
    save_png(world[1] / names[0], load_image(world[1] / names[0])[:-1])
    (world[1] / names[2]).write_bytes(b"no photo")
    config = CocoData(annotations=[str(world[0])], images=[str(world[1])])
    text = rf"different size: .*{names[0]} is 128x95, the masks of .* are 128x96 .*"
    with pytest.raises(UserError, match=rf"{text}\(2 of 3 photos are broken; data\.skip_broken=true leaves them out\)"):
        open_source(config)
    config.skip_broken = True
    with pytest.warns(UserWarning, match=f"{text}; 2 of 3 photos are left out"):
        source = open_source(config)
    assert {source.get(i).image.name for i in range(len(source))} == {names[1]} and len(source) == 6


def test_each_photo_is_decoded_once(world, monkeypatch):
    seen = []
    monkeypatch.setattr(record_pictures, "load_image", lambda path, **how: seen.append(path) or load_image(path, **how))
    open_source(CocoData(annotations=[str(world[0])], images=[str(world[1])]))
    assert sorted(seen) == sorted(world[1].iterdir())


def test_photos_without_annotation_may_be_missing(world):
    break_json(world, lambda content: content["annotations"].__delitem__(slice(6, None)))
    names = sorted(path.name for path in world[1].iterdir())
    for name in names[1:]:
        (world[1] / name).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_coco_instances(*world, "train")) == 6


def test_several_files_keep_keys_unique(tmp_path):
    worlds = [coco_world(tmp_path / "a"), coco_world(tmp_path / "b", seed=1), coco_world(tmp_path / "a", name="val")]
    annotations, images = zip(*worlds, strict=True)
    records = read_coco_files(annotations, images, split="train", dataset="all")
    assert len(records) == len({record.key for record in records}) == 54
    assert [records[i].key for i in (0, 18, 36)] == [
        "all/train/a-instances_train-5/1000",
        "all/train/b-instances_train-5/1000",
        "all/train/a-instances_val-5/1000",
    ]
    assert [records[i].image.parent for i in (0, 18, 36)] == list(images)
    alone = read_coco_files([str(annotations[0])], [str(images[0])], split="train")
    assert held(alone) == held(read_coco_instances(annotations[0], images[0], "train"))


def test_lists_of_files_that_do_not_match_are_refused(world, tmp_path):
    annotations, images = world
    for files, folders in (([], []), ([annotations], []), ([annotations], [images, images])):
        with pytest.raises(UserError, match=f"lists {len(files)} files and data.images {len(folders)} folders"):
            read_coco_files(files, folders, split="train")
    with pytest.raises(UserError, match="same names"):
        read_coco_files([annotations, annotations], [images, images], split="train")
    twin = tmp_path / "other" / tmp_path.name
    twin.mkdir(parents=True)
    shutil.copy(annotations, twin)
    with pytest.raises(UserError, match=f"{annotations}, {twin / annotations.name} have the same names"):
        read_coco_files([annotations, twin / annotations.name], [images, images], split="train")
