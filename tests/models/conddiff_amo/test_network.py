from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from amodalseg.config.schema import AFGConfig, CondDiffAMOConfig, DNConfig, OCRConfig, PCNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.network import CondDiffAMONetwork
from amodalseg.models.cost import describe_cost


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # several threads are slower on busy cores


def tiny(**pcn: object) -> CondDiffAMOConfig:
    return CondDiffAMOConfig(pcn=PCNConfig(backbone="pvt_v2_b0", drop_path=0.0, **pcn), dn=DNConfig(16, dropout=0.0))


def make_inputs(size: int = 64, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = (torch.rand(batch, 1, size, size) < 0.3).float()
    return torch.randn(batch, 3, size, size), mask, torch.randn_like(mask), torch.linspace(-10, 8, batch)


def shake(network: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.parametrize(("size", "batch"), [(64, 2), (96, 1), (256, 1)])
def test_logits_have_the_size_of_the_mask(size: int, batch: int) -> None:
    with torch.no_grad():
        logits = CondDiffAMONetwork(tiny()).eval()(*make_inputs(size, batch))
    assert logits.shape == (batch, 1, size, size) and logits.isfinite().all()


def test_windows_can_be_rectangular() -> None:
    inputs = [x[..., :64] if x.ndim == 4 else x for x in make_inputs(96, 1)]
    with torch.no_grad():
        assert CondDiffAMONetwork(tiny()).eval()(*inputs).shape == (1, 1, 96, 64)


def test_an_invalid_size_is_refused_with_the_next_valid_one() -> None:
    inputs = [x[..., :70] if x.ndim == 4 else x for x in make_inputs(96, 1)]
    with pytest.raises(UserError, match="multiples of 32, not 70x96; the next valid size is 96x96"):
        CondDiffAMONetwork(tiny())(*inputs)


# in the order of describe_cost: PCN, OCR, LE, linear fusion, AFG, denoiser, total
TABLE = {
    "pvt_v2_b0": ([3.41 + 0.77, 0.73, 3.54, 0.26, 1.25, 2.69, 12.7], [1.51, 0.071, 7.6, 0.71, 10.2, 18.9, 39.0]),
    "pvt_v2_b2": ([24.85 + 3.09, 2.91, 4.72, 0.26, 1.25, 2.69, 39.8], [10.6, 0.285, 8.8, 0.71, 10.2, 18.9, 49.6]),
    "pvt_v2_b4": ([62.04 + 3.09, 2.91, 4.72, 0.26, 1.25, 2.69, 77.0], [26.6, 0.285, 8.8, 0.71, 10.2, 18.9, 65.6]),
}


@pytest.mark.parametrize("name", list(TABLE))
def test_cost_equals_the_specification(name: str) -> None:
    rows = describe_cost(CondDiffAMOConfig(pcn=PCNConfig(backbone=name)))
    for (part, num, gflop), params, expected in zip(rows, *TABLE[name], strict=True):
        assert math.isclose(num / 1e6, params, rel_tol=0.02), part
        assert math.isclose(gflop, expected, rel_tol=0.03), part
    with torch.device("meta"):
        network = CondDiffAMONetwork(CondDiffAMOConfig(pcn=PCNConfig(backbone=name)))
    assert sum(parameter.numel() for parameter in network.parameters()) == rows[-1][1]  # the parts are complete


def test_the_fast_configuration_costs_a_tenth() -> None:
    config = CondDiffAMOConfig(pcn=PCNConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=64), afg=AFGConfig(kernel=1))
    _, num, gflop = describe_cost(config)[-1]
    assert math.isclose(gflop, 3.64, rel_tol=0.01) and math.isclose(num / 1e6, 5.5, rel_tol=0.02)


def shapes(config: CondDiffAMOConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in CondDiffAMONetwork(config).state_dict().items()}


@pytest.mark.parametrize(
    ("pcn", "gone"), [({"zoe": False}, "pcn.zoe."), ({"ttc": False}, "pcn.time_tokens."), ({}, "ocr.")]
)
def test_a_switch_removes_exactly_its_parameters(pcn: dict[str, bool], gone: str) -> None:
    config = tiny(**pcn)
    config.ocr.enabled = gone != "ocr."
    full, off = shapes(tiny()), shapes(config)
    assert off == {key: shape for key, shape in full.items() if not key.startswith(gone)}
    assert len(off) < len(full)


def test_without_the_modal_mask_only_one_input_channel_is_removed() -> None:
    config = tiny(modal=False)
    full, off = shapes(tiny()), shapes(config)
    assert {key: (old, off[key]) for key, old in full.items() if off[key] != old} == {
        "pcn.adapter.weight": ((3, 4, 1, 1), (3, 3, 1, 1))
    }
    network = CondDiffAMONetwork(config).eval()
    image, modal, x_t, time = make_inputs(batch=1)
    with torch.no_grad():
        assert torch.equal(network(image, modal, x_t, time), network(image, 1 - modal, x_t, time))


def test_without_the_gate_only_the_last_fusion_becomes_linear() -> None:
    config = tiny()
    config.afg.enabled = False
    full, off = shapes(tiny()), shapes(config)
    assert all(key.startswith("fusion.fuse1.") for key in full.keys() ^ off.keys())
    assert all(full[key] == off[key] for key in full.keys() & off.keys())
    assert {key for key in off if key.startswith("fusion.fuse1")} == {
        key.replace("fuse2", "fuse1") for key in off if key.startswith("fusion.fuse2")
    }


def test_with_a_static_pyramid_noisy_mask_and_time_enter_the_denoiser() -> None:
    network = CondDiffAMONetwork(tiny(zoe=False, ttc=False)).eval()
    image, modal, x_t, time = make_inputs(batch=1)
    with torch.no_grad():
        first = network(image, modal, x_t, time)
        assert not torch.equal(first, network(image, modal, -x_t, time))
        assert not torch.equal(first, network(image, modal, x_t, time + 3))


def test_a_prediction_does_not_depend_on_the_rest_of_its_batch() -> None:
    network = CondDiffAMONetwork(tiny()).eval()
    shake(network)
    inputs = make_inputs(batch=3)
    with torch.no_grad():
        together = network(*inputs)
        alone = torch.cat([network(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["parallel", "serial"])
def test_gradient_reaches_every_parameter(layout: str) -> None:
    config = tiny()
    config.ocr = OCRConfig(layout=layout)
    network = CondDiffAMONetwork(config).train()
    logits = network(*make_inputs())
    (logits * torch.randn_like(logits)).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    untouched = {name for name, p in network.named_parameters() if p.grad.abs().max() == 0}
    # before the gate's zero-initialised convolution: gradients reach it from the second step on
    assert untouched == {"fusion.fuse1.hidden.weight", "fusion.fuse1.hidden.bias"}


def test_runs_under_bfloat16_autocast() -> None:
    network = CondDiffAMONetwork(tiny()).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(*make_inputs())
    logits.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
