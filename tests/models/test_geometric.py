import json
import os
from pathlib import Path

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.metrics.counts import count_object
from amodalseg.metrics.protocols import score
from amodalseg.models.geometric.model import ConvexHull, FilledBox, ModalCopy
from amodalseg.types import AmodalRecord, Query

MODELS = [ModalCopy(), FilledBox(), ConvexHull()]
DATA = Path(os.environ.get("AMODALSEG_DATA", "data"))


def query(modal):
    return Query(np.zeros((*modal.shape, 3), np.uint8), modal)


def slow_hull(modal):
    """Pixels with centres in the convex hull of the modal pixels' centres: no line separates them from these."""
    points = np.argwhere(modal)
    inside = np.zeros_like(modal)
    for y, x in np.ndindex(modal.shape):
        angles = np.sort(np.arctan2(points[:, 0] - y, points[:, 1] - x))
        gaps = np.diff([*angles, angles[0] + 2 * np.pi])
        inside[y, x] = modal[y, x] or gaps.max() <= np.pi + 1e-9
    return inside


def random_masks():
    rng = np.random.default_rng(0)
    for height, width in ((12, 12), (9, 31), (1, 7), (7, 1), (1, 1)):
        mask = rng.random((height, width)) < 0.1
        mask[rng.integers(height), rng.integers(width)] = True
        yield mask


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("modal", list(random_masks()), ids=lambda mask: str(mask.shape))
def test_predictions_contain_the_modal_mask_and_are_valid(model, modal):
    before = modal.copy()
    (prediction,) = model.predict_batch([query(modal)])
    for mask in (prediction.amodal, prediction.modal, prediction.raw):
        assert mask.dtype == bool and mask.shape == modal.shape
    assert (prediction.amodal & modal).sum() == modal.sum()
    assert np.array_equal(prediction.raw, prediction.amodal) and np.array_equal(prediction.modal, before)
    assert prediction.probability is None and prediction.samples is None and prediction.seconds >= 0
    assert not np.shares_memory(prediction.amodal, modal)


@pytest.mark.parametrize("modal", list(random_masks()), ids=lambda mask: str(mask.shape))
def test_shapes(modal):
    y, x = np.nonzero(modal)
    copy, box, hull = (model.predict(query(modal).image, modal).amodal for model in MODELS)
    assert np.array_equal(copy, modal)
    assert box.sum() == (np.ptp(y) + 1) * (np.ptp(x) + 1) and box[y.min() : y.max() + 1, x.min() : x.max() + 1].all()
    inside = slow_hull(modal)
    assert (hull & inside).sum() == inside.sum()
    # in addition only pixels that the outline meets: next to a pixel inside, or on the line of the outline
    assert (hull & ~inside).sum() <= 2 * sum(modal.shape) and not (hull & ~box).any()


def test_batches_of_any_sizes_are_predicted_one_by_one():
    queries = [query(mask) for mask in random_masks()]
    for model in MODELS:
        together = model.predict_batch(queries)
        alone = [model.predict_batch([one])[0] for one in queries]
        assert all(np.array_equal(a.amodal, b.amodal) for a, b in zip(together, alone, strict=True))
        assert model.predict_batch([]) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_bad_queries_are_refused(model):
    good = query(np.ones((4, 5), bool))
    with pytest.raises(UserError, match="empty"):
        model.predict_batch([good, query(np.zeros((4, 5), bool))])
    with pytest.raises(UserError, match="differ in size"):
        model.predict(np.zeros((5, 4, 3), np.uint8), np.ones((4, 5), bool))


@pytest.mark.skipif(not (DATA / "cocoa/annotations").is_dir(), reason="needs AMODALSEG_DATA with COCOA photos")
def test_known_figures_on_two_cocoa_photos():
    content = json.loads((DATA / "cocoa/annotations/COCO_amodal_val2014.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    rows = {model.name: [] for model in MODELS}
    for annotation in content["annotations"]:
        height, width = sizes[annotation["image_id"]]
        image = np.zeros((height, width, 3), np.uint8)
        for number, region in enumerate(annotation["regions"]):
            amodal = masks.from_segmentation(region["segmentation"], height, width)
            modal = (
                masks.from_segmentation(region["visible_mask"], height, width) if "visible_mask" in region else amodal
            )
            record = AmodalRecord("cocoa", "val", str(annotation["image_id"]), str(number), image, modal, amodal)
            for model in MODELS:
                rows[model.name].append(count_object(record, model.predict(image, record.modal), model.name))
    scores = {name: score(found) for name, found in rows.items()}
    assert all(len(found) == 13 and sum(row["occluded_area"] > 0 for row in found) == 6 for found in rows.values())
    assert scores["modal"]["pooled"]["full"] == pytest.approx(0.8049, abs=5e-5)
    assert scores["modal"]["per_object"]["full"] == pytest.approx(0.8759, abs=5e-5)
    assert scores["modal"]["per_object_occluded"]["full"] == pytest.approx(0.7311, abs=5e-5)
    assert scores["modal"]["pooled"]["occluded"] == 0
    assert scores["box"]["pooled"]["full"] == pytest.approx(0.6594, abs=5e-5)
    assert scores["box"]["pooled"]["occluded_of_occluded"] == pytest.approx(0.5417, abs=5e-5)
    assert scores["convex_hull"]["pooled"]["full"] == pytest.approx(0.874, abs=5e-3)
    assert scores["convex_hull"]["pooled"]["occluded_of_occluded"] == pytest.approx(0.652, abs=1e-2)
