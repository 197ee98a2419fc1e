"""Model files: exact round trip, and one clear line for every file that is none."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from test_contract import tiny

from amodalseg import UserError, load_model
from amodalseg.config.schema import AFGConfig, DNConfig
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.weights import load_state, read_weights


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


def test_a_folder_or_a_file_is_a_model(saved):
    _, path = saved
    assert load_model(path.parent, "cpu").config == load_model(path, "cpu").config


def test_truncated(saved, tmp_path):
    content = saved[1].read_bytes()
    for length in (5, 200, len(content) // 2):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.safetensors is no complete safetensors file"):
            load_model(tmp_path / "cut.safetensors", "cpu")


def test_a_pickle_is_refused_and_never_run(tmp_path):
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


def test_a_file_whose_first_byte_is_that_of_a_pickle(tmp_path):
    """The first bytes are the length of the header, which depends on the texts inside: 0x80 is as likely as others."""
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
def test_a_checkpoint_that_is_none(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.ckpt is (a pickle|damaged)"):
        load_model(tmp_path / "a.ckpt", "cpu")


def test_another_programs_file(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="holds no amodalseg model"):
        load_model(tmp_path / "other.safetensors", "cpu")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not written by an amodalseg training run"):
        load_model(tmp_path / "other.ckpt", "cpu")


def test_another_architecture(saved):
    model, path = saved
    with pytest.raises(UserError, match=r"another architecture: .* of another shape"):
        load_state(tiny(dn=DNConfig(dim=32), afg=AFGConfig(kernel=1)).network, model.network.state_dict(), path)
    with pytest.raises(UserError, match=r"another architecture: 6 weights missing, 4 unknown"):
        load_state(tiny(afg=AFGConfig(enabled=False)).network, {**model.network.state_dict()}, path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convexhull", "did you mean 'convex_hull'"),
        ("absent.safetensors", "no model file at absent"),
        ("absent.ckpt", "no model file at absent"),
    ],
)
def test_names_that_are_none(name, message):
    with pytest.raises(UserError, match=message):
        load_model(name)


def test_an_empty_folder_and_a_missing_device(saved, tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="cannot be used here"):
        load_model(saved[1], "cuda:99")
