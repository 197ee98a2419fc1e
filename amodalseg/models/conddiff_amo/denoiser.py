"""Denoising network (DN): local emphasis, gated feature fusion (equations 8 and 9), mask encoder and decoder.

``ConditionFusion`` depends on the noisy mask and the time only through the pyramid; ``MaskDenoiser`` is the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from amodalseg.config.schema import AFGConfig, DNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.ocr import SameConv, conv_bn_relu, pointwise
from amodalseg.models.conddiff_amo.time_embedding import TimeMLP

NUM_GROUPS = 8
"""Groups of the group norms; divides ``dn.dim``."""


class LocalEmphasis(nn.Module):
    """LE: two 3x3 convolutions with ReLU at the map's own resolution. ``join`` up-samples."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, dim, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_i, h, w) -> (B, d, h, w), which becomes F_up,i when up-sampled."""
        return self.layers(x)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly to (h, w); a no-op if the size is right."""
    return x if x.shape[2:] == size else interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def join(layers: Any, first: Tensor, second: Tensor, size: Sequence[int]) -> Tensor:
    """1x1 convolution of two maps, batch norm, ReLU: ``layers`` of both up-sampled and concatenated, but faster.

    The convolution of concatenated maps is a sum of two, and a 1x1 convolution commutes with bilinear up-sampling,
    whose weights sum to 1, so each runs at its map's own resolution.

    Args:
        layers: from ``conv_bn_relu``, of 2 d channels.
        first, second: (B, d, h_i, w_i).
        size: of the prediction.

    Returns:
        (B, d, *size).
    """
    weights = layers[0].weight[:, :, 0, 0].chunk(2, dim=1)
    parts = [resize(pointwise(x, weight), size) for x, weight in zip((first, second), weights, strict=True)]
    return layers[2](layers[1](parts[0] + parts[1]))


class AdaptiveFeatureGate(nn.Module):
    """A_1 = G * A_2 + (1 - G) * F_up,1 with G = sigmoid(Conv(ReLU(Conv(cat(A_2, F_up,1))))), equations 8 and 9.

    The last convolution is initialised to zero, so training starts from G = 1/2, the mean of both.

    Args:
        dim: d.
        config: ``kernel`` of the first convolution; ``gate``: d maps (channel) or one (spatial).

    Raises:
        UserError: an even kernel.
    """

    def __init__(self, dim: int, config: AFGConfig) -> None:
        super().__init__()
        if config.kernel < 1 or config.kernel % 2 == 0:
            raise UserError(f"model.afg.kernel must be odd, for instance 1 or 3, not {config.kernel}")
        self.hidden = nn.Conv2d(2 * dim, dim, config.kernel, padding=config.kernel // 2)
        self.gate = nn.Conv2d(dim, dim if config.gate == "channel" else 1, 1)
        nn.init.zeros_(self.gate.weight)
        assert self.gate.bias is not None
        nn.init.zeros_(self.gate.bias)

    def forward(self, a2: Tensor, f_up1: Tensor, size: Sequence[int]) -> Tensor:
        """Two maps (B, d, *size) -> A_1 (B, d, *size). The other maps are up-sampled to the size of F_1."""
        gate = torch.sigmoid(self.gate(torch.relu(self.hidden(torch.cat([a2, f_up1], dim=1)))))
        return torch.lerp(f_up1, a2, gate.expand_as(a2))


class LinearFusion(nn.Module):
    """A_i = Conv(cat(A_{i+1}, F_up,i)): 1x1 convolution, batch norm, ReLU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = conv_bn_relu(2 * dim, dim, 1)

    def forward(self, deeper: Tensor, finer: Tensor, size: Sequence[int]) -> Tensor:
        """Two maps (B, d, h_i, w_i), up-sampled here -> (B, d, *size)."""
        return join(self.layers, deeper, finer, size)


class EmphasisFusion(nn.Module):
    """A_1 = LE(cat(A_2, F_up,1)): table 4's "replaced AFG by LE", unless that is a misprint for the fusion."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.emphasis = LocalEmphasis(2 * dim, dim)

    def forward(self, a2: Tensor, f_up1: Tensor, size: Sequence[int]) -> Tensor:
        """Two maps (B, d, *size) -> A_1 (B, d, *size)."""
        return self.emphasis(torch.cat([resize(a2, size), resize(f_up1, size)], dim=1))


def last_fusion(dim: int, config: AFGConfig) -> nn.Module:
    """The module that computes A_1 from A_2 and F_up,1: the gate, or its replacement."""
    if config.enabled:
        return AdaptiveFeatureGate(dim, config)
    return EmphasisFusion(dim) if config.instead == "le" else LinearFusion(dim)


class ConditionFusion(nn.Module):
    """F_1 .. F_4 -> A_1 (equation 9), all at the size of F_1.

    Args:
        channels: of F_1 .. F_4.
        dim: d.
        config: of the last fusion.
    """

    def __init__(self, channels: Sequence[int], dim: int, config: AFGConfig) -> None:
        super().__init__()
        self.emphasis = nn.ModuleList(LocalEmphasis(width, dim) for width in channels)
        self.fuse3 = LinearFusion(dim)
        self.fuse2 = LinearFusion(dim)
        self.fuse1 = last_fusion(dim, config)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Four maps (B, C_i, h_i, w_i) -> A_1 (B, d, h_1, w_1)."""
        size = features[0].shape[2:]
        e1, e2, e3, e4 = (emphasis(feature) for emphasis, feature in zip(self.emphasis, features, strict=True))
        a2 = self.fuse2(self.fuse3(e4, e3, size), e2, size)
        return self.fuse1(a2, e1, size)


