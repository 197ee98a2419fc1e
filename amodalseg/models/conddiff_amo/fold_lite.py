"""The convolutional pyramid for inference: the same numbers as ``LitePyramid`` with batch norms inside convolutions."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from amodalseg.models.conddiff_amo.lite import LitePyramid


class FoldedLitePyramid(nn.Module):
    """The interface of ``FoldedPyramid``; x_t's convolution stays by itself, at another stride than the denoiser's.

    Args:
        pyramid: stays as it is.
    """

    def __init__(self, pyramid: LitePyramid) -> None:
        super().__init__()
        self.pyramid = copy.deepcopy(pyramid).eval()
        for module in list(self.pyramid.modules()):
            fuse_norms(module)
        self.zoe, self.pyramid.zoe = self.pyramid.zoe, None
        # the first norm stands behind the sum of several convolutions
        norm = pyramid.backbone.bn1
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        backbone: Any = self.pyramid.backbone
        for conv in (backbone.conv_stem, self.pyramid.modal_embed, self.zoe):
            if conv is not None:
                conv.weight.data = conv.weight.data * scale.view(-1, 1, 1, 1)
        shift = norm.bias.detach() - norm.running_mean * scale
        backbone.conv_stem.bias, backbone.bn1 = nn.Parameter(shift), norm.act

    def embed(self, image: Tensor, modal: Tensor) -> Tensor:
        """Image (B, 3, H, W) and modal mask (B, 1, H, W) -> what does not depend on x_t, (B, 32, H/2, W/2)."""
        return self.pyramid.embed(image.contiguous(memory_format=torch.channels_last), modal)

    def embed_time(self, time: Tensor) -> list[Tensor]:
        """No time token."""
        return []

    def forward(self, embedded: Tensor, tokens: Sequence[Tensor]) -> list[Tensor]:
        """``embed``'s map with x_t's part -> F_1 .. F_4."""
        return self.pyramid.features(embedded)


def fuse_norms(module: nn.Module) -> None:
    """Put each batch norm that directly follows a convolution among the module's children into it."""
    previous: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None and previous[0] != "conv_stem":
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            setattr(module, name, cast(Any, child).act)  # timm's norms hold the activation
        previous = (name, child) if isinstance(child, nn.Conv2d) else None
