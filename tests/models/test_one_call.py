"""``predict``: photos and masks of any kind, stacks, samples and steps."""

import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from test_contract import tiny

from amodalseg import Query, UserError, load_model, masks, move
from amodalseg.config.schema import NetworkPostConfig
from amodalseg.models import MODELS
from amodalseg.predictions import PredictionStack
from amodalseg.types import stable_seed
from tests.models.contract import query


@pytest.fixture(scope="module")
def model():
    """Random weights, with the threshold at the median of the output: all masks are different."""
    model = tiny()
    asked = query(40, 60, (10, 10, 30, 30))
    probability = model.predict(asked.image, asked.modal).probability
    model.config.post.threshold = float(np.median(probability[probability > 0]))
    return model


@pytest.fixture
def photo():
    return query(40, 60, (10, 10, 30, 30)).image


def boxes(*corners, shape=(40, 60)):
    stack = np.zeros((len(corners), *shape), bool)
    for mask, (x0, y0, x1, y1) in zip(stack, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return stack


STACK = boxes((3, 4, 20, 30), (30, 10, 59, 39), (1, 1, 2, 3), (0, 0, 60, 40), (25, 0, 35, 40))


def test_an_object_of_a_stack_is_predicted_as_alone(model, photo):
    together = model.predict(photo, STACK, seed=4)
    assert isinstance(together, PredictionStack) and len(together) == 5
    assert together.amodal.shape == together.raw.shape == together.occluded.shape == STACK.shape
    assert together.probability.dtype == np.float32 and together.modal is STACK and together.samples is None
    for index, (one, mask) in enumerate(zip(together, STACK, strict=True)):
        alone = model.predict(photo, mask, seed=4)
        np.testing.assert_allclose(one.probability, alone.probability, atol=1e-5)
        assert (one.probability == together.probability[index]).all() and (one.amodal == together.amodal[index]).all()
        # rounding depends on the batch size, which may flip single pixels at the threshold
        assert (one.amodal != alone.amodal).mean() < 0.01
        assert (one.raw == (one.probability > model.config.post.threshold)).all()
        assert (one.amodal == (one.raw | mask)).all()


def test_a_stack_of_any_length(model, photo):
    for name in ("modal", "box", "convex_hull"):
        result = MODELS[name]().predict(photo, STACK)
        assert result.amodal.shape == STACK.shape and result.probability is None and result.samples is None
    empty = model.predict(photo, STACK[:0], num_samples=3)
    assert empty.amodal.shape == empty.probability.shape == empty.occluded.shape == (0, 40, 60)
    assert empty.samples.shape == (0, 3, 40, 60) and len(empty) == 0 and list(empty) == []
    assert MODELS["box"]().predict(photo, STACK[:0]).amodal.shape == (0, 40, 60)
    assert model.predict(photo, STACK[:1]).amodal.shape == (1, 40, 60)


def test_the_probability_of_several_samples_is_their_mean(model, photo):
    votes = model.predict(photo, STACK[0], seed=9, num_samples=3)
    single = [model.predict(photo, STACK[0], seed=s) for s in (9, stable_seed(9, 1), stable_seed(9, 2))]
    assert votes.samples.shape == (3, 40, 60) and votes.samples.dtype == bool
    for sample, alone in zip(votes.samples, single, strict=True):
        assert (sample != alone.amodal).mean() < 0.01
    np.testing.assert_allclose(votes.probability, np.mean([one.probability for one in single], axis=0), atol=1e-5)
    assert (votes.raw == (votes.probability > model.config.post.threshold)).all()
    assert (votes.amodal == (votes.raw | STACK[0])).all()
    assert len({sample.tobytes() for sample in votes.samples}) > 1, "three noises, one mask"
    stack = model.predict(photo, STACK[:2], seed=9, num_samples=3)
    assert stack.samples.shape == (2, 3, 40, 60) and (stack.samples[0] != votes.samples).mean() < 0.01


def test_several_samples_without_the_union(model, photo):
    threshold = model.config.post.threshold
    other = tiny(post=NetworkPostConfig(union_visible=False, threshold=threshold))
    result = other.predict(photo, STACK[0], num_samples=2)
    assert (result.amodal == (result.probability > threshold)).all() and (result.raw == result.amodal).all()
    assert (result.samples.shape, result.samples.dtype) == ((2, 40, 60), bool)


def test_steps_of_one_call(model, photo):
    before = model.config.sampler.steps
    other = model.predict(photo, STACK[0], steps=3).probability
    assert model.config.sampler.steps == before == 2
    assert not np.array_equal(other, model.predict(photo, STACK[0]).probability)
    again = tiny()
    again.override({"sampler": {"steps": 3}})
    np.testing.assert_allclose(again.predict(photo, STACK[0]).probability, other, atol=1e-6)


def test_a_prediction_does_not_change_when_its_model_does(photo):
    one, other = tiny(), tiny()
    result, before = one.predict(photo, STACK[0]), other.predict(photo, STACK[0]).raw
    one.config.post.threshold = float(result.probability.max())
    assert not one.predict(photo, STACK[0]).raw.any() and np.array_equal(result.raw, before)


def test_deterministic_models_warn_about_samples_and_steps(model, photo, recwarn):
    with pytest.warns(UserWarning, match="'box' is deterministic: num_samples and steps have no effect"):
        result = MODELS["box"]().predict(photo, STACK[0], num_samples=4)
    assert result.samples is None
    with pytest.warns(UserWarning, match="no effect"):
        MODELS["modal"]().predict(photo, STACK[0], steps=4)
    recwarn.clear()
    model.predict(photo, STACK[0], steps=1, num_samples=2)
    MODELS["box"]().predict(photo, STACK[0])
    assert not recwarn.list


def test_photos_that_are_converted(model, photo):
    grey = photo[..., 0]
    wanted = model.predict(np.stack([grey] * 3, axis=-1), STACK[0]).probability
    for image in (grey, grey[..., None]):
        assert np.array_equal(model.predict(image, STACK[0]).probability, wanted)
    rgba = np.dstack([photo, np.full((40, 60), 7, np.uint8)])
    assert np.array_equal(model.predict(rgba, STACK[0]).probability, model.predict(photo, STACK[0]).probability)


GOOD = np.zeros((40, 60, 3), np.uint8)
NAN = np.full((40, 60, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("image", "modal", "options", "message"),
    [
        (GOOD / 255, STACK[0], {}, r"float64; give \(image\.clip\(0, 1\) \* 255\)"),
        (GOOD + 200.0, STACK[0], {}, r"float64; give image\.clip\(0, 255\)"),
        (NAN, STACK[0], {}, "float32, and 7200 of its values are NaN"),
        (GOOD.astype(np.uint16), STACK[0], {}, "uint16; give"),
        (GOOD.astype(bool), STACK[0], {}, "bool; give"),
        (GOOD.astype(int), STACK[0], {}, "int64; give"),
        (GOOD.transpose(2, 0, 1), STACK[0], {}, "channels first"),
        (GOOD[..., :2], STACK[0], {}, "uint8 array"),
        (GOOD[0, 0], STACK[0], {}, "uint8 array"),
        (np.zeros((0, 60, 3), np.uint8), STACK[0], {}, "uint8 array"),
        (GOOD.tolist(), STACK[0], {}, "not list; try np.asarray"),
        (GOOD, STACK[:, :30], {}, "differ in size: 60x40 and 60x30"),
        (GOOD, "mask.png", {}, r"a bool array \(H, W\), or a stack \(N, H, W\), not str"),
        (GOOD, STACK[None], {}, r"not bool \(1, 5, 40, 60\)"),
        (GOOD, STACK[0].astype(float), {}, "mask > 127"),
        (GOOD, np.zeros((40, 60), bool), {}, "the modal mask is empty: at least"),
        (GOOD, STACK & (np.arange(5) % 2 == 0)[:, None, None], {}, r"number 1 of the stack.* is empty \(and 1 more\)"),
        (GOOD, STACK[0], {"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        (GOOD, STACK[0], {"seed": 1.5}, "seed must be a whole number of at least 0, not 1.5"),
        (GOOD, STACK[0], {"num_samples": 0}, "num_samples must be a whole number of at least 1"),
        (GOOD, STACK[0], {"steps": 0}, "steps must be a whole number of at least 1"),
        (GOOD, STACK[0], {"steps": True}, "steps must be a whole number of at least 1"),
    ],
)
def test_invalid_inputs_are_refused_in_one_line(model, image, modal, options, message):
    with pytest.raises(UserError, match=message) as caught:
        model.predict(image, modal, **options)
    assert "\n" not in str(caught.value)


def test_a_hundred_objects_take_little_more_than_their_masks(model):
    shape = (600, 800)
    stack = boxes(*[(7 * i, 5 * i, 7 * i + 100, 5 * i + 100) for i in range(100)], shape=shape)
    image = np.zeros((*shape, 3), np.uint8)
    tracemalloc.start()
    result = model.predict(image, stack, steps=1)
    held, _ = tracemalloc.get_traced_memory()
    sizes = [one.amodal.sum() for one in result]
    going_through = tracemalloc.get_traced_memory()[1]
    whole = result.amodal
    tracemalloc.stop()
    assert held < 8e6, "predictions are kept as the network gave them"
    assert going_through < 30e6, "one object's maps at a time, where all would be 48 MB of masks and 192 MB of floats"
    assert [mask.sum() for mask in whole] == sizes


@pytest.mark.parametrize("box", [(100, 20, 400, 300), (0, 0, 20_000, 600)])
def test_a_photo_20000_pixels_wide(model, box):
    x0, y0, x1, y1 = box
    modal = np.zeros((600, 20_000), bool)
    modal[y0:y1, x0:x1] = True
    result = model.predict(np.zeros((600, 20_000), np.uint8), modal, steps=1)
    assert result.amodal.shape == modal.shape and not (modal & ~result.amodal).any()


def test_masks_of_other_libraries_are_accepted():
    mask = np.zeros((20, 30), bool)
    mask[4:12, 5:20] = True
    rle = masks.encode(mask)
    photo = np.zeros((20, 30, 3), np.uint8)
    model = load_model("modal")
    for given in (rle, [[5, 4, 20, 4, 20, 12, 5, 12]], torch.from_numpy(mask)):
        assert np.array_equal(model.predict(photo, given).amodal, mask)
    for given in ([rle, rle], [{"segmentation": mask}, {"segmentation": mask}], [mask, mask]):
        assert np.array_equal(model.predict(photo, given).amodal, np.stack([mask, mask]))
    assert len(model.predict(photo, [])) == 0
    assert np.array_equal(move(photo, rle, to=(9, 9), model=model).modal, mask)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_shipped_weights_are_not_shadowed_by_files_of_their_name(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "folder":
        (tmp_path / "conddiff_amo_tiny").mkdir()
    else:
        (tmp_path / "conddiff_amo_tiny").write_text("mine")
    with pytest.warns(UserWarning, match=r"means the shipped weights; .* give \./conddiff_amo_tiny"):
        assert load_model("conddiff_amo_tiny", "cpu").num_parameters() > 1_000_000
    with pytest.raises(UserError):
        load_model("./conddiff_amo_tiny", "cpu")


def test_a_known_occluder_bounds_the_occluded_region(photo):
    occluder = np.zeros(STACK[0].shape, bool)
    occluder[:, 30:] = True
    given, without = (Query(photo, STACK[0], 4, known) for known in (occluder, None))
    model = tiny()
    free = model.predict_batch([given])[0]
    model.override({"post": {"within_occluder": True}})
    bounded, same = model.predict_batch([given, without])
    beyond = ~cv2.dilate((occluder | STACK[0]).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    assert (free.probability[beyond] > 0.01).any(), "without the option the occluder makes no difference"
    assert (bounded.probability[beyond] == 0).all() and not bounded.amodal[beyond].any()
    inside = cv2.erode((occluder | STACK[0]).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    np.testing.assert_allclose(bounded.probability[inside], free.probability[inside], atol=1e-5)
    np.testing.assert_allclose(same.probability, free.probability, atol=1e-5)
    assert bounded.score is not None and bounded.amodal[STACK[0]].all()
