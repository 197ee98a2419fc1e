"""The synthetic world: reproducible pictures, exact ground truth, requested rates."""

import cv2
import numpy as np
import pytest

from amodalseg.config.schema import SyntheticData
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.draw.synthetic_glyphs import LETTERS, PICTOGRAMS, glyph_rings
from amodalseg.data.draw.synthetic_paint import rasterise
from amodalseg.data.draw.synthetic_shapes import ANY_WAY_UP, UPRIGHT
from amodalseg.errors import UserError

SIZE = 64


@pytest.fixture(scope="module")
def records():
    world = SyntheticWorld(SyntheticData(size=SIZE, rate_min=0.15, rate_max=0.6, unoccluded=0.25))
    return [world.get(i) for i in range(120)]


def same(one, other):
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.whole_rgb, other.whole_rgb)
        and (one.modal_rle, one.amodal_rle, one.occluder_rle) == (other.modal_rle, other.amodal_rle, other.occluder_rle)
        and (one.key, one.category, one.order) == (other.key, other.category, other.order)
    )


def test_an_object_is_a_pure_function_of_seed_split_epoch_and_index():
    config = SyntheticData(size=SIZE, seed=3)
    world = SyntheticWorld(config)
    first = world.get(5, epoch=2)
    for i in (7, 0, 5):  # independent of the order of calls
        world.get(i)
    assert same(first, world.get(5, epoch=2))
    assert same(first, SyntheticWorld(SyntheticData(size=SIZE, seed=3)).get(5, epoch=2))
    others = [
        world.get(6, epoch=2),
        world.get(5, epoch=3),
        world.get(5),
        SyntheticWorld(SyntheticData(size=SIZE, seed=4)).get(5, epoch=2),
        SyntheticWorld(SyntheticData(size=SIZE, seed=3, split="val")).get(5, epoch=2),
    ]
    assert not any(np.array_equal(first.image, other.image) for other in others)


def test_ground_truth_is_exact(records):
    for record in records:
        modal, amodal, occluder = record.modal, record.amodal, record.occluder
        assert record.image.shape == (SIZE, SIZE, 3) and record.image.dtype == np.uint8
        assert modal.any() and not (modal & ~amodal).any()
        assert np.array_equal(modal, amodal & ~occluder)
        assert not amodal[0].any() and not amodal[-1].any() and not amodal[:, 0].any() and not amodal[:, -1].any()
        assert not record.whole_rgb[~amodal].any()


def test_visible_pixels_show_the_object(records):
    differences = []
    for record in records:
        inner = cv2.erode(record.modal.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        if inner.sum() > 20:
            differences.append(np.abs(record.image[inner].astype(int) - record.whole_rgb[inner]).mean())
    assert len(differences) > 60
    assert np.median(differences) < 1  # shadows darken some pictures


def test_occlusion_rates_stay_in_the_range(records):
    rates = []
    for record in records:
        hidden = total = 0
        for visible, whole in zip(record.modal.ravel().tolist(), record.amodal.ravel().tolist(), strict=True):
            total += whole
            hidden += whole and not visible
        assert record.occlusion_rate == pytest.approx(hidden / total)
        rates.append(hidden / total)
    covered = [rate for rate in rates if rate > 0]
    assert 0.15 <= min(covered) < 0.25 and 0.5 < max(covered) <= 0.6
    assert 0.12 < rates.count(0.0) / len(rates) < 0.4
    assert all(("fully_visible" in record.flags) == (rate == 0) for record, rate in zip(records, rates, strict=True))


def test_keys_are_unique_and_many_families_occur(records):
    assert len({record.key for record in records}) == len(records)
    assert len({record.category for record in records}) > 15
    assert {"letter", "pictogram"} <= {record.category for record in records}


def test_a_convex_hull_does_not_solve_it(records):
    scores = []
    for record in records:
        if record.occlusion_rate:
            hull = np.zeros((SIZE, SIZE), np.uint8)
            points = np.argwhere(record.modal)[:, ::-1].astype(np.int32)
            cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
            guess, hidden = (hull > 0) & ~record.modal, record.occluded
            scores.append((guess & hidden).sum() / (guess | hidden).sum())
    assert 0.1 < np.mean(scores) < 0.4


@pytest.mark.parametrize("family", [*ANY_WAY_UP, *UPRIGHT], ids=lambda family: family.__name__)
def test_each_family_is_one_connected_piece(family):
    for seed in range(8):
        alpha = rasterise(family(np.random.default_rng(seed)), np.eye(2) * 40)
        num, _, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8))
        assert num > 1 and stats[1:, cv2.CC_STAT_AREA].max() > 0.98 * (alpha > 0.5).sum()
        assert alpha[0].max() == alpha[-1].max() == alpha[:, 0].max() == alpha[:, -1].max() == 0  # nothing is truncated


def test_font_contains_every_glyph():
    for character in LETTERS + PICTOGRAMS:
        assert len(glyph_rings(character, False))
    for character in LETTERS:
        assert len(glyph_rings(character, True))


def test_small_and_odd_sizes():
    for size in (32, 77):
        assert SyntheticWorld(SyntheticData(size=size)).get(0).image.shape == (size, size, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_min": 0.5, "rate_max": 0.4}, "rate_min"),
        ({"rate_max": 1.0}, "rate_max"),
        ({"unoccluded": 1.5}, "unoccluded"),
        ({"size": 16}, "size=16"),
        ({"num_objects": 0}, "num_objects=0"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SyntheticWorld(SyntheticData(**options))


def test_an_unreachable_occlusion_rate_is_reported():
    world = SyntheticWorld(SyntheticData(size=32, rate_min=0.12345, rate_max=0.12346))
    with pytest.raises(UserError, match="widen the range"):
        for i in range(5):
            world.get(i)
