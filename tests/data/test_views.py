import numpy as np
import pytest

from amodalseg import read_dataset
from amodalseg.config.schema import CocoaData, SyntheticData
from amodalseg.data import views
from amodalseg.data.open import open_source
from amodalseg.data.views import by_image
from amodalseg.errors import UserError
from tests.worlds import WORLDS, coco_world, cocoa_world


@pytest.fixture
def root(tmp_path):
    return cocoa_world(tmp_path / "cocoa")


def test_objects_of_a_photo_are_grouped_in_their_order(root):
    records = read_dataset("cocoa", root)
    mixed = [records[i] for i in (6, 0, 7, 1, 8, 2, 9, 3, 10, 4, 11, 5)]
    for given, first in ((records, 0), (mixed, 6)):
        found = by_image(given)
        assert [view.image_id for view in found] == list(dict.fromkeys(record.image_id for record in given))
        assert found[0].objects == [r for r in given if r.image_id == records[first].image_id]
        assert sorted(np.concatenate([view.places for view in found])) == list(range(12))
    assert (found[0].dataset, found[0].split, len(found[0]), len(found), len(found[1:])) == ("cocoa", "val", 6, 2, 1)


def test_masks_overlap_and_order(root):
    view = next(view for view in read_dataset("cocoa", root, view="image") if view.image_id == "1000")
    assert view.image.shape == (90, 120, 3) and view.modal.shape == view.amodal.shape == (6, 90, 120)
    for i, one in enumerate(view.objects):
        assert np.array_equal(view.modal[i], one.modal) and np.array_equal(view.amodal[i], one.amodal)
        for j, other in enumerate(view.objects):
            assert view.overlap[i, j] == (one.amodal & other.amodal).sum()
            assert view.hidden_by[i, j] == (0 if i == j else (one.occluded & other.amodal).sum())
            assert view.in_front[i, j] == np.sign(j - i)
    cup, plate, dog, ball = range(4)
    assert view.hidden_by[plate, cup] > 0 == view.hidden_by[cup, plate] and view.hidden_by[ball, dog] > 0


def test_ranks_are_compared_within_a_cluster_and_an_annotator(root):
    records = read_dataset("cocoa", root)[:5]
    for record, (cluster, rank) in zip(records, [(1, 1), (1, 2), (2, 1), (2, 0), (1, None)], strict=True):
        record.group = {"cluster": cluster, "rank": rank}
    expected = np.zeros((5, 5), int)
    expected[0, 1], expected[1, 0] = 1, -1
    assert np.array_equal(by_image(records)[0].in_front, expected)
    for record, annotator in zip(records, "aabba", strict=True):
        record.group, record.order = {"annotator": annotator}, record.order
    records[4].order = None
    expected[2, 3], expected[3, 2] = 1, -1
    assert np.array_equal(by_image(records)[0].in_front, expected)


@pytest.mark.parametrize("name", sorted(set(WORLDS) - {"pix2gestalt"}))  # one object per photo, and slow to read
def test_every_set_has_an_image_view(name, tmp_path):
    world = WORLDS[name](tmp_path / "data")
    options = dict(option.split("=", 1) for option in world.options)
    records = read_dataset(world.name, world.root, split=world.test, **options)
    found = read_dataset(world.name, world.root, split=world.test, view="image", **options)
    assert sum(map(len, found)) == len(records)
    assert {view.image_id: len(view) for view in found} == {
        key: sum(record.image_id == key for record in records) for key in {record.image_id for record in records}
    }
    assert np.array_equal(found[0].amodal[0], found[0].objects[0].amodal)


def test_photos_are_not_opened_and_views_are_not_cached(root, monkeypatch):
    def never(record):
        raise AssertionError(record)

    monkeypatch.setattr(views, "record_image", never)
    config = CocoaData(root=str(root))
    found = by_image(open_source(config, photos=False))
    assert found[0].amodal.any() and found[0] is not found[0], "what a view has decoded goes with it"


def test_composites_on_one_photo_count_as_separate_photos(tmp_path):
    annotations, images = coco_world(tmp_path, 1)
    source = read_dataset("coco_occlude", annotations=[str(annotations)], images=[str(images)], num_objects=3)
    assert len({record.image_id for record in source}) < 3 == len(by_image(source))
    assert len(by_image(open_source(SyntheticData(num_objects=2, size=64)))) == 2


def test_views_without_amodal_masks_have_modal_ones(tmp_path):
    annotations, images = coco_world(tmp_path, 1)
    (view,) = read_dataset("coco", annotations=[str(annotations)], images=[str(images)], view="image")
    assert view.modal.any()
    for name in ("amodal", "overlap", "hidden_by"):
        with pytest.raises(UserError, match="visible pixels only"):
            getattr(view, name)


def test_an_unknown_view_is_refused(root):
    with pytest.raises(UserError, match=r"invalid value for view: photo \(choose from object, image"):
        read_dataset("cocoa", root, view="photo")
