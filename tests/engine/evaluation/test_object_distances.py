"""Distances of completed objects with tiny random models: the compared pictures, and zero for equal objects."""

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.engine.evaluation import object_distances
from amodalseg.engine.evaluation.object_distances import SIDE, ObjectDistances, on_black
from amodalseg.predictions import Prediction
from tests.models.inpainting.tiny_hub import save_clip, save_dino
from tests.worlds.drawing import disc


def squares(one, other):
    """Replaces LPIPS."""
    assert one.shape == other.shape == (1, 3, SIDE, SIDE) and one.min() >= -1 and one.max() <= 1
    return ((one - other) ** 2).mean()


@pytest.fixture(scope="module")
def distances(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return ObjectDistances(str(save_clip(folder / "clip")), str(save_dino(folder / "dino")), squares, "cpu")


def case(category="cat"):
    rng = np.random.default_rng(0)
    image, truth = rng.integers(0, 256, (2, 48, 64, 3), np.uint8)
    amodal = disc(48, 64, 24, 30, 12, 12)
    prediction = Prediction(amodal & (np.arange(64) < 30), amodal[None])
    prediction.image = image
    return Query(image, prediction.modal, 0, None, category), prediction, truth, amodal


def test_the_distance_is_zero_for_equal_objects_and_positive_for_others(distances):
    query, prediction, truth, amodal = case()
    other = distances.measure(query, prediction, truth, amodal)
    same = distances.measure(query, prediction, prediction.image, amodal)
    assert same["lpips"] == 0 and same["dino"] == pytest.approx(0, abs=1e-5)
    assert other["lpips"] > 0.05 and other["dino"] > 1e-4 and -1 <= other["clip"] <= 1
    assert distances.measure(*case(category=None))["clip"] is None


def test_both_objects_are_on_black_at_the_same_scale():
    _, _, truth, amodal = case()
    half = amodal & (np.arange(64) < 24)
    drawn, true = on_black(np.full_like(truth, 200), half, np.full_like(truth, 100), amodal)
    assert drawn.shape == true.shape == (SIDE, SIDE, 3) and set(np.unique(drawn[:, SIDE // 2 + 24 :])) == {0}
    assert (true > 0).sum() == pytest.approx(2 * (drawn > 0).sum(), rel=0.1) and true.max() == 100


def test_masks_alone_are_refused_and_so_is_a_missing_network(distances, monkeypatch):
    query, prediction, truth, amodal = case()
    prediction.image = None
    with pytest.raises(UserError, match="masks only"):
        distances.measure(query, prediction, truth, amodal)

    def missing(**_):
        raise OSError("no route")

    monkeypatch.setattr("torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity", missing)
    with pytest.raises(UserError, match=r"AlexNet's weights cannot be downloaded \(no route\)"):
        object_distances.open_lpips("cpu")
