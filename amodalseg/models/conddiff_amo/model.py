"""CondDiff-AMO as an ``AmodalModel``: windows, normalisation, sampling and pasting back around the network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodalseg.config.load import build, to_dict
from amodalseg.config.schema import CondDiffAMOConfig, ModelOnly
from amodalseg.data.window import crop_image, crop_mask, object_window, paste
from amodalseg.diffusion.sampler import num_draws, sample
from amodalseg.diffusion.schedule import log_snr
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel, check_query
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.models.weights import load_state, read_weights, save_weights
from amodalseg.types import Prediction, Query

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(image: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) RGB -> float32 with ImageNet's mean and standard deviation, on the tensor's own device."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image.device).view(1, 3, 1, 1)
    return (image.float() / 255 - mean) / std


def time_input(t: Tensor, config: CondDiffAMOConfig) -> Tensor:
    """The network's time argument for times t (B,) in [0, 1]: the log-SNR, or 1000 t (``pcn.time_cond``)."""
    return log_snr(t, config.gauss.shift) if config.pcn.time_cond == "log_snr" else 1000 * t


def predict_x0(network: torch.nn.Module, image: Tensor, modal: Tensor, x: Tensor, t: Tensor, config: CondDiffAMOConfig):
    """One evaluation: x_0 = tanh(z), or 2 sigmoid(z) - 1 (``diff.x0_act``), float32 (B, 1, H, W) in [-1, 1]."""
    logits = network(image, modal, x, time_input(t, config)).float()
    return torch.tanh(logits) if config.diff.x0_act == "tanh" else 2 * torch.sigmoid(logits) - 1


class CondDiffAMO(AmodalModel):
    """A network and the configuration of everything around it.

    Args:
        config: the model's configuration.
        network: default: one with random weights.
        name: how reports call it.
        batch_size: windows in one forward pass; bounds memory, whatever the number of queries.
    """

    def __init__(
        self,
        config: CondDiffAMOConfig,
        network: CondDiffAMONetwork | None = None,
        *,
        name: str = "conddiff_amo",
        batch_size: int = 16,
    ) -> None:
        self.config, self.name, self.batch_size = config, name, batch_size
        self.network = network if network is not None else CondDiffAMONetwork(config)

    @classmethod
    def load(cls, path: Path, name: str | None = None) -> CondDiffAMO:
        """Read a model file or a training checkpoint. Raises UserError as ``read_weights`` and ``load_state`` do."""
        state, config, _ = read_weights(path)
        config.pcn.pretrained = False  # the file's own weights follow; nothing is to be downloaded
        model = cls(config, name=name or path.stem)
        load_state(model.network, state, path)
        model.network.eval()
        return model

    def save(self, path: Path, about: dict[str, Any] | None = None) -> None:
        """Write weights and configuration to one ``.safetensors`` file."""
        save_weights(path, self.network.state_dict(), self.config, about or {})

    def to(self, device: torch.device | str) -> CondDiffAMO:
        """Move the network."""
        self.network.to(device)
        return self

    def override(self, options: dict[str, Any]) -> None:
        """Sample in another way than the model was configured with; the weights stay as they are.

        Args:
            options: nested, only of the sections ``sampler``, ``vgpe`` and ``post``, for instance
                ``{"sampler": {"steps": 3}}``.

        Raises:
            UserError: another section, an unknown key, a value that is no choice.
        """
        wrong = sorted(set(options) - {"sampler", "vgpe", "post"})
        if wrong:
            raise UserError(f"override.{wrong[0]} cannot change after training; sampler, vgpe and post can")
        layers = [("the model", {"model": to_dict(self.config)}), ("override", {"model": options})]
        self.config = build(ModelOnly, layers).model

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def predict_batch(self, queries: Sequence[Query]) -> list[Prediction]:
        for query in queries:
            check_query(query)
        predictions: list[Prediction] = []
        for start in range(0, len(queries), self.batch_size):
            predictions += self._predict_windows(queries[start : start + self.batch_size])
        return predictions

    def _predict_windows(self, queries: Sequence[Query]) -> list[Prediction]:
        began = time.perf_counter()
        windows = [object_window(query.modal, self.config.window) for query in queries]
        pairs = list(zip(queries, windows, strict=True))
        image = np.stack([crop_image(query.image, window) for query, window in pairs])
        modal = np.stack([crop_mask(query.modal, window) for query, window in pairs])
        probability = self.probability(
            torch.from_numpy(image).permute(0, 3, 1, 2),
            torch.from_numpy(modal)[:, None],
            self.draw_noise([query.seed for query in queries]),
        )
        maps = probability[:, 0].cpu().numpy()
        predictions = []
        for (query, window), window_map in zip(pairs, maps, strict=True):
            full = paste(window_map, window, *query.modal.shape)
            raw = full > self.config.post.threshold
            amodal = raw | query.modal if self.config.post.union_visible else raw
            predictions.append(Prediction(amodal, query.modal, raw, full))
        share = (time.perf_counter() - began) / len(queries)
        for prediction in predictions:
            prediction.seconds = share
        return predictions

    def draw_noise(self, seeds: Sequence[int]) -> Tensor:
        """Standard normal maps (draws, B, 1, S, S), each object's from its own seed, on the CPU on every machine."""
        size = self.config.window.size
        shape = (num_draws(self.config.sampler), 1, size, size)
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds], dim=1)

    @torch.no_grad()
    def probability(self, image: Tensor, modal: Tensor, noise: Tensor) -> Tensor:
        """Sample amodal probabilities in the window.

        Args:
            image: uint8 (B, 3, S, S).
            modal: bool or {0, 1} (B, 1, S, S).
            noise: (draws, B, 1, S, S), see ``draw_noise``.

        Returns:
            float32 (B, 1, S, S) in [0, 1].
        """
        was_training = self.network.training
        self.network.eval()
        config, device = self.config, self.device
        pixels, mask = normalise(image.to(device)), modal.to(device).float()

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return predict_x0(self.network, pixels, mask, x, t, config)

        result = sample(denoise, mask, noise.to(device), config.sampler, config.gauss, config.ust, config.vgpe)
        self.network.train(was_training)
        return result
