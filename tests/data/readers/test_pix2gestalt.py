"""Pix2gestalt: pairs by id, the official split, and a cached index that is never used when out of date."""

import json
import math
import os
import time

import cv2
import numpy as np
import pytest

from amodalseg import UserError
from amodalseg.config.schema import Pix2gestaltData
from amodalseg.data.images import load_image
from amodalseg.data.open import open_source
from amodalseg.data.readers import pix2gestalt as reader
from tests.worlds import pix2gestalt_world


@pytest.fixture
def root(tmp_path):
    return pix2gestalt_world(tmp_path / "data", 8)


@pytest.fixture
def settled(root, monkeypatch):
    """A data set that counts as not recently modified, so that its index is kept."""
    monkeypatch.setattr(reader, "SETTLED", -1e9)
    return root


def source(root, split="train", **options):
    return open_source(Pix2gestaltData(root=str(root), split=split, **options))


def ids(root, split="train", **options):
    found = source(root, split, **options)
    return [found.get(i).image_id for i in range(len(found))]


def official(root, split):
    """The ids of a split as in the published loader, with its rounding."""
    names = sorted(os.listdir(root / "occlusion"))
    cut = math.floor(len(names) / 100.0 * 99.0)
    return [name.removesuffix("_occlusion.png") for name in (names[cut:] if split == "val" else names[:cut])]


def test_objects_equal_the_files(root):
    found = source(root)
    for i in range(len(found)):
        record = found.get(i)
        files = {kind: root / kind / f"{record.image_id}_{name}.png" for kind, name in (
            ("visible_object_mask", "visible_mask"), ("whole_mask", "whole_mask"), ("whole", "whole"),
        )}  # fmt: skip
        assert np.array_equal(record.modal, cv2.imread(str(files["visible_object_mask"]), -1) > 127)
        assert np.array_equal(record.amodal, cv2.imread(str(files["whole_mask"]), -1) > 127)
        assert record.image == root / "occlusion" / f"{record.image_id}_occlusion.png"
        assert record.whole_rgb == files["whole"] and load_image(record.whole_rgb).shape == (256, 256, 3)
        assert record.flags == frozenset() and record.occluded.any()


def test_val_is_the_last_percent_of_the_sorted_file_names(root):
    assert ids(root) == official(root, "train") and ids(root, "val") == official(root, "val")
    for name in ("9", "90"):  # file names are sorted, not ids: 900_..., 90_..., 9_...
        for kind, ending in reader.FOLDERS.items():
            (root / kind / f"{name}{ending}").write_bytes((root / kind / f"900{ending}").read_bytes())
    assert ids(root) + ids(root, "val") == official(root, "train") + official(root, "val")
    assert ids(root, "val") == ["9"] != sorted([*ids(root), "9"])[-1:]


@pytest.mark.parametrize("count", [1, 3, 100, 199, 200, 201, 5000])
def test_the_official_rounding(count, tmp_path):
    for kind, ending in reader.FOLDERS.items():
        (tmp_path / kind).mkdir()
        for number in range(count):
            (tmp_path / kind / f"{number}{ending}").touch()
    train, val = (len(source(tmp_path, split)) for split in ("train", "val"))
    assert (train, val) == (math.floor(count / 100.0 * 99.0), count - math.floor(count / 100.0 * 99.0))


def test_files_are_paired_by_id(root):
    before = {record.image_id: record for record in map(source(root).get, range(7))}
    (root / "visible_object_mask" / "907_visible_mask.png").unlink()
    (root / "whole" / "914_whole.png").unlink()
    (root / "occlusion" / "notes.txt").write_text("no picture")
    with pytest.warns(UserWarning, match="1 in visible_object_mask, 1 in whole"):
        found = source(root)
    after = {record.image_id: record for record in map(found.get, range(len(found)))}
    assert after.keys() == before.keys() - {"907"}
    for name, record in after.items():
        assert np.array_equal(record.modal, before[name].modal) and np.array_equal(record.amodal, before[name].amodal)
        assert (record.whole_rgb is None) == (name == "914")


def test_a_missing_file_does_not_change_the_split_of_other_objects(root):
    val = ids(root, "val")
    for name in ("900", "907"):
        (root / "whole_mask" / f"{name}_whole_mask.png").unlink()
    with pytest.warns(UserWarning, match="2 in whole_mask"):
        assert ids(root, "val") == val


