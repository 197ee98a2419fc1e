"""``amodalseg calibrate``: from a trained run to a calibrated file."""

import json

import pytest

import amodalseg
from amodalseg.cli import main
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig
from amodalseg.engine.evaluation.calibrate import calibrate
from tests.engine.journeys import ROOT
from tests.refusals import refused

DATA = ["data.num_objects=12", "data.size=64", "trainer.progress=false", "loader.batch_size=5"]
SYNTHETIC = str(ROOT / "configs/eval/synthetic.yaml")


def test_from_a_run_to_a_calibrated_file(tmp_path, capsys):
    assert main(["calibrate", SYNTHETIC, *DATA, "models=[conddiff_amo_lite]"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("conddiff_amo_lite: 12 objects of 12 photos; expected calibration error ")
    path = tmp_path / "calibrated.safetensors"
    assert main(["release", "conddiff_amo_lite", "--out", str(path), "--set", *second.split()]) == 0
    model, before = amodalseg.load_model(path), amodalseg.load_model()
    fitted = calibrate(load_config(EvalConfig, SYNTHETIC, [*DATA, f"models=[{path}]"]))[str(path)]
    own = model.config.post.calibration
    assert (own.scale, own.shift) == (pytest.approx(fitted.scale, abs=6e-4), pytest.approx(fitted.shift, abs=6e-4))
    assert own.scale != before.config.post.calibration.scale
    assert model.config.post.threshold == before.config.post.threshold, "masks stay the same"
    evaluated = tmp_path / "eval"
    report = ["report.html=false", "report.steps_curve=[]"]
    assert main(["eval", SYNTHETIC, *DATA, f"models=[{path}]", f"out={evaluated}", *report]) == 0
    [result] = json.loads((evaluated / "metrics.json").read_text())["results"]
    assert result["calibration"]["error"] == pytest.approx(fitted.before, abs=5e-3)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("[]", "models is empty"),
        ("[convex_hull]", "'convex_hull' has no probability to calibrate: give trained networks"),
    ],
)
def test_models_without_a_calibration_are_refused(capsys, models, message):
    refused(capsys, ["calibrate", SYNTHETIC, *DATA, f"models={models}"], message)


def test_it_runs_where_the_configuration_says(monkeypatch):
    asked = []

    def open_model(source, device):
        asked.append(device)
        return amodalseg.load_model("convex_hull")

    monkeypatch.setattr("amodalseg.engine.evaluation.calibrate.load_model", open_model)
    for accelerator in ("cpu", "gpu", "auto"):
        options = [*DATA, "models=[conddiff_amo_lite]", f"trainer.accelerator={accelerator}"]
        with pytest.raises(amodalseg.UserError, match="no probability"):
            calibrate(load_config(EvalConfig, SYNTHETIC, options))
    assert asked == ["cpu", "cuda", "auto"]
