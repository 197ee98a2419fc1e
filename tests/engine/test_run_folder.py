"""A run's folder: files are complete, and no run overwrites another."""

import os

import pytest

from amodalseg.atomic import write_whole
from amodalseg.config.schema import EditConfig, EvalConfig, SyntheticData, TrainConfig
from amodalseg.engine import run_folder
from amodalseg.errors import UserError


def config(folder, **changes):
    made = EvalConfig(out=str(folder), models=["modal"], data=SyntheticData(num_objects=2))
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def test_only_the_same_run_may_use_a_folder_again(tmp_path):
    out = tmp_path / "deep" / "run"
    run_folder.claim(out, config(out))
    again = config(out)
    again.trainer.devices = 4  # the number of devices does not make it another run
    run_folder.claim(out, again)
    (out / "objects.csv").touch()
    run_folder.claim(out, again)
    with pytest.raises(UserError, match=r"holds another run \(it differs in seed\)"):
        run_folder.claim(out, config(out, seed=3))


def test_options_added_in_later_versions_do_not_make_it_another_run(tmp_path):
    run_folder.claim(tmp_path, config(tmp_path))
    (tmp_path / "objects.csv").touch()
    written = tmp_path / "config.yaml"
    older = "".join(line for line in written.read_text().splitlines(True) if "num_samples" not in line)
    assert older != written.read_text()
    written.write_text(older)
    run_folder.check_folder(tmp_path, config(tmp_path))  # the default value is the behaviour without the option
    with pytest.raises(UserError, match=r"differs in num_samples"):
        run_folder.check_folder(tmp_path, config(tmp_path, num_samples=2))


def test_a_start_that_failed_may_be_corrected(tmp_path):
    run_folder.claim(tmp_path, config(tmp_path))
    run_folder.claim(tmp_path, config(tmp_path, seed=3))
    assert "seed: 3" in (tmp_path / "config.yaml").read_text()


def test_partial_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".config.yaml.7.part").write_text("half")
    (tmp_path / ".last.ckpt.7.part").write_text("half")
    run_folder.claim(tmp_path, config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run_folder.claim(tmp_path, config(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"- 1", b"a: [", b"\xff\xfe"])
def test_a_folder_with_a_damaged_configuration_is_refused(tmp_path, content):
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match="the run cannot be identified"):
        run_folder.claim(tmp_path, config(tmp_path))


def test_a_folder_with_unrelated_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are not a run"):
        run_folder.claim(tmp_path, config(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]
    with pytest.raises(UserError, match="is a file"):
        run_folder.claim(tmp_path / "thesis.txt", config(tmp_path))


def test_interrupted_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def interrupted(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_whole(tmp_path / "file" / "inside.txt", "x")


def test_provenance_names_the_versions():
    found = run_folder.provenance()
    assert found["versions"]["torch"][0].isdigit() and found["commit"]


def test_ignored_options_exist_in_the_configurations():
    kinds = (TrainConfig, EvalConfig, EditConfig)
    names = {name for kind in kinds for name in kind.__dataclass_fields__}
    assert all(option.split(".")[0] in names for option in run_folder.FREE)


def test_a_longer_run_is_told_how_to_continue(tmp_path):
    made = TrainConfig(out=str(tmp_path), data=SyntheticData(num_objects=2), val=SyntheticData(num_objects=2))
    run_folder.claim(tmp_path, made)
    (tmp_path / "last.ckpt").touch()
    made.trainer.max_steps = 7
    with pytest.raises(UserError, match=rf"differs in trainer.max_steps.*continue_from={tmp_path}, or init={tmp_path}"):
        run_folder.check_folder(tmp_path, made)
