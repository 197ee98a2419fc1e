"""Runs limited by wall time: ``trainer.max_time``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

from amodalseg.models.training import TrainingModule


class TimeLimit(L.Callback):
    """Passes the elapsed share of time to the module, once per optimiser step, and stops the run when time is up.

    Time counts from the first step on, including validations and checkpoints between steps; the final validation and
    checkpoint come after it. It is part of the checkpoint: a killed run continues with the time that its last
    checkpoint had left. In ``Trainer.fit`` a stop is followed by a validation.

    Args:
        minutes: of the whole run.
        clock: monotonic seconds.
        anew: start without the time of the checkpoint that the run continues from, which is another run's.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic, anew: bool = False) -> None:
        self.limit, self.clock, self.anew = 60 * minutes, clock, anew
        self.before = 0.0  # seconds that the run had used when this process resumed it
        self.share = 0.0
        self.began: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, on this rank."""
        return self.before + (0.0 if self.began is None else self.clock() - self.began)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.elapsed_share = self.share  # before loader workers need the first window size

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.began = self.clock()
        trainer.should_stop = self.share >= 1  # a finished run does no further step

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, TrainingModule)
        elapsed = torch.tensor(self.elapsed, dtype=torch.float64)
        if trainer.world_size > 1:  # a different rate or end on one rank would make the ranks' weights diverge
            elapsed = elapsed.to(trainer.strategy.root_device)
            dist.broadcast(elapsed, 0)
        self.share = pl_module.elapsed_share = min(1.0, elapsed.item() / self.limit)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.share >= 1:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed": self.elapsed, "share": self.share}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.anew:
            self.before, self.share = state_dict["elapsed"], state_dict["share"]
