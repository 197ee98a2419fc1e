"""Silhouettes of large things: non-empty, soft at the edge, closed, and determined by the generator alone."""

import cv2
import numpy as np
import pytest

from amodalseg.data.draw import surfaces
from amodalseg.data.draw.surfaces import FAMILIES, random_surface

HEIGHT, WIDTH = 72, 96


@pytest.mark.parametrize("family", sorted(set(FAMILIES), key=lambda family: family.__name__))
def test_each_family_is_non_empty_and_soft_at_the_edge(family, monkeypatch):
    monkeypatch.setattr(surfaces, "FAMILIES", (family,))
    rng, shares = np.random.default_rng(0), []
    for _ in range(60):
        name, alpha = random_surface(rng, HEIGHT, WIDTH)
        assert name == family.__name__ and alpha.shape == (HEIGHT, WIDTH) and alpha.dtype == np.float32
        assert alpha.min() >= 0 and alpha.max() <= 1
        mask = alpha > 0.5
        shares.append(mask.mean())
        seam = np.ones((5, 5), np.uint8)
        inner = cv2.erode(mask.astype(np.uint8), seam, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        outer = cv2.dilate(mask.astype(np.uint8), seam)
        soft = (alpha > 0) & (alpha < 1)
        assert not (soft & ((inner > 0) | (outer == 0))).any(), "soft at the edge, nowhere else"
        if not mask.all():
            assert soft.any(), "slanted edges are smooth"
    assert min(shares) > 0.005 and max(shares) > 0.25
    assert np.std(shares) > 0.03, "one draw is unlike another"


def test_surface_is_a_pure_function_of_the_generator():
    def draw(seed):
        return random_surface(np.random.default_rng(seed), HEIGHT, WIDTH)

    first = [draw(seed) for seed in range(8)]
    for seed in reversed(range(8)):
        name, alpha = draw(seed)
        assert name == first[seed][0] and np.array_equal(alpha, first[seed][1])
    assert len({alpha.tobytes() for _, alpha in first}) == 8


def test_all_families_occur_at_any_aspect_ratio():
    rng = np.random.default_rng(0)
    assert {random_surface(rng, 20, 30)[0] for _ in range(80)} == {family.__name__ for family in FAMILIES}
    for height, width in ((8, 200), (200, 8), (1, 1)):
        assert random_surface(rng, height, width)[1].shape == (height, width)


def test_a_board_has_no_crossing_edges():
    rng = np.random.default_rng(0)
    for _ in range(300):
        (ring,) = surfaces.board(rng)
        one, other = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
        turns = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
        assert (turns > 0).all(), "all four corners turn the same way"
