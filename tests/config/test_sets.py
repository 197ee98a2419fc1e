"""Several data sets in one evaluation: ``sets.NAME`` is typed like ``data``."""

import pytest
import yaml

from amodalseg.config.load import build, load_config, to_yaml
from amodalseg.config.schema import CocoaData, CocoAmodalData, EvalConfig, KinsData
from amodalseg.errors import UserError


@pytest.fixture
def path(tmp_path):
    sets = {"cocoa": {"name": "cocoa", "root": "a"}, "cars": {"name": "kins", "root": "b", "version": "2019"}}
    file = tmp_path / "several.yaml"
    file.write_text(yaml.safe_dump({"out": "x", "models": ["modal"], "sets": sets}, sort_keys=False))
    return file


def test_each_set_is_typed_by_its_own_name(path):
    config = load_config(EvalConfig, path, ["sets.cars.split=train"])
    assert config.data is None
    assert list(config.sets) == ["cocoa", "cars"]  # in the file's order
    assert config.sets == {"cocoa": CocoaData(root="a"), "cars": KinsData(root="b", version="2019", split="train")}


def test_written_yaml_reads_back_as_the_same_configuration(path):
    config = load_config(EvalConfig, path)
    assert build(EvalConfig, [("x", yaml.safe_load(to_yaml(config)))]) == config


def test_sets_can_be_removed_added_and_replaced(path, tmp_path):
    assert list(load_config(EvalConfig, path, ["sets.cars=null"]).sets) == ["cocoa"]
    more = load_config(EvalConfig, path, ["sets.mine.name=coco_amodal", "sets.mine.root=c"])
    assert more.sets["mine"] == CocoAmodalData(root="c")
    other = load_config(EvalConfig, path, ["sets.cars.name=cocoa", "sets.cars.root=c"])
    assert other.sets["cars"] == CocoaData(root="c")  # the section is reset: CocoaData has no version
    (tmp_path / "top.yaml").write_text("base: several.yaml\nsets: {cars: null, cocoa: {split: train}}\n")
    assert load_config(EvalConfig, tmp_path / "top.yaml").sets == {"cocoa": CocoaData(root="a", split="train")}


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["sets.car.split=train"], ["no data set 'sets.car'", "did you mean 'cars'", "sets.car.name="]),
        (["sets.car=null"], ["no data set 'sets.car'"]),
        (["sets.cars.splt=train"], ["'sets.cars.splt'", "did you mean 'sets.cars.split'"]),
        (["sets.cocoa.version=2019"], ["there is no option 'sets.cocoa.version'"]),
        (["sets.cars.version=2018"], ["invalid value for sets.cars.version: 2018 (choose from 2020, 2019)"]),
        (["sets.cars.match_iou=3"], ["invalid value for sets.cars.match_iou: 3.0 (must be between 0 and 1)"]),
        (["sets.cars.num_objects=many"], ["sets.cars.num_objects", "many"]),
        (["sets.new.name=kinz"], ["invalid value for sets.new.name: kinz (choose from cocoa, ", "kins"]),
        (["sets.new.name=kins"], ["missing", "sets.new.root"]),
        (["sets.cars=3"], ["sets.cars is a section: give sets.cars.key=value"]),
        (["sets=3"], ["sets is a section"]),
        (["sets=null"], ["sets is a section"]),
        (["sets.cars=null", "sets.cocoa=null"], ["no data set is left"]),
        (["data.name=synthetic"], ["the command line gives data, but sets is given too"]),
        (["sets={a.b: {name: synthetic}}"], ["'a.b' is not a valid name in"]),
    ],
)
def test_mistakes(path, overrides, parts):
    with pytest.raises(UserError) as caught:
        load_config(EvalConfig, path, overrides)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_data_and_sets_together_are_refused(tmp_path):
    (tmp_path / "both.yaml").write_text("out: x\ndata: {name: synthetic}\nsets: {s: {name: synthetic}}\n")
    with pytest.raises(UserError, match=r"both\.yaml gives data, but sets is given too"):
        load_config(EvalConfig, tmp_path / "both.yaml")
    (tmp_path / "neither.yaml").write_text("out: x\n")
    with pytest.raises(UserError, match=r"data\.name is missing"):
        load_config(EvalConfig, tmp_path / "neither.yaml")
