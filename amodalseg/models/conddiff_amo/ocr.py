"""Occlusion-aware context refinement (OCR) of the deepest features, section 3.3.

The paper gives the structure (three branches with channel attention, their fusion, pyramid attention); the layers are
decided here, see README.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, linear

from amodalseg.config.schema import OCRConfig
from amodalseg.errors import UserError

LOCAL_DILATIONS = (1, 3)
GLOBAL_DILATIONS = (6, 12)
POOL_SIZES = (1, 2, 4)


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Size-preserving convolution without bias, batch norm, ReLU."""
    conv = SameConv(in_channels, out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class SameConv(nn.Conv2d):
    """A size-preserving convolution of stride 1, computed as a matrix product if only its centre tap meets the map.

    That is the case with kernel 1, and with kernel 3 on a map no larger than the dilation: all other taps hit padding.
    """

    def forward(self, input: Tensor) -> Tensor:
        middle = self.kernel_size[0] // 2
        if middle > 1 or (middle and self.dilation[0] < max(input.shape[2:])):
            return super().forward(input)
        return pointwise(input, self.weight[:, :, middle, middle], self.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution of a channels-last map as one matrix product; the result is channels-last too."""
    return linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


class DilatedPair(nn.Module):
    """Two parallel 3x3 convolutions of different dilation: (B, C, h, w) -> (B, 2 width, h, w)."""

    def __init__(self, in_channels: int, width: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_bn_relu(in_channels, width, 3, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(x) for conv in self.convs], dim=1)


class GlobalPool(nn.Module):
    """The map's mean, through a 1x1 convolution, at every position. No batch norm: it fails on a single 1x1 map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[2:])


class ChannelAttention(nn.Module):
    """Scale every channel by a factor in (0, 1) computed from all channel means (squeeze and excitation)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.layers = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.layers(x.mean((2, 3), keepdim=True)))


class PyramidAttention(nn.Module):
    """One weight in (0, 1) per position, from averages over windows of 1, 2 and 4 positions on a side.

    Each average's channel mean and maximum pass through a 3x3 convolution and are resized bilinearly to the map's size;
    a 1x1 convolution joins the scales. Windows are clamped to the map and cover its remainder, so every size works.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Conv2d(2, 1, 3, padding=1) for _ in POOL_SIZES)
        self.join = nn.Conv2d(len(POOL_SIZES), 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h, w)."""
        size = x.shape[2:]
        maps = []
        for conv, side in zip(self.scales, POOL_SIZES, strict=True):
            pooled = avg_pool2d(x, (min(side, size[0]), min(side, size[1])), ceil_mode=True)
            summary = torch.cat([pooled.mean(1, keepdim=True), pooled.amax(1, keepdim=True)], dim=1)
            maps.append(interpolate(conv(summary), size=size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.join(torch.cat(maps, dim=1)))


class OCR(nn.Module):
    """F_4' = F_4 + a * y: y fuses a local, a global and a pooling branch, a is the pyramid attention of y.

    On the 8x8 map of a 256 px window the dilation-12 convolution is exactly a 1x1 convolution, because all its other
    taps fall on padding, and dilation 6 reaches three quarters of the positions. ``upsample=2`` gives them some room.

    Args:
        channels: C of F_4.
        config: ``layout=serial`` feeds the local branch's output to the global one, which then sees C / 2 channels;
            ``residual=False`` gives a * y; ``upsample=2`` first doubles F_4 bilinearly and returns the doubled map,
            which the following local emphasis accepts like any other.

    Raises:
        UserError: ``upsample`` is neither 1 nor 2.
    """

    def __init__(self, channels: int, config: OCRConfig) -> None:
        super().__init__()
        if config.upsample not in (1, 2):
            raise UserError(f"model.ocr.upsample must be 1 or 2, not {config.upsample}")
        self.serial, self.residual, self.upsample = config.layout == "serial", config.residual, config.upsample
        width = channels // 4
        self.local_branch = DilatedPair(channels, width, LOCAL_DILATIONS)
        self.global_branch = DilatedPair(2 * width if self.serial else channels, width, GLOBAL_DILATIONS)
        self.pool_branch = GlobalPool(channels, 2 * width)
        self.local_attention = ChannelAttention(2 * width)
        self.global_attention = ChannelAttention(2 * width)
        self.pool_attention = ChannelAttention(2 * width)
        self.fuse = conv_bn_relu(6 * width, channels, 1)
        self.pyramid = PyramidAttention()

    def forward(self, f4: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w), or (B, C, 2 h, 2 w) with ``upsample=2``."""
        if self.upsample == 2:
            f4 = interpolate(f4, scale_factor=2, mode="bilinear", align_corners=False)
        near = self.local_attention(self.local_branch(f4))
        far = self.global_attention(self.global_branch(near if self.serial else f4))
        whole = self.pool_attention(self.pool_branch(f4))
        y = self.fuse(torch.cat([near, far, whole], dim=1))
        weighted = self.pyramid(y) * y
        return f4 + weighted if self.residual else weighted
