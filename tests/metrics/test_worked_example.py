"""The four objects of docs/protocols.md, drawn again: its tables agree with the code."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.metrics.counts import count_object
from amodalseg.metrics.protocols import PROTOCOLS, score, unit_of
from amodalseg.predictions import Prediction
from amodalseg.report.table import in_unit
from amodalseg.types import AmodalRecord

PAGE = (Path(__file__).parents[2] / "docs/protocols.md").read_text()


def cells(start):
    """The cells of the table whose header line starts with ``start``, without the header."""
    lines = PAGE[PAGE.index(f"\n{start}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def drawn(text):
    x, y, width, height = map(int, re.findall(r"\d+", text)[:4])
    mask = np.zeros((20, 30), bool)
    mask[y : y + height, x : x + width] = True
    if "without pixel" in text:
        x, y = map(int, re.findall(r"\d+", text)[4:])
        mask[y, x] = False
    return mask


@pytest.fixture(scope="module")
def rows():
    found = {}
    for name, amodal, modal, raw, _ in cells("| object | A | V |")[2:]:
        a, v = drawn(amodal), drawn(modal)
        p = v if raw == "as V" else drawn(raw)
        image = np.zeros((20, 30, 3), np.uint8)
        picture = np.full((20, 30, 3), 110, np.uint8) if name == "book" else None
        record = AmodalRecord("d", "s", name, "0", image, masks.encode(v), masks.encode(a))
        prediction = Prediction(v, p[None])
        prediction.image = picture
        found[name] = count_object(record, prediction, "m", np.full((20, 30, 3), 100, np.uint8))
    assert list(found) == ["plate", "book", "cup", "table"]
    return found


def test_the_counts(rows):
    header, _, *lines = cells("| object | amodal_area")
    assert len(lines) == 4 and len(header) > 10
    for name, *counts in lines:
        assert [int(count) for count in counts] == [rows[name][column] for column in header[1:]], name


def test_the_figures(rows):
    scores = score(list(rows.values()))
    printed = {}
    for figure, value, how in cells("| protocol · figure | value |")[2:]:
        protocol, name = figure.split(" · ")
        printed[protocol.strip("`"), name] = value
        assert how
        found = scores[protocol.strip("`")][name]
        assert value == in_unit(found, unit_of(protocol.strip("`"), name)), figure
        if found is None:
            continue
        pooled, averaged = re.match(r"(\d+) / (\d+)$", how), re.match(r"\(([\d./ +]+)\) / (\d)", how)
        decibel = re.match(r"10 log₁₀\(255² / (\d+)²\)$", how)
        if decibel:
            assert found == pytest.approx(20 * math.log10(255 / int(decibel[1])))
            continue
        if pooled:
            exact = Fraction(int(pooled[1]), int(pooled[2]))
        else:
            exact = sum(map(Fraction, averaged[1].split(" + "))) / int(averaged[2])
        assert float(exact) == pytest.approx(found, abs=1e-6), figure
    assert {protocol for protocol, _ in printed} == set(PROTOCOLS)


def test_the_range_of_scores_in_the_text(rows):
    scores = score(list(rows.values()))
    every = ("pooled", "per_object", "c2f", "c2f_post", "conddiff", "five_bins", "boundary_iou")
    full = [scores[name]["full"] for name in every] + [scores["five_bins"]["full_of_five"]]
    occluded = [scores[name]["occluded"] for name in every[:-1]]
    low, high, occ_low, occ_high = re.search(
        r"scores ([\d.]+) to ([\d.]+) percent `full` over all of them, and ([\d.]+) to ([\d.]+)\s+percent\s+`occluded`",
        PAGE,
    ).groups()
    assert (low, high) == (f"{100 * min(full):.1f}", f"{100 * max(full):.1f}")
    assert (occ_low, occ_high) == (f"{100 * min(occluded):.1f}", f"{100 * max(occluded):.1f}")