def test_flags_and_fix_subset(root):
    path = root / "visible_object_mask" / "900_visible_mask.png"
    outside = np.zeros((256, 256), np.uint8)
    outside[:2] = 255
    outside[2] = 128  # a soft edge
    outside[3] = 127
    cv2.imwrite(str(path), outside)
    cv2.imwrite(str(root / "visible_object_mask" / "907_visible_mask.png"), np.zeros((256, 256), np.uint8))
    place = ids(root).index("900")
    assert source(root).get(place).flags == {"modal_outside_amodal"}
    assert source(root).get(place).modal.sum() == 3 * 256
    united = source(root, fix_subset="union").get(place)
    assert not (united.modal & ~united.amodal).any()
    assert source(root).get(ids(root).index("907")).flags == {"empty_modal"}


def test_num_objects(root):
    some = ids(root, num_objects=3)
    assert len(some) == 3 and some == [name for name in ids(root) if name in some]


@pytest.mark.parametrize("folder", ["occlusion", "visible_object_mask", "whole_mask"])
def test_a_missing_folder(root, folder):
    (root / folder).rename(root / "elsewhere")
    with pytest.raises(UserError, match=rf"no folder .*{folder}; a Pix2gestalt root holds occlusion"):
        source(root)


def test_mistakes_are_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"leave data\.annotations and data\.images out"):
        source(root, images=str(tmp_path))
    cv2.imwrite(str(root / "whole_mask" / "900_whole_mask.png"), np.zeros((128, 256), np.uint8))
    with pytest.raises(
        UserError, match=r"900_visible_mask\.png and its whole mask differ in size: 256x256 and 256x128"
    ):
        source(root).get(ids_place(root, "900"))
    for path in (root / "occlusion").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(UserError, match="no object in"):
        source(root)


def ids_place(root, name):
    return [os.fsdecode(code) for code in source(root).entries["id"]].index(name)


# -------------------------------------------------------------------------------------------------------- the index


def test_the_index_is_built_once(settled, monkeypatch):
    before = ids(settled)
    assert (settled / reader.INDEX_NAME).is_file()
    monkeypatch.setattr(reader.os, "scandir", lambda *_: pytest.fail("listed again"))
    assert ids(settled) == before


@pytest.mark.parametrize("kind", sorted(reader.FOLDERS))
def test_a_change_of_a_folder_is_detected(settled, kind):
    before = ids(settled)
    times = (settled / kind).stat()
    (settled / kind / f"914{reader.FOLDERS[kind]}").unlink()
    os.utime(settled / kind, ns=(times.st_atime_ns, times.st_mtime_ns))  # as extracting an archive restores it
    with pytest.warns(UserWarning, match=f"1 in {kind}"):
        found = source(settled)
    assert len(found) == len(before) - (kind != "whole")
    if kind == "whole":
        assert [found.get(i).whole_rgb is None for i in range(len(found))].count(True) == 1


def test_an_index_of_a_recently_modified_folder_is_not_kept(root):
    source(root)
    assert not (root / reader.INDEX_NAME).exists()
    assert max(path.stat().st_ctime for path in root.iterdir()) > time.time() - 60


@pytest.mark.parametrize("damage", [b"", b"{", b"[]\n", b'{"format": 99, "width": 3, "count": 0}\n', "cut", "other"])
def test_a_damaged_index_is_rebuilt(settled, damage):
    before, path = ids(settled), settled / reader.INDEX_NAME
    content = path.read_bytes()
    if damage == "other":
        header = json.loads(content.partition(b"\n")[0])
        header["count"] += 1
        path.write_bytes(json.dumps(header).encode() + b"\n" + content.partition(b"\n")[2])
    else:
        path.write_bytes(content[:-1] if damage == "cut" else damage)
    assert ids(settled) == before
    assert path.read_bytes() == content


def test_the_index_is_written_to_the_cache_if_the_data_folder_is_read_only(settled, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (settled / reader.INDEX_NAME).mkdir()  # root may write everywhere, so block the file by a folder of its name
    before = ids(settled)
    assert len(list((tmp_path / "cache/amodalseg").iterdir())) == 1
    monkeypatch.setattr(reader.os, "scandir", lambda *_: pytest.fail("listed again"))
    assert ids(settled) == before


def test_without_a_writable_place_for_an_index_the_folder_is_listed(settled, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (settled / reader.INDEX_NAME).mkdir()
    with pytest.warns(UserWarning, match="is listed each time"):
        assert len(source(settled)) == 7
