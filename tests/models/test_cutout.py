"""Cutouts of objects, with transparency."""

import numpy as np
import pytest
from test_moving import OBJECT, close, scene

import amodalseg
from amodalseg import UserError
from amodalseg.models.cutout import cutout
from amodalseg.predictions import Canvas, Prediction, PredictionStack


@pytest.fixture
def given():
    photo, modal, amodal, _ = scene()
    return photo, Prediction(modal, amodal[None])


def at(made, shape):
    """The cutout's alpha in a photo of (H, W)."""
    found = np.zeros(shape, np.uint8)
    height, width = made.picture.shape[:2]
    found[made.top : made.top + height, made.left : made.left + width] = made.picture[..., 3]
    return found


def test_the_visible_part_has_the_photos_pixels(given):
    photo, prediction = given
    made = cutout(photo, prediction, "modal")
    alpha = at(made, photo.shape[:2])
    assert np.array_equal(alpha == 255, prediction.modal) and set(np.unique(alpha)) == {0, 255}
    whole = cutout(photo, prediction, "modal", crop=False)
    assert (whole.top, whole.left) == (0, 0) and whole.picture.shape == (*photo.shape[:2], 4)
    assert np.array_equal(whole.picture[prediction.modal][:, :3], photo[prediction.modal])
    assert not whole.picture[~prediction.modal].any(), "no colour is left where nothing is to be seen"


def test_the_whole_object_has_its_own_colours(given):
    photo, prediction = given
    made = cutout(photo, prediction)
    assert np.array_equal(at(made, photo.shape[:2]) == 255, prediction.amodal)
    assert close(made.picture[made.picture[..., 3] > 0][:, :3], OBJECT), "none of the occluder"
    rows, columns = np.nonzero(prediction.amodal)
    assert (made.top, made.left) == (rows.min(), columns.min()), "cropped to its box"
    assert made.picture.shape[:2] == (np.ptp(rows) + 1, np.ptp(columns) + 1)


def test_a_soft_outline_leaves_the_visible_part_opaque(given):
    photo, prediction = given
    hard, soft = (at(cutout(photo, prediction, soft=value), photo.shape[:2]) for value in (0, 3))
    assert (soft[prediction.modal] == 255).all() and ((soft > 0) == (hard > 0)).all()
    assert (soft <= hard).all() and 0 < (soft < hard).sum() < prediction.occluded.sum()


def test_a_truncated_object_does_not_fade_at_the_photos_border():
    amodal = np.zeros((20, 30), bool)
    amodal[5:15, :12] = True
    modal = amodal.copy()
    modal[:, :8] = False
    alpha = at(cutout(np.zeros((20, 30, 3), np.uint8), Prediction(modal, amodal[None]), soft=2), (20, 30))
    assert (alpha[8:12, 0] == 255).all() and (alpha[5, :8] < 255).all()


def test_a_completion_beyond_the_photo_enlarges_the_cutout():
    photo = np.full((20, 30, 3), 90, np.uint8)
    modal = np.zeros((20, 30), bool)
    modal[5:9, :4] = True
    canvas = Canvas(np.ones((4, 10), bool), np.full((4, 10, 3), OBJECT, np.uint8), 5, -6)
    prediction = Prediction(modal, modal[None], canvas=canvas)
    made = cutout(photo, prediction)
    assert (made.top, made.left) == (5, -6) and made.picture.shape == (4, 10, 4) and (made.picture[..., 3] == 255).all()
    assert (made.picture[:, :6, :3] == OBJECT).all()
    whole = cutout(photo, prediction, crop=False)
    assert (whole.top, whole.left) == (0, -6) and whole.picture.shape == (20, 36, 4)


