"""The counterfactual completeness rule, with an inpainting model that generates a known picture around the object."""

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.data.catalog import read_dataset
from amodalseg.models.inpainting.methods.curation import Rule, judge
from benchmarks import curation as program
from tests.models.inpainting.known_picture import KnownPicture
from tests.worlds import cocoa_world

SIDE = 40
RULE = Rule(background="grey", read="difference", border=0)
RED, WHITE = (210, 40, 40), (255, 255, 255)


def square(first=10, last=30):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[first:last, first:last] = True
    return mask


def backend(drawn=None):
    """Generates grey, like the background of the rule, and red in ``drawn``."""
    picture = np.full((SIDE, SIDE, 3), 135, np.uint8)
    if drawn is not None:
        picture[drawn] = RED
    return KnownPicture(picture)


def query(mask=None, seed=0):
    mask = square() if mask is None else mask
    image = np.full((SIDE, SIDE, 3), WHITE, np.uint8)
    image[mask] = RED
    return Query(image, mask, seed)


def judged(drawn, rule=RULE):
    return judge(backend(drawn), [query()], rule)[0]


def test_an_object_without_growth_is_complete():
    assert judged(None) == (True, 0.0, False)


@pytest.mark.parametrize(("columns", "complete"), [(3, True), (4, True), (5, False), (9, False)])
def test_growth_is_the_added_share_of_the_area(columns, complete):
    drawn = np.zeros((SIDE, SIDE), bool)
    drawn[8:32, 30 : 30 + columns] = True
    drawn[[8, 9, 30, 31]] = False  # rows 10 to 29, like the object
    prediction = judged(drawn)
    # the median filter of the read-off removes the two outer corners
    assert prediction.growth == pytest.approx((20 * columns - 2) / 400) and prediction.complete == complete


def test_the_threshold_is_an_option():
    drawn = np.zeros((SIDE, SIDE), bool)
    drawn[10:30, 30:35] = True
    assert not judged(drawn).complete
    assert judged(drawn, Rule(background="grey", read="difference", border=0, growth=0.3)).complete


def test_separate_generated_parts_do_not_count_as_growth():
    drawn = np.zeros((SIDE, SIDE), bool)
    drawn[2:8, 12:28] = True
    assert judged(drawn).growth == 0


def test_everything_except_object_and_corners_is_generated():
    for corner in (0.1, 0.0):
        white = KnownPicture(np.full((SIDE, SIDE, 3), WHITE, np.uint8))
        judge(white, [query()], Rule(background="grey", read="difference", border=0, corner=corner))
        level, x, _ = white.states[-1]
        assert level.sigma < 0.06  # nearly clean: grey is 0.06, white 1
        drawn = (x[0].mean(dim=0) > 0.6).numpy()
        stays = square()
        edge = round(corner * SIDE)
        for rows in (slice(edge), slice(SIDE - edge, SIDE)):
            for columns in (slice(edge), slice(SIDE - edge, SIDE)):
                stays[rows, columns] = True
        assert (drawn == ~stays).all()


def test_objects_near_the_border_are_not_complete():
    for first, border, near in ((10, 10, False), (9, 10, True), (0, 1, True), (0, 0, False)):
        mask = square(first, 25)
        prediction = judge(backend(), [query(mask)], Rule(background="grey", read="difference", border=border))[0]
        assert prediction.near_border == near and prediction.complete == (prediction.growth <= 0.2 and not near)


def test_judgements_do_not_depend_on_the_batch():
    drawn = np.zeros((SIDE, SIDE), bool)
    drawn[10:30, 30:35] = True
    queries = [query(square(10, 10 + size), seed) for seed, size in enumerate((20, 15, 10))]
    together = judge(backend(drawn), queries, Rule(background="grey", read="grabcut", num_samples=2), batch_size=4)
    assert together == [
        judge(backend(drawn), [one], Rule(background="grey", read="grabcut", num_samples=2))[0] for one in queries
    ]


def test_empty_batches_and_masks():
    assert judge(backend(), []) == []
    with pytest.raises(UserError, match="empty"):
        judge(backend(), [Query(query().image, np.zeros((SIDE, SIDE), bool))])


class TestBenchmark:
    def test_scores_in_closed_form(self):
        growth, truth = [0.0, 0.1, 0.5, 0.0, 0.3, 0.9], [True, True, True, False, False, False]
        assert program.scores(growth, truth, 0.2) == pytest.approx(
            {"balanced": 2 / 3, "precision": 2 / 3, "recall": 2 / 3}
        )
        assert program.scores(growth, truth, 1.0) == pytest.approx({"balanced": 0.5, "precision": 0.5, "recall": 1})

    def test_order_is_the_share_of_correctly_ordered_pairs(self):
        # pairs of growth (complete, cut): 0-0 tie, 0-2, 1-0, 1-2
        assert program.order([0, 0, 1, 2], [True, False, True, False]) == 2.5 / 4

    def test_a_cut_leaves_the_requested_share(self):
        mask = np.hypot(*(np.indices((80, 80)) - 40)) < 30
        for seed in range(10):
            left = program.cut(mask, np.random.default_rng(seed))
            assert not (left & ~mask).any() and 0.35 < left.sum() / mask.sum() < 0.82


def test_natural_objects_are_complete_ones_and_annotated_occluded_ones(tmp_path):
    cocoa_world(tmp_path)
    things = [one for one in read_dataset("cocoa", tmp_path, split="val") if not one.is_stuff]
    hidden = [one for one in things if (one.amodal & ~one.modal).sum() >= 0.2 * one.amodal.sum()]
    whole = [one for one in things if not (one.amodal & ~one.modal).any()]
    assert hidden and whole
    pairs = program.natural_cases(str(tmp_path), 1, 0)
    assert any((pairs[0][0].modal == one.modal).all() for one in whole if one.modal.shape == pairs[0][0].modal.shape)
    assert any((pairs[0][1].modal == one.modal).all() for one in hidden if one.modal.shape == pairs[0][1].modal.shape)
    with pytest.raises(UserError, match="hidden things of some size, not 1000"):
        program.natural_cases(str(tmp_path), 1000, 0)
