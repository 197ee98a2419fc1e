"""The processes of a run: their maximum number, gathering of results, and detection of dead processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from amodalseg.config.schema import ProcessConfig
from amodalseg.errors import UserError

LOST = ("closed by peer", "reset by peer", "broken pipe", "timed out", "timeout", "nccl", "gloo", "processgroup")
"""Phrases with which process-group libraries report that another process is gone."""
OTHER_STRATEGIES = ("spawn", "fork", "notebook", "fsdp", "deepspeed", "model_parallel")
"""Parts of the names of Lightning's strategies that copy a running program or split the weights."""
POLL_SECONDS = 0.2


def gather(items: list[Any]) -> list[Any]:
    """Every rank's items on every rank, in rank order; the list itself if there is only one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return items
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def device_of(accelerator: str) -> str:
    """The device that a model is moved to for ``trainer.accelerator``, as for ``load_model``."""
    return {"gpu": "cuda"}.get(accelerator, accelerator)


def accelerator_of(options: ProcessConfig) -> str:
    """Lightning's name of ``trainer.accelerator``, with ``auto`` resolved as in ``pick_device``: CUDA or the CPU.

    Lightning would take Apple's GPU too, which has no float64 and lacks operations that training needs.
    """
    if options.accelerator != "auto":
        return options.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_processes(options: ProcessConfig) -> None:
    """Refuse more processes on a CPU than it has cores (two are always allowed, to try things out), and strategies that
    copy a running program or split the weights. Raises UserError.

    Lightning itself checks the number of GPUs.
    """
    if any(part in options.strategy for part in OTHER_STRATEGIES):
        raise UserError(
            f"trainer.strategy={options.strategy} cannot be used, because each process has a copy of all weights and "
            "starts anew: give ddp, or leave it out"
        )
    wanted = options.devices
    on_cpu = accelerator_of(options) == "cpu"
    count = int(wanted) if isinstance(wanted, (int, str)) and str(wanted).isdecimal() else 1
    cores = os.cpu_count() or 1
    if on_cpu and count > max(2, cores):
        raise UserError(
            f"trainer.devices={count} would start {count} processes on a machine of {cores} CPU cores; give at most "
            f"{max(2, cores)}"
        )


@contextmanager
def peers_watched(
    launcher: Any, advice: Callable[[], str], is_ending: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """While the block runs, report the death of another process of the run in one sentence: which it was, and what to
    do.

    Otherwise the others would wait for the dead one, or fail with the lengthy errors of a process group. Processes
    started by this one are watched, and their death ends the run at once, with exit code 2.

    Args:
        launcher: Lightning's, with the processes it has started as ``procs``; None if it starts none.
        advice: returns the end of the sentence.
        is_ending: whether this process was interrupted or has failed itself, and is ending the others.

    Raises:
        UserError: the connection to a process not started by this one is lost.
    """
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(launcher, advice, is_ending, done), daemon=True, name="peers")
    watch.start()
    try:
        yield
    except RuntimeError as error:
        known = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not known or not any(word in str(error).lower() for word in LOST):
            raise
        watch.join(10 * POLL_SECONDS)  # if the lost process was a child of this one, the watcher ends this process here
        raise UserError(f"rank {dist.get_rank()} has lost another process of the run: {advice()}") from error
    finally:
        done.set()


def _watch(launcher: Any, advice: Callable[[], str], is_ending: Callable[[], bool], done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        processes = list(getattr(launcher, "procs", ()))
        for rank, process in enumerate(processes, 1):
            code = process.poll()
            if not code:
                continue
            if done.wait(POLL_SECONDS) or is_ending():  # Ctrl-C reaches all processes at about the same time
                return
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"has ended with exit code {code}"
            print(f"error: rank {rank} (process {process.pid}) {how}: {advice()}", file=sys.stderr, flush=True)
            for other in processes:
                other.kill()
            sys.stdout.flush()
            os._exit(2)  # the main thread may wait for the dead process forever
