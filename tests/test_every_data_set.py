"""Each published format, in both encodings if it has two, end to end through the command line."""

import json

import numpy as np
import pytest

from amodalseg import read_dataset
from amodalseg.cli import main
from amodalseg.config.schema import PUBLISHED
from amodalseg.metrics.counts import read_rows, row_key
from tests.engine.journeys import ROOT
from tests.worlds import WORLDS

TINY = [
    "model.window.size=32", "model.dn.dim=16", "model.sampler.steps=1", "loader.batch_size=2", "trainer.max_steps=2",
    "optim.warmup_steps=0", "checkpoint.every_steps=2", "checkpoint.val_every_steps=2", "log.every_steps=1",
    "log.pictures=1", "trainer.progress=false", "trainer.accelerator=cpu", "trainer.devices=1", "val.num_objects=2",
]  # fmt: skip


@pytest.fixture(scope="module", params=sorted(WORLDS))
def world(request, tmp_path_factory):
    return WORLDS[request.param](tmp_path_factory.mktemp(request.param) / "data")


def sections(world, *, out):
    """The sections data and val of a configuration, as arguments."""
    options = [f"{section}.{option}" for section in ("data", "val") for option in world.options]
    return [
        f"data.name={world.name}", f"data.root={world.root}", f"data.split={world.train}",
        f"val.name={world.name}", f"val.root={world.root}", f"val.split={world.test}", *options, f"out={out}",
    ]  # fmt: skip


def read(world, split=None, **options):
    given = dict(option.split("=", 1) for option in world.options)
    return read_dataset(world.name, world.root, split=split or world.test, **given, **options)


def test_every_published_set_has_a_world():
    names = {name.split("_20")[0].removesuffix("_raw").removesuffix("_prepared") for name in WORLDS}
    assert names == set(PUBLISHED)


def test_read(world):
    for split in (world.train, world.test):
        records = read(world, split)
        assert len({record.key for record in records}) == len(records) >= 3
        assert {(record.dataset, record.split) for record in records} == {(world.name, split)}
        hidden = 0
        for record in records:
            assert record.modal.shape == record.amodal.shape == (record.height, record.width)
            assert record.occlusion_rate == pytest.approx(record.occluded.sum() / max(1, record.amodal.sum()))
            assert ("empty_modal" in record.flags) == (not record.modal.any())
            assert ("fully_visible" in record.flags) == (not record.occluded.any())
            hidden += bool(record.occluded.any())
        assert hidden >= 2


def test_check_and_look(world, tmp_path, capsys):
    picture = tmp_path / "look.png"
    arguments = ["data", "check", world.name, str(world.root), *world.options, "--split", world.test, "--subset"]
    assert main([*arguments, "--draw", "4", str(picture)]) == 0, capsys.readouterr()
    assert picture.stat().st_size > 1000
    assert main(["data", "stats", world.name, str(world.root), *world.options, "--split", world.test]) == 0
    assert f"{len(read(world))}" in capsys.readouterr().out


def test_convert_and_read_back(world, tmp_path):
    out = tmp_path / "converted"
    arguments = ["data", "convert", world.name, str(world.root), *world.options, "--split", world.test]
    assert main([*arguments, "--out", str(out)]) == 0
    for kind in ("modal", "amodal"):
        assert {"images", "annotations"} <= set(json.loads((out / f"annotations/{world.test}_{kind}.json").read_text()))
    before = {record.key: record for record in read(world)}
    after = {record.key: record for record in read_dataset("coco_amodal", out, split=world.test)}
    assert before.keys() == after.keys()
    for key, record in before.items():
        other = after[key]
        assert np.array_equal(record.modal, other.modal) and np.array_equal(record.amodal, other.amodal), key
        for name in ("category", "is_stuff", "order", "raw_rate", "flags", "group", "modal_source"):
            assert getattr(record, name) == getattr(other, name), (key, name)


def test_shards_hold_the_same_objects(world, tmp_path):
    out = tmp_path / "shards"
    arguments = ["data", "shard", world.name, str(world.root), *world.options, "--split", world.test]
    assert main([*arguments, "--out", str(out)]) == 0
    before, after = read(world), read_dataset("shards", out)
    assert [record.key for record in before] == [record.key for record in after]
    for record, other in zip(before, after, strict=True):
        assert np.array_equal(record.modal, other.modal) and np.array_equal(record.amodal, other.amodal)


def test_train_and_evaluate(world, tmp_path, capsys):
    run, scores = tmp_path / "run", tmp_path / "scores"
    config = str(ROOT / "configs/experiment/synthetic_tiny.yaml")
    assert main(["train", config, *sections(world, out=run), *TINY]) == 0, capsys.readouterr().err
    options = [f"data.name={world.name}", f"data.root={world.root}", f"data.split={world.test}"]
    options += [f"data.{option}" for option in world.options]
    arguments = [f"models=[modal,{run}]", f"out={scores}", "report.html=false", "trainer.progress=false"]
    assert main(["eval", str(ROOT / "configs/eval/synthetic.yaml"), *options, *arguments]) == 0, capsys.readouterr().err
    rows = read_rows(scores / "objects.csv")
    asked = {record.key for record in read(world) if "empty_modal" not in record.flags}
    assert {row_key(row) for row in rows if row["model"] == "modal"} == asked
    for row in rows:
        assert row["model"] != "modal" or row["occ_inter"] == 0
