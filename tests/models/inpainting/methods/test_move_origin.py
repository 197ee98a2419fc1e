"""How methods with an inpainting model fill the place vacated by a moved object: the option ``origin``."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.config.schema import (
    InpaintConfig,
    MixedContextConfig,
    NaiveOutpaintConfig,
    OcclusionFreeBiasConfig,
    StepsConfig,
)
from amodalseg.models import moving
from amodalseg.models.inpainting.methods.mixed_context import Inpaint, MixedContext
from amodalseg.models.inpainting.methods.occlusion_free_bias import OcclusionFreeBias
from amodalseg.models.inpainting.methods.outpaint import NaiveOutpaint
from tests.models.inpainting.known_picture import KnownPicture
from tests.worlds.drawing import disc

DRAWN, GROUND, OBJECT = 77, 150, 240
METHODS = {
    MixedContextConfig: MixedContext, InpaintConfig: Inpaint, NaiveOutpaintConfig: NaiveOutpaint,
    OcclusionFreeBiasConfig: OcclusionFreeBias,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:.*no known occluder")


def asked():
    modal = disc(60, 90, 20, 30, 12, 12)
    photo = np.full((60, 90, 3), GROUND, np.uint8)
    photo[modal] = OBJECT
    return Query(photo, modal, 3, to=(65, 30))


def predicted(config, **options):
    backend = KnownPicture(np.full((16, 16, 3), DRAWN, np.uint8))
    config = replace(config(), sampler=StepsConfig(steps=3), **options)
    return METHODS[type(config)](config, backend).predict_batch([asked()])[0]


@pytest.mark.parametrize("config", METHODS)
def test_the_inpainting_model_fills_the_vacated_place(config):
    query, found = asked(), predicted(config, origin="model")
    place = moving.vacated(query.modal) & ~found.moved_mask
    inner = query.modal & ~found.moved_mask
    assert (np.abs(found.moved[inner].astype(int) - DRAWN) <= 1).all(), "drawn by the model"
    far = ~(place | found.moved_mask | found.amodal)
    assert (found.moved[far] == query.image[far]).all(), "nothing else changes"
    plain = predicted(config)
    assert (np.abs(plain.moved[inner].astype(int) - GROUND) <= 3).all(), "the ground goes on"
    assert (plain.amodal == found.amodal).all() and found.evaluations == plain.evaluations + 3


def test_removal_by_lama_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "simple_lama_inpainting", None)
    with pytest.raises(UserError, match="pip install simple-lama-inpainting"):
        predicted(NaiveOutpaintConfig, origin="lama")

    class SimpleLama:
        def __call__(self, picture, mask):
            return np.full_like(picture, 99)

    monkeypatch.setitem(sys.modules, "simple_lama_inpainting", types.SimpleNamespace(SimpleLama=SimpleLama))
    found = predicted(NaiveOutpaintConfig, origin="lama")
    inner = asked().modal & ~found.moved_mask
    assert (found.moved[inner] == 99).all()


def test_vacated_place_and_object_use_different_noise():
    """With the same noise they would become similar."""
    backend = KnownPicture(np.full((16, 16, 3), DRAWN, np.uint8))
    config = replace(NaiveOutpaintConfig(), sampler=StepsConfig(steps=1), origin="model")
    NaiveOutpaint(config, backend).predict_batch([asked()])
    first, second = (state[1] for state in backend.states)
    assert first.shape == second.shape and not np.allclose(first, second)
