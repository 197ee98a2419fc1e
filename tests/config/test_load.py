"""Configuration files: precedence, and one clear line for every mistake."""

from pathlib import Path

import pytest
import yaml

from amodalseg.config.load import build, load_config, to_dict, to_yaml
from amodalseg.config.schema import DATA, CocoaData, EvalConfig, ModelOnly, SyntheticData, TrainConfig
from amodalseg.errors import UserError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "configs/experiment").rglob("*.yaml"))
EVALUATIONS = sorted((ROOT / "configs/eval").glob("*.yaml"))


def write(path: Path, **content) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def small(tmp_path):
    return write(
        tmp_path / "small.yaml", out="run", model={"name": "conddiff_amo"}, data={"name": "synthetic"},
        val={"name": "synthetic", "split": "val"},
    )  # fmt: skip


@pytest.mark.parametrize("path", [p for p in EXPERIMENTS if p.name != "paper_recipe.yaml"], ids=lambda p: p.stem)
def test_every_experiment_file_is_complete(path):
    config = load_config(TrainConfig, path)
    assert config.out.startswith("outputs/")
    # what is written into run folders reads back to the same configuration
    assert build(TrainConfig, [("x", yaml.safe_load(to_yaml(config)))]) == config


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda p: p.stem)
def test_every_evaluation_file_is_complete(path):
    assert load_config(EvalConfig, path).models


def test_table_4_has_eleven_rows_that_differ_in_switches_only():
    rows = {path.stem: load_config(TrainConfig, path) for path in EXPERIMENTS if path.parent.name == "table4"}
    assert sorted(rows) == ["a", "b", "c", "d", "e", "f", "full", "g", "h", "i", "j"]
    full = to_dict(rows["full"])
    switches = {"VM": ("pcn", "modal"), "OCR": ("ocr", "enabled"), "AFG": ("afg", "enabled"), "UST": ("ust", "enabled")}
    published = {"a": "VM OCR AFG", "b": "VM", "c": "OCR", "d": "AFG", "e": "VM OCR", "f": "OCR AFG", "g": "VM AFG",
                 "h": "UST VGPE", "i": "UST", "j": "VGPE", "full": ""}  # fmt: skip
    for name, removed in published.items():
        expected = to_dict(rows["full"])
        expected["out"] = f"outputs/table4/{name}"
        for switch in removed.split():
            if switch == "VGPE":
                expected["model"]["vgpe"] |= {"clamp": False, "ensemble": False}
            else:
                section, key = switches[switch]
                expected["model"][section][key] = False
        assert to_dict(rows[name]) == expected
    assert full["model"]["window"]["size"] == 256 and full["model"]["pcn"]["backbone"] == "pvt_v2_b4"


def test_precedence_schema_bases_file_arguments(tmp_path, small):
    write(tmp_path / "one.yaml", optim={"lr": 1.0, "clip": 5.0, "min_lr": 0.1})
    write(tmp_path / "two.yaml", optim={"lr": 2.0})
    write(tmp_path / "top.yaml", base=["small.yaml", "one.yaml", "two.yaml"], optim={"clip": 6.0})
    config = load_config(TrainConfig, tmp_path / "top.yaml", ["optim.min_lr=0.2", "model.dn.dim=32"])
    assert (config.optim.lr, config.optim.clip, config.optim.min_lr) == (2.0, 6.0, 0.2)
    assert config.model.dn.dim == 32 and config.optim.weight_decay == 0.01


def test_a_layer_with_another_name_starts_the_section_afresh(small):
    config = load_config(TrainConfig, small, ["val.name=cocoa", "val.root=/x"])
    assert config.val == CocoaData(root="/x")
    assert config.data == SyntheticData()


def test_numbers_in_scientific_notation(tmp_path, small):
    (tmp_path / "sci.yaml").write_text("base: small.yaml\noptim: {lr: 1e-4}\n")
    assert load_config(TrainConfig, tmp_path / "sci.yaml", ["optim.min_lr=2e-6"]).optim.lr == 1e-4


def test_environment_variable(monkeypatch):
    monkeypatch.setenv("AMODALSEG_DATA", "/somewhere")
    assert load_config(EvalConfig, ROOT / "configs/eval/cocoa.yaml").data.root == "/somewhere/cocoa"
    monkeypatch.delenv("AMODALSEG_DATA")
    assert load_config(EvalConfig, ROOT / "configs/eval/cocoa.yaml").data.root == "data/cocoa"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["optim.lrr=1"], ["optim.lrr", "did you mean 'optim.lr'"]),
        (["model.dn.dims=64"], ["did you mean 'model.dn.dim'"]),
        (["lr=1"], ["there is no option 'lr'", "did you mean 'optim.lr'"]),
        (["trainer.stategy=ddp"], ["did you mean 'trainer.strategy'"]),
        (["data.root=x"], ["there is no option 'data.root'"]),
        (["model.sampler.kind=euler"], ["model.sampler.kind=euler", "ddpm, ddim, renoise_ust"]),
        (["data.name=cocao"], ["data.name=cocao", "cocoa"]),
        (["model.name=unet"], ["model.name=unet", "conddiff_amo"]),
        (["optim.lr=fast"], ["optim.lr", "fast"]),
        (["loader.batch_size=0"], ["loader.batch_size=0", "between"]),
        (["data.rate_min=0.8"], ["data.rate_min=0.8", "data.rate_max"]),
        (["model.window.size=100"], ["model.window.size=100", "128"]),
        (["--devices=2"], ["no key=value"]),
        (["devices"], ["'devices' is no key=value"]),
    ],
)
def test_mistakes_in_arguments(small, overrides, parts):
    with pytest.raises(UserError) as caught:
        load_config(TrainConfig, small, overrides)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_all_missing_values_are_listed_at_once(tmp_path):
    path = write(tmp_path / "a.yaml", model={"name": "conddiff_amo"}, data={"name": "cocoa"}, val={"name": "cocoa"})
    with pytest.raises(UserError, match=r"data\.root, out, val\.root"):
        load_config(TrainConfig, path)


def test_mistakes_in_files(tmp_path, small):
    with pytest.raises(UserError, match="no configuration file at"):
        load_config(TrainConfig, tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("optim: {lr: 1\nout: x")
    with pytest.raises(UserError, match=r"broken\.yaml is not valid YAML.*line 2"):
        load_config(TrainConfig, tmp_path / "broken.yaml")
    write(tmp_path / "loop.yaml", base="loop.yaml")
    with pytest.raises(UserError, match="leads back"):
        load_config(TrainConfig, tmp_path / "loop.yaml")
    write(tmp_path / "typo.yaml", base="small.yaml", traner={"devices": 2})
    with pytest.raises(UserError, match=r"typo\.yaml: there is no option 'traner'; did you mean 'trainer'"):
        load_config(TrainConfig, tmp_path / "typo.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="must hold 'key: value' lines"):
        load_config(TrainConfig, tmp_path / "list.yaml")


def test_section_without_a_name(tmp_path):
    with pytest.raises(UserError, match=r"data\.name is missing; choose one of: .*synthetic"):
        load_config(EvalConfig, write(tmp_path / "a.yaml", out="x"))


def test_stored_model_configuration_round_trips():
    config = build(ModelOnly, [("x", {"model": {"name": "conddiff_amo", "dn": {"dim": 48}}})])
    assert build(ModelOnly, [("y", to_dict(config))]) == config


def test_every_data_set_has_a_class_that_carries_its_name():
    for name, kind in DATA.items():
        assert kind.__dataclass_fields__["name"].default == name
