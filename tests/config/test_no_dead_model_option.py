"""No dead option: every option of a model and of the optimiser changes weights, a training step or a prediction."""

import copy
from functools import cache, cached_property

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from amodalseg.config.schema import (
    AFGConfig,
    CondDiffAMOConfig,
    DirectConfig,
    DNConfig,
    OptimConfig,
    PCNConfig,
    PCNetMConfig,
    PyramidConfig,
    SamplerConfig,
    SyntheticData,
    TrainConfig,
    WindowConfig,
)
from amodalseg.engine.training.tasks import task_of
from amodalseg.engine.training.train import train
from amodalseg.models.conddiff_amo import denoiser, pvt
from amodalseg.types import Batch, Query
from tests.config.leaves import With, cases, changed, known
from tests.worlds.drawing import disc

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
SIZE = 64
BASES = {
    "conddiff_amo": CondDiffAMOConfig(
        window=WindowConfig(size=SIZE), pcn=PCNConfig(backbone="pvt_v2_b0"), dn=DNConfig(dim=16),
        afg=AFGConfig(kernel=3), sampler=SamplerConfig(steps=4),
    ),
    "direct": DirectConfig(window=WindowConfig(size=SIZE), pcn=PyramidConfig(backbone="pvt_v2_b0"), dn=DNConfig(16)),
    "pcnet_m": PCNetMConfig(window=WindowConfig(size=SIZE), width=4),
}  # fmt: skip
MODEL = {
    "window.size": 96, "window.expand": 6.0, "window.margin": 3.0,
    "pcn.backbone": "pvt_v2_b1", "pcn.pretrained": True, "pcn.modal": False, "pcn.adapter": 3, "pcn.drop_path": 0.9,
    "pcn.zoe": False, "pcn.ttc": False,
    "ocr.enabled": False, "ocr.residual": False, "ocr.upsample": 2,
    "afg.enabled": False, "afg.kernel": 1, "afg.instead": With("le", afg__enabled=False),
    "dn.dim": 24, "dn.dropout": 0.9,
    "ust.enabled": False, "ust.block": 4,
    "gauss.shift": 0.0,
    "diff.beta_a": With(9.0, diff__t_dist="beta"), "diff.beta_b": With(9.0, diff__t_dist="beta"),
    "sampler.steps": 2, "sampler.eta": With(1.0, sampler__kind="ddim"), "sampler.refresh_every": 2,
    "vgpe.clamp": False, "vgpe.ensemble": False,
    "post.union_visible": False, "post.threshold": 0.8, "post.within_occluder": True,
    "post.calibration.scale": 0.5, "post.calibration.shift": 1.0,
    "loss.bce_weighted": False, "loss.bce": 0.5, "loss.iou": 0.5, "loss.hidden": 1.0,
    "width": 8, "rgb": True, "eraser.front": 0.0, "eraser.unknown": 1.0,
}  # fmt: skip
"""Another value of each option; of one with a closed list of choices, all of them are tried."""
OPTIM = {
    "lr": 1e-3, "min_lr": 5e-3, "weight_decay": 0.5, "decay_all": False, "warmup_steps": 3, "clip": 1e-3, "ema": 0.9,
    "early_size": 32, "early_share": With(1.0, early_size=32), "decay_share": 0.3,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def no_download():
    """Replaces the download of ``pretrained`` weights by values that random initialisation never yields."""
    create = timm.create_model

    def create_model(name, pretrained=False, **options):
        model = create(name, pretrained=False, **options)
        if pretrained:
            torch.nn.init.constant_(model.patch_embed.proj.weight, 0.25)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", create_model)
        patch.setattr(pvt, "why_out_of_reach", lambda repository: None)
        yield


def batch_of_two():
    """Two balls behind a post, which is the known occluder."""
    image = torch.randint(0, 256, (2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    amodal = np.stack([disc(SIZE, SIZE, 30, 30, 20, 24), disc(SIZE, SIZE, 36, 28, 18, 22)])
    post = disc(SIZE, SIZE, 42, 32, 10, 60)[None].repeat(2, axis=0)
    parts = np.stack([amodal & ~post, amodal, np.zeros_like(amodal), post], axis=1)
    return Batch(image, torch.from_numpy(parts.astype(np.uint8)), ["a", "b"])


def question():
    rng = np.random.default_rng(1)
    ball, post = disc(70, 90, 40, 36, 24, 18), disc(70, 90, 54, 36, 9, 60)
    return Query(rng.integers(0, 256, (70, 90, 3), np.uint8), ball & ~post, 5, occluder=post)


class Observed:
    """The effects of a configuration, computed lazily because most differences show early."""

    def __init__(self, config):
        self.config = config
        torch.manual_seed(0)
        whole = TrainConfig(out="unused", model=copy.deepcopy(config), data=SyntheticData(), val=SyntheticData())
        self.module = task_of(whole).module(whole, 10)

    @cached_property
    def weights(self):
        state = self.module.network.state_dict()
        return [(name, tuple(value.shape), value.double().sum().item()) for name, value in state.items()]

    @cached_property
    def loss(self):
        self._spread  # noqa: B018
        self.module.train()
        return self.module.training_step(batch_of_two(), 0).item()

    @cached_property
    def prediction(self):
        self._spread  # noqa: B018
        found = self.module.model.predict_batch([question()])[0]
        return [found.probability.tobytes(), found.amodal.tobytes(), found.raw.tobytes()]

    @cached_property
    def _spread(self):
        """Weights that give non-constant predictions: none is zero, and logits have median 0 and deviation 3."""
        torch.manual_seed(1)
        network = self.module.network
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            for layer in network.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = None  # the statistics of this batch, not a moving average
            logits = self.module.train().logits_and_target(batch_of_two())[0]
            scale = 3 / logits.std()
            last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
            last = next(layer for layer in reversed(last) if layer.out_channels == 1 and layer.kernel_size == (1, 1))
            last.weight.mul_(scale)
            last.bias.sub_(logits.median()).mul_(scale)


@cache
def before(name, others):
    return Observed(changed(BASES[name], dict(others)))


def assert_alive(name, option, value, others):
    known(option, value)
    one = before(name, tuple(others.items()))
    other = Observed(changed(BASES[name], {**others, option: value}))
    alive = one.weights != other.weights or one.loss != other.loss or one.prediction != other.prediction
    assert alive, f"model.{option}={value} of {name} changes neither weights, nor a training step, nor a prediction"


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["conddiff_amo"], MODEL, "name"))
def test_conddiff_amo(option, value, others):
    assert_alive("conddiff_amo", option, value, others)


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["direct"], MODEL, "name"))
def test_direct(option, value, others):
    assert_alive("direct", option, value, others)


