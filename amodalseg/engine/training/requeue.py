"""SLURM's signal before a job's time ends: the job goes back into the queue, and resumes from its last checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment

from amodalseg.ranks import is_first_process


@contextmanager
def requeued_by_slurm() -> Iterator[None]:
    """While the block runs in a SLURM job, SIGUSR1 (``#SBATCH --signal=USR1@90``) queues the job again.

    Lightning would handle the signal too, unless there is a handler already: it would also save a checkpoint in the
    middle of the step that the signal interrupts, from which no run resumes exactly.
    """
    free = SLURMEnvironment.detect() and threading.current_thread() is threading.main_thread()
    if not free or not hasattr(signal, "SIGUSR1") or signal.getsignal(signal.SIGUSR1) not in (None, signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGUSR1, _requeue)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def _requeue(*_: Any) -> None:
    if not is_first_process():
        return
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    try:
        failed = subprocess.call(["scontrol", "requeue", job])
    except OSError:
        failed = True
    done = "could not be queued again" if failed else "is queued again, and will resume from the last checkpoint"
    print(f"SLURM job {job} {done}", file=sys.stderr, flush=True)
