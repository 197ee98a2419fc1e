"""Pyramid condition network (PCN, equations 6 and 7): timm's PVTv2 with modal mask, noisy mask and time as inputs.

timm's model is used unmodified. Its blocks reshape N tokens to H x W, so they cannot take an extra time token; the
functions below re-implement a block's forward pass *with its own submodules*. They hold no state: the only registered
module is the backbone, and ImageNet weights load under timm's own names.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from amodalseg.config.schema import PCNConfig, PyramidConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.reach import why_out_of_reach
from amodalseg.models.conddiff_amo.time_embedding import TimeMLP

Size = tuple[int, int, int]
"""Size of a batch of maps: B, H, W."""


class PVTPyramid(nn.Module):
    """Image, modal mask, noisy mask and time -> four feature maps.

    - Adapter (equation 6): cat(I, M_v) -> 3 channels, without bias, so that with kernel 1 the adapter and the patch
      convolution are exactly one 7x7 convolution, even at the zero-padded border. Initialised to the identity on RGB,
      so that the stem equals the pretrained one. Without the modal mask (``modal=False``) it maps 3 -> 3.
    - ``adapter_init=zero_conv``: no adapter; the modal mask enters like x_t, through its own convolution.
    - ZOE (zero overlapping embedding): x_t enters the patch embedding through a zero-initialised 7x7 stride-4
      convolution, before the normalisation.
    - TTC (time token concatenation): a new time token is appended to the map in every stage and dropped at its end.

    Args:
        config: options of the network; ``zoe=False`` and ``ttc=False`` omit these parts and their parameters.

    Raises:
        UserError: an even adapter kernel, or pretrained weights that cannot be fetched.
    """

    def __init__(self, config: PCNConfig) -> None:
        super().__init__()
        self.pm1 = config.vm_range == "pm1"
        self.backbone = create_backbone(config)
        patch = self.backbone.patch_embed.proj
        own_path = config.adapter_init == "zero_conv"
        self.adapter = None if own_path else create_adapter(config)
        self.modal_embed = zero_like_patch(patch) if own_path and config.modal else None
        self.modal_in_adapter = config.modal and not own_path
        self.zoe = zero_like_patch(patch) if config.zoe else None
        self.time_tokens = nn.ModuleList(TimeMLP(dim) for dim in self.channels) if config.ttc else None

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of F_1 .. F_4."""
        return tuple(info["num_chs"] for info in self.backbone.feature_info)

    def forward(
        self,
        image_B3HW: Tensor,
        modal_B1HW: Tensor | None,
        x_t_B1HW: Tensor | None = None,
        time_B: Tensor | None = None,
    ) -> list[Tensor]:
        """Extract the condition features (equation 7).

        Args:
            image_B3HW: float, normalised with ImageNet's mean and standard deviation; H and W multiples of 32.
            modal_B1HW: float in {0, 1}; None only if the configuration has ``modal=False``, which ignores it.
            x_t_B1HW: float noisy mask, clean values -1 and +1; None only with ``zoe=False``.
            time_B: float, log-SNR or 1000 t; None only with ``ttc=False``.

        Returns:
            F_1 .. F_4, float (B, C_i, H / 2^(i+1), W / 2^(i+1)).
        """
        x_BHWC = self._embed(image_B3HW, modal_B1HW, x_t_B1HW)
        features: list[Tensor] = []
        for i, stage in enumerate(self.backbone.stages):
            if stage.downsample is not None:
                x_BHWC = stage.downsample(features[-1])
            token_BC = None
            if self.time_tokens is not None:
                assert time_B is not None, "this network was built with a time token"
                token_BC = self.time_tokens[i](time_B)
            features.append(run_stage(stage, x_BHWC, token_BC))
        return features

    def _embed(self, image: Tensor, modal: Tensor | None, x_t: Tensor | None) -> Tensor:
        if modal is not None and self.pm1:
            modal = 2 * modal - 1
        if self.modal_in_adapter:
            assert modal is not None, "this network was built with the modal mask as an input"
            image = torch.cat([image, modal], dim=1)
        if self.adapter is not None:
            image = self.adapter(image)
        x = self.backbone.patch_embed.proj(image)
        if self.modal_embed is not None:
            assert modal is not None, "this network was built with the modal mask as an input"
            x = x + self.modal_embed(modal)
        if self.zoe is not None:
            assert x_t is not None, "this network was built with x_t as an input"
            x = x + self.zoe(x_t)
        return self.backbone.patch_embed.norm(x.permute(0, 2, 3, 1))


