"""The sampler's benchmark runs and reports correct figures. No assertions on timings."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


bench = load("sampler")


@pytest.fixture(scope="module")
def model():
    from amodalseg.config.schema import CondDiffAMOConfig, DNConfig, PCNConfig, WindowConfig
    from amodalseg.models.conddiff_amo.model import CondDiffAMO

    torch.manual_seed(0)
    config = CondDiffAMOConfig(window=WindowConfig(size=64), pcn=PCNConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=16))
    found = CondDiffAMO(config)
    with torch.no_grad():
        for parameter in found.network.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return found


def test_from_a_model_file_to_a_table_and_a_json_file(model, tmp_path, capsys):
    model.save(tmp_path / "m.safetensors")
    out = tmp_path / "figures.json"
    arguments = [str(tmp_path / "m.safetensors"), "--quick", "--threads", "1", "--device", "cpu", "--out", str(out)]
    assert bench.main(arguments) == 0
    printed = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert all(f"| {name} |" in printed for name in rows)
    first = rows["straightforward"]
    assert first["speedup"] == 1 and first["batch"] == 1 and first["steps"] == 2
    for row in rows.values():
        assert row["ms"] > 0 and row["gflop"] > 0 and row["share"] > 0
        assert row["objects_per_s"] == pytest.approx(1000 / row["ms"])
        assert 0 <= row["full"] <= 100
    for name in ("+ channels last", "+ batches"):
        assert abs(rows[name]["full_change"]) < 0.2, f"{name} must be exact"
    assert rows["1 step"]["gflop"] < 0.6 * rows["+ batches"]["gflop"]
    assert rows["refresh_every=2"]["gflop"] < rows["+ batches"]["gflop"]


def test_the_plain_loop_gives_the_models_predictions(model):
    from amodalseg.config.schema import SyntheticData
    from amodalseg.data.dataset import EvaluationSet
    from amodalseg.data.open import open_source

    dataset = EvaluationSet(open_source(SyntheticData(num_objects=2)), 0)
    image, modal, seeds = bench.prepare(dataset, 2, model)
    model.network.eval()
    noise = torch.as_tensor(model.sample_noise(seeds))
    slow = bench.Straightforward(model.config, model.network).probability(image, modal, noise)
    torch.testing.assert_close(slow, model.probability(image, modal, noise))


def test_operations_of_the_plain_loop_are_steps_times_those_of_the_network(model):
    from amodalseg.models.cost import describe_cost

    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.ones(1, 1, 64, 64, dtype=torch.bool), [0]
    plain = bench.Straightforward(model.config, model.network)
    expected = model.config.sampler.steps * describe_cost(model.config)[-1][2]
    assert bench.count_gflop(plain, image) == pytest.approx(expected, rel=0.02)


def test_mistakes_are_one_line(capsys):
    assert bench.main(["convex_hull", "--quick"]) == 2
    assert "does not sample" in capsys.readouterr().err
    assert load("train").main([]) == 2
    assert "give a training configuration" in capsys.readouterr().err


def test_the_training_benchmark_prints_both_rates(capsys, monkeypatch):
    train = load("train")
    monkeypatch.setattr(train, "ROUNDS", 1)
    small = ["model.window.size=32", "model.dn.dim=16", "data.num_objects=8", "data.size=64", "loader.batch_size=2",
             "trainer.accelerator=cpu", "loader.num_workers=0"]  # fmt: skip
    assert train.main([str(ROOT / "configs/experiment/synthetic_tiny.yaml"), *small], warm_up=1, steps=2) == 0
    printed = capsys.readouterr().out
    assert "| read |" in printed and "| resident batch |" in printed and "read / resident: " in printed
