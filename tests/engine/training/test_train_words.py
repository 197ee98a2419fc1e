"""Text-conditioned models through the command line: training, resuming, release, and refusals."""

import json

import numpy as np
import pytest
import torch

from amodalseg.cli import main
from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.captioned import CaptionBatch
from amodalseg.models.inpainting.backends.word_prior import WordPrior
from amodalseg.models.inpainting.parts.small_segmenter import load_small
from amodalseg.models.inpainting.parts.words import open_word_segmenter
from amodalseg.models.inpainting.prior_training.segmenter_module import segmenter_scores
from amodalseg.models.inpainting.prior_training.word_module import WordPriorModule
from amodalseg.models.inpainting.prior_training.word_validation import draw_captions, word_scores
from tests.engine.journeys import ROOT, assert_same_weights, read_csv

pytest.importorskip("diffusers")
COMMON = [
    "val.num_objects=4", "loader.batch_size=4", "trainer.max_steps=8", "optim.ema=0.9", "trainer.precision=32-true",
    "trainer.progress=false", "trainer.accelerator=cpu", "trainer.devices=1", "checkpoint.every_steps=2",
    "checkpoint.val_every_steps=4", "log.every_steps=1", "log.pictures=2",
]  # fmt: skip
PRIOR = ["model.size=16", "model.channels=[16,32]", "model.head=8", "model.words=16", "model.steps=2",
         "optim.early_size=8"]  # fmt: skip
FROZEN = ["optim.lr=0", "optim.min_lr=0", "optim.ema=0", "optim.weight_decay=0", "trainer.max_steps=2"]
SEGMENTER = ["model.size=16", "model.width=8"]


def arguments(out, name, options, *more):
    config = ROOT / f"configs/experiment/{name}.yaml"
    return ["train", str(config), f"out={out}", *COMMON, *options, *more]


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "whole"
    assert main(arguments(out, "word_prior_cpu", PRIOR)) == 0
    return out


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "segmenter"
    assert main(arguments(out, "word_segmenter", SEGMENTER)) == 0
    return out


def test_a_run_writes_a_prior_figures_and_pictures(prior):
    assert {path.name for path in prior.iterdir()} == {"config.yaml", "last.ckpt", "word_prior", "metrics", "pictures"}
    rows = read_csv(prior / "metrics/version_0/metrics.csv")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 8 and np.isfinite(losses).all()
    assert sum(bool(row["val/drawn/named"]) for row in rows) == 2
    assert sorted(path.name for path in (prior / "pictures").iterdir()) == ["step_0000004.png", "step_0000008.png"]
    about = json.loads((prior / "word_prior/words.json").read_text())
    assert about["train"]["model"]["size"] == 16 and about["val"]["denoising"]["loss"] > 0
    assert WordPrior(prior).abilities.size == 16


