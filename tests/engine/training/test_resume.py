"""Runs that continue from another run's checkpoint, and the constant learning rate that makes this useful."""

import pytest
import torch

from amodalseg.cli import main
from amodalseg.config.schema import OptimConfig
from amodalseg.engine.training.resume import have_changed
from amodalseg.models.conddiff_amo import module
from amodalseg.models.training import learning_rate_factor
from amodalseg.models.weights import read_weights
from tests.engine.journeys import assert_same_weights, train_arguments


def test_the_learning_rate_is_constant_until_its_decay_by_a_cosine():
    rates = OptimConfig(lr=1e-3, min_lr=1e-5, warmup_steps=4, decay_share=0.2)
    assert [learning_rate_factor(rates, step, 104) for step in range(4)] == [0.2, 0.4, 0.6, 0.8]
    assert {learning_rate_factor(rates, step, 104) for step in range(4, 85)} == {1.0}
    assert learning_rate_factor(rates, 94, 104) == pytest.approx((1 + 0.01) / 2)
    assert learning_rate_factor(rates, 104, 104) == pytest.approx(0.01)
    assert learning_rate_factor(rates, 10, 104, 0.9) == pytest.approx((1 + 0.01) / 2), "time counts alike"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A run of twelve steps at a constant learning rate, from which others continue."""
    folder = tmp_path_factory.mktemp("runs") / "trunk"
    assert main(train_arguments(folder, "optim.decay_share=1e-6", "checkpoint.every_steps=5")) == 0
    return folder


def test_a_run_that_continues_with_decay_equals_an_uninterrupted_one(trunk, tmp_path):
    before = {path.name: path.read_bytes() for path in trunk.iterdir() if path.is_file()}
    options = ["trainer.max_steps=16", "optim.decay_share=0.25", "checkpoint.val_every_steps=16"]
    branch = train_arguments(tmp_path / "branch", *options, f"continue_from={trunk}")
    assert main(branch) == 0
    assert main(train_arguments(tmp_path / "whole", *options)) == 0
    assert_same_weights(tmp_path / "branch/last.ckpt", tmp_path / "whole/last.ckpt")
    assert {path.name: path.read_bytes() for path in trunk.iterdir() if path.is_file()} == before

    # its best weights are of its own steps, even if the other run's were better
    _, _, about = read_weights(tmp_path / "branch/model.safetensors")
    assert about["step"] == 16
    # once it has its own checkpoint, it resumes from that
    assert main(branch) == 0
    assert torch.load(tmp_path / "branch/last.ckpt", weights_only=True)["global_step"] == 16


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["continue_from={trunk}", "init={trunk}"], "give only one of them"),
        (["continue_from={trunk}/nothing"], "holds no last.ckpt"),
        (["continue_from={trunk}"], "is of step 12, and this run ends at 12"),
        (["continue_from={trunk}", "trainer.max_steps=16", "model.dn.dim=24"], "last.ckpt"),
        (["continue_from={trunk}", "trainer.max_steps=16", "optim.decay_all=false"], "does not fit the optimiser"),
    ],
)
def test_invalid_continue_from_is_refused_in_one_line(trunk, tmp_path, capsys, options, says):
    options = [option.format(trunk=trunk) for option in options]
    assert main(train_arguments(tmp_path / "x", *options)) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_changed_data_are_told_by_their_fingerprints():
    assert have_changed("18-a", "18-b") and have_changed("18-", "17-a") and have_changed("18-a", "18-")
    assert not have_changed("18-a", "18-a") and not have_changed("", "18-a")
    assert not have_changed("18-", "18-a"), "saved by a version that had no hash for these data"


def test_a_branch_that_accumulates_other_numbers_of_batches(trunk, tmp_path, monkeypatch):
    """Twelve batches are no multiple of five: every step must have five all the same, and the run ends validated."""
    seen, whole = [], module.CondDiffAMOModule.training_step

    def counted(self, batch, batch_idx):
        seen.append(self.global_step)
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", counted)
    options = ["trainer.max_steps=14", "trainer.accumulate=5", "checkpoint.val_every_steps=14"]
    assert main(train_arguments(tmp_path / "branch", *options, f"continue_from={trunk}")) == 0
    assert seen == [12] * 5 + [13] * 5
    _, _, about = read_weights(tmp_path / "branch/model.safetensors")
    assert about["step"] == 14 and about["val"]["per_object"]["full"] is not None


def test_a_branch_without_an_average_takes_the_weights_that_the_optimiser_left(trunk, tmp_path, monkeypatch, capfd):
    checkpoint = torch.load(trunk / "last.ckpt", weights_only=True)
    name = "network.denoiser.stem.0.weight"
    assert not torch.equal(checkpoint["state_dict"][name], checkpoint["current_model_state"][name])
    found, whole = {}, module.CondDiffAMOModule.training_step

    def watched(self, batch, batch_idx):
        found.setdefault(name, self.state_dict()[name].clone())
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(module.CondDiffAMOModule, "training_step", watched)
    options = ["trainer.max_steps=13", "checkpoint.val_every_steps=13", "optim.ema=0"]
    assert main(train_arguments(tmp_path / "branch", *options, f"continue_from={trunk}")) == 0
    assert torch.equal(found[name], checkpoint["current_model_state"][name])
    assert "WeightAverage" not in capfd.readouterr().err
