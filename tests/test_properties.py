"""Properties on generated inputs: masks and their encodings, windows, polygons, files read back, resuming."""

import itertools
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from amodalseg import masks
from amodalseg.config.load import load_config, to_yaml
from amodalseg.config.schema import CocoAmodalData, ModelOnly, WindowConfig
from amodalseg.data.data_module import RunSampler
from amodalseg.data.pack.convert import write_coco_amodal
from amodalseg.data.pack.shard_writer import write_shards
from amodalseg.data.pack.shards import Shards
from amodalseg.data.readers.coco_amodal import read_coco_amodal
from amodalseg.data.source import PackedRecords, RecordList
from amodalseg.data.window import Window, crop_image, crop_mask, object_window, paste, paste_mask
from amodalseg.metrics.counts import COLUMNS, FLOAT_COLUMNS, TEXT_COLUMNS, read_rows, write_rows
from amodalseg.types import AmodalRecord
from tests.worlds.drawing import run_lengths

SIDES = st.integers(1, 40)
any_mask = arrays.arrays(bool, st.tuples(SIDES, SIDES))
any_window = st.builds(
    Window, top=st.integers(-30, 30), left=st.integers(-30, 30), height=st.integers(1, 70), width=st.integers(1, 70),
    size=st.sampled_from([8, 16, 31, 32]),
)  # fmt: skip
# text that csv and json files must preserve: no control characters, no surrogates
words = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8)


@st.composite
def boxes(draw, height, width):
    """A box inside a picture: (x0, y0, x1, y1)."""
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))


def filled(height, width, box):
    x0, y0, x1, y1 = box
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


# ------------------------------------------------------------------------------------------------------- run lengths


@given(any_mask)
def test_a_mask_round_trips_through_its_run_lengths(mask):
    rle = masks.encode(mask)
    assert np.array_equal(masks.decode(rle), mask) and masks.area(rle) == mask.sum()
    x, y, width, height = masks.box_xywh(rle)
    assert masks.box_xyxy(mask) == ((x, y, x + width, y + height) if mask.any() else None)
    text = {"size": list(mask.shape), "counts": rle["counts"].decode()}
    for form in (rle, text, json.loads(json.dumps(text)), run_lengths(mask)):
        assert np.array_equal(masks.decode(masks.from_segmentation(form, 1, 1)), mask)


@given(st.data(), SIDES, SIDES)
def test_union_and_iou_equal_those_of_arrays(data, height, width):
    first, second = (data.draw(arrays.arrays(bool, (height, width))) for _ in range(2))
    one, other = masks.encode(first), masks.encode(second)
    assert np.array_equal(masks.decode(masks.union([one, other])), first | second)
    expected = (first & second).sum() / max(1, (first | second).sum())
    assert masks.ious([one], [other])[0, 0] == pytest.approx(expected)


@given(any_mask, st.data())
def test_run_lengths_of_another_number_of_pixels_are_refused(mask, data):
    counts = run_lengths(mask)["counts"]
    place, more = data.draw(st.integers(0, len(counts) - 1)), data.draw(st.integers(1, 50))
    counts[place] += more
    for broken in (counts, [-1, *counts], counts[:-1] if counts[-1] != more else counts):
        with pytest.raises(ValueError, match=r"an RLE's runs"):
            masks.from_segmentation({"size": list(mask.shape), "counts": broken}, 1, 1)


# ----------------------------------------------------------------------------------------------------------- polygons


@given(st.data(), SIDES, SIDES)
def test_polygons_of_boxes_are_the_boxes_and_several_are_united(data, height, width):
    some = data.draw(st.lists(boxes(height, width), min_size=1, max_size=3))
    rings = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in some]
    expected = np.logical_or.reduce([filled(height, width, box) for box in some])
    assert np.array_equal(masks.decode(masks.from_segmentation(rings, height, width)), expected)


