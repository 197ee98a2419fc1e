"""Training of networks that predict a mask in a window: the loss, and validation in the same way as evaluation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from amodalseg.config.schema import TrainConfig
from amodalseg.errors import UserError
from amodalseg.metrics.counts import count_object
from amodalseg.models import load_model
from amodalseg.models.loss import amodal_loss
from amodalseg.models.network_model import NetworkModel
from amodalseg.models.training import TrainingModule
from amodalseg.models.weights import load_state
from amodalseg.types import AmodalRecord, Batch, Query


class MaskTrainingModule(TrainingModule):
    """Training of one configuration. Subclasses name their model and define the network's output for a batch.

    Attributes:
        model: the network as a complete model, which validation runs in the same way as evaluation.
        network: its weights.
        validation_rows: counts of the objects this rank has validated in the current pass.
        validation_pictures: the first of them with their predictions; full photos of all would not fit in memory.
    """

    model_class: ClassVar[type[NetworkModel]]

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__(config, num_steps)
        self.model = self.model_class(config.model, batch_size=config.loader.batch_size)
        self.network = self.model.network
        if config.trainer.compile:
            self.network.compile()  # in place: the names of the weights stay as they are

    def logits_and_target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Run the network on a batch.

        Returns:
            (logits, target mask in {0, 1}), float (B, 1, S, S).
        """
        raise NotImplementedError

    def check_single(self, size: int) -> None:
        network: Any = copy.deepcopy(self.network).train()  # a pass in training mode changes the running means
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                network(*network.example(size))
        except ValueError as error:  # of a batch norm on a map of one position
            raise UserError(
                f"loader.batch_size=1 is too small for windows of {size} px: batch norm needs more than one value per "
                "channel; give loader.batch_size=2 or more, or larger windows (model.window.size, optim.early_size)"
            ) from error

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seed_step(batch_idx)
        logits, target = self.logits_and_target(batch)
        modal, _, unknown, _ = batch.masks.float().split(1, dim=1)
        loss, parts = amodal_loss(logits, target, self.config.model.loss, modal, unknown)
        self.refuse_not_finite(loss, batch.keys)
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in parts.items()})
        return loss

    def validation_step(self, batch: list[tuple[AmodalRecord, Query]], batch_idx: int) -> None:
        predictions = self.model.predict_batch([query for _, query in batch])
        for (record, _), prediction in zip(batch, predictions, strict=True):
            self.validation_rows.append(count_object(record, prediction, self.model.name))
            if len(self.validation_pictures) < self.config.log.pictures:
                self.validation_pictures.append((record, prediction))

    def start_from(self, name: str) -> None:
        """As ``TrainingModule``; any trained network."""
        model = load_model(name, "cpu")
        if not isinstance(model, NetworkModel):
            raise UserError(f"init={name} has no weights to start from")
        load_state(self.network, model.network.state_dict(), Path(name))

    def save(self, folder: Path, about: dict[str, Any]) -> Path:
        """Write the network's current weights. Returns: their path."""
        self.model.save(folder / "model.safetensors", about)
        return folder / "model.safetensors"