def test_another_model_paints_the_hidden_part(given):
    photo, prediction = given
    painter = amodalseg.load_model("convex_hull")
    with pytest.raises(UserError, match="'convex_hull' generates no picture"):
        cutout(photo, prediction, paint=painter)
    asked = []

    class Painter:
        name = "painter"

        def predict_batch(self, queries):
            (query,) = queries
            asked.append(query)
            half = prediction.amodal.copy()
            half[:, photo.shape[1] // 2 :] = False
            drawn = Prediction(query.modal, (half | query.modal)[None])
            drawn.image = np.where(drawn.occluded[..., None], np.array([9, 200, 9], np.uint8), query.image)
            return [drawn]

    made = cutout(photo, prediction, crop=False, paint=Painter(), seed=5)
    hidden = made.picture[prediction.occluded]
    assert asked[0].seed == 5 and (hidden[:, 3] == 255).all()
    assert (hidden[:, :3] == (9, 200, 9)).all(axis=1).any(), "what it drew"
    assert (np.abs(hidden[:, :3].astype(int) - photo[prediction.occluded]).max(axis=1) > 0).all(), (
        "no occluder shines through"
    )


@pytest.mark.parametrize(
    ("options", "message"), [({"part": "all"}, "invalid part"), ({"soft": -1}, "soft is a number")]
)
def test_invalid_options_are_refused(given, options, message):
    with pytest.raises(UserError, match=message):
        cutout(*given, **options)


def test_photos_are_converted_and_others_refused(given):
    photo, prediction = given
    grey, alpha = photo[..., 0], np.dstack([photo, photo[..., 0]])
    assert np.array_equal(cutout(grey, prediction).picture, cutout(np.dstack([grey] * 3), prediction).picture)
    assert np.array_equal(cutout(alpha, prediction).picture, cutout(photo, prediction).picture)
    height, width = prediction.modal.shape
    with pytest.raises(UserError, match=rf"the photo is {width}x{height - 1} and that of the prediction {width}x"):
        cutout(photo[1:], prediction)
    with pytest.raises(UserError, match="one object is cut out at a time"):
        cutout(photo, PredictionStack([prediction], prediction.modal[None], 1))


def test_hidden_parts_without_a_model(given):
    photo, prediction = given
    black, telea, own = (
        cutout(photo, prediction, paint=paint, crop=False).picture for paint in ("none", "telea", None)
    )
    hidden = prediction.occluded
    assert not black[hidden][:, :3].any() and (black[..., 3] == telea[..., 3]).all()
    assert np.array_equal(black[prediction.modal], telea[prediction.modal])
    assert np.array_equal(telea, own), "a model that draws nothing leaves it to Telea"
    drawn = Prediction(prediction.modal, prediction.maps)
    drawn.image = np.full_like(photo, 7)
    assert (cutout(photo, drawn, crop=False).picture[hidden][:, :3] == 7).all()
    assert np.array_equal(cutout(photo, drawn, paint="telea", crop=False).picture, telea)
    with pytest.raises(UserError, match=r"invalid paint: 'oil' \(choose from telea, none, or give a model\)"):
        cutout(photo, prediction, paint="oil")


def test_colours_are_extended_beyond_the_photo(given):
    photo, prediction = given
    height, width = photo.shape[:2]
    beyond = np.zeros((height + 10, width + 6), bool)
    beyond[10:, 6:] = prediction.amodal
    beyond[:30, :12] = True
    prediction.canvas = Canvas(beyond, np.full((*beyond.shape, 3), 9, np.uint8), -10, -6)
    for paint, colour in (("none", 0), (None, 9)):
        made = cutout(photo, prediction, paint=paint, crop=False)
        assert (made.top, made.left) == (-10, -6) and (made.picture[:10, :6] == [*[colour] * 3, 255]).all()
        assert np.array_equal(made.picture[10:, 6:][prediction.modal][:, :3], photo[prediction.modal])
    telea = cutout(photo, prediction, paint="telea", crop=False).picture
    assert (telea[:10, :6, 3] == 255).all() and not (telea[:10, :6, :3] == 9).all()
