"""End of a training run: its score, whether it had finished before, memory that ran out, the Weights & Biases id."""

from __future__ import annotations

import secrets
from pathlib import Path

from amodalseg.atomic import write_whole
from amodalseg.config.schema import TrainConfig
from amodalseg.engine.evaluation.ask import is_short_of_memory
from amodalseg.engine.training.callbacks import Validation
from amodalseg.engine.training.tasks import task_of
from amodalseg.engine.training.time_limit import TimeLimit
from amodalseg.models.weights import read_checkpoint

WANDB_FILE = "wandb_id.txt"
"""File in the run folder with the Weights & Biases run that a continuation belongs to."""


def score_line(config: TrainConfig, step: int, best: float | None, best_step: int) -> str:
    """The result of a run in one line.

    Args:
        config: of the run.
        step: number of completed optimiser steps.
        best: the figure of ``checkpoint.monitor`` for the kept weights, None if no validation had it.
        best_step: the step of that validation, -1 if there was none.
    """
    monitor = config.checkpoint.monitor
    if best_step < 0:
        return f"{config.out}: {step} steps done, no validation"
    kept = config.checkpoint.keep
    figure = (
        f"{kept} {monitor} {best:.4f}" if best is not None else f"no validation has {monitor}; the newest weights are"
    )
    return f"{config.out}: {step} steps done, {figure} at step {best_step}"


def already_finished(config: TrainConfig, folder: Path) -> str | None:
    """The line of a finished run, from its checkpoint alone; None for an unfinished one.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    last = folder / "last.ckpt"
    if not last.exists() or not (folder / task_of(config).weights).exists() or not config.checkpoint.resume:
        return None
    checkpoint = read_checkpoint(last)
    step, callbacks = checkpoint["global_step"], checkpoint.get("callbacks", {})
    time_is_up = callbacks.get(TimeLimit.__qualname__, {}).get("share", 0.0) >= 1
    if step < checkpoint["amodalseg"]["num_steps"] and not time_is_up:
        return None
    found = callbacks.get(Validation.__qualname__, {"best": None, "best_step": -1})
    return f"already finished; {score_line(config, step, found['best'], found['best_step'])}"


def goes_on(folder: Path) -> str:
    """How to continue an interrupted run."""
    if (folder / "last.ckpt").is_file():
        return "run the same command again to continue from the last checkpoint"
    return "there is no checkpoint yet: run the same command again to start anew"


def out_of_memory(error: MemoryError | RuntimeError, config: TrainConfig, folder: Path, step: int) -> str | None:
    """What to do if an error is about memory; None if it is not.

    Args:
        error: raised by the run.
        config: of the run.
        folder: of the run.
        step: at which it was raised; windows, and with them memory, may grow in the middle of a run.
    """
    if str(error).startswith("DataLoader worker"):
        workers = f"fewer loader.num_workers than {config.loader.num_workers} need less memory and less /dev/shm"
        return f"a loader worker has ended, probably because memory ran out ({workers}): {goes_on(folder)}"
    if not is_short_of_memory(error):
        return None
    advice = f"give loader.batch_size less than {config.loader.batch_size} and trainer.accumulate more"
    if (folder / "last.ckpt").is_file():
        advice += f", with continue_from={folder} and another out="
    return f"memory ran out at step {step}: {advice}; a smaller model.window.size or model needs less too"


def wandb_id(folder: Path) -> str:
    """The run's id at Weights & Biases: the one in its folder, or a new one."""
    path = folder / WANDB_FILE
    return path.read_text("utf-8").strip() if path.is_file() else secrets.token_hex(4)


def keep_wandb_id(folder: Path, name: str) -> None:
    """Store the id for continuations."""
    if not (folder / WANDB_FILE).is_file():
        write_whole(folder / WANDB_FILE, f"{name}\n")
