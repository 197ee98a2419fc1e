"""PCNet-M as an ``AmodalModel``: eraser, network, sigmoid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from amodalseg.config.schema import PCNetMConfig
from amodalseg.models.network_model import NetworkModel, normalise, to_tensors
from amodalseg.models.pcnet_m.network import PCNetMNetwork
from amodalseg.models.windowed import WindowBatch


class PCNetM(NetworkModel):
    """The network run once: probability = sigmoid(logits). It is deterministic, so seeds, votes and steps have no
    effect.

    The eraser of a query is its ``occluder``. Without one, or with ``eraser.source=unknown``, it is everything but the
    object.
    """

    config: PCNetMConfig
    network: PCNetMNetwork
    network_class = PCNetMNetwork
    sections = ("eraser", "post")

    def window_probability(self, batch: WindowBatch) -> np.ndarray:
        occluders = [None] * len(batch.modal) if self.config.eraser.source == "unknown" else batch.occluders
        erasers = [~one if cover is None else cover & ~one for one, cover in zip(batch.modal, occluders, strict=True)]
        return self.probability(*to_tensors(batch), torch.from_numpy(np.stack(erasers))[:, None])[:, 0].cpu().numpy()

    @torch.inference_mode()
    def probability(self, image: Tensor, modal: Tensor, eraser: Tensor) -> Tensor:
        """Amodal probabilities in the window.

        Args:
            image: uint8 (B, 3, S, S).
            modal, eraser: bool or {0, 1} (B, 1, S, S).

        Returns:
            float32 (B, 1, S, S) in [0, 1].
        """
        device, was_training = self.device, self.network.training
        mask, erased, pixels = modal.to(device).float(), eraser.to(device).float(), normalise(image.to(device))
        logits = self.network.eval()(mask, erased, pixels)
        self.network.train(was_training)
        return torch.sigmoid(logits.float())
