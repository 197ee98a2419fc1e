"""The text-conditioned prior as a training module: noise, captions, the loss, and validation on held-out captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.captioned import CaptionBatch, Captioned, stack_captioned
from amodalseg.models.inpainting.backends.word_files import FOLDER, find_word_prior, load_word_prior, save_word_prior
from amodalseg.models.inpainting.backends.word_prior import (
    Patches,
    WordPrior,
    build_network,
    build_tokenizer,
    build_word_scheduler,
)
from amodalseg.models.inpainting.prior_training.levels import fixed_noise, spread_times
from amodalseg.models.inpainting.prior_training.word_validation import draw_captions
from amodalseg.models.training import TrainingModule
from amodalseg.models.weights import load_state


class WordPriorModule(TrainingModule):
    """Training of one configuration.

    Attributes:
        network: the weights, ``unet`` and ``text_encoder``.
        tokenizer: for the captions.
    """

    network: Any

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        super().__init__(config, num_steps)
        self.network = build_network(config.model)
        self.tokenizer = build_tokenizer(config.model.length)
        self.patches = Patches(config.model.patch)
        if config.trainer.compile:
            self.network["unet"].compile()  # in place, which keeps the names of the weights
        self.alphas_cumprod = build_word_scheduler().alphas_cumprod.double()

    def on_fit_start(self) -> None:
        if self.device.type == "cuda":
            self.network["unet"].to(memory_format=torch.channels_last)

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        self.seed_step(batch_idx)
        picture = batch.picture.float() / 127.5 - 1
        count = len(picture)
        times = spread_times(count).to(picture.device)
        left_out = torch.rand(count) < self.config.model.empty
        captions = ["" if empty else text for text, empty in zip(batch.captions, left_out.tolist(), strict=True)]
        squares, _ = self.errors(picture, captions, times, torch.randn_like(picture))
        loss = squares.mean()
        self.refuse_not_finite(loss, batch.keys)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def errors(self, picture: Tensor, captions: list[str], times: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors of the network's v, and v itself, on the grid of patches.

        Args:
            picture: float (B, 3, H, W) in [-1, 1]. captions: B texts. times: int (B,), below ``NUM_LEVELS``.
            noise: like ``picture``.

        Returns:
            Two tensors, float32 (B, 3 patch^2, H / patch, W / patch).
        """
        cumulated = self.alphas_cumprod.to(times.device)[times].float()[:, None, None, None]
        alpha, sigma = cumulated.sqrt(), (1 - cumulated).sqrt()
        clean, noise = (self.patches.encode(values).latent_dist.mode() for values in (picture, noise))
        v = alpha * noise - sigma * clean
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        text = self.network["text_encoder"](tokens.to(times.device))[0]
        found = self.network["unet"](alpha * clean + sigma * noise, times, encoder_hidden_states=text).sample
        return (found.float() - v) ** 2, v

    def validation_step(self, batch: list[Captioned], batch_idx: int) -> None:
        if not batch:
            return
        stacked = stack_captioned(batch)
        picture = stacked.picture.to(self.device).float() / 127.5 - 1
        noise, times = (values.to(self.device) for values in fixed_noise(stacked.keys, picture.shape[1:]))
        squares, v = self.errors(picture, stacked.captions, times, noise)
        errors, variances = (values.mean(dim=(1, 2, 3)).tolist() for values in (squares, v**2))
        backend = WordPrior.of_network(self.network, self.tokenizer)
        rows, pictures = draw_captions(backend, batch, self.config.model.steps)
        self.network.requires_grad_(True)  # a backend freezes its networks
        for row, error, variance in zip(rows, errors, variances, strict=True):
            self.validation_rows.append({**row, "error": error, "variance": variance})
        room = max(0, self.config.log.pictures - len(self.validation_pictures))
        self.validation_pictures += pictures[:room]

    def start_from(self, name: str) -> None:
        """As in ``TrainingModule``; ``name`` is another text-conditioned prior."""
        load_state(self.network, load_word_prior(find_word_prior(name))[0].state_dict(), Path(name))

    def save(self, folder: Path, about: dict[str, Any]) -> Path:
        """Write the network's current weights to a run folder. Returns: where."""
        save_word_prior(folder / FOLDER, self.network, self.config.model.length, about)
        return folder / FOLDER
