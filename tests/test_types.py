"""Predictions: stored and derived values, and how they are displayed."""

import dataclasses
import json
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import amodalseg
from amodalseg import UserError, masks
from amodalseg.config.schema import WindowConfig
from amodalseg.data.window import object_window, paste, paste_mask
from amodalseg.models.windowed import WindowPrediction
from amodalseg.predictions import Prediction, PredictionStack
from amodalseg.probabilities import entropy, expected_iou
from amodalseg.types import AmodalRecord, Query


@pytest.fixture
def modal():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:30] = True
    return mask


def test_a_prediction_at_the_photos_size(modal):
    full = np.zeros((40, 60), np.float32)
    full[15:25, 10:30] = 0.75
    prediction = Prediction(modal, full[None], 0.6, seconds=0.25)
    assert np.array_equal(prediction.probability, full) and np.array_equal(prediction.raw, full > 0.6)
    assert np.array_equal(prediction.amodal, (full > 0.6) | modal) and prediction.occluded.sum() == 100
    assert (prediction.samples, prediction.image, prediction.canvas) == (None, None, None)
    assert np.array_equal(Prediction(modal, full[None], 0.6, False).amodal, full > 0.6)
    assert Prediction(modal, (full > 0.6)[None], has_probability=False).probability is None
    votes = Prediction(modal, np.stack([full, full, 0 * full]), 0.6)
    np.testing.assert_allclose(votes.probability, full * 2 / 3)
    assert not votes.raw.any() and [mask.sum() for mask in votes.samples] == [300, 300, 200]


def test_a_prediction_in_a_window(modal):
    window = object_window(modal, WindowConfig(32))
    maps = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    prediction = WindowPrediction(modal, maps, 0.4, window=window)
    mean = maps.mean(axis=0)
    assert np.array_equal(prediction.probability, paste(mean, window, 40, 60))
    assert np.array_equal(prediction.raw, paste_mask(mean, window, 40, 60, 0.4))
    assert np.array_equal(prediction.amodal, prediction.raw | modal)
    assert np.array_equal(prediction.samples[1], paste_mask(maps[1], window, 40, 60, 0.4) | modal)


def test_a_prediction_stores_no_full_masks_until_they_are_used():
    modal = np.zeros((3000, 4000), bool)
    modal[100:900, 100:900] = True
    window = object_window(modal, WindowConfig(64))
    tracemalloc.start()
    prediction = WindowPrediction(modal, np.ones((1, 64, 64), np.float32), window=window)
    held = tracemalloc.get_traced_memory()[0]
    assert prediction.amodal is prediction.amodal
    seen = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 100_000 and 12e6 <= seen < 13e6, "one mask of the photo's size"


def test_repr_of_predictions_and_models(modal):
    text = repr(Prediction(modal, modal[None] * np.float32(0.9), seconds=0.25, evaluations=5))
    for part in ("Prediction(photo 60x40", "200 pixels visible", "0 occluded", "samples 1", "evaluations 5", "0.250 s"):
        assert part in text
    stack = PredictionStack([Prediction(modal, modal[None], seconds=0.5)] * 2, modal[None].repeat(2, axis=0))
    assert repr(stack) == "PredictionStack(photo 60x40, 2 objects, 1.000 s)"
    model = amodalseg.load_model("convex_hull")
    assert repr(model) == "ConvexHull('convex_hull', no parameters, cpu)"
    shipped = amodalseg.load_model(device="cpu")
    count = sum(value.numel() for value in shipped.network.parameters())
    assert repr(shipped) == f"CondDiffAMO('conddiff_amo_lite', {count / 1e6:.1f} M parameters, cpu)" and count > 2e6


def test_a_stack_is_a_sequence(modal):
    given = np.stack([modal, np.roll(modal, 3, axis=0), np.roll(modal, 5, axis=1)])
    members = [Prediction(mask, mask[None].astype(np.float32), evaluations=2) for mask in given]
    stack = PredictionStack(members, given, 1)
    assert len(stack) == 3 and stack.evaluations == 6 and stack.samples is None
    assert np.array_equal(stack[-1].amodal, given[2]) and np.array_equal(stack[np.int64(1)].modal, given[1])
    assert np.array_equal(stack[1:].amodal, given[1:]) and np.array_equal(stack[::-1].probability, given[::-1])
    assert np.array_equal(np.stack([one.amodal for one in reversed(stack)]), given[::-1])
    half = PredictionStack([Prediction(mask, mask[None] * np.float32(0.4), 0.5, False) for mask in given], given, 1)
    assert not half.amodal.any() and np.array_equal(half.at(0.3).amodal, given) and not half.amodal.any()
    with pytest.raises(IndexError):
        stack[3]
    assert stack[0] is not stack[0] and "amodal" not in vars(members[0]), "what a copy makes goes when the copy goes"
    assert not {"image", "canvas"} & set(dir(stack)), "these only members have"


