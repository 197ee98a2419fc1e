"""Configuration files: precedence, and one clear line for every mistake."""

import copy
import dataclasses
from pathlib import Path

import pytest
import yaml

from amodalseg.config import schema
from amodalseg.config.load import build, load_config, to_dict, to_yaml
from amodalseg.config.schema import (
    DATA,
    NETWORKS,
    PUBLISHED,
    CocoaData,
    DataOnly,
    EvalConfig,
    ModelOnly,
    SyntheticData,
    TrainConfig,
)
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


@pytest.mark.parametrize("path", [p for p in EXPERIMENTS if "_recipe" not in p.name], ids=lambda p: p.stem)
def test_every_experiment_file_is_complete(path):
    config = load_config(TrainConfig, path)
    assert config.out.startswith("outputs/")
    # the yaml written to run folders reads back as the same configuration
    assert build(TrainConfig, [("x", yaml.safe_load(to_yaml(config)))]) == config


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda p: p.stem)
def test_every_evaluation_file_is_complete(path):
    config = load_config(EvalConfig, path)
    assert config.models and config.out.startswith("outputs/")
    assert build(EvalConfig, [("x", yaml.safe_load(to_yaml(config)))]) == config


@pytest.mark.parametrize("path", sorted((ROOT / "configs/data").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_data_file_trains_on_one_part_and_validates_on_another(path):
    config = load_config(TrainConfig, path, ["out=x", "model.name=conddiff_amo"])
    assert config.data.name == path.stem
    assert config.data != config.val and getattr(config.data, "split", None) != getattr(config.val, "split", "")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/model").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_model_file_is_complete(path):
    more = ["out=x", "data.name=synthetic", "val.name=synthetic", "val.split=val"]
    assert load_config(TrainConfig, path, more).model.name in NETWORKS


def test_every_published_set_that_is_scored_has_its_files():
    names = set(PUBLISHED)
    assert names <= {path.stem for path in (ROOT / "configs/data").glob("*.yaml")}
    assert names - {"pix2gestalt", "coco_amodal"} <= {path.stem for path in EVALUATIONS}


def test_supervised_and_zero_shot_configurations_share_recipe_and_splits():
    recipe = to_dict(load_config(TrainConfig, ROOT / "configs/experiment/conddiff_amo_cocoa.yaml"))
    zero_shot = load_config(EvalConfig, ROOT / "configs/eval/zero_shot.yaml")
    assert list(zero_shot.sets) == ["cocoa", "mp3d", "kins", "cocoa_cls", "d2sa"]
    for name, section in zero_shot.sets.items():
        assert section == load_config(EvalConfig, ROOT / f"configs/eval/{name}.yaml").data
        found = to_dict(load_config(TrainConfig, ROOT / f"configs/experiment/conddiff_amo_{name}.yaml"))
        assert found["data"]["name"] == found["val"]["name"] == name and found["data"]["split"] == "train"
        assert found["val"]["split"] == section.split
        same = recipe.keys() - {"out", "data", "val"}  # the same recipe on other data
        assert {key: found[key] for key in same} == {key: recipe[key] for key in same}


def test_rows_of_table_4_differ_in_switches_only():
    rows = {path.stem: load_config(TrainConfig, path) for path in EXPERIMENTS if path.parent.name == "table4"}
    second = {f"{name}_le" for name in "adfg"}  # the other reading of what replaces the gate
    assert sorted(rows) == sorted({"a", "b", "c", "d", "e", "f", "full", "g", "h", "i", "j", *second})
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
        if f"{name}_le" in second:
            expected["out"], expected["model"]["afg"]["instead"] = f"outputs/table4/{name}_le", "le"
            assert to_dict(rows[f"{name}_le"]) == expected
    assert (full["model"]["window"]["size"], full["model"]["window"]["kind"]) == (256, "c2f")  # as in the released code
    assert full["model"]["pcn"]["backbone"] == "pvt_v2_b4"


def test_the_bare_recipe_contains_only_what_the_paper_states():
    full, bare = (
        load_config(TrainConfig, ROOT / f"configs/experiment/conddiff_amo_cocoa{end}.yaml") for end in ("", "_bare")
    )
    states = {"lr": 1e-4, "max_epochs": 40, "batch_size": 16, "size": 256, "backbone": "pvt_v2_b4", "steps": 10}
    for config in (full, bare):
        model, found = config.model, {**vars(config.optim), **vars(config.trainer), **vars(config.loader)}
        found |= vars(model.window) | vars(model.pcn) | vars(model.sampler)
        assert {name: found[name] for name in states} == states and config.checkpoint.keep == "last"
    off = vars(bare.augment) | {"clip": bare.optim.clip, "min_lr": bare.optim.min_lr, "ema": bare.optim.ema}
    off |= {"drop_path": bare.model.pcn.drop_path, "dropout": bare.model.dn.dropout, "hidden": bare.model.loss.hidden}
    del off["modal_jitter_px"]  # no effect: modal jitter is off
    assert not any(off.values()) and bare.trainer.precision == "32-true" and not bare.optim.warmup_steps
    marked = (ROOT / "configs/experiment/paper_recipe.yaml").read_text().splitlines()
    for name in ("kind", "drop_path", "dropout", "min_lr", "weight_decay", "clip", "precision"):
        (line,) = (line for line in marked if f"{name}: " in line)
        assert "# not stated" in line, line
    assert marked[[line.startswith("augment: ") for line in marked].index(True) - 1].startswith("# not stated")


def test_published_sets_do_not_select_weights_on_the_evaluated_split():
    paths = [path for path in EXPERIMENTS if path.name.startswith("conddiff_amo_")]  # table 4 is based on one of them
    configs = [load_config(TrainConfig, path) for path in paths]
    assert {config.data.name for config in configs} >= {"cocoa", "cocoa_cls", "kins", "d2sa", "mp3d", "pix2gestalt"}
    assert {config.checkpoint.keep for config in configs} == {"last"}


def test_precedence_schema_bases_file_arguments(tmp_path, small):
    write(tmp_path / "one.yaml", optim={"lr": 1.0, "clip": 5.0, "min_lr": 0.1})
    write(tmp_path / "two.yaml", optim={"lr": 2.0})
    write(tmp_path / "top.yaml", base=["small.yaml", "one.yaml", "two.yaml"], optim={"clip": 6.0})
    config = load_config(TrainConfig, tmp_path / "top.yaml", ["optim.min_lr=0.2", "model.dn.dim=32"])
    assert (config.optim.lr, config.optim.clip, config.optim.min_lr) == (2.0, 6.0, 0.2)
    assert config.model.dn.dim == 32 and config.optim.weight_decay == 0.01


def test_another_name_resets_the_section(small):
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
        (
            ["model.sampler.kind=euler"],
            ["invalid value for model.sampler.kind: euler (choose from ddpm, ddim,"],
        ),
        (["data.name=cocao"], ["invalid value for data.name: cocao (choose from cocoa, "]),
        (["model.name=unet"], ["invalid value for model.name: unet (choose from conddiff_amo, "]),
        (["optim.lr=fast"], ["optim.lr", "fast"]),
        (["loader.batch_size=0"], ["invalid value for loader.batch_size: 0 (must be between 1 and "]),
        (["data.rate_min=0.8"], ["data.rate_min=0.8", "data.rate_max"]),
        (["model.window.size=100"], ["model.window.size=100", "128"]),
        (["data=null"], ["data is a section: give data.key=value"]),
        (["val=null"], ["val is a section"]),
        (["model=null"], ["model is a section"]),
        (["data=synthetic"], ["data is a section: give data.key=value, not data=synthetic"]),
        (["optim=3"], ["optim is a section: give optim.key=value"]),
        (["model.window=[1]"], ["model.window is a section"]),
        (["override.sampler.steps=3"], ["there is no option 'override'"]),
        (["data.name=[a]"], ["invalid value for data.name: ['a'] (choose from cocoa, "]),
        (["data.name=null"], ["data.name is missing", "cocoa"]),
        (["seed=${foo}"], ["seed: ", "'foo' not found"]),
        (["seed=${"], ["an argument cannot be read"]),
        (["seed=???"], ["seed has no value"]),
        (["out=???"], ["out has no value"]),
        (["optim={lr: 1, lr: 2}"], ["found duplicate key lr"]),
        (["optim.min_lr=1"], ["optim.min_lr=1.0 must not be above optim.lr=0.0001"]),
        (["model.loss.bce=0", "model.loss.iou=0"], ["model.loss.bce=0 and model.loss.iou=0"]),
        (["model.afg.kernel=2"], ["invalid value for model.afg.kernel: 2 (must be odd, for instance 1 or 3)"]),
        (["model.pcn.adapter=4"], ["invalid value for model.pcn.adapter: 4 (must be odd, for instance 3 or 5)"]),
        (["log.wandb=on"], ["invalid value for log.wandb: True (choose from off, online, offline)"]),
        (["model.sampler.kind=off"], ["invalid value for model.sampler.kind: False (choose from ddpm, ddim"]),
        (["trainer.max_steps=9", "trainer.max_epochs=3"], ["has no effect beside trainer.max_steps=9", "=null"]),
        (["--devices=2"], ["not a key=value"]),
        (["devices"], ["'devices' is not a key=value argument"]),
    ],
)
def test_mistakes_in_arguments(small, overrides, parts):
    with pytest.raises(UserError) as caught:
        load_config(TrainConfig, small, overrides)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("key", "low", "high", "beyond"),
    [
        ("seed", 0, 2**32 - 1, [-1, 2**32]),
        ("data.seed", 0, 2**32 - 1, [-1, 2**32]),
        ("log.pictures", 0, 1000, [-1, 1001]),
        ("optim.lr", 1e-6, 1000, [-1, 1001, "nan", "inf"]),
        ("optim.min_lr", 0, 1e-4, [-1, 1001, "nan"]),
        ("optim.weight_decay", 0, 1000, [-1e-9, 1001, "nan"]),
        ("optim.ema", 0, 0.99999, [-0.1, 1, "nan"]),
        ("model.pcn.drop_path", 0, 0.99, [-0.1, 1, "nan"]),
        ("model.loss.bce", 0, 1000, [-1, 1001, "nan"]),
        ("model.loss.iou", 0, 1000, [-1, 1001, "nan"]),
        ("model.loss.hidden", 0, 1000, [-1, 1001, "nan"]),
        ("model.diff.beta_a", 0.001, 1000, [0, 1001, "nan"]),
        ("model.diff.beta_b", 0.001, 1000, [0, 1001, "nan"]),
        ("model.gauss.shift", -50, 50, [-51, 51, "nan"]),
        ("model.afg.kernel", 1, 31, [-1, 33]),
        ("model.pcn.adapter", 1, 31, [-1, 33]),
        ("augment.scale", 0, 0.9, [-0.1, 1, "nan"]),
        ("augment.shift", 0, 0.45, [-0.1, 0.46, "nan"]),
        ("augment.flip", 0, 1, [-0.1, 1.5, "nan"]),
        ("augment.rotate", 0, 180, [-1, 181, "nan"]),
        ("augment.modal_jitter_px", 1, 100, [0, -1, 101]),
        ("data.rate_min", 0, 0.6, [-0.1, "nan"]),
    ],
)
def test_ranges(small, key, low, high, beyond):
    for value in (low, high):
        assert load_config(TrainConfig, small, [f"{key}={value}"])
    for value in beyond:
        with pytest.raises(UserError, match=rf"^invalid value for {key}: .* \(must be between "):
            load_config(TrainConfig, small, [f"{key}={value}"])


