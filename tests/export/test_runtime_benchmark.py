"""The benchmark of runtimes runs, and measures its variants in alternation."""

import csv
import sys

import numpy as np

from benchmarks import runtime as program


def test_the_program_prints_a_row_for_each_runtime(exported, monkeypatch, capsys, tmp_path):
    weights, out = tmp_path / "small.safetensors", tmp_path / "results.csv"
    exported.model.save(weights)
    given = [str(weights), str(exported.onnx), "--batches", "1", "2", "--repeats", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["runtime.py", *given])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split(" | ")[0][2:]: line.split("|")[2:-1] for line in lines if line.startswith("| ")}
    assert [*rows][:5] == ["way", "PyTorch", "ONNX Runtime", "ONNX Runtime, int8", "OpenVINO"]
    for way in ("PyTorch", "ONNX Runtime", "OpenVINO"):
        steps, one, two, speed_up, same = map(float, rows[way][:5])
        assert steps == 1 and one > 0 and two > 0 and speed_up > 0
        assert same > 99.9
    assert float(rows["ONNX Runtime, int8"][4]) < 100, "nothing was rounded"
    kept = list(csv.DictReader(out.open()))
    assert [(row["way"], row["batch"]) for row in kept][:4] == [
        ("PyTorch", "1"), ("PyTorch", "2"), ("ONNX Runtime", "1"), ("ONNX Runtime", "2"),
    ]  # fmt: skip
    assert all(row["device"] and row["openvino"] and float(row["ms"]) > 0 for row in kept)


def test_runtimes_are_measured_in_alternation():
    order = []
    ways = [lambda: order.append("a") or np.zeros(1), lambda: order.append("b") or np.ones(1)]
    seconds, predictions = program.measure(ways, repeats=3)
    assert "".join(order) == "ab" + 3 * "aabb"
    assert len(seconds) == 2 and [float(prediction[0]) for prediction in predictions] == [0, 1]
