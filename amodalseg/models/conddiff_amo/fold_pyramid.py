"""The pyramid for inference: the same numbers as ``PVTPyramid`` with fewer copies and nothing computed twice.

All tokens of a batch stand as rows, first the B h w places, then the B time tokens. Linear layers and norms run on the
rows; the places alone are a channels-last map without a copy, which every convolution takes as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from amodalseg.models.conddiff_amo.pvt import PVTPyramid


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
        patch, adapter = pyramid.backbone.patch_embed.proj, pyramid.adapter
        self.pm1, self.has_modal = pyramid.pm1, pyramid.modal_in_adapter or pyramid.modal_embed is not None
        # a larger adapter sees zeros beyond the border where the patch convolution sees its answers: not one kernel
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
            features.append(run_stage_rows(stage, grid, tokens[i] if tokens else None))
        return features


def run_stage_rows(stage: Any, grid_BHWC: Tensor, token: Tensor | None) -> Tensor:
    """A timm stage on a map (B, h, w, C) and its time token (1 or B, C). Returns (B, C, h, w), channels-last."""
    batch, height, width, dim = grid_BHWC.shape
    size = (batch, height, width)
    rows = grid_BHWC.reshape(-1, dim)
    if token is not None:
        rows = torch.cat([rows, token.to(rows.dtype).expand(batch, dim)])
    for block in stage.blocks:
        rows = rows + attend_rows(block.attn, block.norm1(rows), size)
        rows = rows + feed_forward_rows(block.mlp, block.norm2(rows), size)
    places = batch * height * width
    return stage.norm(rows[:places]).view(batch, height, width, dim).permute(0, 3, 1, 2)


def attend_rows(attn: Any, rows: Tensor, size: tuple[int, int, int]) -> Tensor:
    """``pvt.attend`` on rows: every row asks; the answers are the reduced map of its object and its time token."""
    batch, height, width = size
    places, dim = batch * height * width, rows.shape[1]
    source = rows
    if attn.sr is not None:
        reduced = attn.sr(as_map(rows[:places], size)).permute(0, 2, 3, 1).reshape(-1, dim)
        source = attn.norm(reduced if rows.shape[0] == places else torch.cat([reduced, rows[places:]]))
    queries, answers = attn.q(rows), attn.kv(source)
    with_token = rows.shape[0] != places
    inner = source.shape[0] - batch if with_token else source.shape[0]
    answers_BKC = answers[:inner].view(batch, -1, 2 * dim)
    if with_token:
        answers_BKC = torch.cat([answers_BKC, answers[inner:, None]], dim=1)
    heads = (attn.num_heads, attn.head_dim)
    k, v = answers_BKC.view(batch, -1, 2, *heads).permute(2, 0, 3, 1, 4).unbind(0)

    def look(q: Tensor) -> Tensor:
        q_BhNd = q.view(batch, -1, *heads).transpose(1, 2)
        return scaled_dot_product_attention(q_BhNd, k, v).transpose(1, 2).reshape(-1, dim)

    found = look(queries[:places])
    return attn.proj(torch.cat([found, look(queries[places:])]) if with_token else found)


def feed_forward_rows(mlp: Any, rows: Tensor, size: tuple[int, int, int]) -> Tensor:
    """``pvt.feed_forward`` on rows: the time token skips the depth-wise convolution."""
    places = size[0] * size[1] * size[2]
    hidden = mlp.fc1(rows)
    spatial = mlp.dwconv(as_map(hidden[:places], size)).permute(0, 2, 3, 1).reshape(places, -1)
    done = mlp.fc2(gelu(spatial))
    # joined behind the second layer, where rows are four to eight times narrower
    return done if rows.shape[0] == places else torch.cat([done, mlp.fc2(gelu(hidden[places:]))])


def as_map(rows: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Rows of places (B h w, C) as a channels-last map (B, C, h, w), without a copy."""
    return rows.view(*size, rows.shape[1]).permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution of a channels-last map as one matrix product, whose answer is channels-last again."""
    return linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
