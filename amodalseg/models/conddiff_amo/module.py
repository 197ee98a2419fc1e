"""CondDiff-AMO as a training module: the forward process, the loss and validation, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amodalseg.config.schema import TrainConfig
from amodalseg.diffusion.schedule import log_snr
from amodalseg.diffusion.transition import block_uniform, corrupt, draw_times, keep_probability, transit
from amodalseg.metrics.counts import count_object
from amodalseg.models.conddiff_amo.evaluation import time_input
from amodalseg.models.conddiff_amo.loss import amodal_loss
from amodalseg.models.conddiff_amo.model import CondDiffAMO, normalise
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.models.training import TrainingModule
from amodalseg.types import AmodalRecord, Batch, Query


class CondDiffAMOModule(TrainingModule):
    """Training of one configuration.

    Attributes:
        network: the weights.
        model: the same network with its sampler around it; validation runs it as evaluation does.
        validation_rows: counts of the objects this rank has validated in the current pass.
        validation_pictures: the first of them with their predictions; full photos of all would not fit in memory.
    """

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__(config, num_steps)
        self.network = CondDiffAMONetwork(config.model)
        if config.trainer.compile:
            self.network.compile()  # in place: the names of the weights stay as they are
        self.model = CondDiffAMO(config.model, self.network, batch_size=config.loader.batch_size)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seed_step(batch_idx)
        masks = batch.masks.float()
        modal, amodal, unknown, _ = masks.split(1, dim=1)
        x_t, t = self.noisy_mask(amodal, modal)
        logits = self.network(normalise(batch.image), modal, x_t, time_input(t, self.config.model))
        loss, parts = amodal_loss(logits, amodal, self.config.model.loss, modal, unknown)
        self.refuse_not_finite(loss, batch.keys)
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

    def validation_step(self, batch: list[tuple[AmodalRecord, Query]], batch_idx: int) -> None:
        predictions = self.model.predict_batch([query for _, query in batch])
        for (record, _), prediction in zip(batch, predictions, strict=True):
            self.validation_rows.append(count_object(record, prediction, self.model.name))
            if len(self.validation_pictures) < self.config.log.pictures:
                self.validation_pictures.append((record, prediction))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # validation batches are full photos as arrays: the model itself cuts and moves their windows
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if isinstance(batch, Batch) else batch

    def save(self, folder: Path, about: dict[str, Any]) -> Path:
        """Write the weights that are now in the network. Returns: where."""
        self.model.save(folder / "model.safetensors", about)
        return folder / "model.safetensors"
