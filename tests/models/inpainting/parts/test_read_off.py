import cv2
import numpy as np
import pytest

from amodalseg.models.inpainting.parts.read_off import POINTS, read_off


def scene(side=64):
    """A textured disk on uneven grey, with its left half visible."""
    rng = np.random.default_rng(0)
    y, x = np.indices((side, side)) * 64 / side
    disk = (x - 32) ** 2 + (y - 30) ** 2 < 18**2
    background = np.broadcast_to((110 + x // 2).astype(np.uint8)[..., None], (side, side, 3)).copy()
    picture = background.copy()
    picture[disk] = rng.integers((180, 20, 20), (230, 60, 60), (int(disk.sum()), 3))
    return picture, disk, disk & (x < 32), background


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("kind", ["difference", "grabcut"])
def test_the_completed_object_is_found(kind):
    picture, disk, modal, background = scene()
    area = np.indices(disk.shape)[1] >= 32
    found = read_off(kind, picture, modal, area, background)
    assert found.dtype == bool and iou(found, disk) > 0.97
    assert not (found & ~area & ~modal).any(), "nothing beyond the area"
    assert not (modal & ~area & ~found).any()


@pytest.mark.parametrize("kind", ["difference", "grabcut"])
def test_an_object_without_completion_keeps_its_mask(kind):
    picture, disk, modal, background = scene()
    picture[~modal] = background[~modal]
    found = read_off(kind, picture, modal, np.indices(disk.shape)[1] >= 32, background)
    assert iou(found, modal) > 0.97


@pytest.mark.parametrize("kind", ["difference", "grabcut"])
def test_empty_and_full_masks_and_areas(kind):
    picture, _, modal, background = scene(24)  # small, because GrabCut is slow without any contrast
    nothing, everything = np.zeros_like(modal), np.ones_like(modal)
    assert np.array_equal(read_off(kind, picture, modal, nothing, background), modal)
    assert read_off(kind, picture, everything, nothing, background).all()
    assert read_off("grabcut", picture, everything, everything, background).all()
    one = nothing.copy()
    one[11, 11] = True
    assert read_off(kind, picture, one, ~one, background)[11, 11]
    flat = np.full_like(picture, 90)  # no contrast
    assert read_off(kind, flat, modal, ~modal, flat).shape == modal.shape


def test_grabcut_sees_small_pictures_enlarged():
    """Equal to the read-off of the enlarged picture, averaged back to the original size."""
    picture, _, modal, _ = scene()
    small = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA)
    modal, area = modal[::2, ::2], np.indices((32, 32))[1] >= 16
    wide = cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC)
    enlarged = [np.kron(mask, np.ones((3, 3), bool)) for mask in (modal, area)]
    averaged = (
        cv2.resize(read_off("grabcut", wide, *enlarged, wide).astype(np.float32), (32, 32), interpolation=3) > 0.5
    )
    found = read_off("grabcut", small, modal, area, small)
    assert found.shape == (32, 32) and (found != averaged).mean() < 0.02  # the hull of likely pixels is finer there
    assert (found & area).any()


def test_grabcut_does_not_depend_on_earlier_calls():
    picture, _, modal, background = scene()
    noisy = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    first = read_off("grabcut", noisy, modal, ~modal, background)
    cv2.randu(np.zeros((50, 50), np.uint8), 0, 9)
    read_off("grabcut", picture, modal, ~modal, background)
    assert np.array_equal(read_off("grabcut", noisy, modal, ~modal, background), first)


class Remembering:
    def __init__(self):
        self.points = []

    def segment(self, picture, points):
        self.points.append(points)
        return picture[..., 0] > 170


def test_a_segmenter_gets_nine_points_spread_over_the_visible_part():
    picture, _, modal, background = scene()
    segmenter, rng = Remembering(), np.random.default_rng(0)
    for _ in range(400):
        found = read_off("segmenter", picture, modal, ~modal, background, segmenter, rng)
    assert np.array_equal(found, picture[..., 0] > 170)
    points = np.concatenate(segmenter.points)
    assert segmenter.points[0].shape == (POINTS, 2) == (9, 2)
    assert modal[points[:, 1], points[:, 0]].all()
    drawn, given = points.mean(axis=0), np.argwhere(modal)[:, ::-1].mean(axis=0)
    np.testing.assert_allclose(drawn, given, atol=1)
    again = read_off("segmenter", picture, modal, ~modal, background, segmenter, np.random.default_rng(0))
    assert np.array_equal(segmenter.points[-1], segmenter.points[0]) and np.array_equal(again, found)
