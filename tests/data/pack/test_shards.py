"""Shards: the same objects, samples and evaluation rows as from their source; resuming; the webdataset library."""

import dataclasses
import hashlib
import itertools
import json
import tarfile

import numpy as np
import pytest
import torch
import webdataset
from torch.utils.data import DataLoader

from amodalseg import masks
from amodalseg.cli import main
from amodalseg.config.schema import (
    AugmentConfig,
    CocoaData,
    CocoOccludeData,
    Pix2gestaltData,
    ShardsData,
    SyntheticData,
    WindowConfig,
)
from amodalseg.data.data_module import RunSampler, collate
from amodalseg.data.dataset import EvaluationSet, TrainingSet
from amodalseg.data.images import load_image
from amodalseg.data.open import open_source
from amodalseg.data.pack.shard_writer import write_shards
from amodalseg.data.record_pictures import record_image
from amodalseg.data.source import RecordList, prompted
from amodalseg.engine.evaluation.evaluate import evaluate
from amodalseg.models import load_model
from amodalseg.types import AmodalRecord
from tests.worlds import coco_world, cocoa_world, pix2gestalt_world

WINDOW = WindowConfig(size=64)


def cocoa(folder):
    return CocoaData(root=str(cocoa_world(folder)))


def synthetic(folder):
    return SyntheticData(num_objects=5, size=64, unoccluded=0.3)


def occlude(folder):
    annotations, images = coco_world(folder)
    return CocoOccludeData(annotations=[str(annotations)], images=[str(images)], num_objects=5)


def pix2gestalt(folder):
    return Pix2gestaltData(root=str(pix2gestalt_world(folder, 6)), split="train")


SOURCES = {make.__name__: make for make in (cocoa, synthetic, occlude, pix2gestalt)}


@pytest.fixture(params=SOURCES)
def pair(request, tmp_path):
    """A source and the folder of its shards."""
    source = open_source(SOURCES[request.param](tmp_path / "data"))
    write_shards(source, tmp_path / "shards", about={"name": request.param}, size=5000)
    return source, tmp_path / "shards"


@pytest.fixture
def packed(tmp_path):
    """One small set of two shards."""
    write_shards(open_source(cocoa(tmp_path / "data")), tmp_path / "shards", about={}, size=1000)
    return tmp_path / "shards"


def opened(folder, **options):
    return open_source(ShardsData(root=str(folder), **options))


def plain(record):
    """A record without the locations of its pictures."""
    fields = {spec.name: getattr(record, spec.name) for spec in dataclasses.fields(AmodalRecord)}
    del fields["image"], fields["whole_rgb"]
    return fields


# ----------------------------------------------------------------------------------------- the same as their source


def test_objects_equal_those_of_the_source(pair):
    source, folder = pair
    shards = opened(folder)
    assert len(shards) == len(source) > 3
    for i in range(len(source)):
        one, other = source.get(i), shards.get(i)
        assert plain(one) == plain(other)
        assert np.array_equal(record_image(one), record_image(other))
        assert (one.whole_rgb is None) == (other.whole_rgb is None)
        if one.whole_rgb is not None:
            whole = one.whole_rgb if isinstance(one.whole_rgb, np.ndarray) else load_image(one.whole_rgb)
            assert np.array_equal(whole, load_image(other.whole_rgb))


def test_training_samples_equal_those_of_the_source(pair):
    source, folder = pair
    one, other = (
        TrainingSet(prompted(data)[0], WINDOW, AugmentConfig(modal_jitter=0.5), 3, False)
        for data in (source, opened(folder))
    )
    assert len(one) == len(other)
    for key in itertools.product(range(2), range(len(one))):
        for a, b in zip(one[key], other[key], strict=True):
            np.testing.assert_array_equal(a, b)


def test_evaluation_rows_equal_those_of_the_source(pair):
    source, folder = pair
    model = load_model("convex_hull", device="cpu")
    rows = []
    for data in (source, opened(folder)):
        found = evaluate(model, [data.get(i) for i in range(len(data))])["rows"]
        rows.append(([{**row, "seconds": 0, "peak_memory": 0} for row in found], EvaluationSet(data, 0).num_unprompted))
    assert rows[0] == rows[1] and len(rows[0][0]) > 3


def test_a_photo_is_packed_once_and_byte_by_byte(tmp_path):
    config = cocoa(tmp_path / "data")
    write_shards(open_source(config), tmp_path / "shards", about={})
    with tarfile.open(tmp_path / "shards/shard-000000.tar") as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    photos = {open_source(config).get(i).image.read_bytes() for i in range(len(open_source(config)))}
    assert len(photos) == 2 and {data for name, data in contents.items() if name.endswith(".jpg")} == photos
    assert sorted(contents) == ["000000000.jpg", "000000000.json", "000000001.jpg", "000000001.json"]


def test_packing_twice_gives_the_same_bytes(pair, tmp_path):
    source, folder = pair
    write_shards(source, tmp_path / "again", about={"name": folder.parent.name}, size=5000)
    names = sorted(path.name for path in folder.iterdir() if path.name != "shards.json")
    assert len(names) > 2
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_shards_can_be_packed_again(packed, tmp_path):
    write_shards(opened(packed), tmp_path / "again", about={})
    again = opened(tmp_path / "again")
    assert [plain(again.get(i)) for i in range(len(again))] == [plain(opened(packed).get(i)) for i in range(len(again))]


