"""The network at inference: reused conditions, bfloat16, and compiled copies that follow changes of the weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from amodalseg.config.schema import (
    CondDiffAMOConfig,
    DNConfig,
    PCNConfig,
    SamplerConfig,
    WindowConfig,
)
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.accelerate import Acceleration
from amodalseg.models.conddiff_amo.evaluation import NetworkDenoiser, time_input, to_x0
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def small(pcn: dict | None = None, **others: object) -> CondDiffAMOConfig:
    config = CondDiffAMOConfig(
        window=WindowConfig(size=64), pcn=PCNConfig(backbone="pvt_v2_b0", **(pcn or {})), dn=DNConfig(dim=16),
        sampler=SamplerConfig(steps=3),
    )  # fmt: skip
    return replace(config, **others)


def shaken(config: CondDiffAMOConfig) -> CondDiffAMONetwork:
    """A network in evaluation mode whose weights and statistics all differ from their initial values."""
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


def ask(model: CondDiffAMO, objects: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (objects, 3, 64, 64), generator=generator, dtype=torch.uint8)
    modal = torch.rand(objects, 1, 64, 64, generator=generator) < 0.3
    return model.probability(image, modal, torch.as_tensor(model.sample_noise(list(range(objects)))))


def shifted(network: CondDiffAMONetwork) -> dict[str, Tensor]:
    return {key: value + 0.02 for key, value in network.state_dict().items()}


def conditions(config: CondDiffAMOConfig) -> list[int]:
    """The sampling steps at which the condition is computed."""
    network, found, step = shaken(config), [], 0
    network.pcn.register_forward_hook(lambda *_: found.append(step))
    image, modal, x, _ = inputs()
    denoise = NetworkDenoiser(network, image, modal, config, config.sampler)
    with torch.no_grad():
        for step in range(config.sampler.steps):
            denoise(x, torch.full((2,), 1 - step / config.sampler.steps))
    return found


def test_refresh_every_sets_the_steps_at_which_the_condition_is_computed() -> None:
    for k, expected in ((1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3]), (9, [0])):
        assert conditions(small(sampler=SamplerConfig(steps=5, refresh_every=k))) == expected
    assert conditions(small({"zoe": False, "ttc": False}, sampler=SamplerConfig(steps=3))) == [0]
    for part in ({"zoe": False}, {"ttc": False}):
        assert conditions(small(part, sampler=SamplerConfig(steps=3))) == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"zoe": False, "ttc": False}])
def test_condition_and_denoiser_together_equal_the_network(options: dict) -> None:
    config = small(options)
    network = shaken(config)
    image, modal, x, _ = inputs()
    t = torch.full((2,), 0.4)
    with torch.no_grad():
        found = NetworkDenoiser(network, image, modal, config, config.sampler)(x, t)
        assert torch.equal(found, to_x0(network(image, modal, x, time_input(t, config)), config))


def test_a_reused_condition_changes_the_prediction_and_refresh_every_can_be_overridden() -> None:
    config = small(sampler=SamplerConfig(steps=4))
    model = CondDiffAMO(config, shaken(config))
    every = ask(model)
    model.override({"sampler": {"refresh_every": 4}})
    assert (ask(model) - every).abs().max() > 1e-4
    with pytest.raises(UserError, match="refresh_every: 0 \\(must be between"):
        model.override({"sampler": {"refresh_every": 0}})


def test_bfloat16_is_close_and_another_precision_is_refused() -> None:
    model = CondDiffAMO(small(), shaken(small()))
    expected = ask(model)
    found = ask(model.accelerate(precision="bf16"))
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}
    with pytest.raises(UserError, match="precision must be one of fp32, bf16, not 'fp8'"):
        model.accelerate(precision="fp8")


def test_compiled_batch_sizes_are_powers_of_two_and_padding_is_removed(monkeypatch) -> None:
    assert [Acceleration(compile=True).padded(n) for n in (1, 2, 3, 5, 16, 17)] == [1, 2, 4, 8, 16, 32]
    shapes = []

    def pretend(function, **_):
        def run(*arguments):
            shapes.append(arguments[0].shape[0])
            return function(*arguments)

        return run

    monkeypatch.setattr(torch, "compile", pretend)
    model = CondDiffAMO(small(), shaken(small()))
    expected = ask(model, objects=3)
    found = ask(model.accelerate(compile=True), objects=3)
    assert set(shapes) == {4} and len(shapes) == 2 * 3 and found.shape[0] == 3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


CHANGES = {
    "optimiser": lambda network: optimise(network),
    "state": lambda network: network.load_state_dict(shifted(network)),
    "assigned state": lambda network: network.load_state_dict(shifted(network), assign=True),
    "in place": lambda network: network.denoiser.decoder[6].bias.detach().add_(1),
    "statistics": lambda network: [network.train()(*inputs()), network.eval()],
}


def optimise(network: CondDiffAMONetwork) -> None:
    network(*inputs()).square().mean().backward()
    torch.optim.AdamW(network.parameters(), lr=0.05).step()


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_is_compiled_once_and_again_after_its_weights_changed(name: str, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    config = small(sampler=SamplerConfig(steps=2))
    network = shaken(config)
    plain, model = CondDiffAMO(config, network), CondDiffAMO(config, network).accelerate(compile=True)
    before = ask(model)
    assert model.acceleration is not None
    first = model.acceleration.prepare(network)
    ask(model, objects=1)
    assert model.acceleration.prepare(network) is first
    CHANGES[name](network)
    after = ask(model)
    torch.testing.assert_close(after, ask(plain), atol=1e-5, rtol=1e-5)
    assert (after - before).abs().max() > 1e-4, "the change must show"


def test_a_network_in_training_mode_is_not_compiled(monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled in training"))
    config = small()
    network = shaken(config)
    model = CondDiffAMO(config, network).accelerate(compile=True)
    network.train()
    assert torch.equal(ask(model), ask(CondDiffAMO(config, network))) and network.training