@pytest.mark.parametrize("step", [5])
def test_an_interrupted_and_resumed_run_ends_with_the_same_weights(prior, tmp_path, monkeypatch, step):
    whole = WordPriorModule.training_step

    def breaks(self, batch, batch_idx):
        if self.global_step == step:
            raise RuntimeError("power cut")
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(WordPriorModule, "training_step", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        main(arguments(tmp_path / "broken", "word_prior_cpu", PRIOR))
    monkeypatch.setattr(WordPriorModule, "training_step", whole)
    assert main(arguments(tmp_path / "broken", "word_prior_cpu", PRIOR)) == 0
    assert_same_weights(prior / "last.ckpt", tmp_path / "broken/last.ckpt")


def test_a_checkpoint_is_usable_before_its_run_ends_and_for_starting_another(prior, tmp_path):
    last = WordPrior(prior / "last.ckpt").network.state_dict()
    saved = torch.load(prior / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(last[name], saved[f"network.unet.{name}"]) for name in last)
    assert main(arguments(tmp_path / "b", "word_prior_cpu", PRIOR, f"init={prior}", *FROZEN)) == 0
    before, after = WordPrior(prior).network.state_dict(), WordPrior(tmp_path / "b").network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_captions_are_dropped_with_the_configured_probability(monkeypatch):
    config = load_config(TrainConfig, ROOT / "configs/experiment/word_prior_cpu.yaml", ["out=x", *COMMON, *PRIOR])
    batch = CaptionBatch(torch.zeros(40, 3, 16, 16, dtype=torch.uint8), ["a red star"] * 40, [], None, ["a"] * 40)
    for share in (0.0, 0.5, 1.0):
        config.model.empty = share
        module, seen = WordPriorModule(config, 10), []
        monkeypatch.setattr(module, "errors", lambda picture, captions, *_, seen=seen: _keep(seen, captions, picture))
        monkeypatch.setattr(module, "seed_step", lambda _: torch.manual_seed(0))
        monkeypatch.setattr(module, "log", lambda *_, **__: None)
        module.training_step(batch, 0)
        assert seen.count("") == pytest.approx(40 * share, abs=12 if share == 0.5 else 0)


def _keep(seen, captions, picture):
    seen.extend(captions)
    return picture, picture


def test_figures_of_generated_pictures(monkeypatch):
    from amodalseg.config.schema import CaptionsData
    from amodalseg.data.draw.captioned import HeldOutCaptions
    from amodalseg.data.draw.captions import CaptionedWorld
    from amodalseg.models.inpainting.prior_training import word_validation
    from tests.models.inpainting.fake_backends import GaussianBackend

    held = HeldOutCaptions(CaptionedWorld(CaptionsData(split="val")), 32)
    cases = [held[place] for place in range(4)]
    true = np.stack([case.picture for case in cases])
    monkeypatch.setattr(word_validation, "to_images", lambda _: true)
    rows, pictures = draw_captions(GaussianBackend(), cases, steps=2)
    assert word_scores(rows_with_errors(rows))["drawn"]["named"] == 100
    assert len(pictures) == 4 and all(len(cells) == len(word_validation.TITLES) for cells in pictures)
    monkeypatch.setattr(word_validation, "to_images", lambda _: np.full_like(true, 128))
    rows, _ = draw_captions(GaussianBackend(), cases, steps=2)
    assert word_scores(rows_with_errors(rows)) == {
        "drawn": {"named": 0, "only": 100}, "denoising": {"fit": pytest.approx(75), "loss": pytest.approx(0.25)}
    }  # fmt: skip


def rows_with_errors(rows):
    return [{**row, "error": 0.25, "variance": 1.0} for row in rows]


def test_figures_without_rows_have_all_names():
    assert word_scores([]) == {"drawn": {"named": None, "only": None}, "denoising": {"fit": None, "loss": None}}
    assert segmenter_scores([]) == {"by_name": {"iou": None, "wrong": None}}
    rows = [{"inter": 1, "union": 2, "wrong": 0.1}, {"inter": 3, "union": 3, "wrong": 0.3}]
    assert segmenter_scores(rows) == {"by_name": {"iou": pytest.approx(75), "wrong": pytest.approx(20)}}


def test_a_segmenter_is_trained_and_saved_in_its_folder(segmenter):
    names = {"config.yaml", "last.ckpt", "word_segmenter", "metrics", "pictures"}
    assert {path.name for path in segmenter.iterdir()} == names
    rows = read_csv(segmenter / "metrics/version_0/metrics.csv")
    assert sum(bool(row["val/by_name/iou"]) for row in rows) == 2
    found = open_word_segmenter(str(segmenter)).logits(torch.zeros(1, 3, 16, 16), ["red star"])
    assert found.shape == (1, 16, 16) and load_small(segmenter / "word_segmenter")[1]["step"] in (4, 8)


def test_a_segmenter_starts_from_another(segmenter, tmp_path):
    assert main(arguments(tmp_path / "b", "word_segmenter", SEGMENTER, f"init={segmenter}", *FROZEN)) == 0
    before, after = (load_small(run / "word_segmenter")[0].state_dict() for run in (segmenter, tmp_path / "b"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_release_writes_folders_with_notes(prior, segmenter, tmp_path, capsys):
    for run, name, folder in ((prior, "a", "word_prior"), (segmenter, "b", "word_segmenter")):
        out = tmp_path / name
        assert main(["release", str(run), "--out", str(out), "--about", "licence=Apache-2.0"]) == 0
        assert "sha256" in capsys.readouterr().out
        about = json.loads((out / "words.json").read_text())
        assert about["licence"] == "Apache-2.0" and about["commit"] and about["step"] in (4, 8)
        for path in (run / folder).rglob("*.safetensors"):
            assert path.read_bytes() == (out / path.relative_to(run / folder)).read_bytes()
        assert main(["release", str(run), "--out", str(out)]) == 2
        assert "must be a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("word_prior_cpu", ["checkpoint.monitor=per_object.full"], "choose from drawn.named"),
        ("word_prior_cpu", ["data.name=synthetic"], "word_prior trains on data.name=captions, not synthetic"),
        ("word_segmenter", ["val.name=synthetic"], "word_segmenter trains on data.name=captions, not synthetic"),
        ("word_prior_cpu", ["init=nothing"], "there is no text-conditioned prior at 'nothing'"),
        ("word_segmenter", ["init=nothing"], "there is no word segmenter 'nothing'"),
        ("word_segmenter", ["model.size=18"], "model.size=18 must be a multiple of 4"),
    ],
)
def test_invalid_configurations_are_refused(tmp_path, capsys, name, options, part):
    chosen = PRIOR if name == "word_prior_cpu" else SEGMENTER
    assert main(arguments(tmp_path / "x", name, chosen, *options)) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1 and not (tmp_path / "x").exists()
