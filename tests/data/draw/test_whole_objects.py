"""Training pictures of the inpainting prior: whole objects only, uninformative holes, reproducible."""

from collections import Counter

import cv2
import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import WholeObjectsData
from amodalseg.data.draw import whole_objects
from amodalseg.data.draw.backdrops import PAINTED
from amodalseg.data.draw.holes import corners, half_hole, random_hole
from amodalseg.data.draw.whole_objects import KINDS, HeldOut, WholeObjects, stack, whole_records
from amodalseg.data.open import open_source
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord
from tests.worlds import coco_world

HEIGHT, WIDTH = 90, 120


def disc(x, y, radius, height=HEIGHT, width=WIDTH):
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def a_record(name, mask, image="photo", **options):
    """A red object in a blue photo: a pixel's colour reveals which of the two it shows."""
    photo = np.full((*mask.shape, 3), (0, 0, 200), np.uint8)
    photo[mask] = (200, 0, 0)
    return AmodalRecord("world", "train", image, name, photo, masks.encode(mask), **options)


@pytest.fixture(scope="module")
def objects():
    shapes = [disc(60, 45, 16), disc(50, 40, 10), np.zeros((HEIGHT, WIDTH), bool)]
    shapes[2][30:60, 40:80] = True
    return WholeObjects([a_record(str(i), mask, str(i)) for i, mask in enumerate(shapes)], 32, seed=0)


@pytest.fixture(scope="module")
def drawn(objects):
    return [objects[epoch, index, 32] for epoch in range(120) for index in range(3)]


def kinds_of(one):
    return one.key.split(" ")[1:]


def test_only_whole_objects_that_touch_no_other_are_taken():
    records = [
        a_record("whole", disc(60, 45, 16), "a"),
        a_record("at the border", disc(5, 45, 16), "b"),
        a_record("crowd", disc(60, 45, 16), "c", flags=frozenset({"crowd"})),
        a_record("two pieces", disc(20, 45, 12) | disc(80, 45, 12), "d"),
        a_record("behind", disc(50, 45, 16) & ~disc(70, 45, 16), "e"),
        a_record("in front", disc(70, 45, 16), "e"),
        a_record("beside", disc(20, 45, 12), "f"),
        a_record("far off", disc(90, 45, 12), "f"),
    ]
    found = [record.object_id for record in whole_records(records, WholeObjectsData())]
    assert found == ["whole", "beside", "far off"]
    lenient = [record.object_id for record in whole_records(records, WholeObjectsData(max_contact=1.0))]
    assert set(lenient) - set(found) == {"behind", "in front"}


def test_no_whole_object_is_an_error_with_reasons():
    with pytest.raises(UserError, match=r"none of the 2 objects .* 1 are crowds, 1 touch the photo's border"):
        whole_records(
            [a_record("a", disc(60, 45, 16), flags=frozenset({"crowd"})), a_record("b", disc(0, 9, 16))],
            WholeObjectsData(),
        )


def test_files_are_opened_by_open_source(tmp_path):
    annotations, images = coco_world(tmp_path)
    config = WholeObjectsData(annotations=[str(annotations)], images=[str(images)], num_objects=4)
    source = open_source(config)
    assert len(source) == 4
    world = WholeObjects([source.get(i) for i in range(4)], 16, seed=0)
    assert world[0, 3, 16].picture.shape == (16, 16, 3)


