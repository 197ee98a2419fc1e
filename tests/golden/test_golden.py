"""The predictions of the shipped weights are fixed: a change in any step from photo to mask is detected here.

After an intended change, or with new weights, ``python tests/golden/make.py`` regenerates the predictions.
"""

import json

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.models import DEFAULT
from amodalseg.models.exported import OnnxPredictor
from tests.golden.make import FOLDER, WEIGHTS, conddiff_cases, make, pack, sha256

ANEW = "run python tests/golden/make.py"
TOLERANCE = 1e-4


def golden(name):
    """The stored cases; fails with a message if they belong to other weights."""
    stored = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    if stored["weights"] != sha256(name):
        pytest.fail(f"tests/golden/{name}.json belongs to other weights than {WEIGHTS[name].name}: {ANEW}")
    return stored["cases"]


def check(found, wanted, about):
    """Compare values to 1e-4 and masks exactly, except for a few votes or pixels at the threshold."""
    found = pack(found)
    assert found["size"] == wanted["size"], about
    places = sorted(found["values"].keys() | wanted["values"].keys())
    one, other = ([case["values"].get(place, 0.0) for place in places] for case in (found, wanted))
    apart = np.abs(np.subtract(one, other))
    assert (apart > TOLERANCE).sum() <= 1, f"{about}: {(apart > TOLERANCE).sum()} values differ, by up to {apart.max()}"
    one, other = (masks.decode({"size": case["size"], "counts": case["mask"].encode()}) for case in (found, wanted))
    assert (one != other).sum() <= 2, f"{about}: {(one != other).sum()} pixels of the mask differ; if so meant, {ANEW}"


@pytest.mark.parametrize("name", WEIGHTS)
def test_predictions_of_the_shipped_weights(name):
    if not name.startswith("conddiff"):
        pytest.importorskip("diffusers")
    wanted, found = golden(name), make(name)
    assert wanted.keys() == found.keys(), ANEW
    for case, prediction in found.items():
        check(prediction, wanted[case], f"{name}, {case}")


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name.startswith("conddiff")])
def test_the_shipped_graph_predicts_like_the_weights(name):
    wanted = golden(name)
    for case, prediction in conddiff_cases(OnnxPredictor(WEIGHTS[name].with_suffix(".onnx"), num_threads=1)).items():
        check(prediction, wanted[case], f"the exported file, {case}")


def test_golden_predictions_are_not_trivial():
    """Golden predictions that are empty, or equal to the modal mask, would detect no change."""
    for name, least in (
        (DEFAULT, 2),
        ("conddiff_amo_tiny", 2),
        ("inpainting_prior", 2),
        ("word_prior", 2),
        ("word_segmenter", 2),
    ):
        cases = golden(name)
        assert len(cases) >= least
        for case, found in cases.items():
            assert len(set(found["values"].values())) > 20, (name, case)
        assert (FOLDER / f"{name}.json").stat().st_size < 25_000


def test_predictions_of_other_weights_are_refused(monkeypatch):
    monkeypatch.setitem(WEIGHTS, "conddiff_amo_tiny", WEIGHTS["inpainting_prior"])
    with pytest.raises(pytest.fail.Exception, match=r"belongs to other weights.*tests/golden/make\.py"):
        golden("conddiff_amo_tiny")
