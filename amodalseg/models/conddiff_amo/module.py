"""CondDiff-AMO as a LightningModule: the forward process, the loss and the optimiser, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from amodalseg.config.load import to_dict
from amodalseg.config.schema import TrainConfig
from amodalseg.diffusion.schedule import log_snr
from amodalseg.diffusion.transition import block_uniform, corrupt, draw_times, keep_probability, transit
from amodalseg.errors import UserError
from amodalseg.metrics.counts import count_object
from amodalseg.models.conddiff_amo.evaluation import time_input
from amodalseg.models.conddiff_amo.loss import amodal_loss
from amodalseg.models.conddiff_amo.model import CondDiffAMO, normalise
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.types import AmodalRecord, Batch, Prediction, Query, stable_seed


class CondDiffAMOModule(L.LightningModule):
    """Training of one configuration.

    Attributes:
        network: the weights.
        model: the same network with its sampler around it; validation runs it as evaluation does.
        validation_rows: counts of the objects this rank has validated in the current pass.
        validation_pictures: the first of them with their predictions; full photos of all would not fit in memory.
    """

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__()
        self.config, self.num_steps = config, num_steps
        self.network = CondDiffAMONetwork(config.model)
        if config.trainer.compile:
            self.network.compile()  # in place: the names of the weights stay as they are
        self.model = CondDiffAMO(config.model, self.network, batch_size=config.loader.batch_size)
        self.validation_rows: list[dict[str, Any]] = []
        self.validation_pictures: list[tuple[AmodalRecord, Prediction]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._seed_step(batch_idx)
        masks = batch.masks.float()
        modal, amodal, unknown = masks.split(1, dim=1)
        x_t, t = self.noisy_mask(amodal, modal)
        logits = self.network(normalise(batch.image), modal, x_t, time_input(t, self.config.model))
        loss, parts = amodal_loss(logits, amodal, self.config.model.loss, modal, unknown)
        self._refuse_not_finite(loss, batch.keys)
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in parts.items()})
        return loss

    def noisy_mask(self, amodal: Tensor, modal: Tensor) -> tuple[Tensor, Tensor]:
        """The forward process at random times: m_t by UST, then x_t = alpha (2 m_t - 1) + sigma eps.

        Args:
            amodal, modal: float (B, 1, H, W) in {0, 1}.

        Returns:
            (x_t (B, 1, H, W), t (B,)).
        """
        model = self.config.model
        t = draw_times(
            len(amodal), model.diff.t_dist, model.diff.beta_a, model.diff.beta_b, model.sampler.steps, amodal.device
        )
        mask = amodal
        if model.ust.enabled:
            keep = keep_probability(t, model.ust.schedule, model.gauss.shift)
            mask = transit(
                amodal, modal, keep, block_uniform(tuple(amodal.shape), model.ust.block, None, amodal.device)
            )
        return corrupt(mask, log_snr(t, model.gauss.shift), torch.randn_like(amodal)), t

    def _seed_step(self, batch_idx: int) -> None:
        """Make every random draw of a step (times, transition, noise, dropout) a function of the step's number.

        So a resumed run needs no saved generator state, and no worker or callback can disturb it.
        """
        accumulate = self.config.trainer.accumulate
        micro_step = self.global_step * accumulate + batch_idx % accumulate
        torch.manual_seed(stable_seed("step", self.config.seed, micro_step, self.global_rank))

    def _refuse_not_finite(self, loss: Tensor, keys: list[str]) -> None:
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

    def validation_step(self, batch: list[tuple[AmodalRecord, Query]], batch_idx: int) -> None:
        predictions = self.model.predict_batch([query for _, query in batch])
        for (record, _), prediction in zip(batch, predictions, strict=True):
            self.validation_rows.append(count_object(record, prediction, self.model.name))
            if len(self.validation_pictures) < self.config.log.pictures:
                self.validation_pictures.append((record, prediction))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # validation batches are full photos as arrays: the model itself cuts and moves their windows
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if isinstance(batch, Batch) else batch

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
        # Lightning refuses to clip for a fused optimiser under mixed precision, also under bf16, which has no scaler
        # to get in its way
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up from 0, then a cosine from ``optim.lr`` to ``optim.min_lr`` at the last step."""
        optim = self.config.optim
        if step < optim.warmup_steps:
            return (step + 1) / (optim.warmup_steps + 1)
        done = min(1.0, (step - optim.warmup_steps) / max(1, self.num_steps - optim.warmup_steps))
        floor = min(1.0, optim.min_lr / optim.lr) if optim.lr else 0.0
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # plain values only, so that the file loads with weights_only
        checkpoint["amodalseg"] = {
            "model": to_dict(self.config.model), "world": self.trainer.world_size, "num_steps": self.num_steps,
        }  # fmt: skip
