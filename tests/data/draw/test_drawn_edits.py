"""Edits with exact ground truth: the true photo differs only in the edited thing, which texts and boxes describe."""

import hashlib
from dataclasses import fields, replace

import numpy as np
import pytest

from amodalseg import UserError, masks
from amodalseg.config.schema import EditsData
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.draw.captions import COLOURS, GROUNDS, colour_shares
from amodalseg.data.draw.edits import TASKS
from amodalseg.data.fingerprint import stamp
from amodalseg.data.open import open_source
from amodalseg.data.source import RecordList
from amodalseg.types import Region


@pytest.fixture(scope="module", params=TASKS)
def drawn(request):
    source = open_source(EditsData(task=request.param, num_objects=16))
    return request.param, source, [source.get(index) for index in range(len(source))]


def changed(record):
    return (record.image != record.edit.picture).any(axis=-1)


def inside(record, region):
    """bool (H, W): the pixels touched by the region's box."""
    x0, y0, x1, y1 = region.box
    found = np.zeros((record.height, record.width), bool)
    found[int(y0 * record.height) : int(np.ceil(y1 * record.height)), int(x0 * record.width) : int(
        np.ceil(x1 * record.width))] = True  # fmt: skip
    return found


def test_texts_of_regions_describe_the_edit(drawn):
    task, _, records = drawn
    kinds = {"add": "added", "remove": "removed", "change": "changed"}
    for record in records:
        request = record.edit.request
        ground, kept, edited = request.regions
        assert [region.kind for region in request.regions] == ["background", "kept", kinds[task]]
        assert ground.box is None and ground.source.split()[1] in GROUNDS and record.category in kept.source
        assert ground.source in kept.source and ground.source in request.source and ground.source in request.target
        for words, whole in ((edited.source, request.source), (edited.target, request.target)):
            thing = None if words is None else words.removesuffix(f" on {ground.source}")
            assert (thing is None) == (" and " not in whole and " in front of " not in whole)
            assert thing is None or thing in whole
        assert all(record.category in whole for whole in (request.source, request.target))
        if task == "change":
            old, new = (words.split()[1] for words in (edited.source, edited.target))
            assert old != new and {old, new} <= {*COLOURS} - {record.category.split()[0]}
            assert edited.source.split()[2:] == edited.target.split()[2:], "the same form"


def test_only_the_edited_thing_changes(drawn):
    """Preserved pixels are bitwise equal, and the change lies in the edited thing's box."""
    for record in drawn[2]:
        kept, edited = record.edit.request.regions[1:]
        still = masks.decode(record.edit.kept_rle)
        where = changed(record)
        assert 0 < where.sum() < 0.6 * where.size
        assert (still & ~where).sum() > 0.4 * still.sum(), "its outline may be mixed with what was edited"
        beyond = where & ~inside(record, edited)  # soft outlines and thin ends, which are in no mask
        assert beyond.sum() <= 12 and not (beyond & ~masks.grown(inside(record, edited), 3)).any()
        assert not (record.modal & ~inside(record, kept)).any()
        # the preserved thing has its own colour before and after
        for picture in (record.image, record.edit.picture):
            shares = colour_shares(picture[still & ~where][None])
            assert max(shares, key=shares.get) == record.category.split()[0]


def test_the_edited_thing_has_its_colours(drawn):
    _, _, records = drawn
    for record in records:
        edited = record.edit.request.regions[2]
        for words, picture in ((edited.source, record.image), (edited.target, record.edit.picture)):
            shares = colour_shares(picture[changed(record)][None])
            if words is None:
                own = {record.category.split()[0]}  # revealed where the removed thing was in front of it
                assert all(share < 0.15 for colour, share in shares.items() if colour not in own)
            else:
                assert max(shares, key=shares.get) == words.split()[1]


def test_boxes_do_not_reveal_hidden_pixels(drawn):
    """Without padding they are the boxes of the visible pixels: before the edit, or after it for an added thing."""
    source = drawn[1]
    for index in range(8):
        record = open_source(replace(source.config, padding=0.0)).get(index)
        kept, edited = record.edit.request.regions[1:]
        x0, y0, x1, y1 = masks.box_xyxy(record.modal)
        assert kept.box == pytest.approx((x0 / 32, y0 / 32, x1 / 32, y1 / 32))
        box = inside(record, edited)
        seen = masks.box_xyxy(changed(record) & box)
        assert np.abs(np.array(seen) / 32 - edited.box).max() <= 1 / 32 + 1e-9


def test_boxes_overlap_at_most_as_configured(drawn):
    source = drawn[1]
    for index in range(2):
        record = open_source(replace(source.config, overlap=0.0, padding=0.05)).get(index)
        kept, edited = (region.box for region in record.edit.request.regions[1:])
        apart = kept[2] <= edited[0] or edited[2] <= kept[0] or kept[3] <= edited[1] or edited[3] <= kept[1]
        assert apart
    with pytest.raises(UserError, match="raise overlap, or lower padding"):
        open_source(replace(source.config, overlap=0.0, padding=1.0)).get(0)


def test_an_edit_is_a_pure_function_of_its_index(drawn):
    _, source, records = drawn
    again = open_source(source.config).get(3)
    assert np.array_equal(again.image, records[3].image) and np.array_equal(again.edit.picture, records[3].edit.picture)
    assert again.edit.request == records[3].edit.request and again.key == records[3].key
    assert len({record.key for record in records}) == len(records)
    assert not np.array_equal(source.get(3, epoch=1).image, records[3].image)


def test_task_all_alternates_between_the_three_tasks(drawn):
    task, _, records = drawn
    together = open_source(EditsData(num_objects=12)).get(3 * 2 + TASKS.index(task))
    assert np.array_equal(together.edit.picture, records[2].edit.picture)
    assert together.edit.request == records[2].edit.request and together.dataset == "edits_all"


def test_a_query_contains_the_request_and_the_stamp_covers_the_ground_truth(drawn):
    _, source, records = drawn
    record, query = EvaluationSet(source, 0)[1]
    assert query.edit == record.edit.request and query.to is None
    edit = records[0].edit
    other = edit.picture.copy()
    other[0, 0, 0] ^= 1
    regions = (*edit.request.regions[:2], Region("a", "b", (0.0, 0.0, 1.0, 1.0)))
    edits = [
        edit, edit._replace(picture=other), edit._replace(kept_rle=masks.encode(~masks.decode(edit.kept_rle))),
        edit._replace(request=edit.request._replace(regions=regions)), None,
    ]  # fmt: skip
    assert len({stamp(RecordList([replace(records[0], edit=one)])) for one in edits}) == len(edits)
    assert stamp(RecordList([replace(records[0], edit=edit._replace())])) == stamp(RecordList([records[0]]))


OPTIONS = {"task": "change", "split": "val", "num_objects": 4, "seed": 1, "size": 48, "padding": 0.0, "overlap": 0.1}


def seen(config):
    source = open_source(config)
    records = [source.get(index) for index in range(4)]
    digest = [hashlib.sha1(r.image.tobytes() + r.edit.picture.tobytes()).hexdigest() for r in records]
    return [len(source), digest, [(r.key, r.edit.request) for r in records]]


@pytest.mark.parametrize("option", [field.name for field in fields(EditsData) if field.name != "name"])
def test_no_option_is_dead(option):
    base = EditsData(num_objects=5)
    assert seen(base) != seen(replace(base, **{option: OPTIONS[option]}))
