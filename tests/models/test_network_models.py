"""Deterministic trained networks: files, overridable options, samples without effect, and training runs."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_contract import tiny, tiny_direct, tiny_pcnet_m
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from amodalseg import UserError, export_model, load_model
from amodalseg.cli import main
from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from amodalseg.engine.training.tasks import TASKS
from amodalseg.models.conddiff_amo.direct import Direct
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.network_model import NetworkModel, normalise
from amodalseg.models.pcnet_m.model import PCNetM
from amodalseg.types import Batch
from tests.engine.journeys import ROOT, SMALL, read_csv
from tests.models.contract import query

KINDS = {"direct": tiny_direct, "pcnet_m": tiny_pcnet_m}
RUN = {
    "direct": ["model.pcn.backbone=pvt_v2_b0", "model.dn.dim=16", "model.dn.dropout=0", "model.pcn.drop_path=0"],
    "pcnet_m": ["model.width=4"],
}


def arguments(kind, out, *more):
    small = [item for item in SMALL if not item.startswith(("model.dn", "model.sampler"))]
    options = ["data.name=synthetic", "val.name=synthetic", "val.split=test", f"model.name={kind}", *RUN[kind]]
    return ["train", str(ROOT / "configs/experiment/synthetic_tiny.yaml"), f"out={out}", *options, *small, *more]


@pytest.fixture(params=KINDS)
def kind(request):
    torch.set_num_threads(1)
    return request.param


def same_state(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_model_round_trips_through_its_file(kind, tmp_path):
    model = KINDS[kind]()
    model.save(tmp_path / "model.safetensors", {"step": 3})
    again = load_model(tmp_path, "cpu")
    assert type(again) is type(model) and again.config == model.config and again.about == {"step": 3}
    same_state(again.network.state_dict(), model.network.state_dict())
    assert not any(parameter.requires_grad for parameter in again.network.parameters())
    asked = query(40, 60, (10, 10, 30, 30))
    one, other = (m.predict(asked.image, asked.modal) for m in (model, again))
    assert np.array_equal(one.probability, other.probability) and one.probability.std() > 0


def test_a_class_opens_only_files_of_its_own_kind(kind, tmp_path):
    path = tmp_path / "model.safetensors"
    KINDS[kind]().save(path)
    classes = {"direct": Direct, "pcnet_m": PCNetM, "conddiff_amo": CondDiffAMO}
    for name, one in classes.items():
        if name == kind:
            assert type(one.load(path)) is type(NetworkModel.load(path)) is one
        else:
            with pytest.raises(UserError, match=f"another kind, '{kind}'; amodalseg.load_model opens it"):
                one.load(path)


def test_samples_and_steps_have_no_effect(kind, tmp_path):
    model, asked = KINDS[kind](), query(40, 60, (10, 10, 30, 30))
    with pytest.warns(UserWarning, match="is deterministic: num_samples and steps have no effect"):
        several = model.predict(asked.image, np.stack([asked.modal] * 2), num_samples=3, steps=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = model.predict(asked.image, asked.modal, seed=77)
    assert one.evaluations == several[0].evaluations == 1 and one.samples is None and several[0].samples is None
    assert several.probability.shape == (2, 40, 60)
    np.testing.assert_allclose(several[1].probability, one.probability, atol=1e-5)
    empty = model.predict(asked.image, np.zeros((0, 40, 60), bool))
    assert empty.probability.shape == (0, 40, 60) and empty.samples is None


def test_options_that_can_change_after_training(kind):
    model, asked = KINDS[kind](), query(40, 60, (10, 10, 30, 30))
    values = model.predict(asked.image, asked.modal).probability
    level = float(np.median(values[values > 0]))
    model.override({"post": {"threshold": level}, "sampler": {"steps": 2}})  # sampler: for other models only
    assert np.array_equal(model.predict(asked.image, asked.modal).raw, values > level)
    with pytest.raises(
        UserError,
        match=r"override\.window\.kind cannot change after training; (eraser, )?post(,| and) window\.size can",
    ):
        model.override({"window": {"kind": "c2f", "size": 64}})


def test_windows_of_another_size(kind):
    model, asked = KINDS[kind](), query(40, 60, (10, 10, 30, 30))
    trained = model.config.window.size
    own = model.predict(asked.image, asked.modal)
    assert model.override({"window": {"size": 2 * trained}}) == {"window": {"size": 2 * trained}}
    larger = model.predict(asked.image, asked.modal)
    assert own.maps.shape[1:] == (trained, trained) and larger.maps.shape[1:] == (2 * trained, 2 * trained)
    assert larger.probability.shape == (40, 60) and (larger.probability != own.probability).any()
    for wrong, message in [
        (4 * trained, rf"size={4 * trained} is too far from {trained} px, the size of '{kind}': give a multiple of 32"),
        (trained + 8, rf"window\.size={trained + 8} must be a multiple of 32"),
    ]:
        with pytest.raises(UserError, match=message):
            model.override({"window": {"size": wrong}})
    assert model.config.window.size == 2 * trained, "a refused size changes nothing"
    with pytest.raises(UserError, match=r"'window\.size' is one key with dots in it; write it nested, window: \{size"):
        model.override({"window.size": 2 * trained})
    with pytest.raises(UserError, match=r"options are a dict, nested as in"):
        model.override([("window", trained)])
    model.override({"window": {"size": trained}})
    assert np.array_equal(model.predict(asked.image, asked.modal).probability, own.probability)


def test_export_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match="has no sampler to export; only CondDiff-AMO"):
        export_model(KINDS[kind](), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_architecture_cannot_initialise_a_run(kind, tmp_path):
    model = KINDS[kind]()
    model.save(tmp_path / "a.safetensors")
    tiny().save(tmp_path / "b.safetensors")
    config = load_config(TrainConfig, arguments(kind, tmp_path / "x")[1], arguments(kind, tmp_path / "x")[2:])
    config.model = model.config
    module = TASKS[kind].module(config, 10)
    with torch.no_grad():
        next(module.network.parameters()).add_(1)
    module.start_from(str(tmp_path / "a.safetensors"))
    same_state(module.network.state_dict(), model.network.state_dict())
    with pytest.raises(UserError, match=r"b\.safetensors holds another architecture"):
        module.start_from(str(tmp_path / "b.safetensors"))


def test_a_run_from_training_to_predictions(kind, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(arguments(kind, out)) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml", "last.ckpt", "metrics", "model.safetensors", "pictures",
    ]  # fmt: skip
    rows = read_csv(out / "metrics/version_0/metrics.csv")
    assert sum(bool(row["val/per_object_occluded/occluded"]) for row in rows) == 2
    asked = query(40, 60, (10, 10, 30, 30))
    for path in (out, out / "model.safetensors", out / "last.ckpt"):
        assert load_model(path, "cpu").predict(asked.image, asked.modal).amodal.shape == (40, 60)
    # it resumes, initialises another run, and is released
    before = load_file(out / "model.safetensors")
    assert main(arguments(kind, out)) == 0
    same_state(load_file(out / "model.safetensors"), before)
    assert main(arguments(kind, tmp_path / "next", f"init={out}", "trainer.max_steps=1", "val.num_objects=1")) == 0
    assert main(["release", str(out), "--out", str(tmp_path / "ship.safetensors")]) == 0
    assert load_model(tmp_path / "ship.safetensors", "cpu").config == load_model(out, "cpu").config


def batch_of(num=6, size=32, seed=0):
    """A batch of squares partly occluded by a bar, both shown in the picture."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (num, 3, size, size), np.uint8)
    masks = np.zeros((num, 4, size, size), np.uint8)
    for picture, planes in zip(image, masks, strict=True):
        top, left = rng.integers(2, 10, 2)
        planes[1, top : top + 18, left : left + 18] = 1
        planes[3, :, left + 9 : left + 15] = 1
        planes[0] = planes[1] & ~planes[3]
        picture[:, planes[0].astype(bool)] = 200
        picture[0, planes[3].astype(bool)] = 250
    return Batch(torch.from_numpy(image), torch.from_numpy(masks), [str(i) for i in range(num)])


def test_a_few_steps_on_one_batch_lower_the_loss(kind, monkeypatch):
    overrides = [*arguments(kind, "unused")[2:], "optim.lr=1e-2", "optim.warmup_steps=0"]
    config = load_config(TrainConfig, arguments(kind, "unused")[1], overrides)
    config.model = dataclasses.replace(config.model, window=dataclasses.replace(config.model.window, size=32))
    torch.manual_seed(0)
    module = TASKS[kind].module(config, 100)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(module, "seed_step", lambda _: torch.manual_seed(1))  # the same random numbers in every step
    optimizer, batch, losses = module.configure_optimizers()["optimizer"], batch_of(), []
    for step in range(40):
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0], losses


def test_images_are_normalised_as_in_the_training_of_the_backbone():
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    image = torch.arange(256).repeat(3).view(1, 3, 16, 16).to(torch.uint8)
    torch.testing.assert_close(normalise(image), (image / 255 - mean) / std)
