from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.functional import conv2d

from amodalseg.config.schema import PCNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo import pvt
from amodalseg.models.conddiff_amo.pvt import PVTPyramid, add, attend, feed_forward, run_stage

B0 = "pvt_v2_b0"


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # several threads are slower on busy cores


def shake(module: nn.Module) -> None:
    """Perturb every parameter, so that no zero or one of the initialisation hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))


def make_inputs(size: int = 64, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = (torch.rand(batch, 1, size, size) < 0.3).float()
    return torch.randn(batch, 3, size, size), mask, torch.randn_like(mask), torch.linspace(-10, 8, batch)


@pytest.mark.parametrize(("name", "size"), [(B0, 96), ("pvt_v2_b2", 64), ("pvt_v2_b4", 64)])
def test_without_token_it_equals_the_network_of_timm_at_initialisation(name: str, size: int) -> None:
    pcn = PVTPyramid(PCNConfig(backbone=name, ttc=False)).eval()
    shake(pcn.backbone)
    inputs = make_inputs(size, batch=1)
    with torch.no_grad():
        _, expected = pcn.backbone.forward_intermediates(inputs[0])
        features = pcn(*inputs)
    for i, (feature, truth) in enumerate(zip(features, expected, strict=True)):
        assert feature.shape == (1, pcn.channels[i], size // 2 ** (i + 2), size // 2 ** (i + 2))
        torch.testing.assert_close(feature, truth, atol=1e-5, rtol=1e-5)


def test_a_token_changes_all_maps_and_no_shapes() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0)).eval()
    image, modal, x_t, time = make_inputs(batch=1)
    with torch.no_grad():
        early, late = pcn(image, modal, x_t, time), pcn(image, modal, x_t, time + 5)
    assert [tuple(f.shape) for f in early] == [(1, 32, 16, 16), (1, 64, 8, 8), (1, 160, 4, 4), (1, 256, 2, 2)]
    assert all((a - b).abs().max() > 1e-5 for a, b in zip(early, late, strict=True))


def test_the_token_skips_the_depthwise_convolution() -> None:
    block = PVTPyramid(PCNConfig(backbone=B0)).backbone.stages[1].blocks[0].eval()
    shake(block)
    x, token = torch.randn(2, 12, 64), 100 * torch.randn(2, 1, 64)
    result = feed_forward(block.mlp, torch.cat([x.flatten(0, 1), token[:, 0]]), (2, 3, 4))
    expected = block.mlp(x, (3, 4)).flatten(0, 1)
    torch.testing.assert_close(result[:24], expected)  # the map does not depend on the token
    torch.testing.assert_close(result[24:], block.mlp.fc2(block.mlp.act(block.mlp.fc1(token[:, 0]))))


@pytest.mark.parametrize("stage", [1, 3])
def test_attention_equals_a_slow_transcription(stage: int) -> None:
    """Head by head, query by query; keys: the reduced map and the unchanged token, normalised together."""
    attn = PVTPyramid(PCNConfig(backbone=B0)).backbone.stages[stage].blocks[0].attn
    shake(attn)
    height, width, dim = 4, 8, attn.dim
    x, other = torch.randn(2, height * width + 1, dim)  # two objects; the token comes last
    keys = x
    if stage == 1:
        assert attn.sr.stride == (4, 4)
        grid = x[:-1].T.reshape(1, dim, height, width)
        keys = attn.norm(torch.cat([x[-1:], attn.sr(grid)[0].flatten(1).T]))
    else:
        assert attn.sr is None
    rows = []
    for query in attn.q(x):
        heads = []
        for h in range(attn.num_heads):
            part = slice(h * attn.head_dim, (h + 1) * attn.head_dim)
            k, v = attn.kv(keys)[:, :dim][:, part], attn.kv(keys)[:, dim:][:, part]
            heads.append(torch.softmax(k @ query[part] / attn.head_dim**0.5, 0) @ v)
        rows.append(attn.proj(torch.cat(heads)))
    attended = attend(attn, torch.cat([other[:-1], x[:-1], other[-1:], x[-1:]]), (2, height, width))
    mine = torch.cat([attended[height * width : -2], attended[-1:]])
    torch.testing.assert_close(mine, torch.stack(rows), atol=1e-5, rtol=1e-4)


def test_the_tokens_come_last_and_are_dropped() -> None:
    stage = PVTPyramid(PCNConfig(backbone=B0)).backbone.stages[3].eval()
    grid, token, seen = torch.randn(2, 2, 3, 256), torch.randn(2, 256), []
    for norm in (stage.blocks[0].norm1, stage.norm):
        norm.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    assert run_stage(stage, grid, token).shape == (2, 256, 2, 3)
    assert torch.equal(seen[0], torch.cat([grid.flatten(0, 2), token]))
    assert seen[1].shape == (12, 256)


def test_stochastic_depth_drops_an_object_together_with_its_token() -> None:
    """All rows of an object are kept with a probability of 3/4 and scaled by 4/3, or all are dropped."""
    rows, more, drop_path = torch.randn(2000 * 7, 1), torch.ones(2000 * 7, 1), DropPath(0.25)
    added = (add(rows, more, drop_path, (2000, 2, 3)) - rows)[:, 0]
    objects = torch.cat([added[: 2000 * 6].view(2000, 6), added[2000 * 6 :, None]], dim=1)
    kept = objects[:, 0] > 0.5
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(objects, (kept * 4 / 3)[:, None].expand(2000, 7), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(add(rows, more, drop_path.eval(), (2000, 2, 3)), rows + 1)


@pytest.mark.parametrize("drops", [0.0, 0.1])
def test_a_stage_in_training_equals_that_of_timm(drops: float) -> None:
    """Same random numbers, same gradients."""
    stage = PVTPyramid(PCNConfig(backbone=B0, drop_path=drops)).backbone.stages[2].train()
    shake(stage)
    grid, weight = torch.randn(3, 8, 12, 64), torch.randn(3, 4, 6, 160)
    stage.zero_grad()
    torch.manual_seed(5)
    expected = stage(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    (expected * weight).sum().backward()
    truth = {name: parameter.grad for name, parameter in stage.named_parameters()}
    stage.zero_grad()
    torch.manual_seed(5)
    mine = run_stage(stage, stage.downsample(grid.permute(0, 3, 1, 2)), None).permute(0, 2, 3, 1)
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
    (mine * weight).sum().backward()
    for name, parameter in stage.named_parameters():
        torch.testing.assert_close(parameter.grad, truth[name], atol=1e-4, rtol=1e-3)


def test_adapter_and_zoe_are_equivalent_to_one_patch_convolution() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0, ttc=False)).eval()
    shake(pcn)
    assert pcn.adapter is not None and pcn.adapter.bias is None and pcn.zoe is not None
    image, modal, x_t, _ = make_inputs()
    patch = pcn.backbone.patch_embed
    stem = torch.einsum("omyx,mc->ocyx", patch.proj.weight, pcn.adapter.weight[:, :, 0, 0])
    weight = torch.cat([stem, pcn.zoe.weight], 1)
    expected = conv2d(torch.cat([image, modal, x_t], 1), weight, patch.proj.bias + pcn.zoe.bias, 4, 3)
    torch.testing.assert_close(
        pcn._embed(image, modal, x_t), patch.norm(expected.permute(0, 2, 3, 1)), atol=1e-5, rtol=1e-5
    )


def test_a_wider_adapter_starts_as_the_identity() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0, adapter=3))
    assert pcn.adapter is not None and pcn.adapter.weight.shape == (3, 4, 3, 3)
    inputs = make_inputs()
    torch.testing.assert_close(pcn._embed(*inputs[:3]), pcn.backbone.patch_embed(inputs[0]), atol=1e-6, rtol=1e-5)


def test_gradients_reach_parameters_that_start_at_zero() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0))
    sum((f * torch.randn_like(f)).sum() for f in pcn(*make_inputs())).backward()
    assert pcn.adapter.weight[:, 3].abs().max() == 0 and pcn.adapter.weight.grad[:, 3].abs().min() > 0
    assert pcn.zoe.weight.abs().max() == 0 and pcn.zoe.weight.grad.abs().max() > 0
    assert pcn.zoe.bias.grad.abs().max() > 0


def test_state_dict_names_every_weight_once() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0))
    state = pcn.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    backbone = {key.removeprefix("backbone.") for key in state if key.startswith("backbone.")}
    assert backbone == set(timm.create_model(B0, num_classes=0).state_dict())
    assert {key.split(".")[0] for key in state} == {"backbone", "adapter", "zoe", "time_tokens"}


@pytest.mark.parametrize(
    ("config", "gone"),
    [
        (PCNConfig(backbone=B0, zoe=False), {"zoe"}),
        (PCNConfig(backbone=B0, ttc=False), {"time_tokens"}),
        (PCNConfig(backbone=B0, zoe=False, ttc=False, adapter=3, vm_range="pm1"), {"zoe", "time_tokens"}),
    ],
)
def test_disabled_parts_have_no_parameters_and_no_effect(config: PCNConfig, gone: set[str]) -> None:
    pcn = PVTPyramid(config).eval()
    assert not gone & {key.split(".")[0] for key in pcn.state_dict()}
    shake(pcn)
    image, modal, x_t, time = make_inputs(batch=1)
    with torch.no_grad():
        one, other = pcn(image, modal, x_t, time), pcn(image, modal, x_t + config.zoe, time + config.ttc)
        same = pcn(image, modal, x_t + (not config.zoe), time + (not config.ttc))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) == (config.zoe or config.ttc)


def test_without_the_modal_mask_the_adapter_has_no_channel_for_it() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0, modal=False)).eval()
    assert pcn.adapter is not None and pcn.adapter.weight.shape == (3, 3, 1, 1)
    image, modal, x_t, time = make_inputs(batch=1)
    with torch.no_grad():
        for one, other in zip(pcn(image, None, x_t, time), pcn(image, modal, x_t, time), strict=True):
            assert torch.equal(one, other)
    with pytest.raises(AssertionError, match="modal mask"):
        PVTPyramid(PCNConfig(backbone=B0))(image, None, x_t, time)


def test_zero_conv_adds_the_modal_mask_like_the_noisy_mask() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0, adapter_init="zero_conv")).eval()
    assert {key for key in pcn.state_dict() if key.startswith("modal_embed")} == {
        "modal_embed.weight",
        "modal_embed.bias",
    }
    assert pcn.adapter is None
    inputs = make_inputs(batch=1)
    expected = pcn.backbone.patch_embed(inputs[0])
    assert torch.equal(pcn._embed(*inputs[:3]), expected)
    shake(pcn.modal_embed)
    assert not torch.equal(pcn._embed(*inputs[:3]), expected)
    off = PVTPyramid(PCNConfig(backbone=B0, adapter_init="zero_conv", modal=False))
    assert off.adapter is None and off.modal_embed is None


def test_pm1_is_twice_the_mask_minus_one() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0, adapter_init="random", vm_range="pm1")).eval()
    image, modal, x_t, _ = make_inputs(batch=1)
    result = pcn._embed(image, modal, x_t)
    pcn.pm1 = False
    assert torch.equal(result, pcn._embed(image, 2 * modal - 1, x_t))


def test_runs_under_bfloat16_autocast() -> None:
    pcn = PVTPyramid(PCNConfig(backbone=B0)).eval()
    inputs = make_inputs(batch=1)
    with torch.no_grad():
        exact = pcn(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rough = pcn(*inputs)
    for one, other in zip(exact, rough, strict=True):
        assert (one - other.float()).abs().mean() < 0.05


def fail(error: Exception) -> Callable[..., None]:
    def create_model(*args: object, **kwargs: object) -> None:
        raise error

    return create_model


def test_an_unreachable_hub_is_one_line_with_the_name_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pvt, "why_out_of_reach", lambda _: None)  # the hub becomes unreachable later
    monkeypatch.setattr(timm, "create_model", fail(LocalEntryNotFoundError("no\nnetwork")))
    with pytest.raises(UserError, match=r"timm/pvt_v2_b4\.in1k once .* model\.pcn\.pretrained=false") as caught:
        PVTPyramid(PCNConfig(pretrained=True))
    assert "\n" not in str(caught.value)


def test_an_even_adapter_is_refused() -> None:
    with pytest.raises(UserError, match=r"pcn\.adapter must be odd"):
        PVTPyramid(PCNConfig(backbone=B0, adapter=2))
