"""Moves by removal and paste: positions, filled areas, and their colours."""

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.models import MODELS, moving
from amodalseg.models.inpainting.parts.removal import remove
from amodalseg.predictions import Canvas, Prediction
from tests.worlds.drawing import disc

GROUND, OBJECT, POST = (40, 90, 60), (200, 40, 50), (20, 20, 220)


def scene():
    """A ball of one colour behind a post of another on a uniform background: photo, modal, amodal, post."""
    ball, post = disc(60, 90, 25, 30, 18, 18), np.zeros((60, 90), bool)
    post[:, 24:30] = True
    photo = np.empty((60, 90, 3), np.uint8)
    photo[:] = GROUND
    photo[ball], photo[post] = OBJECT, POST
    return photo, ball & ~post, ball, post


def close(pixels, colour, levels=4):
    """Whether colours are equal up to a few levels: Telea's method blends in integers, less exactly in large holes."""
    return np.abs(pixels.astype(int) - colour).max() <= levels


def test_the_centre_of_the_modal_box_is_moved_to_the_target():
    modal = np.zeros((20, 30), bool)
    modal[4:9, 10:16] = True  # odd height, even width
    assert moving.shift_of(modal, (20, 6)) == (7, 0)
    assert moving.shift_of(modal, (0, 0)) == (-13, -6)
    moved = np.roll(modal, (0, 7), (0, 1))
    assert moving.shift_of(moved, (20, 6)) == (0, 0)


def test_a_perfect_prediction_moves_perfectly():
    """On a uniform background the ground truth of the move is known."""
    photo, modal, amodal, post = scene()
    prediction = Prediction(modal, amodal[None])
    query = Query(photo, modal, occluder=post, to=(60, 28))
    moved, mask = moving.move_by_paste(query, prediction)
    shift = moving.shift_of(modal, query.to)
    truth = np.empty_like(photo)
    truth[:], truth[post] = GROUND, POST
    there = np.roll(amodal, shift[::-1], (0, 1))
    truth[there] = OBJECT
    assert np.array_equal(mask, there)
    assert np.array_equal(moved[post & ~there], truth[post & ~there]), "the occluder stays as it is"
    assert close(moved[there], OBJECT)
    assert moved[~there][:, 0].max() <= GROUND[0] + 4, "nothing red is left: the ground and the post have less"


def test_hidden_parts_are_not_filled_with_colours_of_the_masks_edge_except_in_thin_masks():
    photo, modal, amodal, post = scene()
    edge = modal & moving.grown(post, 2)  # pixels of the post in a slightly too large mask
    photo[edge] = POST
    picture = moving.coloured(photo, modal, amodal, rim=0.06)
    assert close(picture[amodal & ~modal], OBJECT), "what hides the ball does not colour it"
    assert (picture[edge] == POST).all(), "the visible part is as it was"
    thin = np.zeros_like(modal)
    thin[20:22, 5:24] = True  # consists of edge pixels only
    whole = thin.copy()
    whole[20:22, 24:27] = True
    photo[thin] = OBJECT
    assert close(moving.coloured(photo, thin, whole, rim=0.06)[whole], OBJECT, 8)


def test_colours_of_the_occluder_do_not_leak_into_the_object():
    photo, modal, amodal, _ = scene()
    piece = moving.completed(photo, Prediction(modal, amodal[None]))
    assert piece.mask.sum() == amodal.sum() and close(piece.picture[piece.mask], OBJECT)


def test_the_picture_of_a_generative_model_is_used():
    photo, modal, amodal, _ = scene()
    prediction = Prediction(modal, amodal[None])
    prediction.image = np.where((amodal & ~modal)[..., None], np.uint8(7), photo)
    piece = moving.completed(photo, prediction)
    height, width = piece.mask.shape
    hidden = (amodal & ~modal)[piece.top : piece.top + height, piece.left : piece.left + width]
    assert hidden.sum() == (amodal & ~modal).sum() and (piece.picture[hidden] == 7).all()