class ResBlock(nn.Module):
    """Residual block of two 3x3 convolutions with group norm and SiLU; the time scales and shifts the first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm1 = nn.GroupNorm(NUM_GROUPS, dim)
        self.scale_shift = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = nn.GroupNorm(NUM_GROUPS, dim)

    def forward(self, x: Tensor, time_BD: Tensor) -> Tensor:
        """(B, d, h, w) and the embedded time (B, d) -> (B, d, h, w)."""
        scale, shift = self.scale_shift(time_BD)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, normalise(self.norm1, self.conv1(x)), 1 + scale)
        return x + nn.functional.silu(normalise(self.norm2, self.conv2(nn.functional.silu(h))))


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm in float32: autocast ensures this on a GPU, but not on a CPU, where bfloat16 takes four times as long."""
    return norm(x.float()).to(x.dtype)


class PixelShuffleUp(nn.Module):
    """Twofold up-sampling: 1x1 convolution to 4 x out, SiLU, pixel shuffle.

    The four weights that form one 2x2 cell are initialised equal (and the bias to 0), so that the layer starts as
    nearest-neighbour up-sampling, without checkerboard artefacts.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)
        weight = torch.empty(out_channels, in_channels, 1, 1)
        nn.init.kaiming_uniform_(weight)
        with torch.no_grad():
            self.conv.weight.copy_(weight.repeat_interleave(4, dim=0))
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, 2 h, 2 w)."""
        # the layer's channels are ordered by out map, then by the 4 positions of a cell. Reordering the weights the
        # other way round puts each position's channels together, so that the shuffle moves them as one block
        batch, _, height, width = x.shape
        weight = self.conv.weight.flatten(1).unflatten(0, (-1, 4)).transpose(0, 1)
        assert self.conv.bias is not None
        bias = self.conv.bias.view(-1, 4).t()
        x = nn.functional.silu(pointwise(x, weight.flatten(0, 1), bias.flatten()))
        cells = x.permute(0, 2, 3, 1).view(batch, height, width, 2, 2, -1).transpose(2, 3)
        return cells.reshape(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


class Dropout(nn.Dropout):
    """Dropout from 16 random bits per value: PyTorch's own generator took a tenth of a training step on a CPU.

    The probability is rounded to a multiple of 2^-16.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p:
            return input
        batch, channels, height, width = input.shape
        count = input.numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=input.device).random_(-(2**63), None)
        kept = words.view(torch.int16)[:count] >= round(self.p * 2**16) - 2**15
        scale = kept.to(input.dtype).mul_(1 / (1 - self.p))
        return input * scale.view(batch, height, width, channels).permute(0, 3, 1, 2)  # channels-last, like the input


def create_decoder(in_channels: int, config: DNConfig) -> nn.Sequential:
    """Decode features at quarter resolution to logits: (B, in, H/4, W/4) -> (B, 1, H, W)."""
    dim = config.dim
    return nn.Sequential(
        conv_bn_relu(in_channels, dim, 1),
        PixelShuffleUp(dim, dim // 4),
        conv_bn_relu(dim // 4, dim // 4, 3),
        PixelShuffleUp(dim // 4, dim // 8),
        conv_bn_relu(dim // 8, dim // 8, 3),
        Dropout(config.dropout),
        SameConv(dim // 8, 1, 1),
    )


def check_dim(config: DNConfig) -> None:
    """Raise UserError if group norms and pixel shuffles cannot divide the width."""
    if config.dim < NUM_GROUPS or config.dim % NUM_GROUPS:
        raise UserError(f"model.dn.dim must be a multiple of {NUM_GROUPS}, not {config.dim}")


class MaskDenoiser(nn.Module):
    """x_t, A_1 and time -> logits of x_0. Encoder and decoder meet at quarter resolution, without skip connections.

    Args:
        config: ``dim`` d, a multiple of 8; ``dropout`` before the last convolution.

    Raises:
        UserError: ``dim`` is not a multiple of 8.
    """

    def __init__(self, config: DNConfig) -> None:
        super().__init__()
        check_dim(config)
        dim = config.dim
        self.time_mlp = TimeMLP(dim)
        self.stem = nn.Sequential(nn.Conv2d(1, dim, 7, stride=4, padding=3, bias=False), nn.BatchNorm2d(dim), nn.ReLU())
        self.res_block = ResBlock(dim)
        self.encoded = conv_bn_relu(dim, dim, 3)
        self.decoder = create_decoder(2 * dim, config)

    def forward(self, a1: Tensor, x_t_B1HW: Tensor, time_B: Tensor) -> Tensor:
        """A_1 (B, d, H/4, W/4), x_t (B, 1, H, W) and log-SNR or 1000 t (B,) -> logits (B, 1, H, W)."""
        h = self.encoded(self.res_block(self.stem(x_t_B1HW), self.time_mlp(time_B)))
        return self.decoder[1:](join(self.decoder[0], a1, h, a1.shape[2:]))
