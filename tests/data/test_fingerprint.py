"""A fingerprint changes with what is learnt from, and with nothing else."""

import dataclasses

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.data.fingerprint import fingerprint
from amodalseg.data.source import PackedRecords, RecordList
from amodalseg.types import AmodalRecord


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


def test_the_folder_does_not_count(tmp_path):
    one, two = records_in(tmp_path / "one"), records_in(tmp_path / "two")
    assert fingerprint(RecordList(one)) == fingerprint(RecordList(two)) == fingerprint(PackedRecords(one))
    assert fingerprint(RecordList(one)).startswith("5-")


@pytest.mark.parametrize("change", ["one less", "mask", "amodal", "photo", "photo gone", "name"])
def test_any_change_of_the_data_shows(tmp_path, change):
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
