"""The pyramid for inference: the same numbers as ``PVTPyramid`` with nothing computed twice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from amodalseg.models.conddiff_amo.pvt import PVTPyramid, run_stage


class FoldedPyramid(nn.Module):
    """Stem and stages of a ``PVTPyramid``, with frozen copies of its weights.

    - The adapter (if 1x1) and the modal mask's own convolution are folded into the patch convolution. What depends on
      the image and the modal mask only comes from ``embed``, once for a sampling run.
    - ZOE's bias is in ``embed``; its weight is joined to the denoiser's stem (``fold.py``).
    - Stochastic depth is gone.

    Args:
        pyramid: of any configuration; it stays as it is.
    """

    def __init__(self, pyramid: PVTPyramid) -> None:
        super().__init__()
        self.zoe = None  # in the denoiser's stem
        patch, adapter = pyramid.backbone.patch_embed.proj, pyramid.adapter
        self.pm1, self.has_modal = pyramid.pm1, pyramid.modal_in_adapter or pyramid.modal_embed is not None
        # a larger adapter sees zeros beyond the border where the patch convolution sees its outputs: not one kernel
        self.adapter = copy.deepcopy(adapter) if adapter is not None and adapter.kernel_size != (1, 1) else None
        weight, bias = patch.weight.detach(), patch.bias.detach()
        own, zoe = cast(Any, pyramid.modal_embed), cast(Any, pyramid.zoe)
        if adapter is not None and self.adapter is None:
            weight = torch.einsum("oikl,ij->ojkl", weight, adapter.weight.detach()[:, :, 0, 0])
        if own is not None:
            weight, bias = torch.cat([weight, own.weight.detach()], dim=1), bias + own.bias.detach()
        if zoe is not None:
            bias = bias + zoe.bias.detach()
        self.patch = nn.Conv2d(weight.shape[1], weight.shape[0], patch.kernel_size, patch.stride, patch.padding)
        self.patch.weight, self.patch.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.norm = copy.deepcopy(pyramid.backbone.patch_embed.norm)
        self.stages = copy.deepcopy(pyramid.backbone.stages)
        self.time_tokens = copy.deepcopy(pyramid.time_tokens)

    def embed(self, image: Tensor, modal: Tensor) -> Tensor:
        """Image (B, 3, H, W) and modal mask (B, 1, H, W) -> their part of the patch embedding (B, C, H/4, W/4)."""
        if self.has_modal:
            image = torch.cat([image, 2 * modal - 1 if self.pm1 else modal], dim=1)
        if self.adapter is not None:
            image = self.adapter(image)
        return self.patch(image.contiguous(memory_format=torch.channels_last))

    def embed_time(self, time: Tensor) -> list[Tensor]:
        """Times (T,) -> the time token of each stage, (T, C_i); none without TTC."""
        return [] if self.time_tokens is None else [layer(time) for layer in self.time_tokens]

    def forward(self, embedded: Tensor, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Patch embedding (B, C, H/4, W/4), x_t's part included, and one time token for each stage, (1 or B, C_i).

        Returns:
            F_1 .. F_4, channels-last (B, C_i, h_i, w_i).
        """
        grid, features = self.norm(embedded.permute(0, 2, 3, 1)), list[Tensor]()
        for i, stage in enumerate(self.stages):
            if stage.downsample is not None:
                grid = stage.downsample.norm(stage.downsample.proj(features[-1]).permute(0, 2, 3, 1))
            features.append(run_stage(stage, grid, tokens[i] if tokens else None))
        return features
