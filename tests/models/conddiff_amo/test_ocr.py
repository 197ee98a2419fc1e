from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from amodalseg.config.schema import OCRConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.ocr import OCR, PyramidAttention

CHANNELS = 32


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def test_dilation_12_on_an_8x8_map_is_a_1x1_convolution() -> None:
    """With the paper's numbers, all outer taps fall on padding."""
    conv = OCR(CHANNELS, OCRConfig()).global_branch.convs[1][0]
    assert conv.dilation == (12, 12)
    x = torch.randn(2, CHANNELS, 8, 8)
    torch.testing.assert_close(conv(x), conv2d(x, conv.weight[:, :, 1:2, 1:2]), atol=1e-6, rtol=1e-5)
    wide = torch.randn(1, CHANNELS, 16, 16)  # the map with ocr.upsample=2
    assert (conv(wide) - conv2d(wide, conv.weight[:, :, 1:2, 1:2])).abs().max() > 0.01


def test_dilation_6_reaches_three_quarters_of_an_8x8_map() -> None:
    conv = OCR(CHANNELS, OCRConfig()).global_branch.convs[0][0]
    assert conv.dilation == (6, 6)
    outer = torch.ones(1, 1, 3, 3)
    outer[..., 1, 1] = 0
    reached = conv2d(torch.ones(1, 1, 8, 8), outer, padding=6, dilation=6) > 0
    assert reached.float().mean() == 0.75


@pytest.mark.parametrize("layout", ["parallel", "serial"])
@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 5), (8, 8)])
def test_small_maps_in_training_with_one_object(size: tuple[int, int], layout: str) -> None:
    ocr = OCR(CHANNELS, OCRConfig(layout=layout))
    x = torch.randn(1, CHANNELS, *size, requires_grad=True)
    result = ocr(x)
    assert result.shape == x.shape and result.isfinite().all()
    result.square().mean().backward()
    assert all(parameter.grad is not None for parameter in ocr.parameters())


def test_a_map_of_one_position_works_in_evaluation_mode() -> None:
    assert OCR(CHANNELS, OCRConfig()).eval()(torch.randn(1, CHANNELS, 1, 1)).shape == (1, CHANNELS, 1, 1)


def test_residual_adds_the_input() -> None:
    ocr = OCR(CHANNELS, OCRConfig()).eval()
    x = torch.randn(1, CHANNELS, 4, 4)
    full = ocr(x)
    ocr.residual = False
    torch.testing.assert_close(full - ocr(x), x)


def test_upsample_returns_the_doubled_map() -> None:
    x = torch.randn(1, CHANNELS, 3, 3)
    assert OCR(CHANNELS, OCRConfig(upsample=2)).eval()(x).shape == (1, CHANNELS, 6, 6)
    with pytest.raises(UserError, match=r"ocr\.upsample must be 1 or 2, not 3"):
        OCR(CHANNELS, OCRConfig(upsample=3))


def test_serial_feeds_the_local_branch_to_the_global_one() -> None:
    ocr = OCR(CHANNELS, OCRConfig(layout="serial")).eval()
    assert ocr.global_branch.convs[0][0].in_channels == CHANNELS // 2
    x = torch.randn(1, CHANNELS, 4, 4)
    torch.nn.init.zeros_(ocr.local_attention.layers[2].weight)
    torch.nn.init.constant_(ocr.local_attention.layers[2].bias, -200.0)  # a sigmoid of 0: the local branch is closed
    seen = []
    ocr.global_branch.register_forward_hook(lambda module, args, output: seen.append(output))
    ocr(x)
    assert seen[0].abs().max() == 0


def test_pyramid_attention_depends_on_every_position_of_an_odd_map() -> None:
    attention = PyramidAttention()
    for conv in attention.scales:
        torch.nn.init.constant_(conv.weight, 0.1)
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    weights = attention(x)
    assert weights.shape == (1, 1, 3, 3) and ((weights > 0) & (weights < 1)).all()
    for i in range(1, 3):  # from each coarse scale separately
        torch.nn.init.zeros_(attention.join.weight)
        torch.nn.init.ones_(attention.join.weight[:, i])
        (gradient,) = torch.autograd.grad(attention(x).sum(), x)
        assert (gradient.abs().sum(1) > 0).all()


@pytest.mark.parametrize("size", [(8, 8), (6, 11), (4, 4)])
def test_pyramid_attention_averages_over_1_2_and_4_positions(size: tuple[int, int]) -> None:
    """Against averages window by window; windows at the far border cover the remainder of the map."""
    attention, x = PyramidAttention(), torch.randn(2, 5, *size)
    maps = []
    for conv, side in zip(attention.scales, (1, 2, 4), strict=True):
        rows, columns = range(0, size[0], side), range(0, size[1], side)
        pooled = torch.stack(
            [torch.stack([x[..., r : r + side, c : c + side].mean((2, 3)) for c in columns], -1) for r in rows], -2
        )
        summary = torch.stack([pooled.mean(1), pooled.amax(1)], dim=1)
        maps.append(interpolate(conv(summary), size=size, mode="bilinear", align_corners=False))
    expected = torch.sigmoid(attention.join(torch.cat(maps, dim=1)))
    torch.testing.assert_close(attention(x), expected)
