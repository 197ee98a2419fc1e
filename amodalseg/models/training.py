"""Training common to all models: seeds, optimiser, learning rate, content of a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn

from amodalseg.config.load import to_dict
from amodalseg.config.schema import OptimConfig, TrainConfig
from amodalseg.errors import UserError
from amodalseg.types import stable_seed


class TrainingModule(L.LightningModule):
    """Base of the modules that ``engine/training/train.py`` runs.

    Attributes:
        network: the weights.
        elapsed_share: of ``trainer.max_time``, in [0, 1] and the same on all ranks
            (``engine/training/time_limit.py``); 0 in a run without it.
        validation_rows: one row per object that this rank has validated in the current pass, plain values.
        validation_pictures: the first of them, with the data for their pictures.
    """

    network: nn.Module

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__()
        self.config, self.num_steps = config, num_steps
        self.elapsed_share = 0.0
        self.validation_rows: list[dict[str, Any]] = []
        self.validation_pictures: list[Any] = []
        self.goes_beyond = False  # true if this run continues another one, which may have ended at this checkpoint
        self.data_fingerprint = ""  # of the training data; a run can be resumed with the same data only
        self.val_fingerprint = ""  # of the validation data, likewise

    def save(self, folder: Path, about: dict[str, Any]) -> Path:
        """Write the network's current weights to a run folder. Returns: their path."""
        raise NotImplementedError

    def start_from(self, name: str) -> None:
        """Load the weights of a model or of another run, by name or file. Raises UserError if they do not fit."""
        raise NotImplementedError

    def check_single(self, size: int) -> None:
        """Refuse batches of one window of ``size`` pixels that the network cannot be trained on. Raises UserError."""

    def seed_step(self, batch_idx: int) -> None:
        """Make every random number of a step (times, transition, noise, dropout) a function of the step's number.

        A resumed run therefore needs no saved generator state, and no worker or callback can disturb it.
        """
        accumulate = self.config.trainer.accumulate
        micro_step = self.global_step * accumulate + batch_idx % accumulate
        torch.manual_seed(stable_seed("step", self.config.seed, micro_step, self.global_rank))

    def refuse_not_finite(self, loss: Tensor, keys: list[str]) -> None:
        """Stop all processes, naming the objects of the batch, if the loss is not finite. Raises UserError."""
        bad = (~torch.isfinite(loss.detach())).float()
        several = dist.is_available() and dist.is_initialized()
        if several:
            # every rank must stop, or the others would wait for this one for ever
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        if bad.item():
            mine = "" if torch.isfinite(loss) else f" in the batch {', '.join(keys)}"
            raise UserError(
                f"the loss is not finite at step {self.global_step}{mine}; look at these objects, "
                "lower optim.lr or use trainer.precision=32-true"
            )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # validation batches are lists of arrays
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if not isinstance(batch, list) else batch

    def configure_optimizers(self) -> Any:
        optim = self.config.optim
        decayed: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            plain = optim.decay_all or (parameter.ndim > 1 and not name.endswith(".bias"))
            (decayed if plain else rest).append(parameter)
        groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        # one kernel for all weights; with a gradient scaler it would unscale by itself, past the clipping
        fused = self.config.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=optim.lr, fused=fused)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        # Lightning refuses to clip for a fused optimiser under mixed precision because of the gradient scaler, even
        # under bf16, which has none
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def learning_rate_factor(self, step: int) -> float:
        """Factor of ``optim.lr`` for a step of this run."""
        return learning_rate_factor(self.config.optim, step, self.num_steps, self.elapsed_share)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.goes_beyond:
            loops = checkpoint["loops"]["fit_loop"]
            progress = loops["epoch_loop.batch_progress"]
            progress["is_last_batch"] = False
            # the other run may have accumulated another number of batches per step
            done = checkpoint["global_step"] * self.config.trainer.accumulate
            for part in ("total", "current"):
                progress[part] = dict.fromkeys(progress[part], done)
            loops["epoch_progress"]["current"]["processed"] = loops["epoch_progress"]["total"]["processed"] = 0
            if not self.config.optim.ema and "current_model_state" in checkpoint:
                # the optimiser's state belongs to these weights, not to their average
                checkpoint["state_dict"] = checkpoint["current_model_state"]

    def on_train_start(self) -> None:
        if self.goes_beyond and self.global_step:
            # the loaded optimiser state contains the other run's learning rates, including that of the next step
            optim, optimizer, scheduler = self.config.optim, self.optimizers(), self.lr_schedulers()
            scheduler.base_lrs = [optim.lr] * len(scheduler.base_lrs)  # type: ignore[union-attr]
            for group in optimizer.param_groups:  # type: ignore[union-attr]
                group["initial_lr"] = optim.lr
                group["lr"] = optim.lr * self.learning_rate_factor(self.global_step)
            optimizer.param_groups[0]["weight_decay"] = optim.weight_decay  # type: ignore[union-attr]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # plain values only, so that the file loads with weights_only
        checkpoint["amodalseg"] = {
            "model": to_dict(self.config.model), "world": self.trainer.world_size, "num_steps": self.num_steps,
            "data": self.data_fingerprint, "val": self.val_fingerprint,
        }  # fmt: skip


def learning_rate_factor(optim: OptimConfig, step: int, num_steps: int, elapsed_share: float = 0.0) -> float:
    """Linear warm-up from 0, then ``optim.lr``, and over the last ``optim.decay_share`` a cosine to ``optim.min_lr``.

    A share of 1 is the usual cosine over the whole run. With less, the run's weights before the decay are those of any
    longer run: a copy of its folder can be decayed at any time, while the run itself continues.

    Args:
        optim: the rates and the steps of the warm-up.
        step: number of the step, from 0.
        num_steps: of the run, if time does not end it before.
        elapsed_share: of the run's time, in [0, 1]. The larger share counts, of time or of
            the steps behind the warm-up.

    Returns:
        A factor of ``optim.lr``.
    """
    warm_up = (step + 1) / (optim.warmup_steps + 1)
    share = (step - optim.warmup_steps) / max(1, num_steps - optim.warmup_steps)
    done = min(1.0, max(0.0, elapsed_share, share))
    decayed = max(0.0, (done - (1 - optim.decay_share)) / optim.decay_share)
    floor = min(1.0, optim.min_lr / optim.lr) if optim.lr else 0.0
    return min(warm_up, floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * decayed)))
