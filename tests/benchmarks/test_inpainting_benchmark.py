"""The ablations run, resume after an interruption, and their tables match their predictions."""

import json
import re

import numpy as np
import pytest
import torch

from amodalseg.config.load import to_dict
from amodalseg.config.schema import InpaintingPriorConfig
from amodalseg.metrics.counts import read_rows
from amodalseg.models.inpainting.backends.prior import build_unet, save_prior
from benchmarks import inpainting as bench
from tests.worlds import coco_world

pytest.importorskip("diffusers")
ROWS = [(group, variant) for group, variants in bench.GROUPS.items() for variant in variants]


@pytest.fixture
def options(tmp_path):
    annotations, images = coco_world(tmp_path / "coco")
    torch.manual_seed(0)
    save_prior(tmp_path / "prior", build_unet(InpaintingPriorConfig(size=16, channels=[8, 16], head=8)), {})
    data = [
        f"data.annotations=[{annotations}]",
        f"data.images=[{images}]",
        "data.occlude.scale_min=1",
        "data.occlude.scale_max=2",
    ]
    changes = [word for change in data for word in ("--set", change)]
    return ["--prior", str(tmp_path / "prior"), "--objects", "2", "--seeds", "0", "1", "--device", "cpu", *changes]


def test_an_interrupted_run_resumes(options, tmp_path, monkeypatch, capsys):
    some = ("all parts", "no swap", "decoder block 4", "1 round", "naive outpainting")
    monkeypatch.setitem(bench.GROUPS, "001", [variant for variant in bench.GROUPS["001"] if variant.name in some])
    calls, evaluate = [], bench.evaluate

    def dies(model, records, seed):
        calls.append((model.name, seed))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return evaluate(model, records, seed=seed)

    monkeypatch.setattr(bench, "evaluate", dies)
    run = ["--group", "001", *options]
    with pytest.raises(KeyboardInterrupt):
        bench.main([*run, "--out", str(tmp_path / "a")])
    kept = sorted(path.name for path in (tmp_path / "a/answers").iterdir())
    assert len(kept) == 5 and not (tmp_path / "a/inpainting.json").exists()
    assert bench.main([*run, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr()
    files = list((tmp_path / "a/answers").iterdir())
    assert len(files) == len(calls) - 1  # only the interrupted prediction was requested twice
    assert f"{len(calls) - 6} of the predictions were new" in printed.err
    assert "decoder block 4 is left out: the prior has no up_blocks.3" in printed.err

    monkeypatch.setattr(bench, "evaluate", evaluate)
    assert bench.main([*run, "--out", str(tmp_path / "b")]) == 0
    one, other = (json.loads((tmp_path / name / "inpainting.json").read_text()) for name in "ab")
    for table in (one["tables"]["001"], other["tables"]["001"]):
        for entry in table:
            del entry["seconds"]
    assert one == other
    assert (tmp_path / "a/inpainting.md").read_text().strip() in printed.out

    # each figure follows from the rows in the files
    table = {entry["name"]: entry for entry in one["tables"]["001"]}
    assert (one["objects"], one["seeds"], one["size"]) == (2, [0, 1], 16)
    assert table["all parts"]["evaluations"] >= 20 and table["noise: occluders, removed"]["evaluations"] == 0
    by_seed = table["naive outpainting"]["by_seed"]
    for seed in ("0", "1"):
        (path,) = (tmp_path / "b/answers").glob(f"naive_outpaint-*-{seed}.csv")
        ious = [100 * row["out_inter"] / row["out_union"] for row in read_rows(path)]
        assert by_seed[seed]["full"] == pytest.approx(np.mean(ious))
    mean = np.mean([by_seed[seed]["full"] for seed in ("0", "1")])
    assert table["naive outpainting"]["scores"]["full"] == pytest.approx(mean)
    difference = table["naive outpainting"]["difference"]["full"][0]
    assert difference == pytest.approx(mean - table["all parts"]["scores"]["full"])
    beyond, control = table["no swap"]["beyond"]["full"][0], table[table["no swap"]["control"]]["scores"]["full"]
    assert beyond == pytest.approx(table["no swap"]["scores"]["full"] - control)


def test_deterministic_controls_are_predicted_once(options, tmp_path):
    run = ["--group", "controls", *options, "--out", str(tmp_path / "out")]
    assert bench.main(run) == 0
    names = [path.name.partition("-")[0] for path in (tmp_path / "out/answers").iterdir()]
    assert [names.count(name) for name in ("modal", "telea", "noise_fill", "inpaint")] == [1, 1, 6, 2]
    tables = json.loads((tmp_path / "out/inpainting.json").read_text())["tables"]
    modal = next(entry for entry in tables["controls"] if entry["name"] == "modal")
    assert modal["scores"]["occluded"] == 0 and modal["by_seed"]["0"] == modal["by_seed"]["1"]


@pytest.mark.parametrize(("group", "variant"), ROWS, ids=[f"{group} {variant.name}" for group, variant in ROWS])
def test_every_variant_is_a_distinct_configuration(group, variant):
    options = bench.options_of(variant.source, 32)
    others = [bench.options_of(other.source, 32) for other in bench.GROUPS[group] if other.name != variant.name]
    if options is not None:
        assert options not in others and options.window.size == 32
        control = bench.control_of(options)
        if control is not None:
            assert control.window == options.window and control.read_off == options.read_off
            assert control.area == getattr(options, "area", control.area)
    if group != "controls" and variant is not bench.GROUPS[group][0] and variant.source != "naive_outpaint":
        first, this = (to_dict(one) for one in (bench.options_of(bench.GROUPS[group][0].source, 32), options))
        assert {key for key in first if first[key] != this[key]}
    assert bool(variant.direction) == bool(re.search(r"[-+]\d", variant.paper)), "a direction has a printed number"


@pytest.mark.parametrize(
    ("difference", "direction", "said"),
    [
        ([-2.0, -3.0, -1.0], -1, "replicates"),
        ([2.0, 1.0, 3.0], 1, "replicates"),
        ([2.0, 1.0, 3.0], -1, "does not"),
        ([-0.5, -1.0, 0.1], -1, "within noise"),
        ([0.0, 0.0, 0.0], -1, "within noise"),
        ([-2.0, None, None], -1, "one photo only"),
        ([-2.0, -3.0, -1.0], 0, ""),
    ],
)
def test_verdicts(difference, direction, said):
    assert bench.verdict(difference, direction) == said


def test_a_missing_prior_is_reported_in_one_line(capsys, tmp_path):
    assert bench.main(["--prior", str(tmp_path / "nothing"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
