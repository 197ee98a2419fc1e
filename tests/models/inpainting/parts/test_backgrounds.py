import numpy as np
import pytest

from amodalseg.models.inpainting.parts.backgrounds import KINDS, background


def scene(side=64):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (side, side, 3), np.uint8)
    modal = np.zeros((side, side), bool)
    modal[20:40, 25:50] = True
    picture[modal] = rng.integers((100, 20, 0), (140, 60, 90), (int(modal.sum()), 3))
    return picture, modal


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_new_picture_determined_by_its_generator(kind):
    picture, modal = scene()
    before = picture.copy()
    first, second = (background(kind, picture, modal, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == picture.shape and first.dtype == np.uint8 and first.flags.writeable
    assert np.array_equal(first, second) and not np.shares_memory(first, picture)
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("kind", ["histogram", "pixels"])
def test_histogram_kinds_mix_the_objects_own_colours(kind):
    picture, modal = scene()
    made = background(kind, picture, modal, np.random.default_rng(0)).reshape(-1, 3).astype(int)
    colours = picture[modal].astype(int)
    assert (made >= colours.min(axis=0)).all() and (made <= colours.max(axis=0)).all()
    np.testing.assert_allclose(made.mean(axis=0), colours.mean(axis=0), atol=8)


def test_deviations_of_blurred_pixels_and_of_the_grid():
    # independent pixels under a Gaussian blur: their deviation is divided by 2 sigma sqrt(pi)
    side = 512
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    modal = np.ones((side, side), bool)
    made = background("pixels", picture, modal, np.random.default_rng(1)).astype(float)
    assert made.std() == pytest.approx(74 / (2 * 0.02 * side * np.sqrt(np.pi)), rel=0.15)
    assert background("histogram", picture, modal, np.random.default_rng(1)).astype(float).std() > 5 * made.std()


def test_plain_kinds():
    picture, modal = scene()
    assert (background("white", picture, modal, np.random.default_rng(0)) == 255).all()
    grey = background("grey", picture, modal, np.random.default_rng(0))
    assert (grey == grey[..., :1]).all() and 100 < grey.mean() < 170
    assert np.ptp(background("flat", picture, modal, np.random.default_rng(0)).reshape(-1, 3), axis=0).max() == 0
    assert np.array_equal(background("original", picture, modal, np.random.default_rng(0)), picture)


def test_removed_contains_neither_object_nor_occluder():
    picture = np.full((64, 64, 3), (10, 200, 90), np.uint8)
    modal, occluder = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    modal[20:40, 20:30], occluder[20:40, 30:45] = True, True
    picture[modal], picture[occluder] = (250, 0, 0), (0, 0, 250)
    clean = background("removed", picture, modal, np.random.default_rng(0), occluder=occluder)
    assert np.abs(clean.astype(int) - (10, 200, 90)).max() <= 6  # rounding errors
    kept = background("removed", picture, modal, np.random.default_rng(0))
    assert (kept[25:35, 35:42] == (0, 0, 250)).all()