def create_pretrained(name: str, advice: str, **options: Any) -> Any:
    """A timm model with its published weights.

    Args:
        name: in timm.
        advice: what to do if they cannot be fetched; ``{repository}`` stands for their repository.
        options: of ``timm.create_model``.

    Raises:
        UserError: the weights cannot be fetched.
    """
    source = timm.get_pretrained_cfg(name)
    assert source is not None, name
    problem = why_out_of_reach(str(source.hf_hub_id))
    if problem is None:
        try:
            return timm.create_model(name, pretrained=True, **options)
        except OSError as error:  # any failure of the hub: no network, no such file, an HTTP status, a full disk
            problem = type(error).__name__
    raise UserError(
        f"the ImageNet weights of {name} cannot be fetched ({problem}): {advice.format(repository=source.hf_hub_id)} "
        "or set model.pcn.pretrained=false"
    )


def create_backbone(config: PyramidConfig) -> Any:
    """Build timm's PVTv2 without its head. Raises UserError if ``pretrained`` weights cannot be fetched."""
    options: dict[str, Any] = {"num_classes": 0, "drop_path_rate": config.drop_path}
    if config.pretrained:
        advice = "download {repository} once with network (it stays in the Hugging Face cache)"
        model = create_pretrained(config.backbone, advice, **options)
    else:
        model = timm.create_model(config.backbone, **options)
    for stage in model.stages:
        for block in stage.blocks:
            assert block.attn.pool is None, f"{config.backbone} has linear attention, which takes no time token"
    return model


