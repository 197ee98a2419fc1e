"""The folded network gives the network's numbers, for every option, and never those of old weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from amodalseg.config.schema import (
    AFGConfig,
    CondDiffAMOConfig,
    DNConfig,
    OCRConfig,
    PCNConfig,
    SamplerConfig,
    WindowConfig,
)
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.accelerate import Acceleration
from amodalseg.models.conddiff_amo.evaluation import create_denoiser
from amodalseg.models.conddiff_amo.fold import FoldedNetwork
from amodalseg.models.conddiff_amo.fold_pyramid import FoldedPyramid
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork

LITE = {"backbone": "tf_efficientnet_lite0", "ttc": False, "adapter_init": "zero_conv"}


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def small(pcn: dict | None = None, **others: object) -> CondDiffAMOConfig:
    config = CondDiffAMOConfig(
        window=WindowConfig(size=64), pcn=PCNConfig(**({"backbone": "pvt_v2_b0"} | (pcn or {}))), dn=DNConfig(dim=16),
        sampler=SamplerConfig(steps=3),
    )  # fmt: skip
    return replace(config, **others)


def shaken(config: CondDiffAMOConfig) -> CondDiffAMONetwork:
    """A network in evaluation mode none of whose weights or statistics is at its start."""
    network = CondDiffAMONetwork(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn_like(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand_like(buffer))
    return network


def inputs(batch: int = 2, height: int = 64, width: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = (torch.rand(batch, 1, height, width) < 0.3).float()
    return torch.randn(batch, 3, height, width), mask, torch.randn_like(mask), torch.linspace(-10, 8, batch)


OPTIONS = {
    "default": small(),
    "adapter of three": small({"adapter": 3, "adapter_init": "random"}),
    "own path": small({"adapter_init": "zero_conv", "vm_range": "pm1"}),
    "no modal": small({"modal": False}),
    "no modal, own path": small({"modal": False, "adapter_init": "zero_conv"}),
    "plus minus one": small({"vm_range": "pm1", "adapter_init": "random"}),
    "no ZOE": small({"zoe": False}),
    "no TTC": small({"ttc": False}),
    "static": small({"zoe": False, "ttc": False}),
    "lite": small(LITE),
    "lite, plus minus one": small({**LITE, "vm_range": "pm1"}),
    "lite, static, no modal": small({**LITE, "zoe": False, "modal": False}),
    "no OCR": small(ocr=OCRConfig(enabled=False)),
    "serial OCR": small(ocr=OCRConfig(layout="serial", residual=False)),
    "OCR at twice the size": small(ocr=OCRConfig(upsample=2)),
    "no gate": small(afg=AFGConfig(enabled=False)),
    "small gate": small(afg=AFGConfig(kernel=1, gate="spatial")),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_numbers_are_the_networks(name: str) -> None:
    network = shaken(OPTIONS[name])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = FoldedNetwork(network)
    # another time for each object; not square, and more than one place on a side in the deepest map
    given = inputs(2, 64, 96)
    with torch.no_grad():
        expected, found = network(*given), folded(*given)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_large_maps_keep_all_taps_of_the_dilated_convolutions() -> None:
    network = shaken(small())
    given = inputs(1, 256, 256)
    with torch.no_grad():
        expected, found = network(*given), FoldedNetwork(network)(*given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_training_mode_changes_nothing_and_a_wrong_size_is_refused() -> None:
    network = shaken(small())
    given = inputs(1)
    with torch.no_grad():
        expected = network(*given)
        assert torch.allclose(FoldedNetwork(network.train())(*given), expected, atol=1e-5)
        with pytest.raises(UserError, match="multiples of 32, not 70x64"):
            FoldedNetwork(network)(*(x[..., :70] if x.ndim == 4 else x for x in inputs(1, 64, 96)))


def ask(model: CondDiffAMO, objects: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (objects, 3, 64, 64), generator=generator, dtype=torch.uint8)
    modal = torch.rand(objects, 1, 64, 64, generator=generator) < 0.3
    return model.probability(image, modal, torch.as_tensor(model.sample_noise(list(range(objects)))))


def both(config: CondDiffAMOConfig) -> tuple[CondDiffAMO, CondDiffAMO]:
    network = shaken(config)
    return CondDiffAMO(config, network), CondDiffAMO(config, network).accelerate()


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "renoise_ust"])
@pytest.mark.parametrize("refresh_every", [1, 2])
def test_a_whole_run_gives_the_same_probability(kind: str, refresh_every: int) -> None:
    plain, fast = both(small(sampler=SamplerConfig(kind=kind, steps=4, refresh_every=refresh_every)))
    expected = ask(plain)
    assert expected.std() > 1e-3
    torch.testing.assert_close(ask(fast), expected, atol=1e-4, rtol=1e-4)


CHANGES = {
    "optimiser": lambda network: optimise(network),
    "statistics": lambda network: [network.train()(*inputs()), network.eval()],
    "in place": lambda network: network.denoiser.decoder[6].bias.detach().add_(1),
    "data": lambda network: setattr(network.denoiser.decoder[6].bias, "data", torch.ones(1)),
    "behind the counters": lambda network: network.denoiser.decoder[6].bias.data.copy_(torch.ones(1)),
    "state": lambda network: network.load_state_dict(shifted(network)),
    "assigned state": lambda network: network.load_state_dict(shifted(network), assign=True),
}


def optimise(network: CondDiffAMONetwork) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, fused=True)
    network(*inputs()).square().mean().backward()
    optimizer.step()


def shifted(network: CondDiffAMONetwork) -> dict[str, Tensor]:
    return {key: value + 0.02 for key, value in network.state_dict().items()}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_the_weights_is_seen(name: str, frozen: bool) -> None:
    if frozen and name in {"optimiser", "behind the counters"}:
        pytest.skip("frozen weights are not trained, and PyTorch counts no write through .data")
    plain, fast = both(small(sampler=SamplerConfig(steps=2)))
    plain.network.requires_grad_(not frozen)
    before = ask(fast)
    CHANGES[name](plain.network)
    after = ask(fast)
    torch.testing.assert_close(after, ask(plain), atol=1e-4, rtol=1e-4)
    assert (after - before).abs().max() > 1e-3, "the change must show"


def test_weights_that_move_are_folded_there() -> None:
    plain, fast = both(small(sampler=SamplerConfig(steps=2)))
    plain.network.requires_grad_(False)
    before = ask(fast)
    assert fast.acceleration is not None
    first = fast.acceleration.fold(plain.network)
    plain.network.to(torch.float64).to(torch.float32)
    torch.testing.assert_close(ask(fast), before)
    assert fast.acceleration.fold(plain.network) is not first


def test_unchanged_weights_are_folded_once() -> None:
    _, fast = both(small())
    assert fast.acceleration is not None
    ask(fast)
    first = fast.acceleration.fold(fast.network)
    ask(fast, objects=1)
    assert fast.acceleration.fold(fast.network) is first


def test_a_network_in_training_predicts_itself_and_a_loaded_model_through_its_copy(tmp_path) -> None:
    plain, fast = both(small())
    fast.network.train()
    assert torch.equal(ask(fast), ask(plain)) and fast.network.training
    plain.save(tmp_path / "m.safetensors")
    loaded = CondDiffAMO.load(tmp_path / "m.safetensors")
    assert loaded.acceleration is not None and plain.acceleration is None
    torch.testing.assert_close(ask(loaded), ask(plain), atol=1e-4, rtol=1e-4)


def counted(config: CondDiffAMOConfig, folded: bool) -> list[int]:
    """Steps of a run at which the condition is computed."""
    network = shaken(config)
    step, found = 0, []
    if folded:
        used = FoldedNetwork(network)
        used.pyramid.register_forward_hook(lambda *_: found.append(step))
    else:
        used = network
        used.pcn.register_forward_hook(lambda *_: found.append(step))
    image, modal, x, _ = inputs()
    denoise = create_denoiser(used, image, modal, config, config.sampler)
    with torch.no_grad():
        for step in range(config.sampler.steps):
            denoise(x, torch.full((2,), 1 - step / config.sampler.steps))
    return found


@pytest.mark.parametrize("folded", [False, True])
def test_refresh_every_says_when_the_condition_is_computed(folded: bool) -> None:
    for k, expected in ((1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3]), (9, [0])):
        assert counted(small(sampler=SamplerConfig(steps=5, refresh_every=k)), folded) == expected
    static = small({"zoe": False, "ttc": False}, sampler=SamplerConfig(steps=3))
    assert counted(static, folded) == ([0] if folded else [0, 1, 2])


def test_a_kept_condition_changes_the_prediction_and_refresh_every_can_be_overridden() -> None:
    _, fast = both(small(sampler=SamplerConfig(steps=4)))
    every = ask(fast)
    fast.override({"sampler": {"refresh_every": 4}})
    assert (ask(fast) - every).abs().max() > 1e-4
    with pytest.raises(UserError, match="refresh_every: 0 \\(must be between"):
        fast.override({"sampler": {"refresh_every": 0}})


def test_bfloat16_is_close_and_keeps_the_times_exact() -> None:
    plain, fast = both(small())
    fast.accelerate(precision="bf16")
    assert fast.acceleration is not None
    folded = fast.acceleration.fold(fast.network)
    kinds = {name: parameter.dtype for name, parameter in folded.named_parameters()}
    assert kinds["fusion.out.bias"] == torch.bfloat16 and kinds["denoiser.time_mlp.expand.weight"] == torch.float32
    found, expected = ask(fast), ask(plain)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert not torch.equal(found, expected)
    with pytest.raises(UserError, match="precision must be one of fp32, bf16, not 'fp8'"):
        fast.accelerate(precision="fp8")


def test_compiled_shapes_are_powers_of_two_and_the_filler_is_cut_off(monkeypatch) -> None:
    plain, fast = both(small())
    compiled = Acceleration(compile=True)
    assert [compiled.padded(n) for n in (1, 2, 3, 5, 16, 17)] == [1, 2, 4, 8, 16, 32]
    shapes = []

    def pretend(function, **_):
        def run(*arguments):
            shapes.append(arguments[0].shape[0])
            return function(*arguments)

        return run

    monkeypatch.setattr(torch, "compile", pretend)
    fast.accelerate(compile=True)
    found = ask(fast, objects=3)
    assert set(shapes) == {4} and found.shape[0] == 3
    torch.testing.assert_close(found, ask(plain, objects=3), atol=1e-4, rtol=1e-4)


def test_a_folded_network_can_be_traced_for_any_batch() -> None:
    folded = FoldedNetwork(shaken(small()))
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(folded, inputs(2), dynamic_shapes=({0: batch},) * 4, strict=False)
        for count in (1, 3):
            given = inputs(count)
            torch.testing.assert_close(program.module()(*given), folded(*given), atol=1e-5, rtol=1e-5)


def test_the_pyramid_keeps_channels_last() -> None:
    pyramid = FoldedPyramid(shaken(small()).pcn).eval()
    image, modal, _, time = inputs()
    with torch.no_grad():
        for feature in pyramid(pyramid.embed(image, modal), pyramid.embed_time(time)):
            assert feature.is_contiguous(memory_format=torch.channels_last)
