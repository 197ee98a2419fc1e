"""One small model and its exported files, created once because tracing and translating the network is slow."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from amodalseg.config.schema import (
    AFGConfig,
    CondDiffAMOConfig,
    DNConfig,
    NetworkPostConfig,
    PCNConfig,
    SamplerConfig,
    WindowConfig,
)
from amodalseg.export.verify import Comparison
from amodalseg.export.write import export_model, read_pt2
from amodalseg.models.conddiff_amo.model import CondDiffAMO


def small(**changes) -> CondDiffAMO:
    """A model with random weights and non-constant predictions."""
    torch.manual_seed(0)
    config = CondDiffAMOConfig(
        window=WindowConfig(size=64), pcn=PCNConfig(backbone="pvt_v2_b0", adapter_init="random"), dn=DNConfig(dim=16),
        afg=AFGConfig(kernel=1), sampler=SamplerConfig(kind="renoise_ust", steps=1),
        post=NetworkPostConfig(threshold=0.45),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(config, name, value)
    model = CondDiffAMO(config)
    with torch.no_grad():
        for parameter in model.network.parameters():  # parameters that start at zero would hide mistakes
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.about = {"step": 7}
    spread_predictions(model)
    return model


@torch.no_grad()
def spread_predictions(model: CondDiffAMO) -> None:
    """Give batch norms the statistics of some inputs, and logits median 0 and deviation 2: masks half full."""
    size, last = model.config.window.size, model.network.denoiser.decoder[-1]
    modal = torch.zeros(4, 1, size, size)
    modal[..., size // 4 : size // 2, size // 4 :] = 1
    inputs = torch.randn(4, 3, size, size), modal, torch.randn_like(modal), torch.full((4,), -18.4)
    for layer in model.network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over batches
    model.network.train()(*inputs)
    logits = model.network.eval()(*inputs)
    scale = 2 / logits.std()
    last.weight.mul_(scale)
    last.bias.sub_(logits.median()).mul_(scale)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, worker_id) -> SimpleNamespace:
    """The model, its .onnx and .pt2 file, the latter's function, and how they compare.

    Processes of one test run (pytest -n) share the files; the first one to need them writes them.
    """
    folder: Path = tmp_path_factory.getbasetemp()
    folder = (folder if worker_id == "master" else folder.parent) / "exported"
    model, onnx, pt2, told = small(), folder / "small.onnx", folder / "small.pt2", folder / "comparisons.json"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not told.exists():  # written last
            told.write_text(json.dumps([asdict(one) for one in export_model(model, onnx, pt2=pt2)]))
    comparisons = [Comparison(**one) for one in json.loads(told.read_text())]
    return SimpleNamespace(model=model, onnx=onnx, pt2=pt2, run_pt2=read_pt2(pt2), comparisons=comparisons)
