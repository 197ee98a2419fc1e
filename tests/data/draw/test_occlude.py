"""Composites: exact ground truth from modal masks, reproducible, requested rates, no visible traces of pasting."""

from collections import Counter

import cv2
import numpy as np
import pytest

from amodalseg import masks
from amodalseg.config.schema import OccludeConfig
from amodalseg.data.draw import cutout
from amodalseg.data.draw.cover import Spot, num_hidden, overlap, slide
from amodalseg.data.draw.cutout import PhotoCache, Tone, cut_out, num_pieces, sides_cut
from amodalseg.data.draw.occlude import Occluder
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

HEIGHT, WIDTH = 72, 96


def a_record(name, mask, **options):
    """An object in a photo of smoothed noise, so that pixels reveal their origin."""
    photo = np.random.default_rng(sum(map(ord, name))).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    photo = cv2.GaussianBlur(photo, (5, 5), 0)
    return AmodalRecord("world", "train", name, "0", photo, masks.encode(mask), category=name, **options)


def disc(x, y, radius, height=HEIGHT, width=WIDTH):
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def box(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def some_records():
    return [
        a_record("disc", disc(40, 36, 20)),
        a_record("small disc", disc(60, 30, 14)),
        a_record("box", box(20, 20, 70, 50)),
        a_record("post", box(40, 10, 52, 64)),
        a_record("cut at the bottom", box(30, 30, 60, HEIGHT)),
        a_record("cut at the left", box(0, 20, 40, 50)),
        a_record("cut at a corner", box(0, 40, 40, HEIGHT)),
        a_record("crowd", disc(40, 36, 20), flags=frozenset({"crowd"})),
        a_record("two pieces", disc(20, 36, 12) | disc(70, 36, 12)),
    ]


@pytest.fixture(scope="module")
def drawn():
    occluder = Occluder(some_records(), OccludeConfig(rate_min=0.2, rate_max=0.6, unoccluded=0.3), seed=0)
    return occluder, [occluder.get(i) for i in range(120)]


def same(one, other):
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.whole_rgb, other.whole_rgb)
        and (one.modal_rle, one.amodal_rle, one.occluder_rle) == (other.modal_rle, other.amodal_rle, other.occluder_rle)
        and (one.key, one.category, one.extra) == (other.key, other.category, other.extra)
    )


def test_only_whole_objects_are_occluded_and_only_suitable_ones_occlude(drawn):
    occluder, _ = drawn
    names = [occluder.records[i].category for i in occluder.whole]
    assert names == ["disc", "small disc", "box", "post"]
    assert not any(masks.touches_border(occluder.records[i].modal) for i in occluder.whole)
    sides = {occluder.records[i].category: side for i, side in occluder.sides.items()}
    assert sides["cut at the bottom"] == "b" and sides["cut at the left"] == "l" and sides["disc"] == ""
    assert "cut at a corner" not in sides and "crowd" not in sides and "two pieces" in sides


def test_an_object_is_a_pure_function_of_seed_epoch_and_index(drawn):
    config = OccludeConfig(rate_min=0.2, rate_max=0.6, unoccluded=0.3)
    first, again = drawn[1][:12], Occluder(some_records(), config, seed=0)
    for i in reversed(range(12)):  # in another order, by another instance
        assert same(first[i], again.get(i))
    assert same(again.get(3, epoch=1), Occluder(some_records(), config, seed=0).get(3, epoch=1))
    whole_covered = [i for i in range(12) if first[i].extra["occluders"]]
    other_seed = Occluder(some_records(), config, seed=1)
    for i in whole_covered[:4]:
        assert not same(first[i], again.get(i, epoch=1))
        assert not same(first[i], other_seed.get(i))
        assert first[i].amodal_rle == again.get(i, epoch=1).amodal_rle  # the same object, covered differently
    laps = [again.get(i) for i in (whole_covered[0], whole_covered[0] + len(again))]
    assert laps[0].category == laps[1].category and not np.array_equal(laps[0].image, laps[1].image)