@given(st.data())
def test_a_polygon_moves_with_its_points_and_stays_in_its_box(data):
    points = data.draw(arrays.arrays(np.float64, (data.draw(st.integers(3, 8)), 2), elements=st.integers(0, 200)))
    points = points / 10 + 5  # tenths of pixels, from 5 to 25
    x, y = data.draw(st.integers(0, 14)), data.draw(st.integers(0, 14))
    here, there = (
        masks.decode(masks.from_segmentation([(points + shift).ravel().tolist()], 40, 40)) for shift in (0, (x, y))
    )
    assert np.array_equal(np.roll(here, (y, x), axis=(0, 1)), there)
    rows, columns = np.nonzero(here)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    assert ((rows >= top - 1) & (rows <= bottom + 1) & (columns >= left - 1) & (columns <= right + 1)).all()


# ------------------------------------------------------------------------------------------------------------ windows


@given(st.data(), st.integers(4, 60), st.integers(4, 60), st.sampled_from(["square", "c2f"]))
def test_the_window_of_an_object_contains_all_visible_pixels(data, height, width, kind):
    modal = filled(height, width, data.draw(boxes(height, width)))
    window = object_window(modal, WindowConfig(size=32, kind=kind))
    x0, y0, x1, y1 = masks.box_xyxy(modal)
    assert window.left <= x0 and window.top <= y0
    assert window.left + window.width >= x1 and window.top + window.height >= y1
    if kind == "c2f":
        assert window.left >= 0 and window.left + window.width <= width
        assert window.top >= 0 and window.top + window.height <= height


@given(any_window, any_mask, st.booleans())
def test_pasted_values_lie_in_the_window_and_in_their_range(window, mask, even):
    values = np.random.default_rng(window.size).random((window.size, window.size)).astype(np.float32)
    values = np.ones_like(values) if even else values  # equal values, whose averages may be rounded above 1
    back = paste(values, window, *mask.shape)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    inside = (rows >= window.top) & (rows < window.top + window.height)
    inside = inside & (columns >= window.left) & (columns < window.left + window.width)
    assert back.shape == mask.shape and not back[~inside].any()
    assert (back[inside] >= values.min()).all() and (back[inside] <= values.max()).all()
    for threshold in (0.0, 0.25, 0.5, float(values[0, 0])):
        assert np.array_equal(paste_mask(values, window, *mask.shape, threshold), back > threshold)


@given(st.integers(-30, 30), st.integers(-30, 30), any_mask)
def test_cropping_and_pasting_without_resizing_is_exact(top, left, mask):
    window = Window(top, left, 32, 32, 32)
    kept = np.zeros_like(mask)
    kept[max(0, top) : max(0, top + 32), max(0, left) : max(0, left + 32)] = True
    back = paste_mask(crop_mask(mask, window).astype(np.float32), window, *mask.shape, 0.5)
    assert np.array_equal(back, mask & kept)
    image = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 200
    assert np.array_equal(crop_image(image, window)[..., 0] == 200, crop_mask(mask, window))


@given(any_window, any_mask, st.integers(0, 5), st.integers(0, 5))
def test_a_window_moves_with_its_photo(window, mask, down, right):
    moved = np.pad(mask, ((down, 0), (right, 0)))
    there = Window(window.top + down, window.left + right, window.height, window.width, window.size)
    assert np.array_equal(crop_mask(mask, window), crop_mask(moved, there))


# ------------------------------------------------------------------------------------------- files that are read back


