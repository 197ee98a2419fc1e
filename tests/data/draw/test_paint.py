"""Painting: exact without scaling, correctly placed at every scale, and only where it should be."""

import cv2
import numpy as np
import pytest

from amodalseg.data.draw.cover import Silhouette
from amodalseg.data.draw.paint import Layer, View, paint
from amodalseg.data.window import Window, crop_image

SAME = np.arange(256, dtype=np.uint8)


def smooth(height, width, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def slow(photo, layers):
    """Every pixel by the formula c = a l + (1 - a) c, with layers unscaled and completely inside."""
    image = photo.astype(float)
    for layer in layers:
        (height, width), x, y = layer.shape.alpha.shape, layer.shape.x, layer.shape.y
        for row in range(height):
            for column in range(width):
                alpha = layer.shape.alpha[row, column]
                if layer.under is not None and layer.under[y + row, x + column]:
                    alpha = 0.0
                source = layer.colours[row, width - 1 - column if layer.flip else column]
                here = y + row, x + column
                image[here] += alpha * (layer.table[source] - image[here])
    return image


def test_unscaled_layers_equal_the_formula():
    rng, photo = np.random.default_rng(0), smooth(40, 50)
    under = np.zeros((40, 50), bool)
    under[:, 25:] = True
    alpha = rng.random((12, 16)).astype(np.float32)
    layers = [
        Layer(Silhouette("a", alpha, x=5, y=6), smooth(12, 16, 1), SAME),
        Layer(Silhouette("b", alpha, x=20, y=20), smooth(12, 16, 2), 255 - SAME, flip=True, under=under),
    ]
    painted = paint(photo, layers)
    assert np.abs(painted - slow(photo, layers)).max() <= 1.01  # rounded once for each layer
    assert np.array_equal(painted[:, 36:], photo[:, 36:]) and np.array_equal(painted[33:], photo[33:])


@pytest.mark.parametrize("window", [
    Window(4, 6, 30, 40, 32), Window(4, 6, 30, 40, 64), Window(-10, -6, 50, 70, 32), Window(10, 10, 11, 9, 32),
])  # fmt: skip
def test_a_disc_has_the_same_position_as_in_the_whole_picture(window):
    photo = np.full((40, 60, 3), 40, np.uint8)
    rows, columns = np.mgrid[:21, :21]
    alpha = ((rows - 10) ** 2 + (columns - 10) ** 2 <= 81).astype(np.float32)
    layer = Layer(Silhouette("disc", alpha, x=12, y=8), np.full((5, 5, 3), 240, np.uint8), SAME)
    expected = crop_image(paint(photo, [layer]), window)[..., 0] > 140
    found = paint(photo, [layer], window)[..., 0] > 140
    assert found.any() and (found ^ expected).mean() < 0.02

    def centre(mask):
        return np.array([axis.mean() for axis in np.nonzero(mask)])

    assert np.abs(centre(found) - centre(expected)).max() < 0.35


def test_shrinking_averages():
    fine = np.zeros((64, 64), np.float32)
    fine[:, ::2] = 1.0  # a grating that subsampling would turn into all zeros or ones
    view = View(0, 0, 64, 64, 16, 16)
    seen = view.place(fine, 0, 0, (64, 64), cv2.BORDER_REPLICATE)
    assert seen.shape == (16, 16) and np.allclose(seen, 0.5, atol=0.02)


def test_growing_is_linear_about_pixel_centres():
    ramp = np.arange(8, dtype=np.float32)[None].repeat(8, 0)
    seen = View(0, 0, 8, 8, 32, 32).place(ramp, 0, 0, (8, 8), cv2.BORDER_REPLICATE)
    expected = ((np.arange(32) + 0.5) / 4 - 0.5).clip(0, 7)
    assert np.allclose(seen, expected[None], atol=0.05)


@pytest.mark.parametrize("corner", [(-100, 5), (5, 200), (60, 5)])
def test_layers_outside_the_picture_change_nothing(corner):
    photo, alpha = smooth(40, 60), np.ones((10, 10), np.float32)
    layer = Layer(Silhouette("far", alpha, x=corner[0], y=corner[1]), smooth(10, 10), SAME)
    assert np.array_equal(paint(photo, [layer]), photo)
    window = Window(0, 0, 40, 60, 32)
    assert np.array_equal(paint(photo, [layer], window), crop_image(photo, window))


def test_grain_is_determined_by_its_seed_and_averaged_by_shrinking():
    photo, alpha = np.full((64, 64, 3), 128, np.uint8), np.ones((64, 64), np.float32)

    def painted(seed, window=None):
        grey = np.full((2, 2, 3), 128, np.uint8)
        return paint(photo, [Layer(Silhouette("wall", alpha), grey, SAME, noise=12.0, seed=seed)], window).astype(float)

    assert np.array_equal(painted(1), painted(1)) and not np.array_equal(painted(1), painted(2))
    assert 11 < painted(1).std() < 13
    assert 2.5 < painted(1, Window(0, 0, 64, 64, 16)).std() < 3.6  # each pixel averages 16 of the photo
