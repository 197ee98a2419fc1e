"""Clicks as text, and brushed areas as masks."""

import numpy as np
import pytest

from amodalseg.demo.marks import CORNER, OFF, ON, Marks, brushed, clicked, read_marks
from amodalseg.demo.pictures import marked_picture, shrunk, uncertainty_picture
from amodalseg.errors import UserError
from tests.worlds.drawing import disc, photo


def test_clicks_and_typed_text_are_equivalent():
    points, box = clicked("", "", ON, 3, 4)
    points, box = clicked(points, box, OFF, 10, 2)
    points, box = clicked(points, box, CORNER, 20, 8)
    assert (points, box) == ("3,4 10,2,0", "20,8")
    assert read_marks(points, box, 30, 40) == Marks([(3, 4, 1), (10, 2, 0)], None, (20, 8))
    points, box = clicked(points, box, CORNER, 5, 9)
    assert box == "5,8,21,10"  # both corners are inside
    assert read_marks(points, box, 30, 40).box == (5, 8, 21, 10)
    assert clicked(points, box, CORNER, 1, 1)[1] == "1,1"
    assert read_marks(" 3,4,1\n5,6 ", " 0, 0, 40,30 ", 30, 40) == Marks([(3, 4, 1), (5, 6, 1)], (0, 0, 40, 30))


@pytest.mark.parametrize(
    ("points", "box", "said"),
    [
        ("3", "", "a point is X,Y"), ("3,4,2", "", "1 .on the object. or 0"), ("a,b", "", "whole numbers"),
        ("40,0", "", "40,0 lies outside the photo of 40x30"), ("-1,0", "", "whole numbers"),
        ("", "1,2,3", "a box is"), ("", "5,5,5,9", "is empty or leaves the photo"), ("", "0,0,41,9", "leaves"),
        ("1,1 " * 51, "", "51 points are too many"), ("1" * 5000 + ",2", "", "whole numbers"),
    ],
)  # fmt: skip
def test_invalid_marks_are_refused(points, box, said):
    with pytest.raises(UserError, match=said) as error:
        read_marks(points, box, 30, 40)
    assert len(str(error.value)) < 200


def test_brushed_areas_are_read_pixel_by_pixel():
    mask = disc(30, 40, 20, 15, 9, 7)
    layer = np.zeros((30, 40, 4), np.uint8)
    layer[mask] = (38, 120, 225, 255)
    assert np.array_equal(brushed([layer, np.zeros_like(layer)], 30, 40), mask)
    large = brushed([layer], 90, 120)
    assert np.array_equal(large, mask.repeat(3, 0).repeat(3, 1))
    with pytest.raises(UserError, match="nothing is painted yet"):
        brushed([np.full((30, 40, 4), 127, np.uint8)], 30, 40)


def test_pictures_are_bounded_and_show_the_marks():
    picture = photo(np.random.default_rng(0), 300, 2600)
    assert shrunk(picture).shape == (148, 1280, 3) and shrunk(picture, 3000) is picture
    mask = disc(300, 2600, 400, 150, 90, 90)
    small = shrunk(mask)
    assert small.dtype == bool and abs(small.mean() - mask.mean()) < 1e-3
    marks = Marks([(400, 150, 1), (2000, 100, 0)], (300, 50, 500, 250), (50, 50))
    drawn = marked_picture(picture, [np.roll(mask, 900, 1)], mask, marks).astype(int)
    changed = np.abs(drawn - shrunk(picture)).sum(axis=2) > 0
    for x, y in ((400, 150), (2000, 100), (300, 150), (50, 50), (1300, 150)):
        assert changed[round(y * 148 / 300), round(x * 1280 / 2600)], (x, y)
    assert not changed[:, 1150:].any()
    bits = np.zeros((300, 2600), np.float32)
    bits[:, :1300] = 1
    heat = uncertainty_picture(picture, bits).astype(int)
    assert np.ptp(heat[:, 1280 // 2 + 9 :], axis=2).max() == 0 and np.ptp(heat[:, :600], axis=2).min() > 50
