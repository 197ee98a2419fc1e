"""Configuration files from others: YAML bombs, devices, pipes, and access to the environment."""

import os

import pytest

from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig
from amodalseg.errors import UserError

HEAD = "models: [box]\nout: x\ndata: {name: synthetic}\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
CONTENTS = {
    "aliases": (LAUGHS, "expands to more than 50000 values"),
    "flow": (f"seed: {'[' * 5000}", "deeper than 40|not valid YAML"),
    "maps": ("seed: " + "{a: " * 200 + "1" + "}" * 200, "deeper than 40"),
    "long": ("# " + "x" * 2_000_000, "more than 1 MB"),
    "itself": ("seed: &a [*a]", "."),
    "base": ("base: ../../etc/passwd", "which is not a configuration"),
    "tag": ("seed: !!python/object/apply:os.system ['touch ran']", "not valid YAML"),
    "date": ("seed: 2001-99-99", "."),
    "home": ("seed: ${oc.env:HOME}", r"\$\{oc.env:HOME\}' is not allowed"),
    "nested": ("seed: ${oc.env:${out}}", "is not allowed"),
    "through": ("seed: ${${out}.env:HOME}", "is not allowed"),
    "decode": ("seed: ${oc.decode:5}", "is not allowed"),
    "key": ("loader: {batch_size: '${oc.env:PATH}'}", "is not allowed"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_hostile_content_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, message = CONTENTS[name]
    (tmp_path / "a.yaml").write_text(HEAD + content)
    with pytest.raises(UserError, match=message) as error:
        load_config(EvalConfig, tmp_path / "a.yaml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000 and not (tmp_path / "ran").exists()
    assert os.environ["PATH"] not in str(error.value)


def test_project_variables_and_references_to_options_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("AMODALSEG_PLACE", "here")
    (tmp_path / "a.yaml").write_text(HEAD + "log: {}\nseed: 3\n".replace("log: {}\n", ""))
    (tmp_path / "b.yaml").write_text(
        "base: a.yaml\nout: ${oc.env:AMODALSEG_PLACE}/${oc.env:AMODALSEG_ABSENT,there}/${data.name}"
    )
    assert load_config(EvalConfig, tmp_path / "b.yaml").out == "here/there/synthetic"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_read(tmp_path, kind):
    base = tmp_path / "b.yaml"
    if kind == "pipe":
        os.mkfifo(base)
    else:
        base.symlink_to("/dev/zero")
    (tmp_path / "a.yaml").write_text(f"base: b.yaml\n{HEAD}")
    with pytest.raises(UserError, match="not a regular file, but a device, a pipe or a socket"):
        load_config(EvalConfig, tmp_path / "a.yaml")


def test_endless_chains_of_base_files_are_refused(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml\n{HEAD}")
    with pytest.raises(UserError, match="or a chain of more than 20 files"):
        load_config(EvalConfig, tmp_path / "0.yaml")
