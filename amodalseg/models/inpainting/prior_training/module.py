"""The embedded prior as a training module: noise, the loss, and validation on held-out objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.whole_objects import PriorBatch, PriorSample, stack
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.backends.prior import (
    FOLDER,
    build_scheduler,
    build_unet,
    evaluate,
    find_prior,
    load_prior,
    save_prior,
    seen_by,
)
from amodalseg.models.inpainting.prior_training.levels import fixed_noise, spread_times
from amodalseg.models.inpainting.prior_training.validation import complete_halves
from amodalseg.models.training import TrainingModule
from amodalseg.models.weights import load_state


class PriorModule(TrainingModule):
    """Training of one configuration.

    Attributes:
        network: the weights, a ``UNet2DModel``.
    """

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__(config, num_steps)
        self.network = build_unet(config.model)
        if config.trainer.compile:
            self.network.compile()  # in place, which keeps the names of the weights
        self.alphas_cumprod = build_scheduler().alphas_cumprod.double()

    def on_fit_start(self) -> None:
        if self.device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)

    def training_step(self, batch: PriorBatch, batch_idx: int) -> Tensor:
        self.seed_step(batch_idx)
        picture, hole = batch.picture.float() / 127.5 - 1, batch.hole.float()
        times = spread_times(len(picture)).to(picture.device)
        squares, _ = self.errors(picture, hole, times, torch.randn_like(picture))
        known, hidden = self.config.model.known, self.config.model.hidden
        weight = (known + hole * (1 - known + (hidden - 1) * batch.mask.float())).expand_as(squares)
        loss = (squares * weight).sum() / weight.sum()
        self.refuse_not_finite(loss, batch.keys)
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log("train/hole", (squares.detach() * hole).sum() / (3 * hole.sum()))
        return loss

    def errors(self, picture: Tensor, hole: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors of the network's v, and v itself.

        Args:
            picture: float (B, 3, H, W) in [-1, 1]. hole: float (B, 1, H, W). times: int (B,), below ``NUM_LEVELS``.
            noise: like ``picture``.

        Returns:
            Two tensors, float32 (B, 3, H, W).
        """
        cumulated = self.alphas_cumprod.to(times.device)[times].float()[:, None, None, None]
        alpha, sigma = cumulated.sqrt(), (1 - cumulated).sqrt()
        x_t, v = alpha * picture + sigma * noise, alpha * noise - sigma * picture
        return (evaluate(self.network, x_t, seen_by(picture, hole), times).float() - v) ** 2, v

    def validation_step(self, batch: list[tuple[PriorSample, PriorSample]], batch_idx: int) -> None:
        if not batch:
            return
        stacked = stack([first for first, _ in batch])
        picture, hole = stacked.picture.to(self.device).float() / 127.5 - 1, stacked.hole.to(self.device).float()
        noise, times = (values.to(self.device) for values in fixed_noise(stacked.keys, picture.shape[1:]))
        squares, v = self.errors(picture, hole, times, noise)
        area = 3 * hole.sum(dim=(1, 2, 3)).clamp(min=1)
        errors, variances = ((values * hole).sum(dim=(1, 2, 3)) / area for values in (squares, v**2))
        backend = EmbeddedPrior.of_network(self.network, self.alphas_cumprod)
        rows, pictures = complete_halves(
            backend, [second for _, second in batch], self.config.model.steps, self.config.loader.batch_size
        )
        for row, error, variance in zip(rows, errors.tolist(), variances.tolist(), strict=True):
            self.validation_rows.append({**row, "error": error, "variance": variance})
        room = max(0, self.config.log.pictures - len(self.validation_pictures))
        self.validation_pictures += pictures[:room]

    def start_from(self, name: str) -> None:
        """As in ``TrainingModule``; ``name`` is another prior."""
        load_state(self.network, load_prior(find_prior(name))[0].state_dict(), Path(name))

    def save(self, folder: Path, about: dict[str, Any]) -> Path:
        """Write the network's current weights. Returns: where."""
        save_prior(folder / FOLDER, self.network, about)
        return folder / FOLDER
