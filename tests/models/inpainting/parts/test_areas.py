import numpy as np
import pytest

from amodalseg.masks import convex_hull, grown
from amodalseg.models.geometric.model import ConvexHull
from amodalseg.models.inpainting.parts.areas import KINDS, area


def two_parts(side=64):
    modal = np.zeros((side, side), bool)
    modal[10:20, 12:22] = True
    modal[30:50, 40:45] = True
    return modal


def test_the_hull_contains_all_parts_of_the_object():
    modal = two_parts()
    found = area("hull", modal)
    assert not (modal & ~found).any() and found[25, 30]
    assert np.array_equal(found, ConvexHull().complete(modal, None))
    assert not convex_hull(np.zeros((5, 5), bool)).any()


def test_box_and_outside():
    modal = two_parts()
    box = area("box", modal)
    assert box[10:50, 12:45].all() and box.sum() == 40 * 33
    assert np.array_equal(area("outside", modal), ~modal)


def test_the_area_of_occluders_excludes_visible_pixels_and_can_be_empty():
    modal = two_parts()
    occluder = np.zeros_like(modal)
    occluder[15:35, 15:45] = True
    assert np.array_equal(area("occluders", modal, occluder), occluder & ~modal)
    assert not area("occluders", modal).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_and_the_largest_object(kind):
    for modal in (np.ones((16, 16), bool), np.eye(16, dtype=bool) & (np.arange(16) == 5)):
        found = area(kind, modal, None)
        assert found.shape == modal.shape and found.dtype == bool
        if modal.all():
            assert found.all() == (kind in ("hull", "box"))


def neighbours(side=128):
    """An object with three others: one nearby and in front, one nearby and behind, one in front but far away."""
    parts = {name: np.zeros((side, side), bool) for name in ("modal", "front", "behind", "far")}
    parts["modal"][50:80, 50:80] = True
    parts["front"][50:80, 81:100] = True
    parts["behind"][50:80, 30:49] = True
    parts["far"][100:120, 50:80] = True
    depth = np.full((side, side), 0.2)
    for name, near in (("modal", 0.5), ("front", 0.9), ("behind", 0.3), ("far", 0.9)):
        depth[parts[name]] = near
    return parts, depth


def test_depth_selects_close_neighbours_in_front():
    parts, depth = neighbours()
    candidates = parts["front"] | parts["behind"] | parts["far"]
    expected = grown(parts["front"], 1) & ~parts["modal"]
    assert np.array_equal(area("depth", parts["modal"], candidates, nearer=depth), expected)
    # without masks of neighbours: the nearer pixels by depth
    assert np.array_equal(area("depth", parts["modal"], None, nearer=depth), expected)


def test_depth_without_a_depth_model_selects_close_known_occluders():
    parts, _ = neighbours()
    found = area("depth", parts["modal"], parts["front"] | parts["far"])
    assert np.array_equal(found, grown(parts["front"], 1) & ~parts["modal"])
    assert not area("depth", parts["modal"]).any()
    assert not area("depth", parts["modal"], parts["far"]).any()


def test_neighbours_with_and_without_the_visible_part():
    parts, depth = neighbours()
    front, modal = parts["front"], parts["modal"]
    assert np.array_equal(area("depth", modal, front, nearer=depth, grow=0), front)
    assert np.array_equal(area("depth", modal, front, nearer=depth, grow=0, visible=True), front | modal)
    assert np.array_equal(area("depth", modal, front, nearer=depth, grow=12), grown(front, 3) & ~modal)
    assert not area("depth", modal, parts["far"], nearer=depth, visible=True).any()


def test_close_means_within_ten_pixels_of_512():
    modal, other = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
    modal[100:200, 100:200] = True
    other[100:200, 209:230] = True  # ten pixels from the last one
    assert area("depth", modal, other).any()
    assert not area("depth", modal, np.roll(other, 1, axis=1)).any()


def test_grown_dilates_by_its_reach():
    dot = np.zeros((9, 9), bool)
    dot[4, 4] = True
    assert grown(dot, 2)[4, 2:7].all() and not grown(dot, 2)[4, 1] and np.array_equal(grown(dot, 0), dot)
