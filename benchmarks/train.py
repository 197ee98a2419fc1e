"""Training steps per second with data being read, and with one batch resident in memory.

    python benchmarks/train.py configs/experiment/photos_tiny.yaml loader.num_workers=1

The second is the rate of the network alone; the difference is the cost of reading data.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from amodalseg.data.data_module import AmodalDataModule
from amodalseg.engine.training.tasks import task_of
from amodalseg.errors import UserError
from amodalseg.models.memory import keep_freed_memory

ROUNDS = 3
WARM_UP, STEPS = 5, 30
"""Warm-up steps, in which loader workers start and fill their queue, and measured steps."""
SAME_SIZE = ["optim.early_size=null"]
"""Every step sees windows of one size, as the resident batch does."""


class Clock(L.Callback):
    """Records the end time of each step, and the last batch."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.batch: Any = None

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.batch = batch
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def rate(self, skip: int) -> float:
        """Steps per second after the first ``skip``."""
        return (len(self.ends) - 1 - skip) / (self.ends[-1] - self.ends[skip])


def main(arguments: Sequence[str] | None = None, *, warm_up: int = WARM_UP, steps: int = STEPS) -> int:
    """Run the benchmark: ``CONFIG.yaml [key=value ...]``. Returns the exit code: 0, or 2 for a mistake."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given:
            raise UserError("give a training configuration, for instance configs/experiment/photos_tiny.yaml")
        total = warm_up + steps + 1
        config = load_config(
            TrainConfig, given[0], [*given[1:], "out=unused", f"trainer.max_steps={total}", *SAME_SIZE]
        )
        config.model.pcn.pretrained = False
        real, resident = compare(config, warm_up, total)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    batch, workers = config.loader.batch_size, config.loader.num_workers
    print(f"{given[0]}: batch {batch}, {workers} workers, {torch.get_num_threads()} threads")
    print("| data | steps/s | objects/s |\n|---|---:|---:|")
    for name, rate in (("read", real), ("resident batch", resident)):
        print(f"| {name} | {rate:.3f} | {rate * batch:.1f} |")
    print(f"read / resident: {real / resident:.3f}")
    return 0


def compare(config: TrainConfig, warm_up: int, total: int) -> tuple[float, float]:
    """Medians over alternating rounds: steps/s with data being read, and with a resident batch."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    keep_freed_memory()  # as training does on a CPU
    data, module = AmodalDataModule(config), task_of(config).module(config, total)
    batch = None
    rates: dict[str, list[float]] = {"real": [], "resident": []}
    for _ in range(ROUNDS):
        for kind, found in rates.items():
            clock, trainer = create_trainer(config, total)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Lightning's advice on loaders, which are measured here
                if kind == "real":
                    trainer.fit(module, datamodule=data)
                    batch = clock.batch
                else:
                    resident: DataLoader = DataLoader([batch] * total, batch_size=None, collate_fn=as_it_is)
                    trainer.fit(module, train_dataloaders=resident)
            found.append(clock.rate(warm_up))
    return statistics.median(rates["real"]), statistics.median(rates["resident"])


def as_it_is(batch: Any) -> Any:
    """Collate function for data that is already a batch."""
    return batch


def create_trainer(config: TrainConfig, total: int) -> tuple[Clock, L.Trainer]:
    """A trainer that only trains: no validation, no files."""
    from amodalseg.engine.training.train import _precision

    clock, options = Clock(), config.trainer
    return clock, L.Trainer(
        accelerator=options.accelerator, devices=1, precision=_precision(options.precision, options.accelerator),
        max_steps=total, accumulate_grad_batches=1, gradient_clip_val=config.optim.clip or None, callbacks=[clock],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, num_sanity_val_steps=0, use_distributed_sampler=False, barebones=False,
    )  # type: ignore[arg-type]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
