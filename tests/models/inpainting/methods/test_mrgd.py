"""MRGD as a model: the occluder is edited away, and the edits requested by a query are made."""

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.config.schema import ReadOffConfig
from amodalseg.models.inpainting.methods.edit_request import request_of
from amodalseg.models.inpainting.methods.mrgd import MRGD
from amodalseg.types import Region
from tests.models.contract import ModelContract, query
from tests.models.inpainting.tiny_hub import build_prior
from tests.models.inpainting.tiny_words import Brightness, quick, small_words

NOBODY_HIDES = "ignore:mrgd. .* no known occluder"


@pytest.fixture(scope="module")
def words():
    return small_words()


def model(words, **options):
    return MRGD(quick(guidance=1.0, read_off=ReadOffConfig(kind="difference"), **options), words, Brightness())


def hidden(height=40, width=60, box=(10, 10, 30, 30), seed=1, category=None):
    """An object whose right side is occluded by a post."""
    asked = query(height, width, box, seed)
    post = np.zeros((height, width), bool)
    post[:, box[2] : box[2] + 8] = True
    asked.occluder, asked.category = post & ~asked.modal, category
    return asked


@pytest.mark.filterwarnings(NOBODY_HIDES)
class TestContract(ModelContract):
    """With a depth map in which the surroundings of each object are nearer, so that everything there is generated."""

    @classmethod
    def make(cls):
        found = model(small_words())
        found.config.depth = "all around"
        found._depth = cls
        return found

    @staticmethod
    def nearer(picture):
        return np.linspace(0, 1, picture[..., 0].size, dtype=np.float32).reshape(picture.shape[:2])


def test_without_an_occluder_the_prediction_is_the_modal_mask_with_a_warning(words):
    asked = query(40, 60, (10, 10, 30, 30))
    with pytest.warns(UserWarning, match="^mrgd: 1 of 1 objects have no known occluder") as said:
        (found,) = model(words).predict_batch([asked])
    assert len(said) == 1 and (found.amodal == asked.modal).all() and found.evaluations == 0


def test_the_occluder_is_removed_by_an_edit(words, monkeypatch):
    found = model(words)
    asked = []

    def look(requests, *given):
        asked.extend(requests)
        return drawn(requests, *given)

    drawn = found._draw
    monkeypatch.setattr(found, "_draw", look)
    first, _, third = found.predict_batch([hidden(), hidden(category="star"), hidden(category="zebra")])
    assert len(asked) == 3 and len({request.regions[1].box for request in asked}) == 1
    everything, kept, gone = asked[0].regions
    assert everything == Region("a photo", "a photo")
    assert kept == Region("a photo of thing", "a photo of thing", (0.125, 0.125, 0.875, 0.875))
    assert gone.kind == "removed" and gone.source == "a photo of thing"
    assert [request.regions[1].source for request in asked] == [
        "a photo of thing",
        "a photo of star",
        "a photo of thing",
    ]
    assert (asked[1].source, asked[1].target) == (
        "a photo and a photo of star and a photo of thing", "a photo and a photo of star",
    )  # fmt: skip
    x0, y0, x1, y1 = gone.box
    assert 0.6 < x0 <= 0.75 and 0.9 < x1 <= 1 and (y0, y1) == (0, 1)
    assert (first.amodal == third.amodal).all() and first.evaluations == 16
    # four regions inverted in two steps; three sampled, and the total one evaluated for its maps; then all four
    post = hidden().occluder
    assert (
        not (first.occluded & ~post).any() and (first.image[~first.occluded] == hidden().image[~first.occluded]).all()
    )


def test_two_samples_and_their_evaluations(words):
    together = model(words).predict_batch([hidden()], num_samples=2)[0]
    assert len(together.samples) == 2 and together.evaluations == 32


def test_a_query_with_a_request_is_edited(words):
    asked = hidden()
    asked.edit = request_of([Region("a grey ground", "a grey ground"), Region("a star", "a fish", (0.5, 0, 1, 1))])
    edited, plain = model(words).predict_batch([asked, hidden()])
    assert plain.edited is None and edited.edited.shape == asked.image.shape and edited.edited.dtype == np.uint8
    assert (edited.edited[:, :30] == asked.image[:, :30]).all() and (edited.edited != asked.image).any()
    assert (edited.edited == model(words).edit(asked.edit, asked.image, asked.seed).target).all()
    assert edited.evaluations > plain.evaluations and (edited.amodal == plain.amodal).all()


def test_with_completes_false_only_edits_are_made(words):
    asked = hidden()
    asked.edit = request_of([Region("a grey ground", "a grey ground"), Region("a star", "a fish", (0.5, 0, 1, 1))])
    both, alone = (model(words, completes=completes).predict_batch([asked])[0] for completes in (True, False))
    assert (alone.edited == both.edited).all() and alone.evaluations < both.evaluations
    assert (alone.amodal == asked.modal).all() and (both.amodal != asked.modal).any()


@pytest.mark.filterwarnings(NOBODY_HIDES)
def test_a_model_without_text_is_one_line():
    asked = Query(np.zeros((16, 16, 3), np.uint8), np.eye(16, dtype=bool))
    asked.edit = request_of([Region("a", "b")])
    with pytest.raises(UserError, match="embedded reads no text"):
        MRGD(quick(), build_prior(), Brightness()).predict_batch([asked])


def test_the_description_says_that_masks_are_an_adaptation(words):
    assert model(words).adaptation.startswith("an editing method")
