"""``integrations/fiftyone`` without a database: masks to detections, and back."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from amodalseg import UserError
from tests.worlds import disc

fo = pytest.importorskip("fiftyone", reason="needs fiftyone")
spec = importlib.util.spec_from_file_location("add", Path(__file__).parents[2] / "integrations/fiftyone/add.py")
add = importlib.util.module_from_spec(spec)
spec.loader.exec_module(add)
SIZE = 61, 83


@pytest.mark.parametrize(
    "mask", [disc(*SIZE, 40, 30, 22, 18), np.ones(SIZE, bool), np.pad([[True]], ((7, 53), (80, 2)))]
)
def test_masks_round_trip_through_detections(mask):
    assert (add.full_mask(add.detection(mask, "object"), *SIZE) == mask).all()


def test_both_detections_of_an_object_are_joined():
    amodal = np.zeros(SIZE, bool)
    amodal[10:20, 10:20] = True
    modal = amodal.copy()
    modal[:, 15:] = False
    seen, whole = add.pair(modal, amodal, "cat", "4", 0.7)
    assert whole.confidence == 0.7 and seen.confidence is None
    assert seen.key == whole.key == "4" and seen.occlusion_rate == whole.occlusion_rate == 0.5
    assert seen.label == "cat" and seen.bounding_box == pytest.approx([10 / 83, 10 / 61, 5 / 83, 10 / 61])


def test_mistakes_are_reported():
    with pytest.raises(UserError, match="empty"):
        add.detection(np.zeros(SIZE, bool), "object")
    with pytest.raises(UserError, match="no mask"):
        add.full_mask(fo.Detection(label="a", bounding_box=[0, 0, 1, 1]), *SIZE)
    with pytest.raises(UserError, match="beyond"):
        add.full_mask(add.detection(np.ones(SIZE, bool), "object"), 30, 30)