def test_uncertainty_is_the_entropy_of_the_mean_probability(modal):
    maps = np.zeros((2, 40, 60), np.float32)
    maps[:, 30:, :] = np.array([1, 0.5], np.float32)[:, None, None]
    maps[:, 25:30, :] = 0.5
    found = Prediction(modal, maps).uncertainty
    sure = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert found.dtype == np.float32 and found.shape == (40, 60)
    assert np.allclose(found[30:], sure) and np.allclose(found[25:30], 1) and (found[:25] == 0).all()
    everywhere = np.full((1, 40, 60), 0.5, np.float32)
    assert (Prediction(modal, everywhere).uncertainty == np.where(modal, 0, 1)).all(), "what is visible is certain"
    assert (Prediction(modal, everywhere, union_visible=False).uncertainty == 1).all()
    assert Prediction(modal, modal[None], has_probability=False).uncertainty is None
    stack = PredictionStack([Prediction(modal, maps)] * 3, np.stack([modal] * 3), 2)
    assert np.array_equal(stack.uncertainty, np.stack([found] * 3))
    assert PredictionStack([], np.zeros((0, 40, 60), bool)).uncertainty is None


def test_a_calibrated_prediction(modal):
    maps = np.random.default_rng(1).random((2, 40, 60), np.float32)
    plain = Prediction(modal, maps, threshold=0.75)
    found = Prediction(modal, maps, threshold=0.75, calibration=(0.4, -0.7))
    assert np.array_equal(found.amodal, plain.amodal) and np.array_equal(found.samples, plain.samples)
    logit = np.log(plain.probability / (1 - plain.probability))
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-(0.4 * logit - 0.7))), atol=1e-6)
    assert (found.raw == (found.probability > 1 / (1 + np.exp(-(0.4 * np.log(3) - 0.7))))).mean() > 0.999
    assert (found.at(0.3).raw == (found.probability > 0.3)).mean() > 0.999
    assert np.allclose(found.uncertainty[~modal], entropy(found.probability)[~modal])
    assert found.score < plain.score


def test_the_score_is_the_expected_iou(modal):
    maps = np.random.default_rng(1).random((2, 40, 60), np.float32)
    p, found = maps.mean(0), Prediction(modal, maps, threshold=0.4)
    p = np.where(modal, 1, p)
    inside = found.amodal
    assert found.score == pytest.approx(p[inside].sum() / (inside.sum() + p[~inside].sum()), rel=1e-5)
    assert found.at(0.9).score != found.score
    apart = Prediction(modal, maps, threshold=0.4, union_visible=False)
    assert apart.score == pytest.approx(expected_iou(maps.mean(0), apart.raw), rel=1e-5)
    assert Prediction(modal, modal[None], has_probability=False).score is None
    stack = PredictionStack([found, apart], np.stack([modal] * 2), 2)
    assert stack.score.tolist() == [found.score, apart.score]
    assert PredictionStack([], np.zeros((0, 40, 60), bool)).score is None


def test_predictions_as_annotations(modal):
    amodal = modal | np.roll(modal, 7, axis=1)
    one = Prediction(modal, amodal[None])
    found = json.loads(json.dumps(one.to_coco()))
    assert np.array_equal(masks.decode(masks.from_segmentation(found["segmentation"], *modal.shape)), amodal)
    assert np.array_equal(masks.decode(masks.from_segmentation(found["modal_segmentation"], *modal.shape)), modal)
    rows, columns = np.nonzero(amodal)
    left, top = int(columns.min()), int(rows.min())
    assert found["bbox"] == [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    assert found["area"] == amodal.sum() and found["amodal_score"] == 1
    assert "amodal_score" not in Prediction(modal, amodal[None], has_probability=False).to_coco()
    assert PredictionStack([one, one], np.stack([modal, modal])).to_coco() == [found, found]


def test_predictions_as_detections_of_supervision(modal, monkeypatch):
    """With a stand-in, because the package itself installs another OpenCV."""
    stack = PredictionStack([Prediction(modal, ~modal[None])] * 2, np.stack([modal, modal]), 1)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        stack.to_supervision()
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    found = stack.to_supervision()
    assert np.array_equal(found.mask, stack.amodal) and np.array_equal(found.data["modal"], stack.modal)
    assert np.array_equal(found.xyxy, [[0, 0, 60, 40]] * 2) and found.xyxy.dtype == np.float32
    assert found.confidence.tolist() == [one.score for one in stack]
    assert stack[0].to_supervision().mask.shape == (1, 40, 60)
    alone = Prediction(modal, ~modal[None], has_probability=False)
    assert alone.to_supervision().confidence is None


def test_records_and_queries_are_compared_by_identity(modal):
    image, rle = np.zeros((40, 60, 3), np.uint8), masks.encode(modal)
    for one in (AmodalRecord("d", "s", "1", "1", image, rle), Query(image, modal), Prediction(modal, modal[None])):
        same = dataclasses.replace(one)
        assert one == one and one != same and len({one, same}) == 2


@pytest.mark.parametrize("name", ["modal", "box", "convex_hull", "hull_in_occluders"])
def test_models_without_network_accept_to_and_override(name):
    model = amodalseg.load_model(name)
    assert model.to("cuda") is model and model.device == "cpu" and model.override({"post": {"threshold": 0.4}}) == {}


def test_repr_of_a_model_shows_its_size_once_its_network_is_open():
    pytest.importorskip("diffusers")
    model = amodalseg.load_model("mixed_context", device="cpu")
    assert repr(model) == "MixedContext('mixed_context', size unknown, cpu)"
    count = sum(value.numel() for value in model.backend.unet.parameters())
    assert repr(model) == f"MixedContext('mixed_context', {count / 1e6:.1f} M parameters, cpu)" and count > 1e6
    assert repr(amodalseg.load_model("telea", device="cpu")) == "Telea('telea', no parameters, cpu)"
