"""Occlusion order from masks."""

import itertools

import numpy as np
import pytest

from amodalseg.metrics.order import hidden_pixels, order_of, pairs


def scene(rng, count, size=40):
    """Overlapping rectangles, the farthest first. Returns: modal and amodal masks."""
    amodal = np.zeros((count, size, size), bool)
    for mask in amodal:
        (y, x), (h, w) = rng.integers(0, size - 12, 2), rng.integers(6, 20, 2)
        mask[y : y + h, x : x + w] = True
    modal = np.stack([mask & ~amodal[place + 1 :].any(axis=0) for place, mask in enumerate(amodal)])
    return modal, amodal


@pytest.mark.parametrize("seed", range(8))
def test_true_masks_give_the_true_order(seed):
    modal, amodal = scene(np.random.default_rng(seed), 7)
    keep = modal.reshape(7, -1).any(axis=1)
    modal, amodal = modal[keep], amodal[keep]
    found = order_of(pairs(modal, amodal, least=0))
    for i, j in itertools.permutations(range(len(modal)), 2):
        assert found.hides[i, j] == (i > j and (modal[i] & amodal[j]).any())
    assert not found.dropped
    place = {one: rank for rank, one in enumerate(found.far_to_near)}
    assert all(place[j] < place[i] for i, j in np.argwhere(found.hides))


def test_hidden_pixels_equal_a_count():
    modal, amodal = scene(np.random.default_rng(9), 5)
    found = hidden_pixels(modal, amodal)
    for i, j in itertools.product(range(5), repeat=2):
        assert found[i, j] == (0 if i == j else (modal[i] & amodal[j] & ~modal[j]).sum())


def test_of_two_objects_that_hide_each_other_the_one_that_hides_more_is_nearer():
    modal = np.zeros((2, 10, 10), bool)
    modal[0, :, :5] = modal[1, :, 5:] = True
    amodal = modal.copy()
    amodal[0, :4, 5:8] = True  # 12 pixels under the second
    amodal[1, :2, 3:5] = True  # 4 pixels under the first
    assert np.array_equal(pairs(modal, amodal), [[0, 0], [12, 0]])
    assert not pairs(modal, amodal, least=0.3).any(), "0.3 of 50 visible pixels are not hidden"
    amodal[1] = modal[1] | np.roll(amodal[0] & ~modal[0], -3, axis=1)  # equally many
    assert not pairs(modal, amodal).any()


def test_the_weakest_pair_of_a_cycle_is_dropped():
    strength = np.zeros((4, 4))
    strength[0, 1], strength[1, 2], strength[2, 0], strength[3, 0] = 9, 5, 7, 1
    found = order_of(strength)
    assert found.dropped == [(1, 2)] and found.hides[0, 1] and found.hides[2, 0]
    assert found.far_to_near == [1, 0, 2, 3]
    assert order_of(np.zeros((3, 3))).far_to_near == [0, 1, 2] and order_of(np.zeros((0, 0))).far_to_near == []
