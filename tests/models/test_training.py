"""The optimiser's parameter groups and learning rates, and the seeds of training steps."""

import pytest
import torch
from test_contract import tiny, tiny_direct, tiny_pcnet_m
from torch import nn

from amodalseg.config.schema import OptimConfig, SyntheticData, TrainConfig
from amodalseg.engine.training.tasks import task_of
from amodalseg.models.training import TrainingModule, learning_rate_factor

KINDS = {"conddiff_amo": tiny, "direct": tiny_direct, "pcnet_m": tiny_pcnet_m}


def module_of(kind, **optim):
    config = TrainConfig(
        out="unused", model=KINDS[kind]().config, data=SyntheticData(), val=SyntheticData(), optim=OptimConfig(**optim)
    )
    return task_of(config).module(config, 10)


def groups_of(module):
    """{name of a parameter: its weight decay}."""
    optimizer = module.configure_optimizers()["optimizer"]
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == sum(len(group["params"]) for group in optimizer.param_groups), "a parameter in two groups"
    return {name: decays[id(parameter)] for name, parameter in module.network.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_without_decay_all_norms_and_biases_are_not_decayed(kind):
    module = module_of(kind, decay_all=False, weight_decay=0.3)
    found = groups_of(module)
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    seen = set()
    for name, layer in module.network.named_modules():
        for own, _ in layer.named_parameters(recurse=False):
            free = own == "bias" or isinstance(layer, norms)
            if isinstance(layer, (nn.Conv2d, nn.Linear, *norms)):
                assert found[f"{name}.{own}"] == (0 if free else 0.3), f"{name}.{own}"
                seen.add((own, free))
    assert seen == {("weight", False), ("weight", True), ("bias", True)}


@pytest.mark.parametrize("kind", KINDS)
def test_with_decay_all_every_parameter_is_decayed(kind):
    assert set(groups_of(module_of(kind, weight_decay=0.3)).values()) == {0.3}


def test_the_cosine_starts_after_the_warm_up_and_ends_with_the_run():
    rates = OptimConfig(lr=1.0, min_lr=0.0, warmup_steps=60)
    assert learning_rate_factor(rates, 59, 100) == pytest.approx(60 / 61)
    assert learning_rate_factor(rates, 60, 100) == 1
    assert learning_rate_factor(rates, 80, 100) == pytest.approx(0.5)
    assert learning_rate_factor(rates, 100, 100) == pytest.approx(0)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_no_two_micro_steps_of_a_run_share_their_random_numbers(accumulate, monkeypatch):
    module, drawn = module_of("pcnet_m"), {}
    module.config.trainer.accumulate = accumulate
    for step in range(4):
        monkeypatch.setattr(TrainingModule, "global_step", step)
        for part in range(accumulate):
            # a resumed run counts its batches from its first whole step
            for batch_idx in (step * accumulate + part, part):
                module.seed_step(batch_idx)
                drawn.setdefault((step, part), set()).add(torch.rand(1).item())
    assert all(len(values) == 1 for values in drawn.values()), "a resumed run samples what the whole one sampled"
    assert len(set.union(*drawn.values())) == 4 * accumulate


def test_seeds_and_ranks_have_different_random_numbers(monkeypatch):
    values = set()
    for seed, rank in ((0, 0), (1, 0), (0, 1)):
        module = module_of("pcnet_m")
        module.config.seed = seed
        monkeypatch.setattr(TrainingModule, "global_rank", rank)
        module.seed_step(0)
        values.add(torch.rand(1).item())
    assert len(values) == 3
