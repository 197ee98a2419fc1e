"""The network for inference: the numbers of ``CondDiffAMONetwork`` in evaluation mode, up to rounding, in less time."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, silu

from amodalseg.models.conddiff_amo.denoiser import ConditionFusion, LinearFusion, MaskDenoiser, resize
from amodalseg.models.conddiff_amo.fold_lite import FoldedLitePyramid
from amodalseg.models.conddiff_amo.fold_pyramid import FoldedPyramid
from amodalseg.models.conddiff_amo.lite import LitePyramid
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork, check_size
from amodalseg.models.conddiff_amo.ocr import OCR, DilatedPair, pointwise


class TimeFeatures(NamedTuple):
    """All that depends on the time only: the stages' tokens (T, C_i), scale and shift (T, d). T is 1 or the batch."""

    tokens: list[Tensor]
    scale: Tensor
    shift: Tensor

    def row(self, step: int) -> TimeFeatures:
        """One time's features, T = 1."""
        one = slice(step, step + 1)
        return TimeFeatures([token[one] for token in self.tokens], self.scale[one], self.shift[one])


class FoldedNetwork(nn.Module):
    """A ``CondDiffAMONetwork`` with everything folded that a fixed set of weights allows.

    - Batch norms are inside their convolutions; ZOE and the denoiser's stem are one convolution of x_t.
    - A 1x1 convolution of two joined maps is the sum of two, each at its own resolution, before the up-sampling, with
      which it commutes.
    - Tokens of the pyramid run as rows (``fold_pyramid.py``).
    - ``embed`` (image and modal mask) and ``embed_time`` (times) are called once for a sampling run.

    ``forward`` has the network's own signature and does it all; ``evaluation.py`` calls the parts. Weights are frozen
    copies: what is trained later does not reach them.

    Args:
        network: stays as it is.
    """

    def __init__(self, network: CondDiffAMONetwork) -> None:
        super().__init__()
        pcn = network.pcn
        self.pyramid = FoldedLitePyramid(pcn) if isinstance(pcn, LitePyramid) else FoldedPyramid(pcn)
        self.ocr = None if network.ocr is None else fold_refinement(network.ocr)
        self.fusion = FoldedFusion(network.fusion, network.denoiser.decoder[0])
        self.denoiser = FoldedDenoiser(network.denoiser)
        # ZOE joins the denoiser's stem where it has the same stride
        stem, zoe = fold_norm(network.denoiser.stem)[0], None if isinstance(pcn, LitePyramid) else network.pcn.zoe
        self.noisy_weight = nn.Parameter(stem if zoe is None else torch.cat([zoe.weight.detach(), stem]))
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.is_static = network.pcn.zoe is None and network.pcn.time_tokens is None
        """Whether the condition depends neither on x_t nor on the time."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; inputs are cast to it."""
        return self.noisy_weight.dtype

    def embed(self, image: Tensor, modal: Tensor) -> Tensor:
        """Image (B, 3, H, W) and modal mask (B, 1, H, W) -> their share of the patch embedding (B, C, H/4, W/4)."""
        check_size(*image.shape[2:])
        return self.pyramid.embed(image.to(self.dtype), modal.to(self.dtype))

    def embed_time(self, time: Tensor) -> TimeFeatures:
        """Times (T,), as the network takes them -> what the network makes of them."""
        return TimeFeatures(self.pyramid.embed_time(time), *self.denoiser.embed_time(time))

    def evaluate(self, embedded: Tensor, x_t: Tensor, time: TimeFeatures) -> tuple[Tensor, Tensor]:
        """One full evaluation.

        Args:
            embedded: from ``embed``.
            x_t: (B, 1, H, W).
            time: from ``embed_time``, one row or one for each object.

        Returns:
            (logits (B, 1, H, W), the condition (B, d, H/4, W/4) that ``denoise`` takes: A_1 in the decoder's eyes).
        """
        noisy = conv2d(x_t.to(self.dtype), self.noisy_weight, stride=4, padding=3)
        width = noisy.shape[1] - self.denoiser.dim
        if width:
            embedded = embedded + noisy[:, :width]
        elif self.pyramid.zoe is not None:
            embedded = embedded + self.pyramid.zoe(x_t.to(self.dtype))
        features = self.pyramid(embedded, time.tokens)
        if self.ocr is not None:
            features[-1] = self.ocr(features[-1])
        condition = self.fusion(features)
        return self.denoiser(condition, noisy[:, width:], time), condition

    def denoise(self, condition: Tensor, x_t: Tensor, time: TimeFeatures) -> Tensor:
        """The mask denoiser alone, beside a condition of an earlier step. Returns logits (B, 1, H, W)."""
        noisy = conv2d(x_t.to(self.dtype), self.noisy_weight[-self.denoiser.dim :], stride=4, padding=3)
        return self.denoiser(condition, noisy, time)

    def forward(self, image_B3HW: Tensor, modal_B1HW: Tensor, x_t_B1HW: Tensor, time_B: Tensor) -> Tensor:
        """``CondDiffAMONetwork.forward``."""
        return self.evaluate(self.embed(image_B3HW, modal_B1HW), x_t_B1HW, self.embed_time(time_B))[0]


