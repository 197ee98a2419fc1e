"""Model files: exact round trip, and one clear line for every invalid file."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_contract import tiny

from amodalseg import UserError, load_model
from amodalseg.cli import main
from amodalseg.config.schema import AFGConfig, DNConfig, NetworkPostConfig
from amodalseg.engine.release import folders_named, without_folders
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.weights import load_state, read_weights, save_weights
from tests.refusals import refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = tiny(afg=AFGConfig(kernel=1))
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    model.save(path, {"step": 7})
    return model, path


def test_round_trip(saved):
    model, path = saved
    again = CondDiffAMO.load(path)
    assert again.config == model.config
    for (name, one), (other_name, other) in zip(
        model.network.state_dict().items(), again.network.state_dict().items(), strict=True
    ):
        assert name == other_name and torch.equal(one, other)
    assert read_weights(path)[2] == {"step": 7}
    assert not list(path.parent.glob(".*"))


def test_a_model_is_opened_from_a_folder_or_a_file(saved):
    _, path = saved
    assert load_model(path.parent, "cpu").config == load_model(path, "cpu").config


def test_truncated_files_are_refused(saved, tmp_path):
    content = saved[1].read_bytes()
    for length in (5, 200, len(content) // 2):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.safetensors is not a complete safetensors file"):
            load_model(tmp_path / "cut.safetensors", "cpu")


def test_a_pickle_is_refused_and_never_executed(tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return open, (str(marker), "w")

    for name in ("evil.safetensors", "evil.ckpt"):
        torch.save({"state_dict": Evil()}, tmp_path / name)
        with pytest.raises(UserError, match="is a pickle"):
            load_model(tmp_path / name, "cpu")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match="is a pickle"):
        load_model(tmp_path / "old.pt", "cpu")
    assert not marker.exists()


def test_a_valid_file_may_start_with_the_first_byte_of_a_pickle(tmp_path):
    """The first bytes are the length of the header, so that 0x80 is as likely as any other value."""
    model, path = tiny(), tmp_path / "model.safetensors"
    for length in range(0, 300, 4):
        model.save(path, {"note": "x" * length})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert load_model(path, "cpu").config == model.config


def test_others_may_read_the_file(saved):
    assert saved[1].stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_an_invalid_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.ckpt is (a pickle|damaged)"):
        load_model(tmp_path / "a.ckpt", "cpu")


def test_a_file_of_another_program_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="holds no amodalseg model"):
        load_model(tmp_path / "other.safetensors", "cpu")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not written by an amodalseg training run"):
        load_model(tmp_path / "other.ckpt", "cpu")


def test_another_architecture_is_refused(saved):
    model, path = saved
    with pytest.raises(UserError, match=r"another architecture: .* of another shape"):
        load_state(tiny(dn=DNConfig(dim=32), afg=AFGConfig(kernel=1)).network, model.network.state_dict(), path)
    with pytest.raises(UserError, match=r"another architecture: weights 6 missing \(.*\), 4 unknown"):
        load_state(tiny(afg=AFGConfig(enabled=False)).network, {**model.network.state_dict()}, path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convexhull", "did you mean 'convex_hull'"),
        ("absent.safetensors", "no model file at absent"),
        ("absent.ckpt", "no model file at absent"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        load_model(name)


def test_an_empty_folder_and_a_missing_device_are_refused(saved, tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="cannot be used here"):
        load_model(saved[1], "cuda:99")


def test_the_message_names_weights_that_do_not_match(saved):
    model, path = saved
    state = dict(model.network.state_dict())
    names = sorted(state)
    for name in names[:5]:
        del state[name]
    state["extra.one"] = torch.zeros(1)
    state[names[9]] = torch.zeros(3, 7)
    with pytest.raises(UserError) as caught:
        load_state(model.network, state, path)
    shown = f"5 missing ({', '.join(names[:3])}, ...), 1 unknown (extra.one), 1 of another shape ({names[9]} is 3x7"
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("amodalseg-0", "the format amodalseg-0, but this version reads amodalseg-1 only; save it again"),
        ("amodalseg-2", "the format amodalseg-2, but this version reads amodalseg-1 only; update amodalseg"),
        ("amodalseg-x", "holds no amodalseg model: its metadata says 'amodalseg-x'"),
    ],
)
def test_another_version_of_the_format_is_refused(saved, tmp_path, monkeypatch, found, message):
    monkeypatch.setattr("amodalseg.models.weights.FORMAT", found)
    saved[0].save(tmp_path / "other.safetensors")
    monkeypatch.undo()
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "other.safetensors", "cpu")


def test_half_precision_halves_the_file_size(saved, tmp_path):
    model, path = saved
    state = {name: value.clone() for name, value in model.network.state_dict().items()}
    large = next(name for name in state if name.endswith("proj.weight"))
    state[large] += 1e5  # beyond the range of float16
    save_weights(tmp_path / "half.safetensors", state, model.config, {"a": 1}, dtype="float16")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.56 * path.stat().st_size
    stored, config, about = read_weights(tmp_path / "half.safetensors")
    assert config == model.config and about == {"a": 1}
    kinds = {name: value.dtype for name, value in stored.items()}
    assert kinds[large] == torch.float32 and kinds["denoiser.decoder.0.0.weight"] == torch.float16
    assert all(kinds[name] == state[name].dtype for name in kinds if "running_" in name or "num_batches" in name)
    loaded = CondDiffAMO.load(tmp_path / "half.safetensors").network.state_dict()
    for name, value in state.items():
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-7)


def test_a_release(saved, tmp_path, capsys, monkeypatch):
    model, out = saved[0], tmp_path / "checkpoints/name.safetensors"
    monkeypatch.setenv("AMODALSEG_DATA", "/somewhere/data")
    model.save(tmp_path / "run/model.safetensors", {"step": 7, "train": {"root": "/somewhere/data/coco"}})
    command = ["release", str(tmp_path / "run"), "--out", str(out)]
    assert main([*command, "--about", "data=two photos", "seed=3"]) == 0
    assert "sha256" in capsys.readouterr().out and out.stat().st_size < 0.56 * saved[1].stat().st_size
    about = read_weights(out)[2]
    assert about.pop("commit") and about == {
        "step": 7, "train": {"root": "$AMODALSEG_DATA/coco"}, "data": "two photos", "seed": "3",
    }  # fmt: skip
    assert load_model(out, "cpu").about["seed"] == "3"
    assert main([*command, "--about", "seed"]) == 2
    assert main([*command[:3], str(tmp_path / "name.pt")]) == 2
    assert "not key=value" in (error := capsys.readouterr().err) and "ends in .safetensors" in error
    content = (own := tmp_path / "run/model.safetensors").read_bytes()
    refused(capsys, [*command[:3], str(own)], "would overwrite the weights that it is made from")
    refused(capsys, ["release", "modal", *command[2:]], "'modal' has no weights of its own: give conddiff_amo_lite, ")
    assert own.read_bytes() == content


@pytest.mark.parametrize(
    ("data", "cwd", "given", "wanted"),
    [
        ("/data", "/", "/data/coco", "$AMODALSEG_DATA/coco"),
        ("/data/", "/", "/data", "$AMODALSEG_DATA"),
        ("/data", "/home/project", "/data2/coco", "/data2/coco"),
        ("/data", "/home/project", "/data.old/coco and /data-2 and /mnt/data/x", None),
        ("/data", "/home/project", "root=/data/a in /data.", "root=$AMODALSEG_DATA/a in $AMODALSEG_DATA."),
        ("/data", "/home/project", "/home/project/outputs/run", "./outputs/run"),
        ("/data", "/home/project", "/home/projects/run", None),
        ("/home/project/data", "/home/project", "/home/project/data/a", "$AMODALSEG_DATA/a"),
        ("/", "/", "/data/coco", None),
        ("data", "/home/project", "data/coco", None),
        (None, "/", "/data/coco", None),
    ],
)
def test_a_release_contains_no_local_paths(monkeypatch, data, cwd, given, wanted):
    monkeypatch.setattr(os, "getcwd", lambda: cwd)
    monkeypatch.delenv("AMODALSEG_DATA", raising=False)
    if data is not None:
        monkeypatch.setenv("AMODALSEG_DATA", data)
    wanted = given if wanted is None else wanted
    known = {"data": [{"root": given}], "step": 3, "best": None}
    found = without_folders(known)
    assert found == {"data": [{"root": wanted}], "step": 3, "best": None}
    assert [*folders_named(found)] == [part for part in wanted.split() if part[0] == "/" and part.count("/") > 1]


def test_a_release_names_runs_without_their_folders(monkeypatch):
    monkeypatch.delenv("AMODALSEG_DATA", raising=False)
    known = {"train": {"out": "/mnt/disk/runs/lite", "init": "/mnt/disk/runs/first/last.ckpt", "continue_from": None}}
    assert without_folders(known) == {"train": {"out": "lite", "init": "first/last.ckpt", "continue_from": None}}
    assert without_folders({"out": "outputs/lite", "init": ""}) == {"out": "outputs/lite", "init": ""}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_one_non_finite_weight_is_refused(saved, tmp_path, value, dtype):
    state, config, about = read_weights(saved[1])
    state = {key: tensor.clone() for key, tensor in state.items()}
    names = [key for key, tensor in state.items() if tensor.is_floating_point()]
    for name in (names[0], names[-1], next(key for key in names if key.endswith("running_var"))):
        spoilt = {**state, name: state[name].clone()}
        spoilt[name].view(-1)[-1] = value
        save_weights(tmp_path / "bad.safetensors", spoilt, config, about, dtype=dtype)
        with pytest.raises(UserError, match=rf"bad\.safetensors .* 1 of \d+ weights hold NaN or infinity \({name}\)"):
            load_model(tmp_path / "bad.safetensors", "cpu")


def test_overflowing_predictions_are_refused(saved):
    model = CondDiffAMO.load(saved[1])
    with torch.no_grad():
        model.network.denoiser.decoder[-1].bias.fill_(float("nan"))
    image, modal = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), bool)
    modal[5:20, 5:20] = True
    with pytest.raises(UserError, match="computes NaN or infinity"):
        model.predict(image, modal)


def test_a_release_can_be_the_mean_of_two_models(saved, tmp_path, capsys):
    first, config, about = read_weights(saved[1])
    second = {key: value + 1 if value.is_floating_point() else value for key, value in first.items()}
    save_weights(tmp_path / "second.safetensors", second, config, about)
    command = ["release", str(saved[1]), "--out", str(tmp_path / "mean.safetensors"), "--mean-with"]
    assert main([*command, str(tmp_path / "second.safetensors"), "--share", "0.25"]) == 0
    found = read_weights(tmp_path / "mean.safetensors")[0]
    for key, value in first.items():
        wanted = value + 0.25 if value.is_floating_point() else value
        assert torch.allclose(found[key].to(wanted.dtype), wanted, atol=2e-3, rtol=1e-3), key
    capsys.readouterr()
    # options of training and thresholding may differ, and the windows, those of the noise schedule may not
    window = replace(config.window, size=2 * config.window.size)
    cautious = replace(config, post=NetworkPostConfig(threshold=0.4), window=window)
    cautious = replace(cautious, diff=replace(config.diff, t_dist="beta"))
    save_weights(tmp_path / "second.safetensors", second, cautious, about)
    assert main([*command, str(tmp_path / "second.safetensors")]) == 0
    capsys.readouterr()
    save_weights(tmp_path / "other.safetensors", second, replace(config, gauss=replace(config.gauss, shift=1.0)), about)
    for model, share, part in (
        ("other", "0.5", "has other options (gauss.shift)"),
        ("second", "1", "invalid value for --share"),
    ):
        refused(capsys, [*command, str(tmp_path / f"{model}.safetensors"), "--share", share], part)


def test_options_of_a_release(saved, tmp_path, capsys):
    command = ["release", str(saved[1]), "--out", str(tmp_path / "fast.safetensors"), "--set"]
    assert main([*command, "sampler.steps=2", "post.threshold=0.7"]) == 0
    model = load_model(tmp_path / "fast.safetensors", "cpu")
    assert (model.config.sampler.steps, model.config.post.threshold) == (2, 0.7)
    capsys.readouterr()
    for wrong, part in (
        ("gauss.shift=0", "override.gauss cannot change after training"),
        ("post.threshold=2", "post.threshold"),
        ("steps", "steps"),
        ("steps=3", "--set steps: 'conddiff_amo' has no such option"),  # an option of a prior
    ):
        refused(capsys, [*command, wrong], part)
