"""Masks against an independent slow run-length codec."""

import numpy as np
import pytest

from amodalseg import UserError, masks


def slow_runs(mask):
    """Run lengths of a mask, pixel by pixel: column by column, zeros first."""
    counts, value, run = [], False, 0
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if mask[y, x] != value:
                counts.append(run)
                value, run = not value, 0
            run += 1
    return [*counts, run]


def slow_text(counts):
    """COCO's text form: from the third run on, differences to the run before the last; five bits per character."""
    text = ""
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        while True:
            bits, number = number & 31, number >> 5
            done = number == -1 if bits & 16 else number == 0
            text += chr(48 + bits + (0 if done else 32))
            if done:
                break
    return text


def random_masks():
    rng = np.random.default_rng(3)
    for _ in range(20):
        yield rng.random(rng.integers(1, 40, 2)) < rng.random()
    yield np.zeros((5, 9), bool)
    yield np.ones((70, 90), bool)
    for rows, columns in ((slice(None), slice(3, 7)), (slice(2, 5), slice(0, 1)), (slice(5, 9), slice(4, 11))):
        mask = np.zeros((9, 11), bool)
        mask[rows, columns] = True
        yield mask
        yield mask ^ (rng.random(mask.shape) < 0.2)


def test_the_codec_equals_the_slow_one():
    for mask in random_masks():
        counts = slow_runs(mask)
        assert masks.encode(mask)["counts"].decode() == slow_text(counts)
        assert masks.encode(mask)["size"] == list(mask.shape)
        decoded = masks.decode(masks.encode(mask))
        assert decoded.dtype == bool and np.array_equal(decoded, mask)
        for form in (counts, slow_text(counts), slow_text(counts).encode()):
            rle = masks.from_segmentation({"size": list(mask.shape), "counts": form}, 1, 1)
            assert np.array_equal(masks.decode(rle), mask) and masks.area(rle) == mask.sum()


def test_polygons_flat_nested_and_united():
    box, other = [2, 3, 10, 3, 10, 9, 2, 9], [8.0, 6.0, 14.0, 6.0, 14.0, 12.0, 8.0, 12.0]
    expected = np.zeros((16, 20), bool)
    expected[3:9, 2:10] = True
    assert np.array_equal(masks.decode(masks.from_segmentation(box, 16, 20)), expected)
    assert np.array_equal(masks.decode(masks.from_segmentation([box], 16, 20)), expected)
    expected[6:12, 8:14] = True
    assert np.array_equal(masks.decode(masks.from_segmentation([box, other], 16, 20)), expected)


def test_polygon_up_to_the_far_border_fills_the_picture():
    rle = masks.from_segmentation([0, 0, 20, 0, 20, 16, 0, 16], 16, 20)
    assert masks.area(rle) == 16 * 20


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ([1, 2, 3, 4], "three x, y pairs"),
        ([1, 2, 3, 4, 5, 6, 7], "three x, y pairs"),
        ([[1, 2], [1, 2, 3, 4], []], "three x, y pairs"),
        ([], "not list"),
        ("abc", "not str"),
        (None, "not NoneType"),
        ({"size": [3, 4]}, "'counts'"),
        ({"counts": "abc"}, "'size'"),
        ([1, 2, 3, 4, 5, None], "list of numbers"),
        ([1, 2, 3, 4, 5, 1e300], "far outside its image of 20x16"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside"),
        ([[1, 2, 3, 4, 5, float("nan")]], "nan or infinity"),
        ([[1, 2, 3, 4, 5, float("inf")]], "nan or infinity"),
        ([["1", "2", "3", "4", "5", "6"]], "list of numbers"),
        ([True, False, True, True, False, True], "list of numbers"),
        ([[1, 2, 3, 4, None, 6]], "list of numbers"),
        ([[1, 2, 3, 4, 5, -200]], "far outside"),
        ([[1, 2, 3, 4, 5, "x"]], "list of numbers"),
        ([[1, 2, 3, 4, 5, 10**400]], "list of numbers"),
        ([{"x": 1}], "list of numbers"),
        ([1, 2, [3], 4, 5, 6], "list of numbers"),
        ([[1, 2, 3, 4, 5, 6], None], "three x, y pairs"),
        ([[[1, 2, 3, 4, 5, 6]]], "three x, y pairs"),
    ],
)
def test_other_forms_are_refused(form, text):
    with pytest.raises(ValueError, match=text):
        masks.from_segmentation(form, 16, 20)


@pytest.mark.parametrize("scrap", [[], [1], [1, 2], [5, 5, 9, 9]])
def test_degenerate_polygons_beside_valid_ones_are_left_out(scrap):
    whole = [2, 2, 9, 2, 9, 8, 2, 8]
    assert masks.from_segmentation([whole, scrap], 16, 20) == masks.from_segmentation([whole], 16, 20)
    assert masks.num_scraps([whole, scrap, scrap]) == 2
    assert masks.num_scraps([scrap]) == masks.num_scraps(whole) == masks.num_scraps({}) == masks.num_scraps(None) == 0


