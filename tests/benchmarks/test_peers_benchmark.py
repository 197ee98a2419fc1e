"""The comparison with other models: each row is measured in a separate process."""

import csv
import sys

import pytest

from benchmarks import peers as program


def test_rows_are_printed_and_written_to_a_file(monkeypatch, capsys, tmp_path):
    out = tmp_path / "peers.csv"
    given = ["--row", "convex_hull", "--row", "conddiff_amo_lite (exp", "--repeats", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["peers.py", *given])
    program.main()
    rows = {row["what"]: row for row in csv.DictReader(out.open())}
    assert [*rows] == ["conddiff_amo_lite (exported)", "convex_hull"]
    for row in rows.values():
        assert float(row["ms"]) > 0 and 0.05 < float(row["gb"]) < 3
    printed = capsys.readouterr().out
    assert all(f"| {name} | " in printed for name in rows)
    assert 4 < float(rows["conddiff_amo_lite (exported)"]["parameters"]) < 5


def test_an_unknown_row_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["peers.py", "--row", "unheard"])
    with pytest.raises(SystemExit):
        program.main()
    assert "no row begins with one of these names; there are conddiff_amo_lite (exported)" in capsys.readouterr().err


def test_the_time_of_one_evaluation_is_multiplied_by_their_number(monkeypatch):
    monkeypatch.setattr(program, "opened", lambda row, threads: (10**6, 100, 1, lambda: None))
    clock = iter(range(100))
    monkeypatch.setattr(program.time, "perf_counter", lambda: next(clock))
    found = program.measured("pix2gestalt", 1, 3)
    assert (found["parameters"], found["evaluations"], found["ms"]) == (1.0, 100, 100_000.0)