@pytest.mark.parametrize(("option", "value", "others"), cases(BASES["pcnet_m"], MODEL, "name"))
def test_pcnet_m(option, value, others):
    assert_alive("pcnet_m", option, value, others)


@pytest.mark.parametrize("name", BASES)
def test_the_same_options_give_the_same_weights_loss_and_prediction(name):
    one, other = before(name, ()), Observed(BASES[name])
    assert one.weights == other.weights and one.loss == other.loss and one.prediction == other.prediction


def test_an_option_without_effect_fails_by_name(monkeypatch):
    """Dropout that is disabled inside the network must be detected."""
    monkeypatch.setattr(denoiser.Dropout, "forward", lambda self, x: x)
    before.cache_clear()
    with pytest.raises(AssertionError, match=r"model\.dn\.dropout=0\.9 of direct changes neither"):
        assert_alive("direct", "dn.dropout", 0.9, {})
    before.cache_clear()
    with pytest.raises(AssertionError, match="new is new"):
        assert_alive("direct", "dn.new", None, {})


# ---------------------------------------------------------------------------------------------------------- optimiser


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    """{options: the weights after four steps of training}."""
    done = {}

    def run(**options):
        key = tuple(options.items())
        if key not in done:
            config = TrainConfig(
                out=str(tmp_path_factory.mktemp("run") / "out"), model=BASES["pcnet_m"],
                data=SyntheticData(num_objects=8, size=64), val=SyntheticData(num_objects=1, size=64, split="val"),
                optim=changed(OptimConfig(lr=1e-2), options),
            )  # fmt: skip
            config.trainer.max_steps, config.trainer.progress, config.trainer.accelerator = 4, False, "cpu"
            config.trainer.devices, config.log.pictures, config.loader.batch_size = 1, 0, 2
            done[key] = load_file(train(config))
        return done[key]

    return run


def test_the_same_optimiser_gives_the_same_weights(weights_of):
    one, again = weights_of(), weights_of(lr=1e-2)
    assert all(torch.equal(one[name], again[name]) for name in one)


@pytest.mark.parametrize(("option", "value", "others"), cases(OptimConfig(), OPTIM))
def test_optim(option, value, others, weights_of):
    known(option, value)
    one, other = weights_of(**others), weights_of(**{**others, option: value})
    assert any(not torch.equal(one[name], other[name]) for name in one), f"optim.{option}={value} changes no weight"
