import json

import numpy as np
import pytest

from amodalseg.config.schema import KinsData
from amodalseg.data.readers import read_kins
from amodalseg.errors import UserError
from tests.worlds import edit_json, kins_world

NEW, OLD = "update_test_2020.json", "instances_val.json"


@pytest.fixture
def root(tmp_path):
    kins_world(tmp_path / "kins", "train", seed=1)
    return kins_world(tmp_path / "kins")


@pytest.fixture
def old(tmp_path):
    return kins_world(tmp_path / "old", version="2019")


def read(root, **options):
    return read_kins(KinsData(root=str(root), **options))


def of_first_photo(records):
    return {record.category: record for record in records if record.image_id == "000000"}


def test_image_ids_are_file_names_because_numeric_ids_repeat(root):
    train, test = read(root, split="train"), read(root)
    ids = [
        {entry["id"] for entry in json.loads((root / name).read_text())["images"]}
        for name in (NEW, "update_train_2020.json")
    ]
    assert ids[0] == ids[1], "by their ids the splits would look like one"
    assert not {record.image_id for record in train} & {record.image_id for record in test}
    assert {record.image_id for record in test} == {"000000", "000007"}
    assert {record.image.parent for record in test} == {root / "testing/image_2"}
    assert {record.image.parent for record in train} == {root / "training/image_2"}
    assert [record.key for record in read(root, split="val")] == [record.key for record in test]


def test_clusters_ranks_and_occluders(root):
    found = of_first_photo(read(root))
    assert {name: record.group for name, record in found.items()} == {
        "pedestrian": {"cluster": 11, "rank": 1}, "car": {"cluster": 11, "rank": 2}, "van": {"cluster": 11, "rank": 3},
        "truck": {"cluster": 12, "rank": 1}, "misc": {"cluster": 12, "rank": 2}, "cyclist": {"cluster": 13, "rank": 0},
    }  # fmt: skip
    assert all(record.order is None and record.raw_rate is None for record in found.values())
    for name in ("pedestrian", "truck", "cyclist"):
        assert found[name].occluder_rle is None and found[name].flags == {"fully_visible"}
    assert np.array_equal(found["car"].occluder, found["pedestrian"].amodal)
    assert np.array_equal(found["van"].occluder, found["pedestrian"].amodal | found["car"].amodal)
    assert np.array_equal(found["misc"].occluder, found["truck"].amodal)
    for record in found.values():
        assert record.occluder is None or not (record.occluded & ~record.occluder).any()


def test_nearer_objects_that_do_not_meet_the_hidden_part_are_no_occluders(root):
    def change(content):  # move the pole away from the hidden parts of van and car
        for entry in content["annotations"]:
            if entry["category_id"] == 2:
                entry["a_segm"] = entry["i_segm"] = [[2, 2, 8, 2, 8, 30, 2, 30]]

    edit_json(root / NEW, change)
    found = of_first_photo(read(root))
    assert np.array_equal(found["van"].occluder, found["car"].amodal)
    assert found["car"].occluder_rle is None and found["car"].occluded.any(), "hidden by nobody who is annotated"


def test_objects_of_equal_rank_or_another_cluster_are_no_occluders(root):
    def change(content):
        for entry in content["annotations"]:
            if entry["category_id"] == 2:
                entry["ico_id"] = 2
            if entry["category_id"] == 6:
                entry["oco_id"] = 99

    edit_json(root / NEW, change)
    found = of_first_photo(read(root))
    assert found["car"].occluder_rle is None and found["misc"].occluder_rle is None
    assert np.array_equal(found["van"].occluder, found["pedestrian"].amodal | found["car"].amodal)


def test_files_without_clusters_have_no_occluders(root):
    def change(content):
        for entry in content["annotations"]:
            del entry["oco_id"], entry["ico_id"]

    edit_json(root / NEW, change)
    assert all(record.group is None and record.occluder_rle is None for record in read(root))


def test_stored_areas_and_boxes_are_kept_for_comparison(root, old):
    for record in read(root):
        assert record.extra["area"] == record.amodal.sum() and record.extra["modal_area"] == record.modal.sum()
        assert len(record.extra["bbox"]) == len(record.extra["modal_bbox"]) == 4
    before = [record.modal_rle for record in read(old, version="2019")]
    edit_json(old / OLD, lambda content: content["annotations"][0].update(inmodal_bbox=[0, 0, 1, 1]))
    records = read(old, version="2019")
    assert records[0].extra["modal_bbox"] == [0, 0, 1, 1] and [record.modal_rle for record in records] == before


def test_2019_and_2020_agree_on_common_data(root, old):
    new = {record.category: record for record in read(root) if record.image_id == "000000"}
    for record in read(old, version="2019"):
        if record.image_id != "000000" or "empty_modal" in record.flags:
            continue
        other = new[record.category]
        assert np.array_equal(record.amodal, other.amodal) and np.array_equal(record.modal, other.modal)
        assert record.group is None and record.occluder_rle is None
    hidden = [record for record in read(old, version="2019") if "empty_modal" in record.flags]
    assert len(hidden) == 2 and all(record.occlusion_rate == 1 for record in hidden)


def test_an_empty_list_of_visible_polygons_is_an_empty_modal_mask(root):
    edit_json(root / NEW, lambda content: content["annotations"][0].update(i_segm=[]))
    record = read(root)[0]
    assert record.flags == {"empty_modal"} and not record.modal.any() and record.amodal.any()


def test_the_misspelt_file_name_and_other_locations(old, root):
    expected = [record.key for record in read(old, version="2019")]
    (old / "annotations").mkdir()
    (old / OLD).rename(old / "annotations/instances_val_upate.json")
    (old / "testing/image_2").rename(old / "test_imgs")
    assert [record.key for record in read(old, version="2019")] == expected
    with pytest.raises(UserError, match=r"no annotations of kins, split test; .*update_test_2020\.json, .*qqlu.*KITTI"):
        read(old)
    with pytest.raises(UserError, match="kins has no split 'valid': it has train, test"):
        read(root, split="valid")


@pytest.mark.parametrize(("version", "other"), [("2020", "2019"), ("2019", "2020")])
def test_the_other_version_is_recognised(root, old, version, other):
    folder, name = (old, OLD) if version == "2020" else (root, NEW)
    with pytest.raises(UserError, match=rf"is it a file of {other}\? Then give data\.version={other}"):
        read(folder, version=version, annotations=str(folder / name))


def test_the_category_rider_has_no_instances(root):
    names = {entry["name"] for entry in json.loads((root / NEW).read_text())["categories"]}
    assert "rider" in names and "rider" not in {record.category for record in read(root)}
