"""The prior's benchmark runs, and its figures match its rows."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg.config.schema import InpaintingPriorConfig
from amodalseg.models.inpainting.backends.prior import build_unet, save_prior
from tests.worlds import coco_world

pytest.importorskip("diffusers")
ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("benchmark_prior", ROOT / "benchmarks/prior.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@pytest.fixture
def world(tmp_path):
    annotations, images = coco_world(tmp_path / "coco")
    return [f"val.annotations=[{annotations}]", f"val.images=[{images}]", "val.max_contact=1"]


def test_from_a_prior_to_a_table_and_pictures(world, tmp_path, capsys):
    torch.manual_seed(0)
    save_prior(tmp_path / "small", build_unet(InpaintingPriorConfig(size=16, channels=[8, 16], head=8)), {})
    config = ROOT / "configs/experiment/inpainting_prior_cpu.yaml"
    options = ["--data", str(config), "--objects", "7", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "o")]
    assert bench.main([str(tmp_path / "small"), *options, *world]) == 0
    written = json.loads((tmp_path / "o/prior.json").read_text())
    rows, table = written["rows"], written["table"]
    assert len(rows) == written["objects"] <= 7 and (tmp_path / "o/prior.png").stat().st_size > 1000
    for name, key in bench.COMPLETIONS.items():
        ious = [100 * row[f"{key}inter"] / row[f"{key}union"] for row in rows]
        assert table[name][0] == pytest.approx(np.mean(ious))
    assert table["prior - telea"][0] == pytest.approx(table["prior"][0] - table["telea"][0])
    assert "IoU of the hidden half" in capsys.readouterr().out


def test_telea_extends_the_surroundings_into_the_hole(world):
    hole, mask = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12], hole[:, 8:] = 1, 1
    picture = np.full((16, 16, 3), 128, np.uint8)
    picture[mask > 0] = (250, 0, 0)
    case = bench.PriorSample(picture, hole, mask, "key", np.full_like(picture, 128))
    counts = bench.telea_counts(case)
    assert 0 < counts["telea_inter"] <= 32 <= counts["telea_union"]
    away = bench.PriorSample(np.full_like(picture, 128), hole, mask, "key", np.full_like(picture, 128))
    assert bench.telea_counts(away) == {"telea_inter": 0, "telea_union": 32}


def test_an_interval_contains_the_mean():
    mean, low, high = bench.interval(np.arange(100.0))
    assert mean == 49.5 and 40 < low < mean < high < 60


def test_a_missing_prior_is_reported_in_one_line(capsys):
    assert bench.main(["nothing"]) == 2
    assert "there is no inpainting prior 'nothing'" in capsys.readouterr().err
