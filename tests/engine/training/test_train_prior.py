"""The inpainting prior through the command line: training, resuming, release, and refusals."""

import json

import numpy as np
import pytest
import torch

from amodalseg.cli import main
from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.whole_objects import PriorBatch
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.prior_training.module import PriorModule
from tests.engine.journeys import ROOT, assert_same_weights, read_csv
from tests.worlds import coco_world

pytest.importorskip("diffusers")
SMALL = [
    "model.size=16", "model.channels=[8,16]", "model.head=8", "model.steps=2", "optim.early_size=8", "optim.ema=0.9",
    "data.max_contact=1", "val.max_contact=1", "val.num_objects=3", "loader.batch_size=3", "trainer.max_steps=12",
    "trainer.precision=32-true", "trainer.progress=false", "trainer.accelerator=cpu", "trainer.devices=1",
    "checkpoint.every_steps=3", "checkpoint.val_every_steps=6", "log.every_steps=1", "log.pictures=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    annotations, images = coco_world(tmp_path_factory.mktemp("coco"))
    return [f"{part}.{key}=[{path}]" for part in ("data", "val") for key, path in
            (("annotations", annotations), ("images", images))]  # fmt: skip


def arguments(out, files, *more):
    config = ROOT / "configs/experiment/inpainting_prior_cpu.yaml"
    return ["train", str(config), f"out={out}", *SMALL, *files, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, files):
    out = tmp_path_factory.mktemp("run") / "whole"
    assert main(arguments(out, files)) == 0
    return out


def test_a_run_writes_a_prior_figures_and_pictures(finished):
    assert {path.name for path in finished.iterdir()} == {"config.yaml", "last.ckpt", "prior", "metrics", "pictures"}
    rows = read_csv(finished / "metrics/version_0/metrics.csv")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 12 and np.isfinite(losses).all()
    assert sum(bool(row["val/half_hidden/gain"]) for row in rows) == 2
    assert sorted(path.name for path in (finished / "pictures").iterdir()) == ["step_0000006.png", "step_0000012.png"]
    about = json.loads((finished / "prior/prior.json").read_text())
    assert about["train"]["model"]["size"] == 16 and about["val"]["denoising"]["loss"] > 0
    assert EmbeddedPrior(finished).abilities.size == 16


@pytest.mark.parametrize("step", [7])
def test_an_interrupted_and_resumed_run_ends_with_the_same_weights(finished, files, tmp_path, monkeypatch, step):
    whole = PriorModule.training_step

    def breaks(self, batch, batch_idx):
        if self.global_step == step:
            raise RuntimeError("power cut")
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(PriorModule, "training_step", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        main(arguments(tmp_path / "broken", files))
    monkeypatch.setattr(PriorModule, "training_step", whole)
    assert main(arguments(tmp_path / "broken", files)) == 0
    assert_same_weights(finished / "last.ckpt", tmp_path / "broken/last.ckpt")


def test_the_loss_weights_of_known_pixels_and_of_the_object_in_the_hole(files, monkeypatch):
    config = load_config(TrainConfig, arguments("x", files)[1], ["out=x", *SMALL, *files])
    config.model.known, config.model.hidden = 0.25, 5.0
    module = PriorModule(config, 10)
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (2, 3, 16, 16), generator=generator, dtype=torch.uint8)
    hole, mask = (torch.rand(2, 1, 16, 16, generator=generator).gt(0.5).to(torch.uint8) for _ in range(2))
    squares = torch.rand(2, 3, 16, 16, generator=generator)
    monkeypatch.setattr(module, "errors", lambda *_: (squares, squares))
    monkeypatch.setattr(module, "seed_step", lambda _: None)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    loss = module.training_step(PriorBatch(picture, hole, mask, ["a", "b"]), 0)
    total = weights = 0.0
    for place in np.ndindex(2, 3, 16, 16):
        in_hole, on_object = hole[place[0], 0, place[2], place[3]], mask[place[0], 0, place[2], place[3]]
        weight = (5.0 if on_object else 1.0) if in_hole else 0.25
        total, weights = total + weight * float(squares[place]), weights + weight
    assert abs(float(loss) - total / weights) < 1e-5


def test_the_first_part_of_a_run_uses_smaller_pictures(files, tmp_path, monkeypatch):
    sides = []
    whole = PriorModule.training_step

    def look(self, batch, batch_idx):
        sides.append(batch.picture.shape[-1])
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(PriorModule, "training_step", look)
    assert main(arguments(tmp_path / "a", files, "trainer.max_steps=5", "optim.early_share=0.4")) == 0
    assert sides == [8, 8, 16, 16, 16]


def test_a_removed_prior_is_restored_and_a_run_can_start_from_another(finished, files, tmp_path):
    before = EmbeddedPrior(finished).unet.state_dict()
    assert main(arguments(tmp_path / "b", files, f"init={finished}", "optim.lr=0", "optim.min_lr=0", "optim.ema=0",
                          "trainer.max_steps=2", "optim.weight_decay=0")) == 0  # fmt: skip
    after = EmbeddedPrior(tmp_path / "b").unet.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_resuming_with_changed_objects_is_reported(tmp_path, capsys):
    annotations, images = coco_world(tmp_path / "coco")
    own = [f"{part}.{key}=[{path}]" for part in ("data", "val") for key, path in
           (("annotations", annotations), ("images", images))]  # fmt: skip
    command = arguments(tmp_path / "run", own, "trainer.max_steps=1")
    assert main(command) == 0
    checkpoint = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    checkpoint["amodalseg"]["num_steps"] = 9  # as if it were not finished
    torch.save(checkpoint, tmp_path / "run/last.ckpt")
    content = json.loads(annotations.read_text())
    content["annotations"] = content["annotations"][6:]
    annotations.write_text(json.dumps(content))
    assert main(command) == 2 and "training data have changed since" in capsys.readouterr().err


def test_release_writes_a_folder_with_notes(finished, tmp_path, capsys):
    out = tmp_path / "released"
    assert main(["release", str(finished), "--out", str(out), "--about", "licence=Apache-2.0"]) == 0
    assert "sha256" in capsys.readouterr().out
    about = json.loads((out / "prior.json").read_text())
    assert about["licence"] == "Apache-2.0" and about["commit"] and about["step"] in (6, 12)
    old, new = EmbeddedPrior(finished).unet.state_dict(), EmbeddedPrior(out).unet.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert main(["release", str(finished), "--out", str(out)]) == 2
    assert "must be a new folder" in capsys.readouterr().err


def test_a_checkpoint_can_be_used_and_released_before_its_run_ends(finished, tmp_path):
    last = EmbeddedPrior(finished / "last.ckpt").unet.state_dict()
    saved = torch.load(finished / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(last[name], saved[f"network.{name}"]) for name in last)
    assert main(["release", str(finished / "last.ckpt"), "--out", str(tmp_path / "a")]) == 0
    released = EmbeddedPrior(tmp_path / "a")
    assert released.about["step"] == 12
    assert all(torch.equal(last[name].half().float(), value) for name, value in released.unet.state_dict().items())


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            ["checkpoint.monitor=per_object.full"],
            "invalid value for checkpoint.monitor: per_object.full",
        ),
        (["model.channels=[8,20]"], "multiples of 8"),
        (["model.channels=[8,16,16]", "model.size=18"], "model.size=18 must be a multiple of 8, for instance 24"),
        (["optim.early_size=9"], "optim.early_size=9 must be a multiple of 4"),
        (["model.patch=3"], "invalid value for model.patch: 3 (choose from 1, 2, 4, 8)"),
        (["init=nothing"], "there is no inpainting prior 'nothing'"),
        (["data.min_area=0.5"], "is whole"),
    ],
)
def test_invalid_configurations_are_refused(files, tmp_path, capsys, options, part):
    assert main(arguments(tmp_path / "x", files, *options)) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1 and not (tmp_path / "x").exists()


def test_a_prior_is_trained_on_whole_objects_only(tmp_path, capsys, files):
    config = tmp_path / "c.yaml"
    config.write_text("out: x\nmodel: {name: inpainting_prior}\ndata: {name: synthetic}\nval: {name: synthetic}\n"
                      "checkpoint: {monitor: half_hidden.iou}\n")  # fmt: skip
    assert main(["train", str(config), f"out={tmp_path / 'x'}"]) == 2
    assert "trains on data.name=whole_objects, not synthetic" in capsys.readouterr().err
    assert main(["cost", str(config)]) == 2
    assert "pcnet_m only, not for inpainting_prior" in capsys.readouterr().err
