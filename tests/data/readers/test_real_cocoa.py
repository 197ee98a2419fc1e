"""The real records of COCOA: stored masks equal those of their polygons, pixel for pixel."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import CocoaData
from amodalseg.data.readers import read_cocoa

FILE = Path(os.environ.get("AMODALSEG_DATA", "data")) / "cocoa/annotations/COCO_amodal_val2014.json"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="needs AMODALSEG_DATA with COCOA")


@pytest.fixture(scope="module")
def content():
    return json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def records():
    return {record.object_id: record for record in read_cocoa(CocoaData(root=str(FILE.parents[1])), photos=False)}


def stored(content):
    """(object id, region, height, width) of every region in the file."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        for index, region in enumerate(annotation["regions"]):
            yield f"{annotation['id']}-{index}", region, *sizes[annotation["image_id"]]


def test_stored_areas_rates_and_masks(content, records):
    occluded = 0
    for name, region, height, width in stored(content):
        record = records[name]
        assert (record.height, record.width) == (height, width)
        assert record.amodal.sum() == region["area"] == record.extra["area"]
        hidden = record.amodal & ~record.modal
        assert record.occlusion_rate == hidden.sum() / record.amodal.sum()
        stored_rate = hidden.sum() / (record.amodal.sum() + 1e-6)  # the authors avoid dividing by zero
        assert region["occlude_rate"] == record.raw_rate == pytest.approx(stored_rate, rel=1e-15, abs=0)
        assert ("visible_mask" in region) == ("invisible_mask" in region) == bool(hidden.any())
        if hidden.any():
            occluded += 1
            for key, mask in (("visible_mask", record.modal), ("invisible_mask", hidden)):
                found = masks.decode(masks.from_segmentation(region[key], height, width))
                assert not (found ^ mask).any(), (name, key)
        else:
            assert not (record.modal ^ record.amodal).any()
    assert occluded == 6 and len(records) == len(list(stored(content)))


def test_visible_masks_follow_from_the_depth_order(content, records):
    for annotation in content["annotations"]:
        mine = [records[f"{annotation['id']}-{index}"] for index in range(len(annotation["regions"]))]
        nearer = np.zeros(mine[0].modal.shape, bool)
        for record in sorted(mine, key=lambda record: record.order):
            assert not ((record.amodal & ~nearer) ^ record.modal).any(), record.key
            nearer |= record.amodal


def test_occluders_cover_the_whole_hidden_part(records):
    for record in records.values():
        assert (record.occluder is not None) == bool(record.occluded.any())
        assert record.occluder is None or not (record.occluded & ~record.occluder).any()
