"""The data benchmark runs, compares the same work, and reports correct figures. No assertions on timings."""

import numpy as np
import pytest
import yaml

from amodalseg.config.schema import ShardsData
from amodalseg.data.open import open_source
from benchmarks import data as program
from tests.worlds import coco_world


def test_the_quick_benchmark_prints_its_tables(capsys):
    assert program.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line.startswith("| ")}
    for way in ("webdataset", "loose files", "shards"):
        assert any(line.startswith(f"| {way} ") for line in lines)
    assert float(cells["webdataset"][0]) > 0
    opened = [line.split("|") for line in lines if "| 50 |" in line]
    assert [row[1].strip() for row in opened] == ["loose files", "shards"]
    assert all(float(row[4]) > 0 and float(row[6]) > 0 for row in opened)
    parts = [cells[stage] for stage in ("read bytes", "decode pictures", "masks, json", "crop", "augment", "collate")]
    shares = np.array([[float(cell.split()[0]) for cell in row] for row in [*parts, cells["the rest"]]])
    assert (shares > 0).all()
    together = [float(cell) for cell in cells["together"]]
    np.testing.assert_allclose(shares.sum(axis=0), together, atol=0.01)


def test_all_ways_give_the_same_samples(tmp_path):
    program.write_set(tmp_path, 8)
    index = {record.key: i for i, record in enumerate(map(open_source_shards(tmp_path).get, range(7)))}
    assert len(index) == 7  # the eighth is in the validation split
    expected = program.training_set(open_source_shards(tmp_path))
    for name, batches in program.open_ways(tmp_path, 7).items():
        batch = next(batches)
        assert sorted(batch.keys) == sorted(index), name
        for image, stack, key in zip(batch.image, batch.masks, batch.keys, strict=True):
            sample = expected[(0, index[key])]
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), sample.image, name)
            np.testing.assert_array_equal(stack.numpy(), sample.masks, name)


def open_source_shards(folder):
    return open_source(ShardsData(root=str(folder / "shards")))


def test_the_time_of_a_stage_excludes_the_stages_it_calls(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr(program.time, "perf_counter", lambda: next(clock))
    stages = program.Stages()
    inside = stages.timed("inside", lambda: "result")
    assert stages.timed("outside", inside)() == "result"
    assert stages.seconds == pytest.approx({"inside": 3.0, "outside": 7.0})


def test_scenes_are_drawn_in_the_window_alone_and_as_whole_pictures(tmp_path, capsys):
    annotations, photos = coco_world(tmp_path / "world")
    config = tmp_path / "scenes.yaml"
    scenes = {
        "name": "scenes", "annotations": [str(annotations)], "images": [str(photos)], "occlude": {"min_area": 0.001},
    }  # fmt: skip
    val = {"name": "synthetic", "split": "val"}
    config.write_text(yaml.safe_dump({"model": {"name": "conddiff_amo"}, "data": scenes, "val": val}))
    assert program.main(["--scenes", str(config), "--size", "32", "--objects", "8", "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in out.splitlines() if line.startswith("| ")}
    for way in ("window alone", "whole picture"):
        assert float(rows[way][0]) > 0
    assert "hosts: world 100 % of" in out
    with pytest.raises(SystemExit, match="not on scenes"):
        program.main(["--scenes", "configs/experiment/synthetic_tiny.yaml"])
