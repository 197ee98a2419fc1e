"""The benchmark of selection: positions of its clicks, and a table for drawn objects."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from tests.worlds import disc

spec = importlib.util.spec_from_file_location("benchmark_prompts", Path(__file__).parents[2] / "benchmarks/prompts.py")
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


def test_the_first_click_is_farthest_from_the_outline_and_all_lie_inside_and_far_apart():
    mask = disc(60, 100, 30, 30, 20, 20)
    mask[28:33, 45:95] = True  # a thin bar: no point of it is far from the outline
    points = program.points_in(mask, 3)
    assert np.hypot(points[0][0] - 30, points[0][1] - 30) <= 1.5
    assert all(mask[y, x] and x < 50 for x, y in points)
    gaps = [np.hypot(a[0] - b[0], a[1] - b[1]) for a in points for b in points if a != b]
    assert len(gaps) == 6 and min(gaps) > 11
    assert program.points_in(np.eye(1, dtype=bool), 3) == [(0, 0)] * 3


def test_the_benchmark_prints_its_table(tmp_path, capsys, monkeypatch):
    (tmp_path / "drawn.yaml").write_text("models: [modal]\ndata: {name: synthetic, size: 64, num_objects: 9}\n")
    out = tmp_path / "table.json"
    assert program.main([f"--data={tmp_path / 'drawn.yaml'}", "--objects=3", f"--out={out}"]) == 0
    told = json.loads(out.read_text())
    assert told["objects"] == 3 and set(told["table"]) == {
        f"grabcut, {kind}" for kind in ("box", "one point", "three points", "box and one point")
    }
    row = told["table"]["grabcut, one point"]
    assert row["iou"] == pytest.approx(np.mean(row["values"])) and 0 < row["iou"] <= 1
    assert f"| `grabcut` | one point | {100 * row['iou']:.1f}" in capsys.readouterr().out
