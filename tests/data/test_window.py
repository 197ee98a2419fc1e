import inspect
import itertools
import math

import cv2
import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import WindowConfig
from amodalseg.data.window import Window, crop_image, crop_mask, geometry_ceiling, object_window, paste, paste_mask
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord
from tests.worlds import disc, photo


def boxes(count, height=60, width=80):
    """Random boxes in a picture, some at its border: masks and coordinates."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        x0, y0 = int(rng.integers(0, width)), int(rng.integers(0, height))
        x1, y1 = int(rng.integers(x0 + 1, width + 1)), int(rng.integers(y0 + 1, height + 1))
        mask = np.zeros((height, width), bool)
        mask[y0:y1, x0:x1] = True
        yield mask, (x0, y0, x1, y1)


def windows(count):
    """Random windows of all kinds: inside, over the border, stretched, shrunk."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        top, left = rng.integers(-30, 50, 2)
        height, width = rng.integers(1, 90, 2)
        yield Window(int(top), int(left), int(height), int(width), int(rng.choice([16, 32, 33, 64])))


def test_square_window_is_centred_and_contains_the_box():
    for mask, (x0, y0, x1, y1) in boxes(200):
        window = object_window(mask, WindowConfig(size=32))
        w, h = x1 - x0, y1 - y0
        side = max(math.sqrt(3 * w * h), 1.1 * w, 1.1 * h)
        assert window.height == window.width and abs(window.width - side) <= 0.5 and window.size == 32
        assert window.left <= x0 and window.left + window.width >= x1
        assert window.top <= y0 and window.top + window.height >= y1
        assert abs(window.left + window.width / 2 - (x0 + x1) / 2) <= 0.5
        assert abs(window.top + window.height / 2 - (y0 + y1) / 2) <= 0.5


def test_expand_and_margin_set_the_side():
    mask = np.zeros((60, 80), bool)
    mask[20:30, 30:50] = True
    assert object_window(mask, WindowConfig(expand=8.0)).width == 40
    assert object_window(mask, WindowConfig(expand=1.0, margin=1.5)).height == 30


def test_c2f_window_doubles_the_box_and_stays_in_the_photo():
    for mask, (x0, y0, x1, y1) in boxes(200):
        window = object_window(mask, WindowConfig(size=32, kind="c2f"))
        w, h = x1 - x0, y1 - y0
        expected = np.array([y0 - h / 2, x0 - w / 2, y1 + h / 2, x1 + w / 2]).clip(0, [60, 80, 60, 80])
        found = [window.top, window.left, window.top + window.height, window.left + window.width]
        assert np.abs(expected - found).max() <= 0.5
        assert window.top >= 0 and window.left >= 0 and found[2] <= 60 and found[3] <= 80


@pytest.mark.parametrize("kind", ["square", "c2f"])
def test_scale_and_shift(kind):
    mask = np.zeros((200, 300), bool)
    mask[90:110, 130:170] = True
    config = WindowConfig(size=32, kind=kind)
    plain, wide = object_window(mask, config), object_window(mask, config, scale=1.5)
    assert wide.width == pytest.approx(1.5 * plain.width, abs=1)
    assert wide.height == pytest.approx(1.5 * plain.height, abs=1)
    assert wide.left + wide.width / 2 == pytest.approx(150, abs=0.5)
    moved = object_window(mask, config, shift=(0.25, -0.1))
    assert (moved.width, moved.height) == (plain.width, plain.height)
    assert moved.left - plain.left == pytest.approx(0.25 * plain.width, abs=1)
    assert moved.top - plain.top == pytest.approx(-0.1 * plain.height, abs=1)


@pytest.mark.parametrize("kind", ["square", "c2f"])
def test_window_of_a_jittered_object_at_the_border_is_never_empty(kind):
    rng = np.random.default_rng(2)
    for mask, _ in boxes(200):
        shift = tuple(rng.uniform(-0.45, 0.45, 2))
        window = object_window(mask, WindowConfig(kind=kind), scale=rng.uniform(0.1, 1.9), shift=shift)
        assert window.height >= 1 and window.width >= 1


def test_the_window_does_not_depend_on_the_amodal_mask():
    assert list(inspect.signature(object_window).parameters) == ["modal", "config", "scale", "shift"]


def test_empty_modal_mask_is_refused():
    with pytest.raises(UserError, match="modal mask is empty"):
        object_window(np.zeros((9, 9), bool), WindowConfig())


