import json
import os
import pickle

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import MP3DData
from amodalseg.data.readers.mp3d import convert_pickle, read_mp3d
from amodalseg.errors import UserError
from tests.worlds import mp3d_world
from tests.worlds.compare import held

FILE = "MP3D_seleted_eval_10.29"


@pytest.fixture
def root(tmp_path):
    return mp3d_world(tmp_path / "mp3d")


def read(root, photos=True, **options):
    return read_mp3d(MP3DData(root=str(root), **options), photos=photos)


def change(root, edit):
    path = root / f"{FILE}.pkl"
    content = pickle.loads(path.read_bytes())
    edit(content)
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_every_region_becomes_a_record(tmp_path, protocol, caplog):
    root = mp3d_world(tmp_path / "mp3d", protocol=protocol)
    with caplog.at_level("INFO", "amodalseg"):
        records = read(root)
    content = pickle.loads((root / f"{FILE}.pkl").read_bytes())
    assert "is read as a pickle" in caplog.text
    stored = [(entry, i, region) for entry in content["annotations"] for i, region in enumerate(entry["regions"])]
    assert len(stored) == len(records) == 6
    for record, (entry, index, region) in zip(records, stored, strict=True):
        assert record.key == f"mp3d/eval/{entry['image_id']}/{entry['id']}-{index}"
        assert record.image == root / f"mp3d_eval/eval{entry['image_id']:04d}.jpg" and record.image.is_file()
        assert np.array_equal(record.amodal, masks.decode(region["segmentation"]))
        assert np.array_equal(record.modal, masks.decode(region["visible_mask"]))
        assert type(record.raw_rate) is float and record.raw_rate == pytest.approx(record.occlusion_rate)
        assert record.amodal.sum() == record.extra["area"] and type(record.extra["area"]) is int
        assert (record.category_id, record.category, record.order) == (region["category_id"], None, index + 1)
        assert record.flags == frozenset()


def test_the_converted_json_file_gives_the_same_records(root, caplog):
    before = read(root)
    assert convert_pickle(root / f"{FILE}.pkl", root / f"{FILE}.json") == 2
    content = json.loads((root / f"{FILE}.json").read_text())
    assert list(content) == ["images", "annotations"] and isinstance(
        content["annotations"][0]["regions"][0]["segmentation"]["counts"], str
    )
    with caplog.at_level("INFO", "amodalseg"):
        assert held(read(root)) == held(before) and "pickle" not in caplog.text
    (root / f"{FILE}.pkl").unlink()
    again = read(root / f"{FILE}.json", images=str(root / "mp3d_eval"))
    assert held(read(root)) == held(again) == held(before)
    assert held(read(root, split="test")) == held(before)


def test_conversion_keeps_all_content_and_refuses_mistakes(tmp_path):
    source, target = tmp_path / "a.pkl", tmp_path / "a.json"
    content = {
        "images": [], "annotations": [{"id": np.int32(4), "box": np.arange(4.0), "t": (1, b"ab"), 7: {3}}],
        "info": {"n": None}, "flag": np.bool_(True), "list": [1, [b"x"]],
    }  # fmt: skip
    source.write_bytes(pickle.dumps(content))
    assert convert_pickle(source, target) == 1
    assert json.loads(target.read_text()) == {
        "images": [], "annotations": [{"id": 4, "box": [0, 1, 2, 3], "t": [1, "ab"], "7": [3]}], "info": {"n": None},
        "flag": True, "list": [1, ["x"]],
    }  # fmt: skip
    kept = target.read_text()
    source.write_bytes(pickle.dumps({**content, "list": [b"\xff"]}))
    with pytest.raises(UserError, match=r"a\.pkl holds bytes that are not text"):
        convert_pickle(source, target)
    assert target.read_text() == kept and sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.pkl"]
    source.write_bytes(pickle.dumps([1]))
    with pytest.raises(UserError, match=r"a\.pkl must be a json object with 'images', 'annotations'"):
        convert_pickle(source, target)
    with pytest.raises(UserError, match=r"must be a json file"):
        convert_pickle(source, source)


