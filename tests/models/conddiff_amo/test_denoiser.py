from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate, pixel_shuffle, silu

from amodalseg.config.schema import AFGConfig, DNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.denoiser import (
    AdaptiveFeatureGate,
    ConditionFusion,
    Dropout,
    EmphasisFusion,
    LinearFusion,
    LocalEmphasis,
    MaskDenoiser,
    PixelShuffleUp,
    ResBlock,
    join,
)
from amodalseg.models.conddiff_amo.ocr import conv_bn_relu

CHANNELS = (8, 16, 24, 32)
DIM = 16


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def make_features() -> list[torch.Tensor]:
    return [torch.randn(2, width, 16 // 2**i, 16 // 2**i, requires_grad=True) for i, width in enumerate(CHANNELS)]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_the_gate_starts_at_one_half(kernel: int, kind: str) -> None:
    gate = AdaptiveFeatureGate(DIM, AFGConfig(kernel=kernel, gate=kind))
    a2, f_up1 = torch.randn(2, 2, DIM, 4, 4)
    torch.testing.assert_close(gate(a2, f_up1, (4, 4)), (a2 + f_up1) / 2)
    assert gate.gate.out_channels == (DIM if kind == "channel" else 1)
    assert gate.hidden.kernel_size == (kernel, kernel)


@pytest.mark.parametrize(("bias", "chosen"), [(100.0, 0), (-100.0, 1)])
def test_an_open_gate_selects_a2_and_a_closed_one_the_fine_features(bias: float, chosen: int) -> None:
    gate = AdaptiveFeatureGate(DIM, AFGConfig())
    torch.nn.init.constant_(gate.gate.bias, bias)
    inputs = torch.randn(2, 1, DIM, 4, 4)
    torch.testing.assert_close(gate(*inputs, (4, 4)), inputs[chosen])


def test_an_even_gate_kernel_is_refused() -> None:
    with pytest.raises(UserError, match=r"afg\.kernel must be odd"):
        AdaptiveFeatureGate(DIM, AFGConfig(kernel=2))


def test_local_emphasis_keeps_the_size_and_stays_positive() -> None:
    for width, side in [(8, 16), (32, 2), (32, 3)]:
        result = LocalEmphasis(width, DIM)(torch.randn(1, width, side, side))
        assert result.shape == (1, DIM, side, side) and result.min() >= 0


def test_linear_fusion_is_one_convolution_of_upsampled_maps() -> None:
    layers = conv_bn_relu(2 * DIM, DIM, 1)
    maps = [torch.randn(2, DIM, side, side + 1) for side in (3, 12)]
    full = [interpolate(x, size=(12, 13), mode="bilinear", align_corners=False) for x in maps]
    torch.testing.assert_close(join(layers, *maps, (12, 13)), layers(torch.cat(full, 1)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean_and_drops_single_values(dtype: torch.dtype) -> None:
    dropout, ones = Dropout(0.1), torch.ones(3, 8, 101, 103, dtype=dtype)
    result = dropout(ones)
    dropped = result == 0
    assert abs(dropped.float().mean() - 0.1) < 0.004
    assert abs(dropped.float().mean((0, 2, 3)) - 0.1).max() < 0.012  # equally in every channel
    assert abs((dropped[:, :-1] & dropped[:, 1:]).float().mean() - 0.01) < 0.002  # and independently
    assert (result[~dropped] == torch.tensor(1 / 0.9).to(dtype)).all()
    assert torch.equal(dropout.eval()(ones), ones) and torch.equal(Dropout(0.0)(ones), ones)


@pytest.mark.parametrize(
    ("enabled", "instead", "last"),
    [(True, "le", AdaptiveFeatureGate), (False, "linear", LinearFusion), (False, "le", EmphasisFusion)],
)
def test_fusion_uses_all_four_maps(enabled: bool, instead: str, last: type) -> None:
    fusion = ConditionFusion(CHANNELS, DIM, AFGConfig(enabled=enabled, instead=instead))
    features = make_features()
    a1 = fusion(features)
    assert a1.shape == (2, DIM, 16, 16)
    a1.square().sum().backward()
    assert all(feature.grad.abs().max() > 0 for feature in features)
    assert isinstance(fusion.fuse1, last)


def test_le_instead_of_the_gate_is_two_convolutions_of_the_concatenated_maps() -> None:
    fusion = EmphasisFusion(DIM)
    a2, f_up1 = torch.randn(2, 2, DIM, 5, 7)
    first, second = (layer for layer in fusion.emphasis.layers if isinstance(layer, torch.nn.Conv2d))
    expected = second(first(torch.cat([a2, f_up1], dim=1)).relu()).relu()
    torch.testing.assert_close(fusion(a2, f_up1, (5, 7)), expected)
    assert first.weight.shape == (DIM, 2 * DIM, 3, 3) and second.weight.shape == (DIM, DIM, 3, 3)


def test_pixel_shuffle_starts_as_nearest_upsampling() -> None:
    up = PixelShuffleUp(12, 5)
    x = torch.randn(2, 12, 3, 4)
    result = up(x)
    assert result.shape == (2, 5, 6, 8)
    torch.testing.assert_close(result, result[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert len({channel.abs().sum().item() for channel in result[0]}) == 5  # but the channels differ
    torch.nn.init.normal_(up.conv.weight)
    torch.nn.init.normal_(up.conv.bias)
    torch.testing.assert_close(up(x), pixel_shuffle(silu(up.conv(x)), 2))


def test_the_time_is_added_between_the_norms_of_the_residual_block() -> None:
    block = ResBlock(DIM)
    x = torch.randn(2, DIM, 4, 4)
    assert not torch.allclose(block(x, torch.ones(2, DIM)), block(x, -torch.ones(2, DIM)))
    for parameter in block.scale_shift.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(block(x, torch.ones(2, DIM)), block(x, -torch.ones(2, DIM)))


def test_denoiser_predicts_at_the_size_of_the_noisy_mask() -> None:
    denoiser = MaskDenoiser(DNConfig(dim=DIM)).eval()
    assert denoiser(torch.randn(2, DIM, 16, 24), torch.randn(2, 1, 64, 96), torch.zeros(2)).shape == (2, 1, 64, 96)


@pytest.mark.parametrize("dim", [0, 4, 20])
def test_a_width_that_group_norm_cannot_split_is_refused(dim: int) -> None:
    with pytest.raises(UserError, match=f"dn.dim must be a multiple of 8, not {dim}"):
        MaskDenoiser(DNConfig(dim=dim))