def test_all_fields_are_kept(tmp_path):
    mask = np.zeros((40, 40), bool)
    mask[10:20, 5:30] = True
    rle, other = masks.encode(mask), masks.encode(~mask)
    record = AmodalRecord(
        "set", "part", "photo", "1", np.full((40, 40, 3), 7, np.uint8), rle, other, category_id=np.int64(3),
        category="Tür", is_stuff=True, order=4, raw_rate=np.float64(1 / 3), modal_source="net", modal_score=0.1,
        gt_modal_rle=other, occluder_rle=rle, unknown_rle=other, flags=frozenset({"crowd", "touches_border"}),
        group={"video": "v", "frame": 3}, extra={"area": np.float32(2.5), "bbox": [1, 2.5, 3, 4]},
    )  # fmt: skip
    write_shards(RecordList([record]), tmp_path / "shards", about={})
    assert plain(opened(tmp_path / "shards").get(0)) == plain(record)


def test_whole_pictures_can_be_left_out(tmp_path):
    write_shards(open_source(synthetic(None)), tmp_path / "shards", about={}, whole=False)
    assert opened(tmp_path / "shards").get(0).whole_rgb is None


def test_objects_without_visible_pixels_are_left_out_and_counted(packed):
    shards = opened(packed)
    hidden = [i for i in range(len(shards)) if "empty_modal" in shards.get(i).flags]
    assert len(hidden) == 2
    source, count = prompted(shards)
    assert (len(source), count) == (len(shards) - 2, 2)
    assert prompted(opened(packed, num_objects=len(shards) - 1))[1] in (1, 2)
    assert all("empty_modal" not in source.get(i).flags for i in range(len(source)))


# ------------------------------------------------------------------------------------------------- order, resuming


def batches(source, *, num_workers, start=0, stop=7):
    """Batches ``start`` to ``stop`` of a run of seven."""
    data = TrainingSet(source, WINDOW, AugmentConfig(), 5, False)
    sampler = RunSampler(len(data), 2, 7, 5, 0, 1, lambda: start, lambda _: 64)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=num_workers, collate_fn=collate)
    return list(itertools.islice(loader, stop - start))


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_a_resumed_run_gets_the_batches_of_an_uninterrupted_one(packed, before, after):
    source = prompted(opened(packed))[0]
    whole = batches(source, num_workers=0)
    stop = 3
    assert 2 * stop % len(source) and len(source) < 2 * 7  # in the middle of an epoch, and several epochs in the run
    parts = batches(source, num_workers=before, stop=stop)
    parts += batches(prompted(opened(packed))[0], num_workers=after, start=stop)
    assert len(parts) == len(whole) == 7
    for one, other in zip(whole, parts, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.image, other.image) and torch.equal(one.masks, other.masks)
    assert len({key for batch in whole for key in batch.keys}) == len(source)


# -------------------------------------------------------------------------------------------------------- webdataset


def test_the_webdataset_library_reads_the_same_objects(pair):
    source, folder = pair
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    assert len(urls) > 1
    pipeline = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8")
    number = 0
    for place, sample in enumerate(pipeline):
        assert sample["__key__"] == f"{place:09d}"
        photo = next(sample[key] for key in ("jpg", "png") if key in sample)
        for position, entry in enumerate(sample["json"]):
            record = source.get(number)
            assert (entry["number"], entry["place"]) == (number, position)
            keys = "dataset", "split", "image_id", "object_id", "category", "order", "raw_rate", "group", "extra"
            assert all(entry[key] == getattr(record, key) for key in keys)
            rle = entry["modal_rle"]
            assert np.array_equal(masks.decode({**rle, "counts": rle["counts"].encode()}), record.modal)
            pixels = record_image(record)
            # JPEG decoders differ in rounding; PNG is lossless
            assert np.abs(photo.astype(int) - pixels).max() <= (0 if "png" in sample else 4)
            if record.whole_rgb is not None:
                assert sample[f"whole{position}.png"].shape == pixels.shape
            number += 1
    assert number == len(source)


# ----------------------------------------------------------------------------------------------------- command line


def test_the_command(tmp_path, capsys):
    root, out = pix2gestalt_world(tmp_path / "data", 6), tmp_path / "shards"
    arguments = ["data", "shard", "pix2gestalt", str(root), "num_objects=4", "--split", "train", "--out", str(out)]
    assert main([*arguments, "--size", "1", "--no-whole"]) == 0
    assert "4 objects in 4 photos, 1 shards" in capsys.readouterr().out
    summary = json.loads((out / "shards.json").read_text())
    assert summary["source"]["name"] == "pix2gestalt" and summary["source"]["num_objects"] == 4
    assert summary["splits"] == ["train"] and (summary["objects"], summary["samples"]) == (4, 4)
    shard = out / summary["shards"][0]["name"]
    assert hashlib.sha256(shard.read_bytes()).hexdigest() == summary["shards"][0]["sha256"]
    assert main(arguments) == 2
    assert "already holds a packed data set" in capsys.readouterr().err


def test_drawn_sets_are_packed_as_the_first_epoch_draws_them(tmp_path, capsys):
    out = tmp_path / "shards"
    assert main(["data", "shard", "synthetic", "num_objects=2", "size=48", "fresh=true", "--out", str(out)]) == 0
    assert "data.fresh is ignored" in capsys.readouterr().out
    drawn = open_source(SyntheticData(num_objects=2, size=48)).get(1)
    assert np.array_equal(record_image(opened(out).get(1)), drawn.image)
    assert main(["data", "shard", "synthetic", "num_objects=2", "size=48", "--out", "/dev/null/x"]) == 2