@st.composite
def records(draw):
    """A few objects of one drawn photo, with all fields that files store."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    image = np.full((height, width, 3), draw(st.integers(0, 255)), np.uint8)
    image_id, split, several = draw(words), draw(st.sampled_from(["train", "val"])), draw(st.integers(1, 3))
    found = []
    for number in range(several):
        amodal = draw(arrays.arrays(bool, (height, width)))
        modal = amodal & draw(arrays.arrays(bool, (height, width)))
        name = draw(words)
        found.append(
            AmodalRecord(
                "world", split, image_id, f"{number}", image, masks.encode(modal), masks.encode(amodal),
                category_id=sum(map(ord, name)), category=name, order=draw(st.none() | st.integers(1, 9)),
                is_stuff=draw(st.booleans()), occluder_rle=masks.encode(~amodal) if draw(st.booleans()) else None,
            )
        )  # fmt: skip
    return found


def told(record):
    """The fields of a record that every file format keeps."""
    names = ("modal_rle", "amodal_rle", "occluder_rle", "category", "order", "is_stuff")
    return {name: getattr(record, name) for name in names}


@settings(max_examples=15)
@given(records())
def test_objects_round_trip_through_each_kind_of_file(found):
    source = RecordList(found)
    with tempfile.TemporaryDirectory() as folder:
        write_coco_amodal(source, Path(folder) / "coco")
        config = CocoAmodalData(root=f"{folder}/coco", split=found[0].split)
        coco = read_coco_amodal(config)
        write_shards(source, Path(folder) / "shards", about={})
        shards = Shards(Path(folder) / "shards")
        packed = PackedRecords(found)
        for number, record in enumerate(found):
            for other in (coco[number], shards.get(number), packed.get(number)):
                assert told(other) == told(record)
            assert shards.get(number).key == packed.get(number).key == record.key


@st.composite
def rows(draw):
    row = {name: draw(words) for name in TEXT_COLUMNS}
    for name in COLUMNS:
        if name in FLOAT_COLUMNS:
            row[name] = draw(st.integers(0, 9999)) / 10_000
        elif name not in TEXT_COLUMNS:
            row[name] = draw(st.integers(0, 10**7))
    return row


@given(st.lists(rows(), max_size=3, unique_by=lambda row: (row["object_id"], row["model"])))
def test_rows_round_trip_through_objects_csv(found):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "objects.csv"
        write_rows(path, found)
        assert read_rows(path) == [{name: row[name] for name in COLUMNS} for row in found]


@settings(max_examples=6)
@given(
    st.floats(-50, 50), st.floats(0, 1), st.integers(1, 100), st.booleans(), st.sampled_from(["late", "early"]),
    st.sampled_from([32, 64, 96, 256]),
)  # fmt: skip
def test_a_configuration_round_trips_through_its_yaml_file(shift, threshold, steps, union, side, size):
    options = {
        "name": "conddiff_amo", "gauss": {"shift": shift}, "window": {"size": size}, "sampler": {"steps": steps},
        "post": {"threshold": threshold, "union_visible": union}, "vgpe": {"side": side},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first.yaml", Path(folder) / "second.yaml"
        first.write_text(json.dumps({"model": options}))  # json is valid yaml
        config = load_config(ModelOnly, first)
        second.write_text(to_yaml(config))
        assert load_config(ModelOnly, second) == config
    found = asdict(config.model)
    for section, given_options in options.items():
        if section != "name":
            assert {key: found[section][key] for key in given_options} == given_options


# ----------------------------------------------------------------------------------------------------------- resuming


def stream(objects, batch, total, seed, rank=0, world=1, start=0):
    return list(RunSampler(objects, batch, total, seed, rank, world, lambda: start, lambda number: 8 * number))


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 4), st.integers(0, 12), st.integers(0, 99), st.data())
def test_a_resumed_run_continues_the_same_stream_of_objects(objects, batch, world, total, seed, data):
    start, rank = data.draw(st.integers(0, total)), data.draw(st.integers(0, world - 1))
    whole = stream(objects, batch, total, seed, rank, world)
    assert stream(objects, batch, total, seed, rank, world, start) == whole[start:]
    # the concatenated batches of all ranks are the batch of a single process
    ranks = [stream(objects, batch, total, seed, number, world) for number in range(world)]
    alone = stream(objects, batch * world, total, seed)
    assert [list(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)] == alone
    # each complete epoch contains every object once
    keys = [(epoch, index) for part in alone for epoch, index, _ in part]
    assert len(set(keys)) == len(keys) == total * batch * world
    for epoch in range(len(keys) // objects):
        assert sorted(index for of, index in keys if of == epoch) == list(range(objects))
