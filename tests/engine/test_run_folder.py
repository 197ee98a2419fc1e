"""A run's folder: whole files, and no run on top of another."""

import os

import pytest

from amodalseg.atomic import write_whole
from amodalseg.config.schema import EvalConfig, SyntheticData, TrainConfig
from amodalseg.engine import run_folder
from amodalseg.errors import UserError


def config(folder, **changes):
    made = EvalConfig(out=str(folder), models=["modal"], data=SyntheticData(num_objects=2))
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def test_the_same_run_may_come_back_and_another_may_not(tmp_path):
    out = tmp_path / "deep" / "run"
    run_folder.claim(out, config(out))
    again = config(out)
    again.trainer.devices = 4  # on other hardware it is still the same run
    run_folder.claim(out, again)
    with pytest.raises(UserError, match=r"holds another run \(it differs in seed\)"):
        run_folder.claim(out, config(out, seed=3))


def test_a_folder_of_other_files_is_not_taken(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are no run"):
        run_folder.claim(tmp_path, config(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]
    with pytest.raises(UserError, match="is a file"):
        run_folder.claim(tmp_path / "thesis.txt", config(tmp_path))


def test_writing_leaves_the_old_file_when_it_is_interrupted(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def interrupted(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_provenance_names_the_versions():
    found = run_folder.provenance()
    assert found["versions"]["torch"][0].isdigit() and found["commit"]


def test_only_free_options_are_ignored():
    names = set(TrainConfig.__dataclass_fields__)
    assert all(option.split(".")[0] in names | {"overwrite"} for option in run_folder.FREE)