class FoldedFusion(nn.Module):
    """F_1 .. F_4 -> A_1 through the first half of the decoder's first layer, which is linear in it.

    Args:
        fusion: LE, linear fusions, and the gate.
        decoder: the decoder's first convolution, with its norm.
    """

    def __init__(self, fusion: ConditionFusion, decoder: Any) -> None:
        super().__init__()
        emphasis: Any = fusion.emphasis
        self.emphasis = nn.ModuleList(copy.deepcopy(part.layers) for part in emphasis)
        self.fuse3, self.fuse2 = FoldedPair(fusion.fuse3.layers), FoldedPair(fusion.fuse2.layers)
        linear = isinstance(fusion.fuse1, LinearFusion)
        self.fuse1 = FoldedPair(fusion.fuse1.layers) if linear else None
        self.gate: Any = None if linear else copy.deepcopy(fusion.fuse1)
        self.out = FoldedPair(decoder)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Four maps (B, C_i, h_i, w_i) -> (B, d, h_1, w_1)."""
        size = features[0].shape[2:]
        e1, e2, e3, e4 = (layers(feature) for layers, feature in zip(self.emphasis, features, strict=True))
        a3 = (resize(self.fuse3.first(e4), size) + resize(self.fuse3.second(e3), size)).relu()
        a2 = (self.fuse2.first(a3) + resize(self.fuse2.second(e2), size)).relu()
        if self.gate is None:
            assert self.fuse1 is not None
            a1 = (self.fuse1.first(a2) + self.fuse1.second(e1)).relu()
        else:
            hidden = self.gate.hidden(torch.cat([a2, e1], dim=1)).relu()
            a1 = torch.lerp(e1, a2, torch.sigmoid(self.gate.gate(hidden)))
        return self.out.first(a1)


class FoldedPair(nn.Module):
    """A 1x1 convolution of two joined maps with its batch norm, as two: what they give adds up (before the ReLU)."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        weight, bias = fold_norm(layers)
        half = weight.shape[1] // 2
        self.first_weight = nn.Parameter(weight[:, :half, 0, 0].contiguous())
        self.second_weight = nn.Parameter(weight[:, half:, 0, 0].contiguous())
        self.bias = nn.Parameter(bias)

    def first(self, x: Tensor) -> Tensor:
        """The first map's part (B, d, h, w), with the bias: bilinear weights sum to 1, so it may be up-sampled."""
        return pointwise(x, self.first_weight, self.bias)

    def second(self, x: Tensor) -> Tensor:
        """The second map's part (B, d, h, w)."""
        return pointwise(x, self.second_weight)


class FoldedDenoiser(nn.Module):
    """``MaskDenoiser`` behind its stem's convolution, with the time's scale and shift given."""

    def __init__(self, denoiser: MaskDenoiser) -> None:
        super().__init__()
        bias = fold_norm(denoiser.stem)[1]
        self.dim, self.stem_bias = len(bias), nn.Parameter(bias.view(1, -1, 1, 1))
        self.time_mlp = copy.deepcopy(denoiser.time_mlp)
        self.block = copy.deepcopy(denoiser.res_block)
        self.encoded = fold_sequence(denoiser.encoded)
        self.join = FoldedPair(denoiser.decoder[0])
        self.up1, self.smooth1, self.up2, self.smooth2 = (
            copy.deepcopy(denoiser.decoder[1]),
            fold_sequence(denoiser.decoder[2]),
            copy.deepcopy(denoiser.decoder[3]),
            fold_sequence(denoiser.decoder[4]),
        )
        self.last = copy.deepcopy(denoiser.decoder[6])

    def embed_time(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Times (T,) -> 1 + scale and shift, each (T, d)."""
        scale, shift = self.block.scale_shift(self.time_mlp(time)).chunk(2, dim=1)
        return 1 + scale, shift

    def forward(self, condition: Tensor, stem: Tensor, time: TimeFeatures) -> Tensor:
        """The condition and the stem's convolution of x_t, both (B, d, h, w) -> logits (B, 1, 4 h, 4 w)."""
        x, block = (stem + self.stem_bias).relu(), self.block
        scale, shift = (values[:, :, None, None].to(x.dtype) for values in (time.scale, time.shift))
        h = silu(torch.addcmul(shift, block.norm1(block.conv1(x)), scale))
        x = x + silu(block.norm2(block.conv2(h)))
        x = (condition + self.join.second(self.encoded(x))).relu()
        for up, smooth in ((self.up1, self.smooth1), (self.up2, self.smooth2)):
            x = smooth(up(x))
        return self.last(x)


def fold_norm(layers: Any) -> tuple[Tensor, Tensor]:
    """Convolution without bias and batch norm, the first two layers -> one convolution's (weight, bias)."""
    conv, norm = layers[0], layers[1]
    assert conv.bias is None and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    # in double precision: the quotient must not cost the digits that the comparison with the network needs
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight, bias = conv.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
    return weight.detach().to(conv.weight.dtype), bias.detach().to(conv.weight.dtype)


def fold_sequence(layers: Any) -> nn.Sequential:
    """Convolution, batch norm, ReLU -> convolution with bias, ReLU."""
    old = layers[0]
    new = type(old)(old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation)
    weight, bias = fold_norm(layers)
    new.weight, new.bias = nn.Parameter(weight), nn.Parameter(bias)
    return nn.Sequential(new, nn.ReLU(inplace=True))


def fold_refinement(ocr: OCR) -> OCR:
    """A copy of OCR with its batch norms folded."""
    ocr = copy.deepcopy(ocr)
    for pair in (ocr.local_branch, ocr.global_branch):
        assert isinstance(pair, DilatedPair)
        pair.convs = nn.ModuleList(fold_sequence(layers) for layers in pair.convs)
    ocr.fuse = fold_sequence(ocr.fuse)
    return ocr
