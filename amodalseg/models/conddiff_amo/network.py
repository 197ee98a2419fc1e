"""f(x_t, I, M_v, t): the whole network of CondDiff-AMO, from a noisy mask to the logits of the clean one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amodalseg.config.schema import AFGConfig, CondDiffAMOConfig, OCRConfig, PCNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.denoiser import ConditionFusion, MaskDenoiser
from amodalseg.models.conddiff_amo.lite import NAME as LITE
from amodalseg.models.conddiff_amo.lite import LitePyramid
from amodalseg.models.conddiff_amo.ocr import OCR
from amodalseg.models.conddiff_amo.pvt import PVTPyramid

CONDITION_PARTS = {
    "PCN": ("pcn",),
    "OCR": ("ocr",),
    "LE": tuple(f"fusion.emphasis.{i}" for i in range(4)),
    "linear fusion": ("fusion.fuse3", "fusion.fuse2"),
    "AFG": ("fusion.fuse1",),
}
"""The parts of the condition, and their submodules. With ``afg.enabled=false`` AFG is its replacement."""
STRIDE = 32
"""Pixels per position of F_4; heights and widths are multiples of it."""


class ConditionNetwork(nn.Module):
    """Pyramid, context refinement and fusion: the condition at quarter resolution.

    Args:
        pcn, ocr, afg: options of the parts. A part that is switched off has no parameters.
        dim: d.

    Raises:
        UserError: an invalid option, or pretrained weights that cannot be fetched.
    """

    def __init__(self, pcn: PCNConfig, ocr: OCRConfig, afg: AFGConfig, dim: int) -> None:
        super().__init__()
        self.pcn = LitePyramid(pcn) if pcn.backbone == LITE else PVTPyramid(pcn)
        channels = self.pcn.channels
        self.ocr = OCR(channels[-1], ocr) if ocr.enabled else None
        self.fusion = ConditionFusion(channels, dim, afg)

    def condition(
        self,
        image_B3HW: Tensor,
        modal_B1HW: Tensor,
        x_t_B1HW: Tensor | None = None,
        time_B: Tensor | None = None,
    ) -> Tensor:
        """Arguments as for ``PVTPyramid``; returns A_1, float (B, d, H/4, W/4).

        Raises:
            UserError: H or W is not a multiple of 32.
        """
        batch, _, height, width = image_B3HW.shape
        check_size(height, width)
        for mask in (modal_B1HW, x_t_B1HW):
            if mask is not None:
                shape = tuple(mask.shape)
                assert shape == (batch, 1, height, width), f"mask {shape}, image {tuple(image_B3HW.shape)}"
        image_B3HW = image_B3HW.contiguous(memory_format=torch.channels_last)
        features = self.pcn(image_B3HW, modal_B1HW, x_t_B1HW, time_B)
        if self.ocr is not None:
            features[-1] = self.ocr(features[-1])
        return self.fusion(features)


class CondDiffAMONetwork(ConditionNetwork):
    """Pyramid condition network, context refinement, fusion and denoiser.

    Args:
        config: reads ``pcn``, ``ocr``, ``afg`` and ``dn``. A part that is switched off has no parameters.

    Raises:
        UserError: an invalid option, or pretrained weights that cannot be fetched.
    """

    parts = CONDITION_PARTS | {"denoiser": ("denoiser",)}

    def __init__(self, config: CondDiffAMOConfig) -> None:
        super().__init__(config.pcn, config.ocr, config.afg, config.dn.dim)
        self.denoiser = MaskDenoiser(config.dn)
        # the same numbers, but convolutions are faster and the conversion to the backbone's tokens is free
        self.to(memory_format=torch.channels_last)

    def forward(self, image_B3HW: Tensor, modal_B1HW: Tensor, x_t_B1HW: Tensor, time_B: Tensor) -> Tensor:
        """Predict the clean mask.

        Args:
            image_B3HW: float, normalised with ImageNet's mean and standard deviation.
            modal_B1HW: float in {0, 1}; ignored where ``pcn.modal=False``.
            x_t_B1HW: float noisy mask, clean values -1 and +1.
            time_B: float, log-SNR or 1000 t (``pcn.time_cond``).

        Returns:
            Logits (B, 1, H, W), positive inside the amodal mask; x_0 = tanh(logits) when sampling.

        Raises:
            UserError: H or W is not a multiple of 32.
        """
        return self.denoiser(self.condition(image_B3HW, modal_B1HW, x_t_B1HW, time_B), x_t_B1HW, time_B)

    def example(self, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arguments for one window, with dummy values."""
        mask = torch.empty(1, 1, size, size)
        return torch.empty(1, 3, size, size), mask, mask, torch.empty(1)


def check_size(height: int, width: int) -> None:
    """Raise UserError, naming the next valid size, if a height or width is not a multiple of ``STRIDE``."""
    if height % STRIDE or width % STRIDE:
        right = f"{-(-width // STRIDE) * STRIDE}x{-(-height // STRIDE) * STRIDE}"
        raise UserError(
            f"the network takes widths and heights that are multiples of {STRIDE}, not {width}x{height}; "
            f"the next valid size is {right}"
        )
