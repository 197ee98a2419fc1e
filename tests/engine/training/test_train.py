"""Training through the command line: its outputs, exact resuming, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from amodalseg import load_model
from amodalseg.cli import main
from amodalseg.engine.training.train import validation_interval
from amodalseg.models import mask_training
from amodalseg.models.conddiff_amo import module
from tests.engine.journeys import ROOT, assert_same_weights, read_csv, train_arguments
from tests.worlds import coco_world, cocoa_world


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run."""
    out = tmp_path_factory.mktemp("run") / "whole"
    assert main(train_arguments(out)) == 0
    return out


def test_a_run_writes_all_its_files(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {"config.yaml", "last.ckpt", "model.safetensors", "metrics", "pictures"}
    assert sorted(path.name for path in (finished / "pictures").iterdir()) == ["step_0000006.png", "step_0000012.png"]
    rows = read_csv(finished / "metrics/version_0/metrics.csv")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 12 and np.isfinite(losses).all()
    assert sum(bool(row["val/per_object_occluded/occluded"]) for row in rows) == 2
    with safe_open(finished / "model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "amodalseg-1" and "per_object_occluded" in file.metadata()["about"]


def test_the_model_file_predicts(finished):
    image, modal = np.zeros((50, 70, 3), np.uint8), np.zeros((50, 70), bool)
    modal[10:30, 20:50] = True
    prediction = load_model(finished, "cpu").predict(image, modal, seed=1)
    assert prediction.amodal.shape == (50, 70) and (prediction.amodal & modal == modal).all()
    again = load_model(finished / "last.ckpt", "cpu").predict(image, modal, seed=1)
    assert again.probability.shape == (50, 70)


@pytest.mark.parametrize("step", [4, 7, 9, 11])
def test_an_interrupted_and_resumed_run_ends_with_the_same_weights(finished, tmp_path, monkeypatch, step):
    """Saved at steps 3, 6, 9; validated at 6 and 12. Interrupted in between, after a validation, after a save."""
    out = tmp_path / "broken"
    whole = module.CondDiffAMOModule.training_step

    def breaks(self, batch, batch_idx):
        if self.global_step == step:
            raise RuntimeError("power cut")
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        main(train_arguments(out))
    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", whole)
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == step // 3 * 3
    assert main(train_arguments(out)) == 0
    assert_same_weights(finished / "last.ckpt", out / "last.ckpt")
    one, other = (load_file(folder / "model.safetensors") for folder in (finished, out))
    assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())
    assert len(list((out / "pictures").iterdir())) == 2


def test_two_interruptions_of_a_run_that_accumulates(tmp_path, monkeypatch):
    """The second interruption is in the middle of a step, right after resuming for the first time."""
    options = ["trainer.accumulate=2", "trainer.max_steps=6"]
    assert main(train_arguments(tmp_path / "whole", *options)) == 0
    original = module.CondDiffAMOModule.training_step
    for step, half in [(4, 0), (3, 1)]:

        def breaks(self, batch, batch_idx, step=step, half=half):
            if (self.global_step, batch_idx % 2) == (step, half):
                raise RuntimeError("power cut")
            return original(self, batch, batch_idx)

        monkeypatch.setattr(module.CondDiffAMOModule, "training_step", breaks)
        with pytest.raises(RuntimeError, match="power cut"):
            main(train_arguments(tmp_path / "broken", *options))
    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", original)
    assert main(train_arguments(tmp_path / "broken", *options)) == 0
    assert_same_weights(tmp_path / "whole/last.ckpt", tmp_path / "broken/last.ckpt")


def test_a_job_that_slurm_queues_again_resumes_exactly(finished, tmp_path, monkeypatch, capfd):
    """The signal comes in the middle of a step, before the first checkpoint, and the job is killed soon after."""
    scontrol, out = tmp_path / "bin/scontrol", tmp_path / "run"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    job = {"NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_ID": 77, "JOB_NAME": "train"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    whole = module.CondDiffAMOModule.training_step

    def signalled(self, batch, batch_idx):
        if self.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
            raise RuntimeError("killed")
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", signalled)
    with pytest.raises(RuntimeError, match="killed"):
        main(train_arguments(out))
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert "SLURM job 77 is queued again" in capfd.readouterr().err
    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", whole)
    assert main(train_arguments(out)) == 0
    assert_same_weights(finished / "last.ckpt", out / "last.ckpt")
    assert {path.name for path in out.iterdir()} == {path.name for path in finished.iterdir()}


def test_a_run_cannot_resume_with_another_number_of_processes(tmp_path, capsys, monkeypatch):
    assert main(train_arguments(tmp_path / "a", "trainer.max_steps=3")) == 0
    checkpoint = torch.load(tmp_path / "a/last.ckpt", weights_only=True)
    checkpoint["amodalseg"].update(world=8, num_steps=9)  # not finished
    torch.save(checkpoint, tmp_path / "a/last.ckpt")
    assert main(train_arguments(tmp_path / "a", "trainer.max_steps=3")) == 2
    assert "saved by 8 processes and cannot be resumed with 1" in capsys.readouterr().err


def test_resuming_with_changed_data_is_reported(tmp_path, capsys):
    annotations, photos = coco_world(tmp_path / "world")
    held_out, val_photos = coco_world(tmp_path / "val")
    plain = [
        argument for argument in train_arguments(tmp_path / "run", "trainer.max_steps=4")
        if not argument.startswith(("data.", "val."))
    ]  # fmt: skip
    arguments = [
        *plain, "data.name=coco_occlude", f"data.annotations=[{annotations}]", f"data.images=[{photos}]",
        "data.occlude.min_area=0.001", "data.num_objects=8", "val.name=coco_occlude", "val.occlude.min_area=0.001",
        f"val.annotations=[{held_out}]", f"val.images=[{val_photos}]", "val.num_objects=2",
    ]  # fmt: skip
    assert main(arguments) == 0
    checkpoint = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    checkpoint["amodalseg"]["num_steps"] = 9  # as if it were not finished
    torch.save(checkpoint, tmp_path / "run/last.ckpt")
    assert main(arguments) == 0, "the same data"
    last = (tmp_path / "run/last.ckpt").read_bytes()
    capsys.readouterr()

    def error_without_last_annotation(path, command):
        whole = path.read_text()
        content = json.loads(whole)
        content["annotations"].pop()
        path.write_text(json.dumps(content))
        assert main(command) == 2
        path.write_text(whole)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and (tmp_path / "run/last.ckpt").read_bytes() == last
        return error

    error = error_without_last_annotation(annotations, arguments)
    assert "training data have changed since" in error and "18 and 17 objects" in error and "init=" in error
    error = error_without_last_annotation(held_out, arguments)
    assert "validation data have changed since" in error and "18 and 17 objects" in error and "continue_from=" in error
    # a run that continues this one may be validated on other data
    branch = [*arguments, f"out={tmp_path / 'branch'}", f"continue_from={tmp_path / 'run'}"]
    assert "this run ends at 4" in error_without_last_annotation(held_out, branch)


def test_removed_weights_of_a_finished_run_are_restored(tmp_path):
    arguments = train_arguments(tmp_path / "a", "trainer.max_steps=3", "checkpoint.val_every_steps=3")
    assert main(arguments) == 0
    weights = tmp_path / "a/model.safetensors"
    before = load_file(weights)
    weights.unlink()
    assert main(arguments) == 0
    after = load_file(weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_objects_without_visible_pixels_are_excluded_from_training(tmp_path, capsys):
    root = cocoa_world(tmp_path / "cocoa")
    arguments = [
        a for a in train_arguments(tmp_path / "run", "trainer.max_steps=3") if not a.startswith(("data.", "val."))
    ]
    data = ["name=cocoa", f"root={root}", "split=val"]
    assert main([*arguments, *(f"{section}.{key}" for section in ("data", "val") for key in data)]) == 0
    assert "2 training objects have no visible pixels and are excluded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option",
    ["trainer.devices=3x", "trainer.accelerator=foo", "trainer.strategy=foo", "trainer.precision=16-mixed",
     "checkpoint.monitor=mean_bucket.full", "model.dn.dim=20", "loader.batch_size=1"],
)  # fmt: skip
def test_a_refused_start_leaves_no_files(tmp_path, capsys, option):
    assert main(train_arguments(tmp_path / "x", option)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_kill_9_in_the_middle_of_an_epoch(finished, tmp_path):
    out = tmp_path / "killed"
    arguments = train_arguments(out)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments[1:]], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while not (out / "last.ckpt").exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert main(arguments) == 0
    assert_same_weights(finished / "last.ckpt", out / "last.ckpt")


def test_a_finished_run_is_not_changed_by_its_command(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("model.safetensors")}
    assert main(train_arguments(finished)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_non_finite_loss_stops_the_run_and_names_the_objects(tmp_path, monkeypatch, capsys):
    def nan(logits, target, config, *_):
        return logits.sum() * float("nan"), {"bce": torch.zeros(()), "iou": torch.zeros(())}

    monkeypatch.setattr(mask_training, "amodal_loss", nan)
    assert main(train_arguments(tmp_path / "nan")) == 2
    error = capsys.readouterr().err
    assert "not finite at step 0" in error and "synthetic/train/" in error


def test_weights_that_are_not_finite_do_not_replace_the_last_checkpoint(tmp_path, monkeypatch, capsys):
    """The loss of the fifth step is finite, its gradient is not, and a checkpoint is due right after it."""
    whole, options = module.CondDiffAMOModule.training_step, ["checkpoint.every_steps=2", "trainer.max_steps=8"]

    def breaks(self, batch, batch_idx):
        if self.global_step == 5:
            next(self.network.parameters()).register_hook(lambda gradient: gradient * float("nan"))
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", breaks)
    assert main(train_arguments(tmp_path / "nan", *options, "checkpoint.val_every_steps=8")) == 2
    error = capsys.readouterr().err
    assert "the weights are not finite after step 6" in error and error.count("\n") == 1
    kept = torch.load(tmp_path / "nan/last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in kept["current_model_state"].values())


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["checkpoint.monitor=iou.full"], "invalid value for checkpoint.monitor: iou.full"),
        (["optim.lrr=1"], "did you mean 'optim.lr'"),
        (["val.name=coco", "val.annotations=[a]", "val.images=[b]"], "modal masks only"),
        (["init=nobody"], "there is no model 'nobody'"),
        (["val.name=cocoa", "val.root=nowhere"], "error: validation data: cannot read nowhere"),
    ],
)
def test_invalid_configurations_are_refused(tmp_path, capsys, overrides, part):
    base = [a for a in train_arguments(tmp_path / "x") if not a.startswith("val.") or overrides[0][:4] != "val."]
    assert main([*base, *overrides]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1
    assert not (tmp_path / "x" / "last.ckpt").exists()


def test_another_run_in_the_same_folder_is_refused(finished, capsys):
    assert main(train_arguments(finished, "optim.lr=0.5")) == 2
    assert "holds another run (it differs in optim.lr)" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_refused(finished, tmp_path, capsys):
    out = tmp_path / "cut"
    assert main(train_arguments(out, "trainer.max_steps=3")) == 0
    content = (out / "last.ckpt").read_bytes()
    (out / "last.ckpt").write_bytes(content[: len(content) // 2])
    assert main(train_arguments(out, "trainer.max_steps=3")) == 2
    assert "damaged or truncated" in capsys.readouterr().err


def test_validations_are_spaced_evenly_and_end_with_the_run():
    assert validation_interval(1000, 250, 1) == 250
    assert validation_interval(625, 1000, 1) == 625
    assert validation_interval(625, 313, 2) == 312 * 2
    for total, every in [(999, 100), (50, 7), (3, 1000), (10, 1)]:
        interval = validation_interval(total, every, 1)
        assert total - interval < (total // interval) * interval <= total
