"""Masks in other libraries' formats: stand-ins have exactly the attributes and shapes of the libraries' classes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from amodalseg import masks
from amodalseg.data.given_masks import as_masks
from amodalseg.errors import UserError

HEIGHT, WIDTH = 20, 30
TWO = np.zeros((2, HEIGHT, WIDTH), bool)
TWO[0, 3:9, 4:12] = TWO[1, 10:18, 15:29] = True
RLES = [masks.encode(mask) for mask in TWO]
SQUARES = [[4, 3, 12, 3, 12, 9, 4, 9], [15, 10, 29, 10, 29, 18, 15, 18]]


def ultralytics(rings):
    """``Results``: ``masks.xy`` are polygons of the photo; ``masks.data``, of the padded picture, is ignored."""
    found = SimpleNamespace(
        xy=[np.array(ring, np.float32).reshape(-1, 2) for ring in rings], data=torch.zeros(2, 64, 64)
    )
    return SimpleNamespace(orig_shape=(HEIGHT, WIDTH), masks=found if rings else None, boxes=[])


def torchvision():
    probability = torch.where(torch.from_numpy(TWO)[:, None], 0.9, 0.2)
    probability[0, 0, 0, :5] = 0.5  # not above the threshold
    return {"boxes": torch.zeros(2, 4), "labels": torch.ones(2), "scores": torch.ones(2), "masks": probability}


STACKS = {
    "array": TWO,
    "tensor": torch.from_numpy(TWO),
    "tensor with a channel": torch.from_numpy(TWO)[:, None],
    "list of arrays": list(TWO),
    "list of tensors": list(torch.from_numpy(TWO)),
    "run lengths": RLES,
    "run lengths as text": [{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in RLES],
    "SAM's generator": [{"segmentation": mask, "area": 1, "predicted_iou": 0.9} for mask in TWO],
    "SAM's generator, run lengths": [{"segmentation": rle, "area": 1} for rle in RLES],
    "COCO annotations": [{"id": 1, "segmentation": [ring], "iscrowd": 0} for ring in SQUARES],
    "ultralytics": ultralytics(SQUARES),
    "detectron2": SimpleNamespace(pred_masks=torch.from_numpy(TWO), pred_boxes=None),
    "detectron2's predictor": {"instances": SimpleNamespace(pred_masks=torch.from_numpy(TWO))},
    "torchvision": torchvision(),
    "ultralytics, of a list of photos": [ultralytics(SQUARES)],
    "torchvision, of a list of photos": [torchvision()],
    "MMDetection": SimpleNamespace(pred_instances=SimpleNamespace(masks=TWO, bboxes=None)),
    "transformers": {
        "segmentation": torch.from_numpy(np.where(TWO[0], 4, np.where(TWO[1], 7, -1))),
        "segments_info": [{"id": 4, "label_id": 1}, {"id": 7, "label_id": 1}],
    },
    "transformers, run lengths": {"segmentation": RLES, "segments_info": [{"id": 1}, {"id": 2}]},
    "supervision": SimpleNamespace(xyxy=np.zeros((2, 4)), mask=TWO),
    "pictures": [Image.fromarray(mask) for mask in TWO],
}


@pytest.mark.parametrize("given", STACKS.values(), ids=STACKS)
def test_two_objects(given):
    found = as_masks(given, HEIGHT, WIDTH)
    assert found.dtype == bool and np.array_equal(found, TWO)


@pytest.mark.parametrize(
    "given",
    [
        TWO[0], torch.from_numpy(TWO[0]), RLES[0], {"segmentation": RLES[0]}, SQUARES[0], [SQUARES[0]],
        Image.fromarray(TWO[0].astype(np.uint8) * 255), Image.fromarray(TWO[0].astype(np.uint8)),
    ],
)  # fmt: skip
def test_one_object(given):
    assert np.array_equal(as_masks(given, HEIGHT, WIDTH), TWO[0])


def test_polygons_of_one_object_are_united():
    assert np.array_equal(as_masks(SQUARES, HEIGHT, WIDTH), TWO.any(axis=0))


@pytest.mark.parametrize(
    "given",
    [[], ultralytics([]), SimpleNamespace(xyxy=np.zeros((0, 4)), mask=None), {"masks": torch.zeros(0, 1, 20, 30)}],
)
def test_no_object(given):
    found = as_masks(given, HEIGHT, WIDTH)
    assert found.shape == (0, HEIGHT, WIDTH) and found.dtype == bool


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mask.png", "not str"),
        (None, "not NoneType"),
        ([TWO[0], TWO[1, :10]], r"mask number 1, counted from 0, is \(10, 30\), but the photo is \(20, 30\)"),
        ([TWO, TWO], r"mask number 0, counted from 0, is \(2, 20, 30\)"),
        ([[True, False]], r"np.array\(rows, bool\)"),
        ({"counts": "zz", "size": [20, 30]}, "a mask cannot be read: an RLE"),
        ({"boxes": []}, "a mask cannot be read: an RLE needs the keys"),
        ([1, 2, 3], "a mask cannot be read: a polygon needs at least three"),
        (SimpleNamespace(xyxy=np.ones((1, 4)), mask=None), "boxes but no masks"),
        (Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)), "the picture "),
    ],
)
def test_unsupported_objects_are_refused_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as caught:
        as_masks(given, HEIGHT, WIDTH)
    assert "\n" not in str(caught.value)
