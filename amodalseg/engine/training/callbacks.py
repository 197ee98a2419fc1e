"""Training callbacks: validation with the real sampler, checkpoints, the weight average."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from amodalseg.atomic import replacing
from amodalseg.config.load import to_dict
from amodalseg.config.schema import TrainConfig
from amodalseg.data.images import save_png
from amodalseg.engine.distributed import gather
from amodalseg.engine.training.tasks import task_of
from amodalseg.errors import UserError
from amodalseg.models.training import TrainingModule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary name, flush to the disk, rename: a killed run leaves the previous checkpoint intact."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


class Metrics(CSVLogger):
    """Lightning's CSV files, with a one-line error if they cannot be written."""

    def save(self) -> None:
        try:
            super().save()
        except OSError as error:
            raise UserError(f"cannot write to {self.log_dir}: {error.strerror or error}") from error

    def finalize(self, status: str) -> None:
        try:
            super().finalize(status)
        except UserError:
            if status != "failed":  # if a run fails, report only the first reason
                raise


class LastCheckpoint(Checkpoint):
    """``last.ckpt``: everything a resumed run needs, every so many optimiser steps and at the end.

    A validation due at the same step comes first, so that a resumed run never repeats or misses it.
    """

    def __init__(self, path: Path, every_steps: int) -> None:
        self.path, self.every_steps, self.saved_step = path, every_steps, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # a resumed run starts at a saved step; saving it again within an accumulating step would shift the data
        self.saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(trainer.val_check_batch, int)
        # a run whose time has expired validates once more
        if (batch_idx + 1) % trainer.val_check_batch and not trainer.should_stop:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step != self.saved_step:
            self._save(trainer)

    def _save_if_due(self, trainer: L.Trainer) -> None:
        if trainer.global_step % self.every_steps == 0 and trainer.global_step != self.saved_step:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        weights = trainer.lightning_module.state_dict().values()
        if not all(torch.isfinite(value).all() for value in weights if value.is_floating_point()):
            # a finite loss may have gradients that are not; the next step would find out, and the old file be gone
            raise UserError(
                f"the weights are not finite after step {trainer.global_step}, so {self.path} is left as it was: lower "
                "optim.lr or use trainer.precision=32-true"
            )
        self.saved_step = trainer.global_step
        trainer.save_checkpoint(self.path)


class WeightAverage(WeightAveraging):
    """Exponential moving average from the first step on, of weights and buffers.

    The decay starts low and rises to its final value, min(decay, (1 + n) / (10 + n)), so that the average of a short
    run is not dominated by its random initial weights.
    """

    def __init__(self, decay: float) -> None:
        def average(means: list[torch.Tensor], currents: list[torch.Tensor], count: Any) -> None:
            # called once for each dtype
            if means[0].is_floating_point():
                torch._foreach_lerp_(means, currents, 1 - min(decay, (1 + int(count)) / (10 + int(count))))
            else:
                torch._foreach_copy_(means, currents)  # batch norm's counters

        super().__init__(use_buffers=True, multi_avg_fn=average)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # the model is still on the CPU here; the average must be on the device of the weights
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)


class Validation(L.Callback):
    """Scores the fixed validation set by named protocols, draws the picture grid, keeps the best weights (or the last).

    It must precede the weight average in the list of callbacks, so that the average is still in place here.

    Args:
        config: of the run.
        folder: of the run.
        anew: start without the best score of the checkpoint that the run continues from, which is another run's.
    """

    def __init__(self, config: TrainConfig, folder: Path, anew: bool = False) -> None:
        self.config, self.folder, self.task, self.anew = config, folder, task_of(config), anew
        self.best: float | None = None
        self.best_step = -1

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.validation_rows.clear()
        pl_module.validation_pictures.clear()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        rows = gather(pl_module.validation_rows)
        scores = self.task.score(rows)
        for protocol, regions in self.task.logged.items():
            for region in regions:
                value = scores[protocol][region]
                if value is not None:
                    # every rank has all rows, so there is nothing to reduce
                    pl_module.log(f"val/{protocol}/{region}", value, prog_bar=protocol in self.task.shown)
        self._keep_best(trainer, pl_module, scores)
        if trainer.is_global_zero and self.config.log.pictures:
            self._paint(trainer, pl_module)

    def _keep_best(self, trainer: L.Trainer, module: TrainingModule, scores: dict[str, Any]) -> None:
        protocol, region = self.config.checkpoint.monitor.split(".")
        value = scores[protocol][region]
        # a validation set without occluded objects has no such figure: then the latest weights are kept
        chosen = self.config.checkpoint.keep == "best"
        if chosen and value is not None and self.best is not None and value <= self.best:
            return
        self.best, self.best_step = value, trainer.global_step
        if trainer.is_global_zero:
            self.save(module, trainer.global_step, scores)

    def save(self, module: TrainingModule, step: int, scores: dict[str, Any]) -> None:
        """Write the network's current weights to the run folder."""
        about = {"train": to_dict(self.config), "step": step, "val": scores}
        module.save(self.folder, about)

    def _paint(self, trainer: L.Trainer, module: TrainingModule) -> None:
        grid = self.task.paint(module.validation_pictures)
        save_png(self.folder / "pictures" / f"step_{trainer.global_step:07d}.png", grid)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/pictures", [grid], step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.anew:
            self.best, self.best_step = state_dict["best"], state_dict["best_step"]


class ProgressBar(TQDMProgressBar):
    """One bar for the whole run; in a log file an occasional line instead of thousands."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 100)

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description("training")

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return {name.replace("per_object_occluded/", ""): value for name, value in items.items()}