def test_objects_without_occlusion_are_reported(root):
    def whole(content):
        region = content["annotations"][0]["regions"][0]
        region["visible_mask"] = region["segmentation"]
        del content["annotations"][1]["regions"][2]["visible_mask"]

    change(root, whole)
    text = r"2 of 6 objects are not occluded, although all should be; 1 of them have no visible mask"
    with pytest.warns(UserWarning, match=text):
        records = read(root)
    assert ["fully_visible" in record.flags for record in records] == [True, False, False, False, False, True]


def test_categories(root):
    def name(content):
        content["categories"] = [{"id": 3, "name": "chair"}]
        content["annotations"][0]["regions"][2].update(category_id="lamp")
        content["annotations"][1]["regions"][1].update(name=" bed ")

    change(root, name)
    found = [(record.category_id, record.category) for record in read(root)]
    assert found == [(3, "chair"), (11, None), (None, "lamp"), (3, "chair"), (11, "bed"), (3, "chair")]


def test_alternative_file_locations(root, tmp_path):
    bare = read(root, photos=False)
    (root / "mp3d_eval").rename(tmp_path / "elsewhere")
    assert [record.key for record in read(root, photos=False)] == [record.key for record in bare]
    assert read(root, images=str(tmp_path / "elsewhere"))[0].image.parent == tmp_path / "elsewhere"
    with pytest.raises(UserError, match="no photos of mp3d, split eval"):
        read(root)
    with pytest.raises(UserError, match=r"no annotations of mp3d, split train.*thor\.robots"):
        read(root, split="train")
    with pytest.raises(UserError, match="mp3d has no split 'valid'"):
        read(root, split="valid")


class Command:
    def __reduce__(self):
        return os.mkdir, (os.environ["AMODALSEG_TRAP"],)


def test_hostile_pickles_are_refused(root, tmp_path, monkeypatch):
    path, trap = root / f"{FILE}.pkl", tmp_path / "trap"
    monkeypatch.setenv("AMODALSEG_TRAP", str(trap))
    whole = path.read_bytes()
    change(root, lambda content: content["annotations"][0].update(x=Command()))
    with pytest.raises(
        UserError, match=rf"{FILE}\.pkl, before byte \d+: it refers to '\w+\.mkdir'.*nothing in it was executed"
    ):
        read(root)
    assert not trap.exists()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"{FILE}\.pkl, before byte \d+: .*copied completely"):
        read(root)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(1000))
    with pytest.raises(UserError, match=r"compressed \(gzip\): unpack it first"):
        read(root)


MISTAKES = [
    (
        lambda r: r.update(segmentation={"size": [96, 112], "counts": b"0"}),
        "annotation 401, region 1 .* not to 96 x 112",
    ),
    (lambda r: r.update(visible_mask={"size": [9, 9], "counts": [81]}), r"annotation 401, region 1 .* \[9, 9\]"),
    (
        lambda r: r.update(visible_mask={"size": [10**7, 10**7], "counts": [10**14]}),
        "annotation 401, region 1 .*from 1 to 20000",
    ),
    (
        lambda r: r.update(visible_mask={"size": [np.float64(96), 112], "counts": b""}),
        "annotation 401, region 1 .*whole numbers",
    ),
    (lambda r: r.update(visible_mask=np.zeros((3, 3))), "annotation 401, region 1 .*not ndarray"),
    (lambda r: r.pop("segmentation"), "annotation 401, region 1 lacks 'segmentation'"),
    (lambda r: r.update(occlusion_rate=None), "annotation 401, region 1: 'occlusion_rate' must be"),
]


@pytest.mark.parametrize(("edit", "text"), MISTAKES)
def test_mistakes_are_located(root, edit, text):
    change(root, lambda content: edit(content["annotations"][0]["regions"][1]))
    with pytest.raises(UserError, match=rf"{FILE}\.pkl: {text}"):
        read(root)
