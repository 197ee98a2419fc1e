"""Pyramid condition network (PCN, equations 6 and 7): timm's PVTv2 with a modal mask, a noisy mask and time inside.

timm's model is used as it is, without a fork. Its blocks reshape N tokens to H x W, so they cannot take an extra time
token; the functions below run a block again *from its own submodules*. They hold no state: the one registered module
is the backbone, and ImageNet weights load under timm's own names.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from amodalseg.config.schema import PCNConfig, PyramidConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.time_embedding import TimeMLP

Size = tuple[int, int]


class PVTPyramid(nn.Module):
    """Image, modal mask, noisy mask and time -> four feature maps.

    - Adapter (equation 6): cat(I, M_v) -> 3 channels, without bias, so that with kernel 1 the adapter and the patch
      convolution are exactly one 7x7 convolution, also at the zero-padded border. Identity on RGB at the start: the
      stem then equals the pretrained one. Without the modal mask (``modal=False``) it maps 3 -> 3.
    - ``adapter_init=zero_conv``: no adapter; the modal mask enters as x_t does, by a convolution of its own.
    - ZOE (zero overlapping embedding): x_t enters the patch embedding by a zero-initialised 7x7 stride-4 convolution,
      before the normalisation.
    - TTC (time token concatenation): a fresh time token stands first in every stage and is dropped at its end.

    Args:
        config: options of the network; ``zoe=False`` and ``ttc=False`` leave these parts out, parameters and all.

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
            modal_B1HW: float in {0, 1}; None only where the configuration has ``modal=False``, which ignores it.
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


def create_backbone(config: PyramidConfig) -> Any:
    """Build timm's PVTv2 without its head. Raises UserError if ``pretrained`` weights cannot be fetched."""
    try:
        model: Any = timm.create_model(
            config.backbone, pretrained=config.pretrained, num_classes=0, drop_path_rate=config.drop_path
        )
    except OSError as error:  # every failure of the hub is one: no network, no such file, an HTTP status, a full disk
        if not config.pretrained:
            raise
        source = timm.get_pretrained_cfg(config.backbone)
        assert source is not None, config.backbone
        raise UserError(
            f"the ImageNet weights of {config.backbone} cannot be fetched ({type(error).__name__}): download "
            f"{source.hf_hub_id} once with network (it stays in the Hugging Face cache) or set "
            "model.pcn.pretrained=false"
        ) from error
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
    """A 1-channel convolution of the patch embedding's geometry that starts at zero, weight and bias."""
    conv = nn.Conv2d(1, patch.out_channels, patch.kernel_size, patch.stride, patch.padding)  # type: ignore[arg-type]
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def run_stage(stage: Any, x_BHWC: Tensor, token_BC: Tensor | None) -> Tensor:
    """Run the blocks and the final norm of a timm stage, with a time token at position 0 or without one.

    Returns:
        (B, C, H, W); the token is gone.
    """
    batch, height, width, dim = x_BHWC.shape
    x_BNC = x_BHWC.reshape(batch, height * width, dim)
    if token_BC is not None:
        x_BNC = torch.cat([token_BC[:, None].to(x_BNC.dtype), x_BNC], dim=1)
    for block in stage.blocks:
        x_BNC = run_block(block, x_BNC, (height, width))
    return split_tokens(stage.norm(x_BNC), (height, width))[1].contiguous()


def run_block(block: Any, x_BNC: Tensor, size: Size) -> Tensor:
    """Run a timm block on N = H W + (number of extra tokens, at the front) tokens."""
    x_BNC = x_BNC + block.drop_path1(attend(block.attn, block.norm1(x_BNC), size))
    return x_BNC + block.drop_path2(feed_forward(block.mlp, block.norm2(x_BNC), size))


def split_tokens(x_BNC: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Extra tokens (B, N - H W, C), and the others as a map (B, C, H, W)."""
    extra = x_BNC.shape[1] - size[0] * size[1]
    grid = x_BNC[:, extra:].transpose(1, 2).reshape(x_BNC.shape[0], x_BNC.shape[2], *size)
    return x_BNC[:, :extra], grid


def attend(attn: Any, x_BNC: Tensor, size: Size) -> Tensor:
    """Spatial-reduction attention: every token asks; the answers are the extra tokens and the *reduced* map."""
    batch, num, dim = x_BNC.shape
    source = x_BNC
    if attn.sr is not None:
        extra, grid = split_tokens(x_BNC, size)
        reduced = attn.sr(grid).flatten(2).transpose(1, 2)
        source = attn.norm(torch.cat([extra.to(reduced.dtype), reduced], dim=1))
    heads = (attn.num_heads, attn.head_dim)
    q = attn.q(x_BNC).reshape(batch, num, *heads).transpose(1, 2)
    k, v = attn.kv(source).reshape(batch, source.shape[1], 2, *heads).permute(2, 0, 3, 1, 4).unbind(0)
    return attn.proj(weigh(q, k, v).transpose(1, 2).reshape(batch, num, dim))


def weigh(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, each (B, heads, N, d); in float32 on a CPU, whose bfloat16 kernel is no match."""
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):  # its backward pass alone takes seven times as long in bfloat16
        return scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)


def feed_forward(mlp: Any, x_BNC: Tensor, size: Size) -> Tensor:
    """Linear, depth-wise 3x3 convolution on the map only (extra tokens skip it), GELU, linear."""
    extra, grid = split_tokens(mlp.fc1(x_BNC), size)
    spatial = mlp.dwconv(grid).flatten(2).transpose(1, 2)
    return mlp.fc2(mlp.act(torch.cat([extra, spatial], dim=1)))