def test_every_number_has_a_range():
    for kind in vars(schema).values():
        for option in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else []:
            if option.type in ("int", "float", "list[int]", "Optional[int]", "Optional[float]"):
                assert option.metadata.keys() & {"range", "choices"}, f"{kind.__name__}.{option.name}"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["models=[[modal]]"],
            ["models: [['modal']] (a plain list is expected, and ['modal'] is not of type str)"],
        ),
        (["models=[{a: 1}]"], ["invalid value for models: [{'a': 1}]", "is not of type str"]),
        (["models={a: 1}"], ["invalid value for models: {'a': 1} (a list is expected)"]),
        (["models=null"], ["invalid value for models: None (a list is expected)"]),
        (["report.steps_curve=1.5"], ["report.steps_curve"]),
        (["report.steps_curve=[0]"], ["invalid value for report.steps_curve: 0 (must be between 1 and 10000)"]),
        (
            ["report.steps_curve=[1,10001]"],
            ["report.steps_curve: 10001 (must be between 1 and 10000)"],
        ),
        (["report.steps_curve=[[1]]"], ["invalid value for report.steps_curve: [[1]]", "[1] is not of type int"]),
        (["report.steps_objects=0"], ["invalid value for report.steps_objects: 0"]),
        (["report.pictures=1001"], ["invalid value for report.pictures: 1001"]),
        (["override=3"], ["override is a section"]),
        (["override.sampler=3"], ["override.sampler is a section: give override.sampler.key=value"]),
        (["override.window=96"], ["override.window is a section: give override.window.key=value"]),
        (["override={sampler.steps: 3}"], ["write it nested, override: {sampler: {steps: ...}}"]),
        (["data.name=cocoa", "data.size=64"], ["there is no option 'data.size'; did you mean 'data.seed'"]),
        (["trainer.max_epochs=3"], ["there is no option 'trainer.max_epochs'"]),
        (["overwrite=true"], ["there is no option 'overwrite'"]),
    ],
)
def test_mistakes_in_arguments_of_an_evaluation(overrides, parts):
    with pytest.raises(UserError) as caught:
        load_config(EvalConfig, ROOT / "configs/eval/synthetic.yaml", overrides)
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
    with pytest.raises(UserError, match="forms a cycle"):
        load_config(TrainConfig, tmp_path / "loop.yaml")
    write(tmp_path / "typo.yaml", base="small.yaml", traner={"devices": 2})
    with pytest.raises(UserError, match=r"typo\.yaml: there is no option 'traner'; did you mean 'trainer'"):
        load_config(TrainConfig, tmp_path / "typo.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="must hold 'key: value' lines"):
        load_config(TrainConfig, tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: 3", r"'base' must be the name of a file, or a list of names, not 3"),
        ("base:", r"'base' must be"),
        ("base: [3]", r"'base' must be"),
        ("base: {a: b}", r"'base' must be"),
        ("base: absent.yaml", r"no configuration file at .*absent\.yaml"),
        ("optim:\n  lr: 1\n  lr: 2", r"found duplicate key lr.*line 3"),
        ("seed: ???", r"seed has no value"),
        ("trainer.progress: false", r"write it nested, trainer: \{progress: \.\.\.\}"),
        ("report: {a.b: false}", r"write it nested, report: \{a: \{b: \.\.\.\}\}"),
        ("loader:", r"loader is a section"),
        ("out: ${a", r"is not valid YAML: "),
        ("out: !!python/object:os.system {}", r"is not valid YAML: "),
        ("false", r"must hold 'key: value' lines"),
        ('"1"', r"must hold 'key: value' lines"),
        ("# \xff", r"is not UTF-8 text"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message) as caught:
        load_config(EvalConfig, path, ["out=x", "data.name=synthetic"])
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.yaml").write_text("out: x")
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"cannot read the configuration file .*a\.yaml: Permission denied"):
        load_config(EvalConfig, tmp_path / "a.yaml")


def test_a_key_of_a_yaml_merge_can_be_overridden(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("out: x\ndata: &one {name: synthetic, size: 64}\noverride: {a: &two {<<: *one, size: 96}}\n")
    assert load_config(EvalConfig, path).override == {"a": {"name": "synthetic", "size": 96}}


def test_an_open_value_can_be_given_by_an_argument(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text('out: ???\ndata: {name: cocoa, root: "???"}\n')
    assert load_config(EvalConfig, path, ["out=x", "data.root=y"]).data.root == "y"
    with pytest.raises(UserError, match=r"missing.*: data\.root, out"):
        load_config(EvalConfig, path)


@pytest.mark.parametrize("word", ["off", "no", "false", "'off'"])
def test_the_choice_off_is_recognised_although_yaml_reads_it_as_false(tmp_path, word):
    path = tmp_path / "a.yaml"
    path.write_text(f"log: {{wandb: {word}}}\nval: {{check_photos: {word}}}\n")
    more = ["out=x", "model.name=conddiff_amo", "data.name=synthetic", "val.name=cocoa", "val.root=y"]
    config = load_config(TrainConfig, path, more)
    assert (config.log.wandb, config.val.check_photos) == ("off", "off")
    config = load_config(TrainConfig, path, [*more, "log.wandb=online", "val.check_photos=headers"])
    assert (config.log.wandb, config.val.check_photos) == ("online", "headers")
    path.write_text("log: {wandb: online}\n")
    config = load_config(TrainConfig, path, [*more, f"log.wandb={word}", f"val.check_photos={word}"])
    assert (config.log.wandb, config.val.check_photos) == ("off", "off")


def test_a_single_value_is_read_as_a_list_of_one(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("out: x\nmodels: modal\ndata: {name: coco_occlude, annotations: mine.json, images: photos}\n")
    config = load_config(EvalConfig, path, ["report.steps_curve=5"])
    assert (config.models, config.report.steps_curve) == (["modal"], [5])
    assert (config.data.annotations, config.data.images) == (["mine.json"], ["photos"])
    config = load_config(EvalConfig, path, ["data.annotations=other.json", "data.images=[a,b]"])
    assert (config.data.annotations, config.data.images) == (["other.json"], ["a", "b"])
    path.write_text("out: x\nmodels: [modal]\n")
    sets = ["sets.a.name=sailvos", "sets.a.root=y", "sets.a.drop_categories=floor", "sets.a.check_photos=no"]
    found = load_config(EvalConfig, path, sets).sets["a"]
    assert found.drop_categories == ["floor"] and found.check_photos == "off"


def test_building_does_not_modify_its_input():
    layer = {"out": "x", "models": "modal", "data": {"name": "cocoa", "root": "y", "check_photos": False}}
    before = copy.deepcopy(layer)
    assert build(EvalConfig, [("x", layer)]) == build(EvalConfig, [("x", layer)]) and layer == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rate_min": 0.8, "rate_max": 0.7},
            r"occlude\.rate_min=0\.8 must be below data\.occlude\.rate_max=0\.7",
        ),
        ({"rate_max": 1.0}, r"data\.occlude\.rate_max: 1\.0 \(must be between 0 and 0\.99\)"),
        ({"min_area": 0.5, "max_area": 0.1}, r"data\.occlude\.min_area=0\.5 must not be above .*max_area=0\.1"),
        ({"scale_min": 2.0}, r"scale_min=2\.0 must not be above .*scale_max=1\.5"),
        ({"scale_min": 0.0, "scale_max": 0.0}, r"scale_max: 0\.0 \(must be between 0\.001 and 1000\)"),
        ({"unoccluded": -0.1}, r"unoccluded: -0\.1 \(must be between 0 and 1\)"),
        ({"max_occluders": 0}, r"max_occluders: 0 \(must be between 1 and 100\)"),
        ({"soft_edge": -1.0}, r"soft_edge: -1\.0 \(must be between 0 and 1000\)"),
    ],
)
def test_wrong_options_of_occlusion(options, message):
    data = {"name": "coco_occlude", "annotations": ["a"], "images": ["b"], "occlude": options}
    with pytest.raises(UserError, match=message):
        build(DataOnly, [("x", {"data": data})])
    with pytest.raises(UserError, match=r"data\.max_side: 0 \(must be between 32 and 1000000\)"):
        build(DataOnly, [("x", {"data": {**data, "occlude": {}, "max_side": 0}})])


def test_a_section_without_a_name_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.name is missing; choose one of: .*synthetic"):
        load_config(EvalConfig, write(tmp_path / "a.yaml", out="x"))


def test_stored_model_configuration_round_trips():
    config = build(ModelOnly, [("x", {"model": {"name": "conddiff_amo", "dn": {"dim": 48}}})])
    assert build(ModelOnly, [("y", to_dict(config))]) == config


def test_data_set_names_equal_the_defaults_of_their_classes():
    for name, kind in DATA.items():
        assert kind.__dataclass_fields__["name"].default == name
