"""The processes of a run: at most one per device or core, and the failure of one is reported in one sentence."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from amodalseg.config.schema import CondDiffAMOConfig, TrainConfig, TrainerConfig
from amodalseg.engine import distributed
from amodalseg.engine.distributed import accelerator_of, check_processes, peers_watched
from amodalseg.engine.training import train
from amodalseg.engine.training.callbacks import Validation
from amodalseg.errors import UserError
from tests.engine.journeys import ROOT, train_arguments
from tests.refusals import refused


def test_more_processes_than_cores_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for devices in ("auto", 1, 4, "4", [0, 1]):
        check_processes(TrainerConfig(accelerator="cpu", devices=devices))
    for devices in (5, "5"):
        with pytest.raises(UserError, match="would start 5 processes on a machine of 4 CPU cores"):
            check_processes(TrainerConfig(accelerator="cpu", devices=devices))
    check_processes(TrainerConfig(accelerator="gpu", devices=999))  # Lightning checks the number of GPUs
    for command in (train_arguments(tmp_path / "x"), ["eval", "synthetic", f"out={tmp_path / 'x'}"]):
        given = [*command, "trainer.accelerator=cpu", "trainer.devices=999"]
        refused(capsys, given, "trainer.devices=999 would start 999 processes")
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_notebook", "fsdp", "deepspeed_stage_2"])
def test_strategies_that_copy_the_program_or_split_the_weights_are_refused(strategy):
    with pytest.raises(UserError, match=f"trainer.strategy={strategy} cannot be used.*give ddp"):
        check_processes(TrainerConfig(strategy=strategy))
    check_processes(TrainerConfig(strategy="ddp_find_unused_parameters_true"))


WAIT = """
import subprocess, sys, time
from types import SimpleNamespace
from amodalseg.engine.distributed import peers_watched
code = "import os, signal, sys; " + sys.argv[1]
dies, lives = (subprocess.Popen([sys.executable, "-c", text]) for text in (code, "import time; time.sleep(100)"))
print(lives.pid, flush=True)
with peers_watched(SimpleNamespace(procs=[lives, dies]), lambda: "the same command goes on"):
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "was killed (SIGKILL)"), ("sys.exit(3)", "has ended with exit code 3")],
)
def test_the_failure_of_a_process_ends_the_run_with_one_sentence(code, says):
    done = subprocess.run([sys.executable, "-c", WAIT, code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: rank 2 (process ") and done.stderr.count("\n") == 1
    assert f"{says}: the same command goes on" in done.stderr
    for _ in range(200):  # the other one ends too
        try:
            os.kill(int(done.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.kill(int(done.stdout), signal.SIGKILL)
    raise AssertionError("a process of the run is left")


def test_a_lost_connection_is_one_sentence_and_other_errors_are_raised(monkeypatch):
    monkeypatch.setattr(distributed, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 1)
    with (
        pytest.raises(UserError, match="rank 1 has lost another process of the run: begin anew"),
        peers_watched(None, lambda: "begin anew"),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="shape"), peers_watched(None, lambda: ""):
        raise RuntimeError("the shape is wrong")


def test_processes_that_end_with_an_interrupted_run_are_not_reported(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "POLL_SECONDS", 0.01)
    ended = SimpleNamespace(poll=lambda: 1, pid=1, kill=lambda: None)
    with peers_watched(SimpleNamespace(procs=[ended]), lambda: "", lambda: True):
        time.sleep(0.1)
    assert not capsys.readouterr().err


def test_automatically_an_apple_gpu_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("lightning.pytorch.accelerators.MPSAccelerator.is_available", lambda: True)
    config = TrainConfig(out="run", model=CondDiffAMOConfig(), data=None, val=None)
    trainer = train._trainer(config, tmp_path, Validation(config, tmp_path))
    assert trainer.strategy.root_device.type == "cpu"
    assert accelerator_of(TrainerConfig(accelerator="mps")) == "mps", "whoever asks for it may try it"
