"""How runs end and resume: the line with the score, a run that has already ended, and one run at Weights & Biases."""

import re
from types import SimpleNamespace

import pytest
import torch

from amodalseg.cli import main
from amodalseg.config.schema import CondDiffAMOConfig, TrainConfig
from amodalseg.engine.training import ending, train
from amodalseg.engine.training.callbacks import Validation
from amodalseg.models.conddiff_amo import module
from tests.engine.journeys import run_program, train_arguments

SHORT = ["trainer.max_steps=4", "checkpoint.every_steps=1", "checkpoint.val_every_steps=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "short"
    assert main(train_arguments(out, *SHORT)) == 0
    return out


def test_a_run_prints_its_score_without_a_progress_bar(tmp_path, capsys):
    assert main(train_arguments(tmp_path / "run", *SHORT)) == 0
    line = capsys.readouterr().out.splitlines()[-2]
    found = re.fullmatch(r".*run: 4 steps done, best per_object_occluded\.occluded (0\.\d{4}) at step ([24])", line)
    assert found, line
    best = torch.load(tmp_path / "run/last.ckpt", weights_only=True)["callbacks"]["Validation"]
    assert float(found[1]) == pytest.approx(best["best"], abs=1e-4) and int(found[2]) == best["best_step"]


@pytest.mark.parametrize(("keep", "saved"), [("best", [2, 6]), ("last", [2, 4, 6, 8])])
def test_kept_weights_are_the_best_or_the_last_ones(keep, saved, tmp_path):
    config = TrainConfig(out="run", model=CondDiffAMOConfig(), data=None, val=None)
    config.checkpoint.keep = keep
    validation, found = Validation(config, tmp_path), []
    validation.save = lambda module, step, scores: found.append(step)
    for step, value in ((2, 0.5), (4, 0.4), (6, 0.6), (8, 0.1)):
        trainer = SimpleNamespace(global_step=step, is_global_zero=True)
        validation._keep_best(trainer, None, {"per_object_occluded": {"occluded": value}})
    assert found == saved
    line = ending.score_line(config, 8, validation.best, validation.best_step)
    assert line.endswith("best per_object_occluded.occluded 0.6000 at step 6" if keep == "best" else
                         "last per_object_occluded.occluded 0.1000 at step 8")  # fmt: skip


def test_a_finished_run_is_reported_without_opening_data(finished, monkeypatch, capsys):
    def opened(*_):
        raise AssertionError("a finished run needs no data")

    monkeypatch.setattr("amodalseg.data.data_module.open_source", opened)
    monkeypatch.setattr(train, "_trainer", opened)
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert main(train_arguments(finished, *SHORT)) == 0
    printed = capsys.readouterr().out
    assert "already finished; " in printed and "4 steps done, best per_object_occluded.occluded 0." in printed
    assert f"model: {finished / 'model.safetensors'}" in printed
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_run_that_reached_its_time_limit_is_finished(tmp_path, capsys):
    arguments = train_arguments(tmp_path / "run", "trainer.max_time=0.0001", "trainer.max_steps=5000")
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 0
    assert "already finished; " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("step", "error", "says"),
    [
        (0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "memory ran out at step 0: give "
         "loader.batch_size less than 2 and trainer.accumulate more; a smaller"),
        (3, RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
         "trainer.accumulate more, with continue_from={out} and another out="),
        (3, RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
         "a loader worker has ended, probably because memory ran out"),
    ],
)  # fmt: skip
def test_what_to_do_when_memory_runs_out(tmp_path, monkeypatch, capsys, step, error, says):
    whole = module.CondDiffAMOModule.training_step

    def breaks(self, batch, batch_idx):
        if self.global_step == step:
            raise error
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", breaks)
    assert main(train_arguments(tmp_path / "run", *SHORT, "checkpoint.every_steps=2")) == 2
    told = capsys.readouterr().err
    assert says.format(out=tmp_path / "run") in told and told.startswith("error: ") and told.count("\n") == 1


def test_the_score_line_of_a_run_without_figures(finished):
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import TrainConfig

    config = load_config(TrainConfig, finished / "config.yaml")
    assert ending.score_line(config, 3, None, -1).endswith("short: 3 steps done, no validation")
    assert "no validation has per_object_occluded.occluded; the newest" in ending.score_line(config, 3, None, 2)


def test_a_resumed_run_is_the_same_run_at_weights_and_biases(tmp_path, monkeypatch):
    out = tmp_path / "run"
    whole = module.CondDiffAMOModule.training_step

    def breaks(self, batch, batch_idx):
        if self.global_step == 2:
            raise KeyboardInterrupt
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", breaks)
    arguments = train_arguments(out, *SHORT, "log.wandb=offline")
    assert main(arguments) == 130
    name = (out / "wandb_id.txt").read_text().strip()
    monkeypatch.undo()
    assert main(arguments) == 0
    assert (out / "wandb_id.txt").read_text().strip() == name
    runs = sorted(path.name for path in (out / "wandb").glob("offline-run-*"))
    assert runs and {run.rpartition("-")[2] for run in runs} == {name}
    other = train_arguments(tmp_path / "other", *SHORT[1:], "trainer.max_steps=1", "log.wandb=offline")
    assert main(other) == 0
    assert (tmp_path / "other/wandb_id.txt").read_text().strip() != name


def test_two_processes_end_at_the_same_step_and_print_everything_once(tmp_path):
    """With separate clocks they would diverge, and one would wait for the other forever."""
    # two objects in one batch: the second process has nothing to validate
    options = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=1000000", "trainer.max_time=0.02"]
    done = run_program(train_arguments(tmp_path / "two", *SHORT[1:], *options, "val.num_objects=2"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two/model.safetensors").is_file()
    steps = torch.load(tmp_path / "two/last.ckpt", weights_only=True)["global_step"]
    assert 0 < steps < 1000000
    assert "sync_dist" not in done.stderr and "sync_dist" not in done.stdout
    printed = [line for line in [*done.stdout.splitlines(), *done.stderr.splitlines()] if line.strip()]
    assert len(printed) == len(set(printed)), printed
    assert sum(f"the time limit was reached after {steps} of 1000000 steps" in line for line in printed) == 1
    assert sum(f"{steps} steps done, best" in line for line in printed) == 1
    assert sum(line.startswith("model: ") for line in printed) == 1
