import json

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import D2SAData
from amodalseg.data.images import load_image, resize
from amodalseg.data.readers import read_d2sa
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from tests.worlds import compressed, d2sa_world, edit_json

FOLDER = "d2s_amodal_annotations_v1"
FILE = f"{FOLDER}/D2S_amodal_validation.json"


@pytest.fixture
def root(tmp_path):
    d2sa_world(tmp_path / "d2sa", "train", seed=1)
    return d2sa_world(tmp_path / "d2sa")


def read(root, split="val", **options):
    return read_d2sa(D2SAData(root=str(root), split=split, **options))


def test_train_is_read_from_two_files_with_repeated_ids(root):
    contents = [
        json.loads((root / FOLDER / f"D2S_amodal_{part}.json").read_text()) for part in ("training_rot0", "augmented")
    ]
    ids = [{entry["id"] for entry in content["annotations"]} for content in contents]
    assert ids[0] == ids[1], "or the test shows nothing"
    records = read(root, "train")
    assert len({record.key for record in records}) == len(records) == sum(len(c["annotations"]) for c in contents)
    assert {record.object_id.split("-")[0] for record in records} == {"rot0", "augmented"}
    for record in records:
        assert record.image_id.split("-")[0] == record.object_id.split("-")[0]
        assert (int(record.image.stem.removeprefix("D2S_")) > 7000) == record.object_id.startswith("augmented")
    assert {record.object_id for record in read(root)} == {str(number) for number in ids[0]}, "one file: plain ids"
    assert [record.key for record in read(root, "validation")] == [record.key for record in read(root)]


def test_a_missing_train_file_is_refused(root):
    (root / FOLDER / "D2S_amodal_augmented.json").unlink()
    with pytest.raises(UserError, match=r"no annotations of d2sa, split train; .*D2S_amodal_augmented\.json.*mvtec"):
        read(root, "train")
    alone = read(root, "train", annotations=str(root / FOLDER / "D2S_amodal_training_rot0.json"))
    assert len(alone) == 12 and all(record.object_id.isdigit() for record in alone)


def test_float_and_bool_values_and_the_unreliable_order(root):
    edit_json(root / FILE, lambda content: content["annotations"][0].update(iscrowd=True))
    records = read(root)
    assert [("crowd" in record.flags) for record in records] == [True] + [False] * 11
    for record in records:
        assert isinstance(record.extra["area"], float) and record.extra["area"] == record.amodal.sum()
        assert record.order is None and record.extra["occl_depth"] == int(record.occluded.any())
    stored = {entry["amodal_region"]["order"] for entry in json.loads((root / FILE).read_text())["annotations"]}
    assert stored == {1}, "the file calls every object the nearest"


def test_padded_masks_are_flagged_and_the_photo_is_resized_to_them(root):
    def pad(content):
        number = content["images"][0]["id"]
        for entry in content["annotations"]:
            if entry["image_id"] == number:
                for key in ("segmentation", "visible_mask"):
                    mask = masks.decode(masks.from_segmentation(entry[key], 1, 1))
                    entry[key] = compressed(np.pad(mask, ((0, 6), (0, 0))))

    edit_json(root / FILE, pad)
    number = str(json.loads((root / FILE).read_text())["images"][0]["id"])
    records = read(root)
    assert all(("size_mismatch" in record.flags) == (record.image_id == number) for record in records)
    record = next(record for record in records if record.image_id == number)
    pixels = load_image(record.image)
    assert record.modal.shape == (pixels.shape[0] + 6, pixels.shape[1])
    assert np.array_equal(record_image(record), resize(pixels, record.height, record.width))
    plain = read_d2sa(D2SAData(root=str(root)), photos=False)
    assert [record.flags for record in plain] == [record.flags for record in records], "the json tells it too"


def test_the_test_split_has_no_ground_truth(root):
    with pytest.raises(UserError, match=r"test_info\.json.* without masks.* split=val"):
        read(root, "test")
    path = root / FOLDER / "D2S_amodal_test_info.json"
    content = {**json.loads((root / FILE).read_text()), "annotations": []}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"test_info\.json holds no annotation"):
        read(root, "test", annotations=str(path))