def refused(text, counts, size=(5, 7), image=(16, 20)):
    with pytest.raises(ValueError, match=text):
        masks.from_segmentation({"size": size, "counts": counts}, *image)


@pytest.mark.parametrize("size", [[96], [5, 7, 1], [-5, 7], [0, 7], [5.0, 7], [10**9, 7], "ab", None, 5, [None, 7]])
def test_sizes_are_two_positive_whole_numbers(size):
    refused("whole numbers from 1 to 20000", [35], size)
    refused("whole numbers from 1 to 20000", slow_text([35]), size)


@pytest.mark.parametrize("image", [(-16, 20), (16, 10**9), (None, 20), (16, [])])
def test_polygons_need_an_image_of_a_sensible_size(image):
    with pytest.raises(ValueError, match="whole numbers from 1 to 20000"):
        masks.from_segmentation([1, 2, 3, 4, 5, 6], *image)


def test_damaged_runs_are_refused():
    for counts in ([36, -1], [35.0], [None, 35], ["35"], [True, 34]):
        refused("not negative", counts)
    for counts in (5, None, {}):
        refused("list or a text", counts)
    refused("add up to 34 pixels, not to 5 x 7", [30, 4])
    refused("add up to 0 pixels", [])


def test_damaged_texts_are_refused():
    whole = slow_text([3, 10, 2, 8, 4, 8])
    assert masks.area(masks.from_segmentation({"size": [5, 7], "counts": whole}, 1, 1)) == 26
    for text in ("", "!!!", "é", "\ud800", whole + "\x7f", whole[:-1] + "Z", slow_text([100])[:-1]):
        refused("damaged or cut off", text)
    refused("negative run", slow_text([30, 10, -5]))
    refused("negative run", slow_text([3, 10, 2, -4, 24]))
    refused("too long", "PPPPPPP0")
    for size in ([5, 5], [50, 70]):  # pycocotools would search endlessly for the remaining runs
        refused("add up to 35 pixels", whole, size)
    for place in range(1, len(whole)):
        refused("add up to", whole[:place])


def test_text_of_large_runs():
    counts = [399_000_000, 0, 1, 999_999]
    rle = masks.from_segmentation({"size": [20_000, 20_000], "counts": slow_text(counts)}, 1, 1)
    assert masks.area(rle) == 999_999
    assert rle == masks.from_segmentation({"size": [20_000, 20_000], "counts": counts}, 1, 1)


def test_union():
    a, b = np.zeros((2, 7, 8), bool)
    a[1:3, 2:6], b[2:6, 5:8] = True, True
    assert np.array_equal(masks.decode(masks.union([masks.encode(a), masks.encode(b)])), a | b)


def test_box_and_border_equal_the_slow_ones():
    for mask in random_masks():
        places = np.argwhere(mask)
        if len(places):
            (y0, x0), (y1, x1) = places.min(axis=0), places.max(axis=0) + 1
            assert masks.box_xyxy(mask) == (x0, y0, x1, y1)
        else:
            assert masks.box_xyxy(mask) is None
        height, width = mask.shape
        at_border = any(y in (0, height - 1) or x in (0, width - 1) for y, x in places)
        assert masks.touches_border(mask) == at_border


def test_each_border_is_detected():
    mask = np.zeros((5, 7), bool)
    mask[1:-1, 1:-1] = True
    assert not masks.touches_border(mask)
    for place in ((0, 3), (4, 3), (2, 0), (2, 6)):
        at_border = mask.copy()
        at_border[place] = True
        assert masks.touches_border(at_border), place


@pytest.mark.parametrize("reach", range(1, 10))
def test_a_grown_mask_is_round(reach):
    """Contains all pixels clearly within the reach and none beyond it, in particular not the corners of the square."""
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    rows, columns = np.mgrid[-20:21, -20:21]
    distance, found = np.hypot(rows, columns), masks.grown(mask, reach)
    assert found[distance <= reach - 0.5].all() and not found[distance > reach + 0.5].any()
    assert found[20, 20 + reach] and found[20 - reach, 20] and not found[20 - reach, 20 - reach]
    assert np.array_equal(masks.grown(found, 0), found) and masks.grown(mask, 0).sum() == 1


def test_masks_have_the_same_limit_of_pixels_as_pictures(monkeypatch):
    monkeypatch.setenv(masks.LIMIT, "0.001")
    assert masks.area(masks.from_segmentation([0, 0, 8, 0, 8, 8], 40, 25)) > 0
    with pytest.raises(ValueError, match=r"the limit is 0\.001 .AMODALSEG_MAX_MEGAPIXELS"):
        masks.from_segmentation([0, 0, 8, 0, 8, 8], 40, 26)
    with pytest.raises(ValueError, match=r"the limit is 0\.001 .AMODALSEG_MAX_MEGAPIXELS"):
        masks.from_segmentation({"size": [40, 26], "counts": [1040]}, 40, 26)
    monkeypatch.setenv(masks.LIMIT, "many")
    with pytest.raises(UserError, match="is not a number of megapixels"):
        masks.most_pixels()