def test_completed_parts_beyond_the_photo_are_moved_with_the_object():
    photo = np.full((20, 30, 3), 90, np.uint8)
    modal = np.zeros((20, 30), bool)
    modal[5:9, :4] = True
    photo[modal] = OBJECT
    canvas = Canvas(np.ones((4, 10), bool), np.full((4, 10, 3), OBJECT, np.uint8), 5, -6)
    prediction = Prediction(modal, modal[None], canvas=canvas)
    moved, mask = moving.move_by_paste(Query(photo, modal, to=(22, 7)), prediction)
    assert mask.sum() == 40 and mask[5:9, 14:24].all(), "the middle of the *modal* box (2, 7) goes to (22, 7)"
    assert (moved[mask] == OBJECT).all() and close(moved[~mask], 90)


def test_an_object_moved_over_the_border_is_clipped():
    photo, modal, amodal, _ = scene()
    moved, mask = moving.move_by_paste(Query(photo, modal, to=(0, 0)), Prediction(modal, amodal[None]))
    assert 0 < mask.sum() < amodal.sum() and mask[0, 0] and close(moved[mask], OBJECT)


def test_the_origin_is_cleared_with_a_rim_except_for_the_occluder():
    _, modal, _, post = scene()
    rim = moving.vacated(modal) & ~modal
    near = np.zeros_like(modal)
    near[1:-1, 1:-1] = modal[:-2, 1:-1] | modal[2:, 1:-1] | modal[1:-1, :-2] | modal[1:-1, 2:]
    assert np.array_equal(rim, near & ~modal), "an object of 36 pixels has a rim of one"
    assert not (moving.vacated(modal, post) & post).any() and moving.vacated(modal, post)[modal].all()
    wide = np.zeros((300, 300), bool)
    wide[100:200, 100:250] = True
    assert moving.vacated(wide)[150, 97] and not moving.vacated(wide)[150, 96]


def test_filling_from_the_surroundings_equals_filling_the_whole_photo():
    rng = np.random.default_rng(0)
    photo, mask = rng.integers(0, 256, (80, 90, 3), np.uint8), disc(80, 90, 50, 40, 9, 14)
    assert np.array_equal(moving.without(photo, mask, mask), remove(photo, mask))
    nothing = np.zeros_like(mask)
    assert np.array_equal(moving.without(photo, nothing, nothing), photo)


def test_a_large_hole_is_filled_at_a_smaller_size(monkeypatch):
    """The colours are similar, and only the hole changes."""
    photo, modal, amodal, post = (np.kron(one, np.ones((4, 4, 1)[: one.ndim], one.dtype)) for one in scene())
    query = Query(photo, modal, occluder=post, to=(300, 120))
    monkeypatch.setattr(moving, "LARGEST", 64)
    sizes = []
    monkeypatch.setattr(moving, "remove", lambda picture, *rest: sizes.append(picture.shape) or remove(picture, *rest))
    moved, mask = moving.move_by_paste(query, Prediction(modal, amodal[None]))
    assert len(sizes) == 2 and all(max(shape) == 64 for shape in sizes)
    assert close(moved[mask], OBJECT, 12) and close(moved[~mask & ~post], GROUND, 12)
    near = moving.vacated(modal, post) | mask
    assert (moved[~near] == photo[~near]).all()


def test_colours_of_the_occluder_do_not_leak_into_the_origin():
    photo, modal, amodal, post = scene()
    query = Query(photo, modal, occluder=post, to=(75, 30))
    moved, mask = moving.move_by_paste(query, Prediction(modal, amodal[None]))
    assert close(moved[~post & ~mask], GROUND)
    blind, _ = moving.move_by_paste(Query(photo, modal, to=(75, 30)), Prediction(modal, amodal[None]))
    assert not close(blind[~post & ~mask], GROUND), "who does not know the post takes it for the ground"


def test_an_origin_enclosed_by_occluders_is_filled_with_their_colours():
    photo, modal, amodal, _ = scene()
    moved, _ = moving.move_by_paste(Query(photo, modal, 0, ~modal, to=(75, 30)), Prediction(modal, amodal[None]))
    assert moved[30, 15].max() < 255 and not np.array_equal(moved[30, 15], photo[30, 15])


def test_a_mask_of_the_whole_photo_cannot_be_moved():
    photo = np.zeros((8, 9, 3), np.uint8)
    with pytest.raises(UserError, match="covers the whole photo: no background is visible"):
        MODELS["modal"]().predict_batch([Query(photo, np.ones((8, 9), bool), to=(1, 1))])
