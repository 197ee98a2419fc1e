"""Which of a run's processes this is, before they are connected."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """Whether this is the process that writes and prints, as the launcher's environment variables have it."""
    if os.environ.get("RANK"):  # torchrun, which may number nodes in another order than SLURM
        return int(os.environ["RANK"]) == 0
    # the processes that Lightning starts inherit the SLURM_PROCID of an interactive session, and NODE_RANK
    return all(int(os.environ.get(name) or 0) == 0 for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