def test_an_object_is_a_pure_function_of_seed_epoch_and_index(objects, drawn):
    for place in (5, 2, 9):
        other = objects[place // 3, place % 3, 32]
        assert other.key == drawn[place].key
        assert all(np.array_equal(a, b) for a, b in zip(other[:3], drawn[place][:3], strict=True))
    assert not np.array_equal(objects[0, 0, 32].picture, objects[1, 0, 32].picture)
    reseeded = WholeObjects([a_record("0", disc(60, 45, 16))], 32, seed=1)
    assert not np.array_equal(reseeded[0, 0, 32].hole, objects[0, 0, 32].hole) or not np.array_equal(
        reseeded[0, 0, 32].picture, objects[0, 0, 32].picture
    )


def test_kinds_of_pictures_and_holes_occur_with_their_shares(drawn):
    backgrounds, holes = (Counter(kinds_of(one)[i] for one in drawn) for i in (0, 1))
    assert set(backgrounds) == set(KINDS)
    assert set(holes) == {"everything", "outside", "hull", "cover"}
    assert abs(holes["everything"] / len(drawn) - 0.08) < 0.05 and holes["cover"] / len(drawn) > 0.45


def test_the_mask_shows_the_whole_object(drawn):
    for one in drawn:
        mask = one.mask > 0
        assert mask.any() and not masks.touches_border(mask), one.key
        assert one.picture.shape == (32, 32, 3) and one.picture.dtype == one.hole.dtype == np.uint8
        inside = cv2.erode(one.mask, np.ones((3, 3), np.uint8)) > 0
        if kinds_of(one)[0] in ("grey", "white"):
            assert (one.picture[inside][:, 0].astype(int) - one.picture[inside][:, 2] > 100).all(), one.key
            outside = cv2.dilate(one.mask, np.ones((5, 5), np.uint8)) == 0
            assert np.ptp(one.picture[outside].astype(int), axis=1).max() == 0, one.key  # no blue of the old photo


def test_an_object_thinner_than_a_pixel_has_a_mask():
    thread = np.zeros((HEIGHT, WIDTH), bool)
    thread[20:70, 60:62] = True
    objects = WholeObjects([a_record("0", thread)], 32, seed=0)
    for epoch in range(60):
        one = objects[epoch, 0, 8]
        assert 1 <= (one.mask > 0).sum() < 24, one.key


def test_objects_are_rotated_and_stretched_except_in_their_own_photo(objects):
    wide = {True: [], False: []}
    for epoch in range(200):
        one = objects[epoch, 2, 32]  # a box, 40 x 30
        box = masks.box_xyxy(one.mask > 0)
        wide[kinds_of(one)[0] == "own"].append((box[2] - box[0]) / (box[3] - box[1]))
    assert np.std(wide[False]) > 1.5 * np.std(wide[True])
    assert abs(np.median(wide[True]) - 4 / 3) < 0.1 and max(wide[False]) < 1.25 * 1.3 * 4 / 3


def test_backgrounds_of_the_own_photo_lie_within_it(objects):
    """Beyond the border the photo would be mirrored, including its objects; that must never be shown."""
    for index in range(3):
        x0, y0, x1, y1 = objects.photos[index]
        objects.kept[index, :y0, :, :3] = objects.kept[index, :, :x0, :3] = 7
        objects.kept[index, y1:, :, :3] = objects.kept[index, :, x1:, :3] = 7
    for epoch in range(60):
        for index in range(3):
            picture = objects[epoch, index, 32]
            if kinds_of(picture)[0] in ("own", "other"):
                reds = (np.ptp(picture.picture.astype(int), axis=2) < 20).mean()
                assert reds < 0.1, picture.key


def test_holes_extend_beyond_the_object_and_leave_part_of_it_visible(drawn):
    spilling = [(one.hole > 0)[one.mask == 0].any() for one in drawn]
    assert np.mean(spilling) > 0.9
    for one in drawn:
        kind, hole, mask = kinds_of(one)[1], one.hole > 0, one.mask > 0
        if kind == "everything":
            assert hole.all()
        elif kind == "outside":
            shown = ~hole & ~mask
            assert not hole.all() and not (shown & ~corners(32, 0.16)).any()
            assert not shown.any() or not (corners(32, 0.06) & mask).any()
        elif kind == "hull":
            assert hole.any() and not hole.all()
    covers = [one for one in drawn if kinds_of(one)[1] == "cover"]
    shares = [float((one.hole > 0)[one.mask > 0].mean()) for one in covers]
    assert 0.2 < np.mean(shares) < 0.7 and np.mean([share > 0 for share in shares]) > 0.95


def test_known_areas_beside_a_hole_do_not_reveal_hidden_pixels():
    """``outside`` does not touch pixels of the object; ``hull`` does not extend beyond the whole object's hull."""
    silhouette, mask = disc(8, 8, 6, 16, 16).astype(np.uint8), disc(32, 32, 12, 64, 64)
    areas, seen = {"outside": [], "hull": []}, []
    for seed in range(100):
        kind, hole = random_hole(np.random.default_rng(seed), mask, silhouette)
        if kind == "outside":
            shown = ~hole & ~mask
            assert not (shown & ~corners(64, 0.16)).any() and (~hole & mask).any()
            areas[kind].append((~hole & mask).sum())
            seen.append(shown.any())
        if kind == "hull":
            assert not (hole & ~disc(32, 32, 12 + 64 // 24 + 1, 64, 64)).any()
            areas[kind].append(hole.sum())
    # both depend on the visible part, whose size varies, and not on the object, whose size is constant
    assert all(len(found) > 5 and max(found) > 1.5 * min(found) for found in areas.values())
    assert 0.3 < np.mean(seen) < 0.9  # background, in the corners that the object does not reach


def test_holes_outside_often_leave_the_whole_object_visible():
    """Complete objects must remain unchanged."""
    silhouette, mask = disc(8, 8, 6, 16, 16).astype(np.uint8), disc(32, 32, 20, 64, 64)
    drawn = [random_hole(np.random.default_rng(seed), mask, silhouette) for seed in range(400)]
    shares = np.array([(~hole & mask).sum() / mask.sum() for kind, hole in drawn if kind == "outside"])
    assert len(shares) > 60
    assert 0.25 < (shares > 0.8).mean() < 0.6  # eroded by two pixels at most
    assert (shares < 0.6).mean() > 0.2


def test_the_half_hole_contains_half_of_the_object():
    mask = disc(30, 35, 14, 64, 64)
    for seed in range(8):
        hole = half_hole(np.random.default_rng(seed), mask, reach=0)
        assert 0.4 < hole[mask].mean() <= 0.5
        assert (hole & ~mask).any() and (~hole & ~mask).any()
        assert (half_hole(np.random.default_rng(seed), mask, reach=2) | ~hole).all()


def test_validation_cases_are_fixed_and_on_grey(objects):
    held = HeldOut(objects)
    assert len(held) == 3
    first, half = held[1]
    again = held[1]
    assert np.array_equal(first.hole, again[0].hole) and np.array_equal(half.picture, again[1].picture)
    assert (half.empty == 128).all()
    outside = cv2.dilate(half.mask, np.ones((5, 5), np.uint8)) == 0
    assert np.array_equal(half.picture[outside], half.empty[outside])
    assert 0.35 < (half.hole > 0)[half.mask > 0].mean() < 0.75
    other_lap = objects.half_hidden(4)
    assert not np.array_equal(other_lap.hole, half.hole)


def test_samples_can_have_any_size_and_be_stacked(objects):
    batch = stack([objects[0, 0, 24], objects[0, 1, 24]])
    assert batch.picture.shape == (2, 3, 24, 24) and batch.hole.shape == (2, 1, 24, 24) and len(batch.keys) == 2
    assert str(batch.picture.dtype) == str(batch.hole.dtype) == "torch.uint8"
    np.testing.assert_array_equal(batch.picture[1].permute(1, 2, 0).numpy(), objects[0, 1, 24].picture)


def test_too_many_objects_are_refused_before_a_photo_is_read(monkeypatch):
    monkeypatch.setattr(whole_objects, "MOST_BYTES", 100_000)
    with pytest.raises(UserError, match="give num_objects=3 or less"):
        WholeObjects([a_record("0", disc(60, 45, 16))] * 4, 32, seed=0)


@pytest.mark.parametrize("name", PAINTED)
def test_painted_backgrounds(name):
    colours = np.array([[200, 10, 10], [10, 200, 10]], np.uint8)
    one, same, other = (PAINTED[name](np.random.default_rng(seed), 40, colours) for seed in (0, 0, 3))
    assert one.shape == (40, 40, 3) and one.dtype == np.uint8 and np.array_equal(one, same)
    assert np.array_equal(one, other) == (name == "white")
    if name == "histogram":
        assert one[..., 2].max() <= 10 and np.abs(one.mean(axis=(0, 1))[:2] - 105).max() < 60
    if name == "grey":
        assert (np.ptp(one.astype(int), axis=2) == 0).all() and 90 < one.mean() < 180
