"""Occluders of an object, from depth and segments."""

import numpy as np

from amodalseg.models.inpainting.parts.occluders import ColourSegmenter, find_occluders, hides_by_contact

SIDE = 64


def boxes(*corners):
    masks = []
    for x0, y0, x1, y1 in corners:
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y0:y1, x0:x1] = True
        masks.append(mask)
    return masks


class Regions:
    """Segments a picture of flat regions: the region at the point. points: the points of all calls."""

    def __init__(self):
        self.points = []

    def segment(self, picture, points):
        (x, y) = points[0]
        self.points.append((int(x), int(y)))
        return (picture == picture[y, x]).all(axis=2)


def scene():
    """An object with a nearer neighbour on its left, a farther one on its right, and a nearer but distant thing."""
    modal, near, far, away = boxes((24, 20, 40, 44), (8, 20, 24, 44), (40, 20, 52, 44), (0, 58, 64, 64))
    picture, nearer = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.float32)
    for number, (mask, depth) in enumerate(((modal, 5), (near, 9), (far, 2), (away, 9)), start=1):
        picture[mask], nearer[mask] = number, depth
    return picture, modal, near, far, away, nearer


def inside(found, mask):
    return (found & mask).sum() / mask.sum()


def test_nearer_neighbours_are_found_with_and_without_a_segmenter():
    picture, modal, near, far, away, nearer = scene()
    for segmenter in (None, Regions()):
        found = find_occluders(picture, modal, nearer, segmenter, np.random.default_rng(0))
        assert inside(found, near) == 1 and inside(found, far) < 0.2 and not (found & (modal | away)).any()
        assert found.sum() < 1.5 * near.sum()


def test_a_segment_is_either_entirely_in_front_or_not_at_all():
    picture, modal, near, far, _, nearer = scene()
    nearer[20:25, 40:52] = 9  # some of the farther neighbour's pixels are near
    assert inside(find_occluders(picture, modal, nearer, None, np.random.default_rng(0)), far) > 0.15
    nearer[near] = 1
    nearer[20:25, 40:52] = 9
    found = find_occluders(picture, modal, nearer, Regions(), np.random.default_rng(0))
    assert not found.any()


def test_points_lie_beside_the_object_and_differ():
    picture, modal, *_, nearer = scene()
    regions = Regions()
    find_occluders(picture, modal, nearer, regions, np.random.default_rng(1))
    assert 2 <= len(regions.points) <= 8 and len(set(regions.points)) == len(regions.points)
    for x, y in regions.points:
        assert not modal[y, x] and 22 <= x <= 41 and 18 <= y <= 45


def test_an_object_that_fills_the_picture():
    modal = np.ones((SIDE, SIDE), bool)
    picture, nearer = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.float32)
    assert not find_occluders(picture, modal, nearer, Regions(), np.random.default_rng(0)).any()


def test_by_outlines_a_region_that_fills_the_hull_of_the_object_hides_it():
    left, right, post, ground = boxes((10, 20, 24, 40), (32, 20, 46, 40), (24, 10, 32, 50), (0, 0, 64, 64))
    modal = left | right
    assert hides_by_contact(post, modal) and not hides_by_contact(modal, post)
    assert not hides_by_contact(ground & ~modal & ~post, modal)  # the object lies within its hull
    assert not hides_by_contact(boxes((46, 20, 60, 40))[0], modal)  # beside it


def test_without_depth_and_segmenter_regions_of_similar_colour_are_ordered_by_outlines():
    left, right, post = boxes((10, 20, 24, 40), (32, 20, 46, 40), (24, 10, 32, 50))
    picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
    picture[left | right], picture[post] = 200, 20
    assert (ColourSegmenter().segment(picture, np.array([[28, 30]])) ^ post).sum() <= 4  # its corners are blurred
    found = find_occluders(picture, left | right, None, None, np.random.default_rng(0))
    assert inside(found, post) > 0.98 and found.sum() < 1.3 * post.sum()


def test_given_objects_replace_points_beside_the_object():
    picture, modal, near, far, away, nearer = scene()
    segmenter = Regions()
    objects = [modal, near, far, away]
    found = find_occluders(picture, modal, nearer, segmenter, np.random.default_rng(0), objects)
    assert inside(found, near) == 1 and inside(found, far) < 0.2 and not (found & modal).any()
    assert not segmenter.points
