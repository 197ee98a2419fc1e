"""The first day with the project, as its documents tell it, through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import amodalseg
from amodalseg.cli import main
from amodalseg.config import shipped
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig, ModelOnly, TrainConfig
from tests.engine.journeys import SMALL
from tests.test_cli import refused

ROOT = Path(__file__).parents[1]


def test_configurations_that_ship_are_found_by_name_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert load_config(TrainConfig, "conddiff_amo_cocoa").data.name == "cocoa"
    assert load_config(TrainConfig, "table4/a").model.pcn.modal is False
    assert load_config(TrainConfig, "configs/experiment/photos_tiny.yaml").out == "outputs/photos_tiny"
    assert load_config(EvalConfig, "cocoa").data.name == "cocoa"
    assert load_config(ModelOnly, "noise_fill/occluders.yaml").model.name == "noise_fill"
    (tmp_path / "cocoa.yaml").write_text("out: mine\ndata: {name: synthetic}\n")
    assert load_config(EvalConfig, "cocoa.yaml").out == "mine"  # a user's own file comes first
    refused(capsys, ["train", "photos_tyni"], "no configuration file at photos_tyni", "did you mean 'photos_tiny'")
    arguments = [option for option in SMALL if "max_steps" not in option]
    assert main(["train", "synthetic_tiny", "out=run", *arguments, "trainer.max_steps=1"]) == 0
    assert (tmp_path / "run/model.safetensors").is_file()


def test_an_installed_package_has_its_own_configurations(tmp_path, monkeypatch):
    assert shipped.CONFIGS == (ROOT / "amodalseg/configs", ROOT / "configs")
    (tmp_path / "configs/experiment").mkdir(parents=True)
    (tmp_path / "configs/experiment/mine.yaml").write_text("base: ../model.yaml\nout: x\n")
    (tmp_path / "configs/model.yaml").write_text("model: {name: direct}\ndata: {name: synthetic}\nval: {name: synthetic}")
    monkeypatch.setattr(shipped, "CONFIGS", (tmp_path / "configs", tmp_path / "absent"))
    assert shipped.shipped_configs(TrainConfig) == ["mine"]
    assert load_config(TrainConfig, "mine").model.name == "direct"
    assert load_config(TrainConfig, "configs/experiment/mine.yaml").out == "x"
