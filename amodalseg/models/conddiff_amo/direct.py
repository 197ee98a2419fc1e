"""CondDiff-AMO without diffusion: its network without noisy mask and time, run once."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from amodalseg.config.schema import DirectConfig, PCNConfig
from amodalseg.models.conddiff_amo.denoiser import check_dim, create_decoder
from amodalseg.models.conddiff_amo.network import CONDITION_PARTS, ConditionNetwork
from amodalseg.models.network_model import NetworkModel, normalise, to_tensors
from amodalseg.models.windowed import WindowBatch


class DirectNetwork(ConditionNetwork):
    """f(I, M_v): unchanged pyramid, context refinement and fusion, and the decoder on A_1 alone.

    Compared with ``CondDiffAMONetwork`` it lacks ZOE, the time tokens, the mask encoder with its time, and the half of
    the decoder's first convolution that reads the encoded mask.

    Args:
        config: reads ``pcn``, ``ocr``, ``afg`` and ``dn``.

    Raises:
        UserError: an invalid option, or pretrained weights that cannot be fetched.
    """

    parts = CONDITION_PARTS | {"decoder": ("decoder",)}

    def __init__(self, config: DirectConfig) -> None:
        check_dim(config.dn)
        pcn = PCNConfig(**asdict(config.pcn), zoe=False, ttc=False)
        super().__init__(pcn, config.ocr, config.afg, config.dn.dim)
        self.decoder = create_decoder(config.dn.dim, config.dn)
        self.to(memory_format=torch.channels_last)

    def forward(self, image_B3HW: Tensor, modal_B1HW: Tensor) -> Tensor:
        """Predict the amodal mask.

        Args:
            image_B3HW: float, normalised with ImageNet's mean and standard deviation.
            modal_B1HW: float in {0, 1}; ignored where ``pcn.modal=False``.

        Returns:
            Logits (B, 1, H, W), positive inside the amodal mask.

        Raises:
            UserError: H or W is not a multiple of 32.
        """
        return self.decoder(self.condition(image_B3HW, modal_B1HW))

    def example(self, size: int) -> tuple[Tensor, Tensor]:
        """Arguments for one window, with dummy values."""
        return torch.empty(1, 3, size, size), torch.empty(1, 1, size, size)


class Direct(NetworkModel):
    """The network run once: probability = sigmoid(logits). Deterministic: seeds, votes and steps have no effect."""

    config: DirectConfig
    network: DirectNetwork
    network_class = DirectNetwork

    def window_probability(self, batch: WindowBatch) -> np.ndarray:
        return self.probability(*to_tensors(batch))[:, 0].cpu().numpy()

    @torch.inference_mode()
    def probability(self, image: Tensor, modal: Tensor) -> Tensor:
        """Amodal probabilities in the window.

        Args:
            image: uint8 (B, 3, S, S).
            modal: bool or {0, 1} (B, 1, S, S).

        Returns:
            float32 (B, 1, S, S) in [0, 1].
        """
        was_training = self.network.training
        logits = self.network.eval()(normalise(image.to(self.device)), modal.to(self.device).float())
        self.network.train(was_training)
        return torch.sigmoid(logits.float())
