"""Damaged, foreign or unfinished shards and non-empty folders: refused in one clear line."""

import dataclasses
import shutil
import tarfile

import cv2
import numpy as np
import pytest

from amodalseg import UserError
from amodalseg.config.schema import CocoaData, Pix2gestaltData, ShardsData, SyntheticData
from amodalseg.data.open import open_source
from amodalseg.data.pack.shard_writer import write_shards
from amodalseg.data.source import RecordList
from tests.worlds import cocoa_world, edit_json, pix2gestalt_world


@pytest.fixture
def packed(tmp_path):
    """Two photos, each in its own shard."""
    write_shards(
        open_source(CocoaData(root=str(cocoa_world(tmp_path / "data")))), tmp_path / "shards", about={}, size=1000
    )
    return tmp_path / "shards"


def opened(folder, **options):
    return open_source(ShardsData(root=str(folder), **options))


def synthetic():
    return open_source(SyntheticData(num_objects=2, size=64))


def test_an_interrupted_packing_is_not_read_as_a_complete_set(tmp_path):
    source = open_source(CocoaData(root=str(cocoa_world(tmp_path / "data", 4))))
    photo = source.get(len(source) - 1).image
    photo.write_bytes(photo.read_bytes()[:-200])
    with pytest.raises(UserError, match="ends too early"):
        write_shards(source, tmp_path / "shards", about={}, size=1000)
    whole = ["shard-000000.json", "shard-000000.tar"]  # complete shards only
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == whole
    with pytest.raises(UserError, match="packing it was interrupted"):
        opened(tmp_path / "shards")
    with pytest.warns(UserWarning, match=r"6 of 24 objects are left out"):
        write_shards(source, tmp_path / "rest", about={}, skip_broken=True)
    kept = opened(tmp_path / "rest")
    assert len(kept) == 18
    assert source.get(23).image_id not in {kept.get(i).image_id for i in range(len(kept))}


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interrupted_packing_resumes_after_its_complete_shards(tmp_path, monkeypatch, capsys):
    source = open_source(CocoaData(root=str(cocoa_world(tmp_path / "data", 5))))
    write_shards(source, tmp_path / "undisturbed", about={}, size=1000)
    get, asked = source.get, []

    def broken_off(index, epoch=0):
        asked.append(index)
        if asked.count(index) == 2 and index == 20 and len(asked) < 60:  # the first request is for the fingerprint
            raise KeyboardInterrupt
        return get(index, epoch)

    monkeypatch.setattr(source, "get", broken_off)
    with pytest.raises(KeyboardInterrupt, match="to continue after the complete shards"):
        write_shards(source, tmp_path / "shards", about={}, size=1000)
    (tmp_path / "shards/.shard-000003.tar.1.part").write_text("half")
    write_shards(source, tmp_path / "shards", about={}, size=1000)
    assert "2 shards are complete; continuing after them" in capsys.readouterr().out
    assert asked[-18:] == list(range(12, 30)), "objects of whole shards are not packed again"
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "undisturbed")


def test_shards_of_other_data_are_never_mixed_with_new_ones(tmp_path, capsys):
    root = cocoa_world(tmp_path / "data", 4)
    source = open_source(CocoaData(root=str(root)))
    photo = source.get(len(source) - 1).image
    whole = photo.read_bytes()
    photo.write_bytes(whole[:-200])
    with pytest.raises(UserError, match="ends too early"):
        write_shards(source, tmp_path / "shards", about={}, size=1000)
    photo.write_bytes(whole)
    write_shards(source, tmp_path / "shards", about={}, size=10**6)
    assert "have changed since the interruption; starting again" in capsys.readouterr().out
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 1
    assert len(opened(tmp_path / "shards")) == len(source)


@pytest.mark.parametrize("note", [None, "{}", "damaged"])
def test_unrelated_files_named_like_shards_are_not_touched(tmp_path, note):
    (tmp_path / "shard-000000.tar").write_text("theirs")
    if note:
        (tmp_path / "shard-000000.json").write_text(note)
    with pytest.raises(UserError, match="is not empty"):
        write_shards(synthetic(), tmp_path, about={})
    assert (tmp_path / "shard-000000.tar").read_text() == "theirs"


