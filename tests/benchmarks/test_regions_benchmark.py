"""The benchmark of regions: its measures against hand-computed values, and a table from a small random prior."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg.config.schema import WordPriorConfig
from amodalseg.models.inpainting.backends.word_files import save_word_prior
from amodalseg.models.inpainting.backends.word_prior import build_network

pytest.importorskip("diffusers")
spec = importlib.util.spec_from_file_location("benchmark_regions", Path(__file__).parents[2] / "benchmarks/regions.py")
regions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(regions)

SMALL = WordPriorConfig(size=16, channels=[16, 32], head=8, words=16, length=16)


def halves(left, right):
    picture = np.full((16, 28, 3), 128, np.uint8)
    picture[4:12, 2:10], picture[4:12, 18:26] = left, right
    return picture


def test_placed_needs_each_thing_in_its_own_half():
    red, blue = (230, 10, 10), (20, 60, 220)
    pair = ("red star", "blue fish")
    assert regions.placed(halves(red, blue), pair)
    assert not regions.placed(halves(blue, red), pair)
    assert not regions.placed(halves(red, red), pair)
    assert not regions.placed(halves(red, (128, 128, 128)), pair)


def test_measures():
    one = np.zeros((2, 2, 3), np.uint8)
    other = one.copy()
    other[0, 0] = 51
    where = np.array([[True, False], [False, True]])
    assert regions.psnr(one, other, where) == pytest.approx(10 * np.log10(255**2 / (51**2 / 2)))
    assert regions.psnr(one, other, ~where) == 60
    assert regions.vivid(halves((230, 10, 10), (90, 90, 90))).sum() == 64


def test_pairs_have_two_colours_and_are_determined_by_the_seed():
    pairs = regions.pairs_of(20, 0)
    assert all(one.split()[0] != other.split()[0] for one, other in pairs)
    assert pairs == regions.pairs_of(20, 0) != regions.pairs_of(20, 1)


def test_the_benchmark_prints_its_table(tmp_path, capsys):
    torch.manual_seed(0)
    save_word_prior(tmp_path / "small", build_network(SMALL), SMALL.length, {"step": 7})
    arguments = ["--pairs", "2", "--photos", "1", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert regions.main([str(tmp_path / "small"), *arguments]) == 0
    told = json.loads((tmp_path / "out/regions.json").read_text())
    assert told["pairs"] == 2 and all(np.isfinite(row).all() for row in told["values"].values())
    assert set(told["table"]) == set(told["values"]) and "both in their boxes, regions, %" in told["table"]
    assert capsys.readouterr().out.startswith("2 pairs, 2 steps, guidance 3, seed 0\n")


def test_a_missing_prior_is_refused(capsys):
    assert regions.main(["nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
