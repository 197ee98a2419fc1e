"""Table 1 of paper 001, from composites to the printed table, with known distances."""

import json

import numpy as np
import pytest

from benchmarks import pseudo as bench
from tests.worlds import coco_world


class Known:
    """Replaces the networks' distances by the share of the true mask that is missed."""

    def __init__(self, *_, **__):
        pass

    def measure(self, query, prediction, truth, amodal):
        missed = (amodal & ~prediction.amodal).sum() / amodal.sum()
        assert truth.shape == query.image.shape and 0.15 < (amodal & ~query.modal).mean() / amodal.mean() < 0.85
        return {"clip": None, "dino": float(missed), "lpips": 0.5}


def data_of(folder):
    annotations, images = coco_world(folder)
    return [f"data.annotations=[{annotations}]", f"data.images=[{images}]", "data.occlude.scale_min=1",
            "data.occlude.scale_max=2"]  # fmt: skip


def test_from_composites_to_a_table(tmp_path, monkeypatch, capsys):
    data = data_of(tmp_path / "coco")
    monkeypatch.setattr(bench, "ObjectDistances", Known)
    options = ["--models", "modal", "telea", "--objects", "3", "--out", str(tmp_path / "out")]
    bench.main([*options, *(part for one in data for part in ("--set", one))])
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith("| model | clip, easy | dino, easy | lpips, easy | success, easy | clip, hard |")
    found = json.loads((tmp_path / "out/figures.json").read_text())
    assert found["modal"]["hard"]["success"] == 0 and found["modal"]["easy"]["dino"] is None  # masks only
    assert found["telea"]["easy"]["lpips"] == 0.5 and found["telea"]["easy"]["dino"] < found["telea"]["hard"]["dino"]
    assert lines[2].startswith("| modal | – | – | – | 0.000 |") and np.isfinite(found["telea"]["hard"]["success"])


def test_occlusion_rates_of_the_cases_are_those_of_the_paper(tmp_path):
    data = data_of(tmp_path / "coco")
    for case, low, high in (("easy", 0.2, 0.5), ("hard", 0.5, 0.8)):
        for record in bench.records_of(case, 4, data):
            rate = (record.amodal & ~record.modal).sum() / record.amodal.sum()
            assert rate == pytest.approx(np.clip(rate, low, high), abs=0.02), case
