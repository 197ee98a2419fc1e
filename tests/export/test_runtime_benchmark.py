"""The benchmark of the exported file runs, and compares equal things."""

import sys

import numpy as np

from benchmarks import runtime as program


def test_the_program_prints_a_row_for_each_batch(exported, monkeypatch, capsys, tmp_path):
    weights = tmp_path / "small.safetensors"
    exported.model.save(weights)
    given = [str(weights), str(exported.onnx), "--batches", "1", "2", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["runtime.py", *given])
    program.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [int(row[0]) for row in rows] == [1, 2]
    for row in rows:
        torch_ms, onnx_ms, ratio, same = map(float, row[1:])
        assert torch_ms > 0 and onnx_ms > 0 and ratio > 0
        assert same > 99.9


def test_ways_run_in_turns():
    order = []
    ways = [lambda: order.append("a") or np.zeros(1), lambda: order.append("b") or np.ones(1)]
    seconds, predictions = program.measure(ways, repeats=3)
    assert "".join(order) == "abababab"
    assert len(seconds) == 2 and [float(prediction[0]) for prediction in predictions] == [0, 1]
