"""Controls: predictions without a prior, by background fill, noise or the hull."""

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.config.schema import NoiseFillConfig, ReadOffConfig, SquareConfig, TeleaConfig
from amodalseg.models import load_model
from amodalseg.models.geometric.model import ConvexHull, HullInOccluders
from amodalseg.models.inpainting.methods.completion import Crop
from amodalseg.models.inpainting.methods.controls import NoiseFill, Telea
from tests.models.contract import ModelContract


def bar(size=64):
    """A red bar across a green photo, its middle occluded by a blue post: query and ground truth."""
    image = np.full((size, size, 3), (60, 160, 60), np.uint8)
    whole, post = np.zeros((size, size), bool), np.zeros((size, size), bool)
    whole[26:38, 10:54] = True
    post[14:50, 28:36] = True
    image[whole], image[post] = (220, 30, 30), (30, 30, 220)
    return Query(image, whole & ~post, 0, post), whole


def test_telea_completes_a_bar_in_its_own_colours():
    query, whole = bar()
    (prediction,) = Telea(TeleaConfig()).predict_batch([query])
    assert (prediction.amodal & whole).sum() / (prediction.amodal | whole).sum() > 0.85
    hidden = prediction.occluded & whole
    assert hidden.sum() > 50 and np.abs(prediction.image[hidden].astype(int) - (220, 30, 30)).mean() < 30
    assert np.array_equal(prediction.image[~prediction.occluded], query.image[~prediction.occluded])
    assert prediction.evaluations == 0


def test_a_stack_has_the_probabilities_of_its_objects():
    query, _ = bar()
    stack = Telea(TeleaConfig()).predict(query.image, np.stack([query.modal] * 2))
    assert stack.probability.shape == (2, 64, 64)
    assert np.array_equal(stack.probability[1], stack[1].probability)


def test_telea_without_an_occluder_predicts_the_modal_mask():
    query, _ = bar()
    (prediction,) = Telea(TeleaConfig()).predict_batch([Query(query.image, query.modal)])
    assert np.array_equal(prediction.amodal, query.modal) and np.array_equal(prediction.image, query.image)


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_option_everywhere_reads_off_the_whole_square(everywhere, monkeypatch):
    query, _ = bar()
    crop, asked = Crop(query.image, query.modal, query.occluder, 3, None), []

    def listen(self, picture, crop, area, background, *, connected):
        asked.append((picture, area, connected))
        return area

    monkeypatch.setattr(NoiseFill, "read_off", listen)
    for how in (False, everywhere):
        NoiseFill(NoiseFillConfig(everywhere=how)).complete([crop], None)
    (held, hull, _), (picture, area, connected) = asked
    assert np.array_equal(picture, held) and connected == everywhere == area.all() and not hull.all()


@pytest.mark.parametrize("area", ["hull", "occluders"])
def test_noise_fills_exactly_the_area(area):
    query, _ = bar()
    crop = Crop(query.image, query.modal, query.occluder, 3, None)
    model = NoiseFill(NoiseFillConfig(area=area, background="white", read_off=ReadOffConfig(kind="difference")))
    ((mask, picture, _),) = model.complete([crop], None)
    hole = model.area(crop)
    assert (picture[~hole & ~query.modal] == 255).all()
    assert np.array_equal(picture[~hole & query.modal], query.image[~hole & query.modal])
    inside = picture[hole].astype(float) / 127.5 - 1
    assert abs(inside.mean()) < 0.1 and 0.6 < inside.std() < 0.85  # a normal distribution, clipped
    assert not (mask & ~hole & ~query.modal).any() and (mask & hole).sum() > 0.95 * hole.sum()


def test_noise_is_determined_by_the_seed():
    query, _ = bar()
    model = NoiseFill(NoiseFillConfig())
    first, same, other = (model.predict(query.image, query.modal, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.image, same.image) and not np.array_equal(first.image, other.image)
    several = model.predict(query.image, query.modal, seed=1, num_samples=3)
    assert several.samples.shape == (3, 64, 64) and np.array_equal(several.samples[0], first.amodal)


def test_hull_in_occluders_is_the_hull_within_the_occluder():
    query, whole = bar()
    hull = ConvexHull().predict_batch([query])[0].amodal
    (prediction,) = HullInOccluders().predict_batch([query])
    assert np.array_equal(prediction.amodal, hull & (query.modal | query.occluder))
    assert np.array_equal(prediction.amodal, whole)
    (unknown,) = HullInOccluders().predict_batch([Query(query.image, query.modal)])
    assert np.array_equal(unknown.amodal, hull)
    nothing = Query(query.image, query.modal, 0, np.zeros_like(query.modal))
    assert np.array_equal(HullInOccluders().predict_batch([nothing])[0].amodal, query.modal)


def test_controls_open_by_name_and_by_file(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text("model: {name: noise_fill, area: occluders, window: {size: 32}}\n")
    model = load_model(file, "cpu")
    assert isinstance(model, NoiseFill) and model.config.area == "occluders" and model.size == 32
    assert isinstance(load_model("telea", "cpu"), Telea)
    assert isinstance(load_model("hull_in_occluders"), HullInOccluders)
    file.write_text("model: {name: conddiff_amo}\n")
    with pytest.raises(UserError, match="needs trained weights"):
        load_model(file, "cpu")
    file.write_text("model: {name: telea, areas: hull}\n")
    with pytest.raises(UserError, match=r"there is no option 'model\.areas'"):
        load_model(file, "cpu")
    with pytest.raises(UserError, match="no configuration file"):
        load_model(tmp_path / "missing.yaml", "cpu")


@pytest.mark.parametrize("make", [lambda: Telea(TeleaConfig()), lambda: NoiseFill(NoiseFillConfig())])
def test_an_occluder_of_another_size_is_refused(make):
    query, _ = bar()
    with pytest.raises(UserError, match="occluder and modal mask differ in size"):
        make().predict_batch([Query(query.image, query.modal, 0, np.ones((3, 4), bool))])


def test_an_object_too_thin_for_the_resolution_of_the_square():
    image, modal = np.zeros((9, 900, 3), np.uint8), np.zeros((9, 900), bool)
    modal[4, 3:890] = True
    model = NoiseFill(NoiseFillConfig(window=SquareConfig(size=16)))
    prediction = model.predict(image, modal)
    assert not (modal & ~prediction.amodal).any()


class TestTelea(ModelContract):
    @classmethod
    def make(cls):
        return Telea(TeleaConfig())


class TestNoiseFill(ModelContract):
    @classmethod
    def make(cls):
        return NoiseFill(NoiseFillConfig())


class TestHullInOccluders(ModelContract):
    @classmethod
    def make(cls):
        return HullInOccluders()