def test_crop_mask_equals_a_slow_transcription():
    mask = np.random.default_rng(0).random((40, 50)) < 0.5
    for window in windows(60):
        found = crop_mask(mask, window)
        for other in (np.asfortranarray(mask), np.repeat(mask, 2, axis=1)[:, ::2]):  # whatever the memory layout
            assert np.array_equal(crop_mask(other, window), found)
        expected = np.zeros((window.size, window.size), bool)
        for i in range(window.size):
            for j in range(window.size):
                y = window.top + (2 * i + 1) * window.height // (2 * window.size)
                x = window.left + (2 * j + 1) * window.width // (2 * window.size)
                expected[i, j] = 0 <= y < 40 and 0 <= x < 50 and mask[y, x]
        assert found.dtype == bool and np.array_equal(found, expected)


@pytest.mark.parametrize("side", [17, 31, 45, 63, 100])  # odd ratios: no pixel centre falls between two pixels
def test_crop_mask_agrees_with_opencv(side):
    mask = np.random.default_rng(side).random((side, side)) < 0.5
    expected = cv2.resize(mask.astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    agree = crop_mask(mask, Window(0, 0, side, side, 64)) == expected
    steps = (2 * np.arange(64) + 1) * side % 128 != 0
    assert steps.any() and agree[np.ix_(steps, steps)].all()


def test_crop_image_is_a_padded_resize():
    image = photo(np.random.default_rng(0), 40, 50)
    padded = np.zeros((240, 250, 3), np.uint8)
    padded[100:140, 100:150] = image
    for window in windows(60):
        top, left, size = window.top + 100, window.left + 100, window.size
        patch = padded[top : top + window.height, left : left + window.width]
        found = crop_image(image, window)
        assert found.shape == (size, size, 3) and found.dtype == np.uint8
        if window.height >= size and window.width >= size:
            expected = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
        elif window.height <= size and window.width <= size:
            expected = cv2.resize(patch, (size, size), interpolation=cv2.INTER_LINEAR)
        else:
            continue
        assert np.array_equal(found, expected)


def test_round_trip_is_exact_without_resizing():
    image = photo(np.random.default_rng(0), 40, 50)
    mask = image[..., 0] > 128
    for top, left in [(4, 9), (-7, 30), (-12, -20), (25, 45)]:
        window = Window(top, left, 32, 32, 32)
        inside = np.zeros((40, 50), bool)
        inside[max(0, top) : top + 32, max(0, left) : left + 32] = True
        back = paste(crop_image(image, window)[..., 1].astype(np.float32), window, 40, 50)
        assert np.array_equal(back, np.where(inside, image[..., 1], 0).astype(np.float32))
        back = paste(crop_mask(mask, window).astype(np.float32), window, 40, 50)
        assert back.dtype == np.float32 and np.array_equal(back > 0.5, mask & inside)


def test_paste_does_not_shift_a_ramp():
    for window in windows(80):
        size = window.size
        rows, columns = np.mgrid[:size, :size] + 0.5
        y = window.top + rows * window.height / size
        x = window.left + columns * window.width / size
        back = paste((2 * y - 3 * x).astype(np.float32), window, 40, 50)
        rows, columns = np.mgrid[:40, :50] + 0.5
        # not compared: half a pixel of the crop at the window's border, where the ramp does not continue
        edge_y, edge_x = 0.5 * max(1, window.height / size), 0.5 * max(1, window.width / size)
        inner = (rows >= window.top + edge_y) & (rows <= window.top + window.height - edge_y)
        inner &= (columns >= window.left + edge_x) & (columns <= window.left + window.width - edge_x)
        # averaging over a fractional number of pixels treats each as constant: at most 1/8 pixel off at the ends
        blur = sum(slope / 8 * (length / size) ** 2 for slope, length in ((2, window.height), (3, window.width))
                   if length < size)  # fmt: skip
        np.testing.assert_allclose(back[inner], (2 * rows - 3 * columns)[inner], atol=0.02 + blur)
        outside = (rows < window.top) | (rows > window.top + window.height)
        outside |= (columns < window.left) | (columns > window.left + window.width)
        assert not back[outside].any()


@pytest.mark.parametrize("window", [Window(-3, 5, 90, 90, 32), Window(20, 20, 41, 57, 64), Window(5, 11, 70, 60, 64)])
def test_round_trip_keeps_the_centre_of_a_blob(window):
    rows, columns = np.mgrid[:90, :110] + 0.5
    blob = np.exp(-((rows - 41.3) ** 2 + (columns - 47.8) ** 2) / (2 * 5.0**2)) * 255
    image = np.repeat(blob[..., None], 3, axis=2).round().astype(np.uint8)
    back = paste(crop_image(image, window)[..., 0].astype(np.float32), window, 90, 110)
    centre = (rows * back).sum() / back.sum(), (columns * back).sum() / back.sum()
    assert centre == pytest.approx((41.3, 47.8), abs=0.08)


def test_paste_stays_within_the_range_of_values():
    ones = np.ones((96, 96), np.float32)
    for height, width in [(37, 41), (37, 37), (41, 41), (63, 11), (110, 90)]:  # 41: rounding raises the average above 1
        back = paste(ones, Window(0, 0, height, width, 96), 120, 120)
        assert back.max() == 1 and back[:height, :width].min() == 1 and back.sum() == height * width


def ceiling_record(modal, amodal):
    image = np.zeros((*modal.shape, 3), np.uint8)
    return AmodalRecord("world", "val", "1", "2", image, masks.encode(modal), masks.encode(amodal))


def test_geometry_ceiling():
    amodal = disc(100, 100, 50, 50, 20, 20)
    covered = amodal & ~disc(100, 100, 70, 50, 15, 15)
    far = np.zeros((100, 100), bool)
    far[48:52, 10:90] = True  # mostly outside the window of its visible end
    end = far.copy()
    end[:, 20:] = False
    records = [ceiling_record(amodal, amodal), ceiling_record(covered, amodal), ceiling_record(end, far)]
    whole, part, lost = geometry_ceiling(records, WindowConfig(size=64))
    assert whole["key"] == "world/val/1/2" and whole["occluded"] is None and whole["full"] > 0.97
    assert part["full"] > 0.97 and 0.9 < part["occluded"] <= 1
    window = object_window(end, WindowConfig(size=64))
    seen = min(90, window.left + window.width) - 10
    assert lost["full"] == pytest.approx(seen / 80, abs=0.02)
    assert lost["occluded"] == pytest.approx((seen - 10) / 70, abs=0.02)


@pytest.mark.parametrize(
    "window", [Window(-30, -50, 300, 400, 32), Window(5, 7, 90, 80, 32), Window(-500, 20, 1000, 33, 32)]
)
def test_a_huge_window_is_processed_in_stripes_with_the_same_result(window, monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 180, 3), np.uint8)
    values = rng.random((window.size, window.size)).astype(np.float32)
    crop, back = crop_image(image, window), paste(values, window, 200, 180)
    mask = paste_mask(values, window, 200, 180, 0.5)
    assert np.array_equal(mask, back > 0.5) and 0 < mask.sum() < mask.size
    monkeypatch.setattr("amodalseg.data.window.MAX_PIXELS", 100)
    monkeypatch.setattr("amodalseg.data.window.STRIPE", 17)
    assert np.abs(crop_image(image, window).astype(int) - crop).max() <= 1  # rounded once, not twice
    np.testing.assert_allclose(paste(values, window, 200, 180), back, atol=1e-5)
    assert (paste_mask(values, window, 200, 180, 0.5) != mask).mean() < 1e-3


