"""Maliciously damaged model files: one line each; nothing is built or run before it is checked."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_contract import tiny

from amodalseg import UserError, load_model
from amodalseg.config.load import to_dict
from amodalseg.config.schema import AFGConfig
from amodalseg.models.weights import check_state, read_checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    model = tiny(afg=AFGConfig(kernel=1))
    model.save(path)
    return path, load_file(path), to_dict(model.config)


def refused(path, message):
    with pytest.raises(UserError, match=message) as error:
        load_model(path, "cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def write(folder, state, model, about="{}"):
    path = folder / "other.safetensors"
    save_file(state, path, {"format": "amodalseg-1", "model": model, "about": about})
    return path


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ('{"name": "mixed_context"}', "the options of 'mixed_context', which is not a network"),
        ('{"name": 5}', "the options of 5"), ("[]", "the options of 'list'"), ("null", "the options of 'NoneType'"),
        ('"text"', "the options of 'str'"), ("{}", "the options of None"), ("[" * 100_000, "no readable configuration"),
        ('{"name": "conddiff_amo", "dn": 5}', "dn is a section"),
        ('{"name": "conddiff_amo", "nn": 5}', "there is no option"),
        ('{"name": "conddiff_amo", "dn": {"dim": "${oc.env:HOME}"}}', "is not allowed"),
        ('{"name": "conddiff_amo", "dn": {"dim": -1}}', "invalid value"),
    ],
)  # fmt: skip
def test_invalid_options_are_refused(saved, tmp_path, model, message):
    refused(write(tmp_path, saved[1], model), message)


def test_options_are_compared_with_the_weights_before_allocating_memory(saved, tmp_path, monkeypatch):
    _, state, options = saved
    options = json.loads(json.dumps(options))
    options["dn"]["dim"] = 4096
    made = []
    empty = torch.nn.Module.register_parameter

    def counted(self, name, value):
        if value is not None and value.device.type != "meta":
            made.append(value.numel())
        return empty(self, name, value)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", counted)
    refused(write(tmp_path, state, json.dumps(options)), "holds another architecture")
    assert sum(made) < 1_000_000


def test_checked_files_load_the_same_weights(saved):
    path, state, _ = saved
    again = load_model(path, "cpu").network.state_dict()
    assert all(torch.equal(again[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    "spoil",
    [lambda value: value.to_sparse(), lambda value: value.to(torch.complex64), lambda value: "text",
     lambda value: [1.0], lambda value: None, lambda value: value.to(torch.int8)],
)  # fmt: skip
def test_weights_of_another_kind_are_refused(saved, tmp_path, spoil):
    network = tiny(afg=AFGConfig(kernel=1)).network
    state = dict(network.state_dict())
    name = next(key for key, value in state.items() if value.is_floating_point() and value.dim() > 1)
    with pytest.raises(UserError, match=rf"1 of its weights are not plain numbers \({name}\)"):
        check_state(network, {**state, name: spoil(state[name])}, tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "change",
    [{"amodalseg": 5}, {"amodalseg": {}}, {"amodalseg": {"model": []}}, {"state_dict": []}, {"state_dict": {5: 1}},
     {"global_step": "x"}],
)  # fmt: skip
def test_invalid_checkpoints_are_refused(tmp_path, change):
    whole = {"amodalseg": {"model": {"name": "conddiff_amo"}}, "state_dict": {}, "global_step": 1,
             "pytorch-lightning_version": "2"}  # fmt: skip
    torch.save({**whole, **change}, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match="was not written by an amodalseg training run"):
        read_checkpoint(tmp_path / "odd.ckpt")
    torch.save(whole, tmp_path / "odd.ckpt")
    assert read_checkpoint(tmp_path / "odd.ckpt")["global_step"] == 1
