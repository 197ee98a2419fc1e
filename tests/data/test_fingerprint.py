"""A fingerprint changes with what training uses, and with nothing else."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import Pix2gestaltData
from amodalseg.data.fingerprint import fingerprint, stamp
from amodalseg.data.readers import read_pix2gestalt
from amodalseg.data.source import PackedRecords, RecordList, Subset
from amodalseg.types import AmodalRecord
from tests.worlds.pix2gestalt import pix2gestalt_world


def records_in(folder, count=5):
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(bytes(10 + number))
        mask = np.zeros((8, 8), bool)
        mask[: number + 1] = True
        rle = masks.encode(mask)
        found.append(AmodalRecord("set", "train", str(number), "0", path, rle, rle))
    return found


def test_the_fingerprint_does_not_depend_on_the_folder(tmp_path):
    one, two = records_in(tmp_path / "one"), records_in(tmp_path / "two")
    assert fingerprint(RecordList(one)) == fingerprint(RecordList(two)) == fingerprint(PackedRecords(one))
    assert fingerprint(RecordList(one)).startswith("5-")


@pytest.mark.parametrize("change", ["one less", "mask", "amodal", "photo", "photo gone", "name"])
def test_any_change_of_the_data_changes_the_fingerprint(tmp_path, change):
    records = records_in(tmp_path / "data")
    before = fingerprint(RecordList(records))
    other = records[3].modal_rle
    if change == "one less":
        records.pop()
    elif change == "photo":
        records[1].image.write_bytes(bytes(99))
    elif change == "photo gone":
        records[1].image.unlink()
    else:
        new = {"mask": {"modal_rle": other}, "amodal": {"amodal_rle": other}, "name": {"object_id": "7"}}[change]
        records[1] = dataclasses.replace(records[1], **new)
    assert fingerprint(RecordList(records)) != before


@pytest.mark.parametrize("kind", [RecordList, PackedRecords])
def test_objects_that_are_left_out_do_not_count_and_changes_of_the_others_show(tmp_path, kind):
    """A set with objects that cannot be prompted, or of which ``num_objects`` takes some."""

    def known(records):
        return fingerprint(Subset(Subset(kind(records), np.array([0, 1, 2, 4])), np.array([0, 1, 3])))

    records = records_in(tmp_path / "data")
    before = known(records)
    assert before == fingerprint(RecordList([records[place] for place in (0, 1, 4)]))
    for place, same in ((3, True), (1, False)):
        changed = [*records]
        changed[place] = dataclasses.replace(records[place], amodal_rle=records[2].modal_rle)
        assert (known(changed) == before) is same


def stamped(tmp_path, change, source_of=RecordList):
    """The stamps before and after a change."""
    records = records_in(tmp_path / "data")
    before = stamp(source_of(records))
    change(records)
    return before, stamp(source_of(records))


def test_a_stamp_is_the_same_for_the_same_files(tmp_path):
    one, other = stamped(tmp_path, lambda records: None)
    assert one == other == stamp(PackedRecords(records_in_place(tmp_path)))


def records_in_place(tmp_path):
    """The records of ``stamped`` without writing their photos again."""
    found = []
    for number in range(5):
        mask = np.zeros((8, 8), bool)
        mask[: number + 1] = True
        rle = masks.encode(mask)
        found.append(AmodalRecord("set", "train", str(number), "0", tmp_path / f"data/{number}.png", rle, rle))
    return found


@pytest.mark.parametrize("kind", [RecordList, PackedRecords, lambda records: Subset(RecordList(records), np.arange(5)),
                                  lambda records: Drawing(records)])  # fmt: skip
def test_a_photo_replaced_by_one_of_equal_size_changes_the_stamp(tmp_path, kind):
    def touch(records):
        path = records[2].image
        path.write_bytes(b"x" * path.stat().st_size)
        os.utime(path, ns=(1, 1))

    before, after = stamped(tmp_path, touch, kind)
    assert before != after


class Drawing:
    """A source that is drawn from records, like composites."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return 3


def test_the_stamp_covers_every_field_of_every_object(tmp_path):
    other = masks.encode(np.ones((8, 8), bool))
    for field in ("modal_rle", "amodal_rle", "gt_modal_rle", "occluder_rle", "unknown_rle", "category", "whole_rgb"):
        value = other if field.endswith("_rle") else tmp_path / "whole.png" if field == "whole_rgb" else "cat"

        def change(records, field=field, value=value):
            records[3] = dataclasses.replace(records[3], **{field: value})

        before, after = stamped(tmp_path, change)
        assert before != after, field


def test_the_stamp_covers_files_that_are_read_lazily(tmp_path):
    config = Pix2gestaltData(name="pix2gestalt", root=str(pix2gestalt_world(tmp_path)), split="train")
    before = stamp(read_pix2gestalt(config))
    assert stamp(read_pix2gestalt(config)) == before
    path = sorted(Path(config.root).glob("whole_mask/*"))[0]
    os.utime(path, ns=(1, 1))
    assert stamp(read_pix2gestalt(config)) != before