def test_a_probability_equal_to_the_threshold_is_outside():
    """With half of the votes, the mean over the steps may be exactly 0.5."""
    window = Window(2, 3, 16, 16, 16)
    half = np.full((16, 16), 0.5, np.float32)
    assert not paste_mask(half, window, 30, 30, 0.5).any()
    assert paste_mask(half, window, 30, 30, np.nextafter(np.float32(0.5), np.float32(0))).sum() == 16 * 16
    assert not paste_mask(np.zeros_like(half), window, 30, 30, 0.0).any(), "nor is what lies outside the window"


@pytest.mark.parametrize("kind", ["square", "c2f"])
def test_the_window_moves_with_its_object_by_whole_pixels(kind):
    seen = set()
    for side in range(1, 12):
        for config in (WindowConfig(kind=kind), WindowConfig(kind=kind, expand=1.0, margin=1.5)):
            found = []
            for place in range(90, 96):
                mask = np.zeros((200, 200), bool)
                mask[place : place + side, place + 7 : place + 7 + side] = True
                found.append(object_window(mask, config))
            steps = [(b.top - a.top, b.left - a.left) for a, b in itertools.pairwise(found)]
            assert steps == [(1, 1)] * 5, (side, config)
            assert len({(window.height, window.width) for window in found}) == 1
            seen.add((side - found[0].height) % 2)
    assert seen == {0, 1} or kind == "c2f", "sides whose centre falls between two pixels, and others"
