"""Runs limited by time: the schedule fits the limit, and a killed run resumes with the remaining time."""

from functools import partial

import numpy as np
import pytest
import torch

from amodalseg.cli import main
from amodalseg.config.schema import OptimConfig
from amodalseg.engine.training import train
from amodalseg.engine.training.time_limit import TimeLimit
from amodalseg.models.conddiff_amo import module
from amodalseg.models.training import learning_rate_factor
from tests.engine.journeys import assert_same_weights, read_csv, train_arguments

RATES = OptimConfig(lr=1e-3, min_lr=1e-5, warmup_steps=4)


def test_without_a_limit_the_learning_rate_depends_only_on_the_step():
    assert [learning_rate_factor(RATES, step, 104) for step in range(4)] == [0.2, 0.4, 0.6, 0.8]
    assert learning_rate_factor(RATES, 4, 104) == 1
    assert learning_rate_factor(RATES, 54, 104) == pytest.approx((1 + 0.01) / 2)  # half of the cosine
    assert learning_rate_factor(RATES, 104, 104) == pytest.approx(0.01)


def test_the_learning_rate_reaches_its_end_at_the_time_limit_or_the_last_step():
    for step in (4, 50, 103):
        assert learning_rate_factor(RATES, step, 104, 1.0) == pytest.approx(0.01)
    assert learning_rate_factor(RATES, 104, 104, 0.3) == pytest.approx(0.01)
    # the larger share counts: half of the time equals half of the steps after the warm-up
    assert learning_rate_factor(RATES, 10, 104, 0.5) == learning_rate_factor(RATES, 54, 104)
    assert learning_rate_factor(RATES, 54, 104, 0.1) == learning_rate_factor(RATES, 54, 104)
    assert learning_rate_factor(RATES, 0, 104, 0.01) == 0.2, "the warm-up is counted in steps"


def test_the_learning_rate_never_rises_after_the_warm_up():
    rng = np.random.default_rng(0)
    for _ in range(20):
        shares = np.sort(rng.uniform(0, 1, 100))  # steps of uneven length
        factors = [learning_rate_factor(RATES, step, 104, share) for step, share in enumerate(shares, 4)]
        assert (np.diff(factors) <= 0).all() and factors[0] > factors[-1]


@pytest.fixture
def steps_of_ten_seconds(monkeypatch):
    """Each training step takes ten seconds of a simulated clock. Yields a dict: time, interruption, window sides."""
    state = {"now": 1000.0, "breaks": None, "sides": []}
    original = module.CondDiffAMOModule.training_step

    def step(self, batch, batch_idx):
        if self.global_step == state["breaks"]:
            raise RuntimeError("power cut")
        state["now"] += 10
        state["sides"].append(batch.image.shape[-1])
        return original(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", step)
    monkeypatch.setattr(train, "TimeLimit", partial(TimeLimit, clock=lambda: state["now"]))
    return state


def test_a_killed_run_resumes_with_the_remaining_time(steps_of_ten_seconds, tmp_path, capsys):
    """A minute is six steps; the run is interrupted in the fifth, after the checkpoint of the third."""
    clock, minute = steps_of_ten_seconds, ["trainer.max_time=1", "trainer.max_steps=50"]
    assert main(train_arguments(tmp_path / "whole", *minute)) == 0
    assert torch.load(tmp_path / "whole/last.ckpt", weights_only=True)["global_step"] == 6
    assert "the time limit was reached after 6 of 50 steps" in capsys.readouterr().out

    clock["breaks"] = 4
    with pytest.raises(RuntimeError, match="power cut"):
        main(train_arguments(tmp_path / "broken", *minute))
    clock.update(now=77.0, breaks=None, sides=[])  # the clock of a rebooted machine
    assert main(train_arguments(tmp_path / "broken", *minute)) == 0
    assert len(clock["sides"]) == 3
    assert_same_weights(tmp_path / "whole/last.ckpt", tmp_path / "broken/last.ckpt")
    for run in ("whole", "broken"):
        last = torch.load(tmp_path / run / "last.ckpt", weights_only=True)
        rates = [group["lr"] for group in last["optimizer_states"][0]["param_groups"]]
        assert rates == [pytest.approx(1e-6)], "optim.min_lr"
        assert [path.name for path in (tmp_path / run / "pictures").iterdir()] == ["step_0000006.png"]


def test_coarse_windows_end_after_their_share_of_the_time(steps_of_ten_seconds, tmp_path):
    options = ["trainer.max_time=1.5", "trainer.max_steps=1000", "model.window.size=64", "optim.early_size=32",
               "optim.early_share=0.5", "loader.num_workers=1"]  # fmt: skip
    assert main(train_arguments(tmp_path / "run", *options)) == 0
    sides = steps_of_ten_seconds["sides"]
    # half of the time has passed in the fifth step; the worker has read two batches ahead
    assert sides == [32] * 7 + [64] * 2


def test_accumulated_steps_are_finished(steps_of_ten_seconds, tmp_path):
    """The time limit of 45 s is exceeded during the third step of two batches, and checked at its end, at 50 s."""
    options = ["trainer.max_time=0.75", "trainer.accumulate=2", "trainer.max_steps=50"]
    assert main(train_arguments(tmp_path / "run", *options)) == 0
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"] == 3
    assert len(steps_of_ten_seconds["sides"]) == 6


def test_a_run_that_ends_by_its_time_limit_is_validated_and_finished(tmp_path):
    arguments = train_arguments(tmp_path / "run", "trainer.max_time=0.02", "trainer.max_steps=1000000")
    assert main(arguments) == 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "last.ckpt", "model.safetensors", "metrics", "pictures"}
    steps = torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"]
    assert 0 < steps < 1000000
    rows = read_csv(tmp_path / "run/metrics/version_0/metrics.csv")
    assert rows[-1]["step"] == str(steps - 1) and rows[-1]["val/per_object_occluded/occluded"]

    before = (tmp_path / "run/model.safetensors").read_bytes()
    assert main(arguments) == 0
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"] == steps
    assert (tmp_path / "run/model.safetensors").read_bytes() == before
    (tmp_path / "run/model.safetensors").unlink()
    assert main(arguments) == 0
    assert (tmp_path / "run/model.safetensors").is_file()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "00:08:00"])
def test_an_invalid_time_limit_is_refused_in_one_line(tmp_path, capsys, minutes):
    assert main(train_arguments(tmp_path / "x", f"trainer.max_time={minutes}")) == 2
    error = capsys.readouterr().err
    assert "trainer.max_time" in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()
