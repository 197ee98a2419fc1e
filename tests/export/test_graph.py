"""The graph equals the model: exactly in PyTorch, up to rounding in ONNX Runtime, for every sampler and batch size."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from amodalseg.config.schema import (
    CondDiffAMOConfig,
    DiffConfig,
    NetworkPostConfig,
    PCNConfig,
    SamplerConfig,
    USTConfig,
    VGPEConfig,
    WindowConfig,
)
from amodalseg.export.graph import SamplerGraph, trace
from amodalseg.export.write import write_onnx
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from tests.export.conftest import small

CONFIGS = {
    "ddpm": {"sampler": SamplerConfig(kind="ddpm", steps=2)},
    "ddim": {
        "sampler": SamplerConfig(kind="ddim", steps=2, eta=0.5, init="gauss"),
        "vgpe": VGPEConfig(ensemble=False),
        "post": NetworkPostConfig(union_visible=False, threshold=0.3),
    },
    "renoise_ust": {
        "sampler": SamplerConfig(kind="renoise_ust", steps=3),
        "ust": USTConfig(block=4, schedule="alpha_bar"),
        "vgpe": VGPEConfig(norm="minmax", tie="gt"),
    },
    "renoise_without_ust": {
        "sampler": SamplerConfig(kind="renoise_ust", steps=2),
        "ust": USTConfig(enabled=False),
        "diff": DiffConfig(x0_act="sigmoid"),
        "pcn": PCNConfig(time_cond="t1000"),
    },
}


class Toy(nn.Module):
    """A network with the right signature, whose prediction depends on every input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 1, 5, padding=2)

    def forward(self, image, modal, x_t, time):
        return 3 * self.conv(torch.cat([image, modal, x_t], dim=1)) + time.sin().view(-1, 1, 1, 1)


def arrays(config: CondDiffAMOConfig, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng, size = np.random.default_rng(seed), config.window.size
    sampler = config.sampler
    num_maps = 2 * sampler.steps - 1 if sampler.kind == "renoise_ust" else sampler.steps
    return (
        rng.integers(0, 256, (batch, 3, size, size), np.uint8),
        rng.choice(np.array([0, 1, 255], np.uint8), (batch, 1, size, size)),
        rng.standard_normal((num_maps, batch, 1, size, size), np.float32),
    )


def expected(model: CondDiffAMO, image, modal, noise) -> tuple[np.ndarray, np.ndarray]:
    visible = modal > 0
    probability = model.probability(*map(torch.from_numpy, (image, visible, noise))).numpy()
    mask = probability > model.config.post.threshold
    return probability, mask | visible if model.config.post.union_visible else mask


@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_is_the_model_exactly_and_onnx_up_to_rounding(name, tmp_path):
    torch.manual_seed(0)
    config = CondDiffAMOConfig(window=WindowConfig(size=32), **CONFIGS[name])
    model = CondDiffAMO(config, Toy())
    graph = SamplerGraph(model.network, config)
    write_onnx(trace(graph), tmp_path / "toy.onnx", {})
    session = onnxruntime.InferenceSession(str(tmp_path / "toy.onnx"), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 16):
        given = arrays(config, batch, batch)
        probability, mask = expected(model, *given)
        found = graph(*map(torch.from_numpy, given))
        assert np.array_equal(found[0].numpy(), probability) and np.array_equal(found[1].numpy(), mask)
        again = session.run(["probability", "mask"], dict(zip(("image", "modal", "noise"), given, strict=True)))
        assert again[0].dtype == np.float32 and again[1].dtype == np.uint8 and again[0].shape == probability.shape
        assert (again[1] == mask).mean() >= 0.9999 and 0.02 < mask.mean() < 0.98
        close = np.abs(again[0] - probability) < 1e-5  # a pixel that crosses the vote's threshold differs by a vote
        assert close.mean() >= 0.9999


def test_the_graph_of_a_real_network_equals_the_model():
    model = small(sampler=SamplerConfig(kind="renoise_ust", steps=3))
    given = arrays(model.config, 2)
    tensors = tuple(map(torch.from_numpy, given))
    probability, mask = expected(model, *given)
    plain = SamplerGraph(model.network, model.config)(*tensors)
    np.testing.assert_allclose(plain[0].numpy(), probability, atol=1e-5)
    assert (plain[1].numpy() == mask).all()
