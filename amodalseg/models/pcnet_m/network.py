"""The U-Net of PCNet-M: modal mask, eraser and, optionally, the image -> logits of the amodal mask."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from amodalseg.config.schema import PCNetMConfig

GROWTH = (1, 2, 4, 8, 8)
"""Channels of the five levels, in units of ``width``; each level has half the resolution of the previous one."""


def conv_pair(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two size-preserving 3x3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]
    return nn.Sequential(*layers)


class PCNetMNetwork(nn.Module):
    """2x2 max pooling on the way down, bilinear up-sampling on the way up, with a skip connection at each level.

    Args:
        config: reads ``width`` and ``rgb``.
    """

    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "down": tuple(f"down.{i}" for i in range(5)),
        "up": tuple(f"up.{i}" for i in range(4)),
        "answer": ("answer",),
    }

    def __init__(self, config: PCNetMConfig) -> None:
        super().__init__()
        self.rgb = config.rgb
        widths = [config.width * growth for growth in GROWTH]
        ups = [config.width * growth for growth in (1, 1, 2, 4)]  # channels passed to the next finer level
        self.down = nn.ModuleList(
            conv_pair(before, after) for before, after in zip([5 if config.rgb else 2, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            conv_pair((ups[level + 1] if level < 3 else widths[4]) + widths[level], ups[level])
            for level in reversed(range(4))
        )
        self.answer = nn.Conv2d(ups[0], 1, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, modal_B1HW: Tensor, eraser_B1HW: Tensor, image_B3HW: Tensor | None = None) -> Tensor:
        """Complete masks.

        Args:
            modal_B1HW: float in {0, 1}; H and W are multiples of 16.
            eraser_B1HW: float in {0, 1}: where the object may continue, see ``eraser.py``.
            image_B3HW: float, normalised with ImageNet's mean and standard deviation; used only with ``rgb``.

        Returns:
            Logits (B, 1, H, W), positive inside the amodal mask.
        """
        planes = [modal_B1HW, eraser_B1HW]
        if self.rgb:
            assert image_B3HW is not None, "this network was built with the image as an input"
            planes.append(image_B3HW)
        x = torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last)
        levels = []
        for index, layers in enumerate(self.down):
            x = layers(x if index == 0 else max_pool2d(x, 2))
            levels.append(x)
        for layers, skip in zip(self.up, levels[-2::-1], strict=True):
            x = interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = layers(torch.cat([x, skip], dim=1))
        return self.answer(x)

    def example(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments for one window, with dummy values."""
        mask = torch.empty(1, 1, size, size)
        return mask, mask, torch.empty(1, 3, size, size)