def test_a_complete_set_is_not_overwritten(packed, tmp_path):
    before = (packed / "shards.json").read_bytes()
    with pytest.raises(UserError, match="already holds a packed data set"):
        write_shards(synthetic(), packed, about={})
    assert (packed / "shards.json").read_bytes() == before


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing to pack"):
        write_shards(RecordList([]), tmp_path / "shards", about={})


def test_fields_that_json_cannot_represent_are_refused(tmp_path):
    record = dataclasses.replace(synthetic().get(0), extra={"what": object()})
    with pytest.raises(UserError, match=rf"{record.key} has a field that json cannot hold"):
        write_shards(RecordList([record]), tmp_path / "shards", about={})


def test_other_splits_are_refused(packed):
    assert len(opened(packed, split="val")) == 12
    with pytest.raises(UserError, match="holds objects of split val, not of train"):
        opened(packed, split="train")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("shard-000001.tar", cut, r"shard-000001\.tar has \d+ bytes, not \d+"),
        ("shard-000001.tar", lambda path: path.unlink(), r"shard-000001\.tar is missing"),
        ("index.npy", cut, r"index\.npy is truncated, damaged or of another data set"),
        ("index.npy", lambda path: path.unlink(), r"cannot read .*index\.npy: No such file"),
        ("shards.json", cut, "broken json|interrupted"),
        ("shards.json", lambda path: path.unlink(), "packing it was interrupted"),
        ("shards.json", lambda path: edit_json(path, lambda d: d.update(format=9)), "has format 9"),
        ("shards.json", lambda path: edit_json(path, lambda d: d.update(objects=3)), "does not belong to"),
        ("shards.json", lambda path: edit_json(path, lambda d: d["shards"].pop()), "does not belong to"),
        ("shards.json", lambda path: edit_json(path, lambda d: d["shards"][0].pop("bytes")), "lacks 'bytes'"),
    ],
)
def test_a_damaged_set_is_refused(packed, name, change, message):
    if name == "shards.json" and change is cut:  # the last byte of it is a line break
        change = lambda path: path.write_bytes(path.read_bytes()[:-5])  # noqa: E731
    change(packed / name)
    with pytest.raises(UserError, match=message) as error:
        opened(packed)
    assert "\n" not in str(error.value)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*shards\.json"):
        opened(tmp_path / "nothing")


def test_a_shard_replaced_by_another_of_the_same_size_is_detected(packed):
    path = packed / "shard-000000.tar"
    with tarfile.open(path) as tar:
        start = tar.getmember("000000000.json").offset_data
    content = bytearray(path.read_bytes())
    place = content.index(b'"number": 0', start)
    content[place : place + 11] = b'"number": 7'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"000000000\.json in .*shard-000000\.tar is not object 0 of the index"):
        opened(packed).get(0)
    path.write_bytes(bytes(len(content)))
    with pytest.raises(UserError, match="is not object 1 of the index"):
        opened(packed).get(1)


def test_a_damaged_mask_is_named(packed):
    path = packed / "shard-000000.tar"
    content = path.read_bytes()
    place = content.index(b'"counts": "') + 11
    path.write_bytes(content[:place] + b"~" + content[place + 1 :])
    with pytest.raises(UserError, match=r"000000000\.json in .* has a mask that cannot be read"):
        opened(packed).get(0)


def test_a_broken_photo_in_a_lazy_source(tmp_path):
    root = pix2gestalt_world(tmp_path / "data", 4)
    cv2.imwrite(str(root / "occlusion/907_occlusion.png"), np.zeros((9, 9, 3), np.uint8))
    source = open_source(Pix2gestaltData(root=str(root), split="train"))
    with pytest.raises(UserError, match="image and mask of different size"):
        write_shards(source, tmp_path / "shards", about={})
    shutil.rmtree(tmp_path / "shards", ignore_errors=True)
    with pytest.warns(UserWarning, match="1 of 3 objects are left out"):
        write_shards(source, tmp_path / "shards", about={}, skip_broken=True)
    assert len(opened(tmp_path / "shards")) == 2