def create_adapter(config: PyramidConfig) -> nn.Conv2d:
    """The input convolution of equation 6: (3 or 4) -> 3 channels, no bias."""
    if config.adapter < 1 or config.adapter % 2 == 0:
        raise UserError(f"model.pcn.adapter must be odd, for instance 1 or 3, not {config.adapter}")
    adapter = nn.Conv2d(3 + config.modal, 3, config.adapter, padding=config.adapter // 2, bias=False)
    if config.adapter_init == "identity":
        nn.init.zeros_(adapter.weight)
        middle = config.adapter // 2
        with torch.no_grad():
            for channel in range(3):
                adapter.weight[channel, channel, middle, middle] = 1
    return adapter


def zero_like_patch(patch: nn.Conv2d) -> nn.Conv2d:
    """A zero-initialised 1-channel convolution (weight and bias) with the patch embedding's geometry."""
    conv = nn.Conv2d(1, patch.out_channels, patch.kernel_size, patch.stride, patch.padding)  # type: ignore[arg-type]
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def run_stage(stage: Any, grid_BHWC: Tensor, token_BC: Tensor | None) -> Tensor:
    """Run the blocks and the final norm of a timm stage, with or without a time token per object.

    All tokens of the batch are stored as rows, first the B H W positions, then the B time tokens. Linear layers and
    norms run on the rows; the positions alone form a channels-last map without a copy, which convolutions use directly.

    Args:
        stage: a timm stage.
        grid_BHWC: the stage's map.
        token_BC: or (1, C), the same for the whole batch.

    Returns:
        (B, C, H, W), channels-last, without the tokens.
    """
    batch, height, width, dim = grid_BHWC.shape
    size = (batch, height, width)
    rows_NC = grid_BHWC.reshape(-1, dim)
    if token_BC is not None:
        rows_NC = torch.cat([rows_NC, token_BC.to(rows_NC.dtype).expand(batch, dim)])
    for block in stage.blocks:
        rows_NC = add(rows_NC, attend(block.attn, block.norm1(rows_NC), size), block.drop_path1, size)
        rows_NC = add(rows_NC, feed_forward(block.mlp, block.norm2(rows_NC), size), block.drop_path2, size)
    return as_map(stage.norm(split_rows(rows_NC, size)[0]), size)


def split_rows(rows_NC: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """The positions (B H W, C), and the time tokens (B, C) or none (0, C)."""
    places = size[0] * size[1] * size[2]
    first, last = rows_NC.split([places, rows_NC.shape[0] - places])
    return first, last


def as_map(rows_NC: Tensor, size: Size) -> Tensor:
    """Rows of positions (B H W, C) as a channels-last map (B, C, H, W), without a copy."""
    return rows_NC.view(*size, rows_NC.shape[1]).permute(0, 3, 1, 2)


def as_rows(grid_BCHW: Tensor) -> Tensor:
    """A map (B, C, H, W) as rows of positions (B H W, C), without a copy if it is channels-last."""
    return grid_BCHW.permute(0, 2, 3, 1).reshape(-1, grid_BCHW.shape[1])


def add(rows_NC: Tensor, more_NC: Tensor, drop_path: nn.Module, size: Size) -> Tensor:
    """The residual connection; stochastic depth drops all rows of an object together."""
    if isinstance(drop_path, nn.Identity) or not drop_path.training:
        return rows_NC + more_NC
    factor_B1 = drop_path(more_NC.new_ones(size[0], 1))
    factor_N1 = factor_B1.repeat_interleave(size[1] * size[2], dim=0)
    if rows_NC.shape[0] > factor_N1.shape[0]:
        factor_N1 = torch.cat([factor_N1, factor_B1])
    return torch.addcmul(rows_NC, more_NC, factor_N1)


def attend(attn: Any, rows_NC: Tensor, size: Size) -> Tensor:
    """Spatial-reduction attention. Queries: all rows; keys, values: the object's *reduced* map and its token."""
    batch, dim = size[0], rows_NC.shape[1]
    places, tokens = split_rows(rows_NC, size)
    source = rows_NC
    if attn.sr is not None:
        reduced = reduce(attn.sr, places, size)
        source = attn.norm(torch.cat([reduced, tokens.to(reduced.dtype)]) if tokens.shape[0] else reduced)
    queries, keys_values = attn.q(rows_NC), attn.kv(source)
    keys_values, own = keys_values.split([source.shape[0] - tokens.shape[0], tokens.shape[0]])
    keys_values_BKC = keys_values.view(batch, -1, 2 * dim)
    if tokens.shape[0]:
        keys_values_BKC = torch.cat([keys_values_BKC, own[:, None]], dim=1)
    heads = (attn.num_heads, attn.head_dim)
    k, v = keys_values_BKC.view(batch, -1, 2, *heads).permute(2, 0, 3, 1, 4).unbind(0)
    found = [
        weigh(q.view(batch, -1, *heads).transpose(1, 2), k, v).transpose(1, 2).reshape(-1, dim)
        for q in split_rows(queries, size)
        if q.shape[0]
    ]
    return attn.proj(torch.cat(found))


def reduce(conv: Any, places_NC: Tensor, size: Size) -> Tensor:
    """A convolution on rows with kernel size equal to its stride: a linear layer on the map's patches."""
    (batch, height, width), side = size, conv.stride[0]
    patches = places_NC.view(batch, height // side, side, width // side, side, -1).transpose(2, 3)
    weight = conv.weight.permute(0, 2, 3, 1).flatten(1)
    return linear(patches.reshape(-1, weight.shape[1]), weight, conv.bias)


def weigh(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, each (B, heads, N, d); in float32 on a CPU, whose bfloat16 kernel is much slower."""
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):  # its backward pass alone takes seven times as long in bfloat16
        return scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)


def feed_forward(mlp: Any, rows_NC: Tensor, size: Size) -> Tensor:
    """Linear, depth-wise 3x3 convolution on the map only (time tokens skip it), GELU, linear."""
    places, tokens = split_rows(rows_NC, size)
    spatial = mlp.fc2(mlp.act(as_rows(mlp.dwconv(as_map(mlp.fc1(places), size)))))
    # joined after the second layer, where rows are four to eight times narrower
    return torch.cat([spatial, mlp.fc2(mlp.act(mlp.fc1(tokens)))]) if tokens.shape[0] else spatial