def test_ground_truth_is_exact(drawn):
    occluder, records = drawn
    by_key = {record.key: record for record in occluder.records}
    for record in records:
        source = by_key[record.extra["source"]]
        assert np.array_equal(record.amodal, source.modal)
        assert np.array_equal(record.modal, record.amodal & ~record.occluder) and record.modal.any()
        assert np.array_equal(record.whole_rgb, source.image * source.modal[..., None])
        assert source.key not in [*record.extra["occluders"], record.extra["behind"]]
        # Away from the seams, the object's visible pixels are the photo's.
        visible = cv2.erode(record.modal.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
        assert np.array_equal(record.image[visible], source.image[visible])
        if record.extra["occluders"]:
            covered = cv2.erode((record.amodal & record.occluder).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            assert not covered.any() or (record.image[covered] != source.image[covered]).mean() > 0.8
    assert len({record.key for record in records}) == len(records)


def test_occlusion_rates_stay_in_the_range(drawn):
    _, records = drawn
    covered = [record for record in records if record.extra["occluders"]]
    for record in records:
        whole, occluder = np.argwhere(record.amodal), record.occluder
        hidden = sum(bool(occluder[y, x]) for y, x in whole)
        assert record.occlusion_rate == pytest.approx(hidden / len(whole))
        assert (record.occlusion_rate == 0) == (not record.extra["occluders"]) == ("fully_visible" in record.flags)
    assert all(0.2 <= record.occlusion_rate <= 0.6 for record in covered)
    assert max(record.occlusion_rate for record in covered) > 0.5
    assert 0.15 < 1 - len(covered) / len(records) < 0.45
    assert set(Counter(len(record.extra["occluders"]) for record in covered)) == {1, 2}


def test_unoccluded_objects_have_pasted_neighbours_behind_them():
    occluder = Occluder(some_records(), OccludeConfig(unoccluded=1.0), seed=0)
    records = [occluder.get(i) for i in range(40)]
    behind = [record for record in records if record.extra["behind"]]
    assert 8 < len(behind) < 32
    assert all(record.occlusion_rate == 0 and not record.occluder.any() for record in records)
    for record in behind:
        outside = ~record.amodal
        source = next(item for item in occluder.records if item.key == record.extra["source"])
        assert (record.image[outside] != source.image[outside]).any()


def test_hard_edges_change_only_what_is_covered():
    occluder = Occluder(some_records(), OccludeConfig(soft_edge=0.0), seed=0)
    for i in range(12):
        record = occluder.get(i)
        source = next(item for item in occluder.records if item.key == record.extra["source"])
        assert np.array_equal(record.image[record.modal], source.image[record.modal])


@pytest.mark.parametrize(("name", "side"), [("cut at the bottom", "b"), ("cut at the left", "l")])
def test_truncated_occluders_touch_the_border_at_their_cut_edge(name, side):
    records = [record for record in some_records() if record.category in ("disc", name)]
    occluder = Occluder(records, OccludeConfig(max_occluders=1, scale_min=1.2, flip=False, unoccluded=0.0), seed=0)
    assert len(occluder) == 1
    for epoch in range(6):
        mask = occluder.get(0, epoch).occluder
        assert {"b": mask[-1], "l": mask[:, 0]}[side].any()


def test_flipped_truncated_occluders_touch_the_opposite_border():
    records = [record for record in some_records() if record.category in ("disc", "cut at the left")]
    occluder = Occluder(records, OccludeConfig(max_occluders=1, scale_min=1.2), seed=0)
    seen = {
        (bool(mask[:, 0].any()), bool(mask[:, -1].any())) for mask in (occluder.get(0, e).occluder for e in range(16))
    }
    assert (False, False) not in seen and len(seen) > 1


def test_max_side_shrinks_photo_and_masks():
    record = Occluder(some_records(), OccludeConfig(), seed=0, max_side=48).get(0)
    assert record.image.shape == (36, 48, 3) and record.amodal.shape == (36, 48)
    assert 0.1 <= record.occlusion_rate <= 0.7


def test_too_few_suitable_objects_are_reported_with_reasons():
    with pytest.raises(UserError) as error:
        Occluder(some_records()[4:], OccludeConfig(), seed=0)
    for text in ("among 5", "3 touch the photo's border", "1 are crowds", "1 are in several pieces"):
        assert text in str(error.value)
    with pytest.raises(UserError, match=r"2 are smaller than min_area=0\.5"):
        Occluder(some_records()[:2], OccludeConfig(min_area=0.5), seed=0)
    with pytest.raises(UserError, match=r"2 are larger than max_area=0\.02"):
        Occluder(some_records()[:2], OccludeConfig(max_area=0.02), seed=0)
    with pytest.raises(UserError, match="2 have less than 64 pixels at max_side=12"):
        Occluder(some_records()[:2], OccludeConfig(), seed=0, max_side=12)
    with pytest.raises(UserError, match="1 have less than 64 pixels"):
        Occluder([a_record("empty", disc(0, 0, -1) & False)], OccludeConfig(min_area=0.0), seed=0)
    with pytest.raises(UserError, match="there is none"):
        Occluder([], OccludeConfig(), seed=0)
    with pytest.raises(UserError, match="no second one"):
        Occluder(some_records()[:1], OccludeConfig(), seed=0)


def test_objects_annotated_as_occluded_are_excluded():
    half = a_record("half", box(20, 20, 45, 50), amodal_rle=masks.encode(box(20, 20, 70, 50)))
    occluder = Occluder([half, *some_records()[:2]], OccludeConfig(), seed=0)
    assert occluder.whole == [1, 2]


def test_an_unreachable_occlusion_rate_is_reported():
    records = [a_record("disc", disc(40, 36, 30)), a_record("dot", disc(40, 36, 9.2))]
    config = OccludeConfig(rate_min=0.5, scale_min=0.1, scale_max=0.2, min_area=0.1)
    with pytest.raises(UserError, match=r"disc.*widen the range"):
        Occluder(records, config, seed=0).get(0)


def test_slide_stops_at_the_goal():
    target, cover = np.ones((20, 30), bool), np.ones((8, 8), bool)
    start, end = np.array([-30.0, 5.0]), np.array([10.0, 5.0])
    below, above = slide(target, cover, start, end, goal=33)
    assert below == Spot(-4, 5, 32) and above == Spot(-3, 5, 40)
    assert slide(target, cover, start, end, goal=65)[0] == Spot(10, 5, 64)  # the goal exceeds the cover: all of it
    assert slide(target, cover, end, start, goal=9)[1] == Spot(10, 5, 64)  # already there


def test_overlap_outside_is_empty():
    for x, y in ((-8, 0), (30, 0), (0, -8), (0, 20), (100, 100), (-100, -100)):
        here, there = overlap((20, 30), (8, 8), x, y)
        assert np.zeros((20, 30))[here].size == np.zeros((8, 8))[there].size == 0
        assert num_hidden(np.ones((20, 30), bool), np.ones((8, 8), bool), x, y) == 0


def test_cutouts_keep_their_pixels_and_are_not_enlarged_much():
    record, photos = some_records()[2], PhotoCache()
    cut = cut_out(record, photos, longer_side=50, flip=False, soft_edge=0.0)
    assert np.array_equal(cut.colours[cut.mask], record.image[record.modal])
    mirrored = cut_out(record, photos, longer_side=50, flip=True, soft_edge=0.0)
    assert mirrored.flip and np.array_equal(mirrored.alpha, cut.alpha[:, ::-1])
    soft = cut_out(record, photos, longer_side=50, flip=False, soft_edge=1.0)
    assert 0 < soft.mask.sum() < cut.mask.sum() and ((soft.alpha > 0.1) & (soft.alpha < 0.9)).any()
    assert cut_out(record, photos, longer_side=101, flip=False, soft_edge=0.0) is None


def test_sides_and_pieces():
    assert [sides_cut(record) for record in some_records()[3:7]] == ["", "b", "l", "lb"]
    assert sides_cut(a_record("near", box(1, 20, WIDTH - 1, 50))) == "lr"
    assert num_pieces(a_record("crumbs", disc(40, 36, 20) | box(90, 2, 94, 6))) == 1
    assert num_pieces(a_record("halves", disc(20, 36, 12) | disc(70, 36, 12))) == 2


def test_photo_cache_is_bounded(monkeypatch, tmp_path):
    reads = []

    def read(record):
        reads.append(record.image)
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    monkeypatch.setattr(cutout, "record_image", read)
    records = [AmodalRecord("w", "t", n, "0", tmp_path / n, masks.encode(box(20, 20, 70, 50))) for n in "abc"]
    room = 2 * (HEIGHT * WIDTH * 3 + 50 * 30)  # two photos and their masks, cut to their boxes
    photos = PhotoCache(max_bytes=room)
    for which in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, the least recently used
        photos.cropped(records[which])
        photos.photo(records[which])
    assert [path.name for path in reads] == ["a", "b", "c", "b"]
    assert photos.num_bytes == room


def test_masks_are_cached_with_their_photos_and_read_only(monkeypatch, tmp_path):
    monkeypatch.setattr(cutout, "record_image", lambda record: np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    photos, decoded = PhotoCache(max_side=WIDTH // 2), []
    decode = masks.decode
    monkeypatch.setattr(masks, "decode", lambda rle: decoded.append(rle) or decode(rle))
    first, second = (
        AmodalRecord("w", "t", "a", name, tmp_path / "a", masks.encode(disc(40, 36, r)))
        for name, r in (("0", 20), ("1", 9))
    )
    for record in (first, second, first, first):
        photo, (corners, mask) = photos.photo(record), photos.cropped(record)
        assert not photo.flags.writeable and not mask.flags.writeable
        full = photos.modal(record)
        assert full.shape == photo.shape[:2] and masks.box_xyxy(full) == corners
        assert np.array_equal(full[corners[1] : corners[3], corners[0] : corners[2]], mask)
    assert len(decoded) == 2
    assert photos.modal(first).sum() > photos.modal(second).sum() > 0


def test_the_tone_of_an_object_is_computed_from_its_pixels():
    record = some_records()[0]
    own = record.image[record.modal].astype(float)
    assert np.allclose(PhotoCache().tone(record), (own.mean(), own.std()))


def test_colours_are_shifted_towards_those_of_the_host_photo():
    cut = cut_out(some_records()[0], PhotoCache(), longer_side=40, flip=False, soft_edge=0.0)
    cut.tone = Tone(100.0, 20.0)
    for seed in range(20):
        table = cut.harmonised(np.random.default_rng(seed), Tone(200.0, 60.0)).astype(int)
        assert (np.diff(table) >= 0).all() and 90 <= table[100] <= 140
        gain = (table[110] - table[90]) / 20
        assert 0.95 <= gain <= 1.45, "contrast is never lowered for a photo that has more of it"


def covering(share):
    """A cut-out that occludes the given share of the disc's rows, from above."""
    amodal = disc(40, 36, 20)
    rows = np.cumsum(amodal.sum(axis=1)) / amodal.sum()
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    alpha[rows <= share] = 1
    return cutout.Cutout("cover", alpha, np.zeros((HEIGHT, WIDTH, 3), np.uint8), False, Tone(100.0, 20.0))


@pytest.fixture
def placed(monkeypatch):
    """An occluder whose cut-outs are chosen by the test, and the list of requested areas to hide."""
    config = OccludeConfig(rate_min=0.3, rate_max=0.6, max_occluders=1)
    occluder, goals = Occluder(some_records(), config, seed=0), []

    def lay(outcomes):
        outcomes = iter(outcomes)

        def place(rng, source, left, amodal, goal):
            goals.append(goal)
            return next(outcomes)

        monkeypatch.setattr(occluder, "place", place)
        return occluder, disc(40, 36, 20)

    return lay, goals


def test_covers_outside_the_range_of_rates_are_rejected(placed):
    lay, goals = placed
    occluder, amodal = lay([covering(0.9), covering(0.2), None, covering(0.65), covering(0.5)])
    (found,) = occluder.covers(np.random.default_rng(0), 0, amodal)
    assert 0.3 <= (found.mask_in(amodal.shape) & amodal).sum() / amodal.sum() <= 0.6 and len(goals) == 5
    occluder, _ = lay([covering(0.9)] * 40)
    with pytest.raises(UserError, match="no occluders hide between"):
        occluder.covers(np.random.default_rng(0), 0, amodal)


def test_a_goal_is_resampled_after_eight_tries(placed):
    lay, goals = placed
    occluder, amodal = lay([None] * 40)
    with pytest.raises(UserError, match="in 40 tries"):
        occluder.covers(np.random.default_rng(0), 0, amodal)
    held = [goals[start : start + 8] for start in range(0, 40, 8)]
    assert len(goals) == 40 and all(len(set(part)) == 1 for part in held)
    assert len({part[0] for part in held}) == 5
    assert all(0.3 * amodal.sum() - 1 <= goal <= 0.6 * amodal.sum() + 1 for goal in goals)


def test_a_placed_cover_hides_at_least_four_fifths_of_the_goal():
    amodal, found = disc(40, 36, 20), []
    for size in np.linspace(0.2, 1.2, 11):
        config = OccludeConfig(scale_min=size, scale_max=size, max_occluders=1)
        records = [a_record("disc", amodal), a_record("small disc", disc(60, 30, 14))]
        occluder = Occluder(records, config, seed=0)
        for seed in range(6):
            goal = 600
            cover = occluder.place(np.random.default_rng(seed), 0, amodal, amodal, goal)
            found.append(cover is not None)
            if cover is not None:
                assert (cover.mask_in(amodal.shape) & amodal).sum() >= 0.8 * goal
    assert any(found) and not all(found), "some sizes can hide as much, and others cannot"


def test_a_neighbour_behind_is_twice_as_likely_without_occluders():
    """Half of the unoccluded objects have one, and a quarter of the occluded ones, if a position for it is found."""
    config = OccludeConfig(rate_min=0.2, rate_max=0.6, unoccluded=0.5)
    occluder = Occluder(some_records()[:4], config, seed=0)
    told = [occluder.plan(index).about["extra"] for index in range(300)]
    shares = [
        np.mean([bool(t["behind"]) for t in told if bool(t["occluders"]) is covered]) for covered in (False, True)
    ]
    assert 0.4 < shares[0] < 0.6 and 0.15 < shares[1] < 0.35
