"""Segmenters, depth models and LaMa: missing ones are found before the first object, and overrides reach controls."""

import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from amodalseg import Query, UserError
from amodalseg.config.schema import (
    InpaintConfig,
    MixedContextConfig,
    NaiveOutpaintConfig,
    NoiseFillConfig,
    OcclusionFreeBiasConfig,
    ReadOffConfig,
    TeleaConfig,
)
from amodalseg.models import create_method, load_model
from amodalseg.models.inpainting.backends import hub_files
from amodalseg.models.inpainting.methods import base_method
from amodalseg.models.inpainting.methods.mixed_context import Inpaint, MixedContext
from amodalseg.models.inpainting.methods.occlusion_free_bias import OcclusionFreeBias
from amodalseg.models.inpainting.methods.outpaint import NaiveOutpaint
from tests.models.inpainting.fake_backends import GaussianBackend
from tests.models.inpainting.tiny_hub import save_depth, save_sam

SAM = ReadOffConfig(segmenter="facebook/sam-vit-huge")
ALL = [TeleaConfig, NoiseFillConfig, OcclusionFreeBiasConfig, MixedContextConfig, InpaintConfig, NaiveOutpaintConfig]
CLASSES = {
    OcclusionFreeBiasConfig: OcclusionFreeBias, MixedContextConfig: MixedContext, InpaintConfig: Inpaint,
    NaiveOutpaintConfig: NaiveOutpaint,
}  # fmt: skip
LAMA = r"^LaMa needs a package .*pip install simple-lama-inpainting, or take telea in place of lama$"


def make(config):
    """A method with a tiny backend, or a control."""
    kind = CLASSES.get(type(config))
    return create_method(config) if kind is None else kind(config, GaussianBackend())


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return types.SimpleNamespace(sam=save_sam(folder / "sam"), depth=save_depth(folder / "depth"))


@pytest.fixture(autouse=True)
def nothing_there(tmp_path, monkeypatch):
    """No network access, an empty cache, and no LaMa."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "simple_lama_inpainting", None)


def refused(match, do, *arguments):
    with pytest.raises(UserError, match=match) as caught:
        do(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ALL)
def test_a_segmenter_that_is_missing_is_found_before_the_first_object(kind):
    for read_off in (SAM, replace(SAM, kind="segmenter")):
        refused(r"^facebook/sam-vit-huge is not in the cache .*`hf download", make, kind(read_off=read_off))
    model = make(kind(read_off=replace(SAM, kind="grabcut")))  # named, but not used
    refused("sam-vit-huge is not in the cache", model.override, {"read_off": {"kind": "segmenter"}})
    assert model.config.read_off.kind == "grabcut"


def test_depth_models_and_lama_that_are_missing_are_found_before_the_first_object(hub):
    bias, mixed, inpaint = OcclusionFreeBiasConfig(), MixedContextConfig(), InpaintConfig()
    for config in (
        replace(bias, area="depth", depth="dpt"),
        replace(mixed, depth="dpt"),
        replace(inpaint, depth="dpt"),
    ):
        refused("^Intel/dpt-large is not in the cache", make, config)
    for config in (
        replace(bias, background="removed", removal="lama"), replace(mixed, removal="lama"),
        replace(inpaint, removal="lama"),
    ):  # fmt: skip
        refused(LAMA, make, config)
    refused(LAMA, make(inpaint).override, {"removal": "lama"})
    refused("^Intel/dpt-large is not in the cache", make(mixed).override, {"depth": "dpt"})
    make(replace(bias, depth="dpt", removal="lama"))  # neither is used in the hull on its own colours


def test_a_segmenter_is_needed_only_if_it_is_used(hub):
    # neighbours are segmented whatever the read-off is; masks from clusters need no read-off
    both = {"depth": str(hub.depth), "read_off": replace(SAM, kind="grabcut")}
    refused("sam-vit-huge is not in the cache", make, InpaintConfig(**both))
    cut_out = MixedContextConfig(answer="clusters", read_off=SAM)
    assert make(cut_out).helpers(cut_out).segmenter is None
    for more in ({"swap": False}, {"composite": False}, {"depth": str(hub.depth)}):
        refused("sam-vit-huge is not in the cache", make, replace(cut_out, **more))


def test_available_helpers_are_found_without_loading_weights(hub, monkeypatch):
    def load(*_):
        raise AssertionError("weights were loaded")

    for part in ("segmenter", "depth"):
        monkeypatch.setattr(f"amodalseg.models.inpainting.parts.{part}.load_whole", load)
    monkeypatch.setitem(sys.modules, "simple_lama_inpainting", types.SimpleNamespace(SimpleLama=load))
    read_off = ReadOffConfig(segmenter=str(hub.sam))
    make(MixedContextConfig(depth=str(hub.depth), removal="lama", read_off=read_off))
    make(NoiseFillConfig(read_off=read_off))


def test_a_folder_of_another_kind_or_without_weights_is_refused_on_opening(hub, tmp_path):
    refused(
        "is a 'depth_anything'; SAM and SAM 2",
        make,
        TeleaConfig(read_off=ReadOffConfig(segmenter=str(hub.depth))),
    )
    refused("is a 'sam'; depth models", make, InpaintConfig(depth=str(hub.sam)))
    copy = Path(shutil.copytree(hub.sam, tmp_path / "sam"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    weights = hub_files.WEIGHTS.replace("*", "[*]")
    match = rf"holds no {weights}, the only format of weights that is read; copy the whole folder$"
    refused(match, make, TeleaConfig(read_off=ReadOffConfig(segmenter=str(copy))))


def test_without_transformers_a_control_that_needs_sam_says_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    read_off = ReadOffConfig(segmenter=str(hub.sam))
    refused(r"pip install 'amodalseg\[inpaint\]'$", make, NoiseFillConfig(read_off=read_off))
    assert make(NoiseFillConfig()).predict_batch([]) == []


def test_overridden_helpers_are_not_searched_for(hub, tmp_path):
    file = tmp_path / "control.yaml"
    file.write_text("model: {name: noise_fill, read_off: {segmenter: facebook/sam-vit-huge}}\n")
    refused("sam-vit-huge is not in the cache", load_model, file, "cpu")
    model = load_model(file, "cpu", {"read_off": {"segmenter": str(hub.sam)}, "sampler": {"steps": 3}})
    assert model.config.read_off.segmenter == str(hub.sam)
    refused(r"no model has the option 'read_off\.kinds'", load_model, file, "cpu", {"read_off": {"kinds": "x"}})
    assert load_model("conddiff_amo_tiny", "cpu", {"sampler": {"steps": 3}}).config.sampler.steps == 3
    assert load_model("modal", "cpu", {"sampler": {"steps": 3}}).name == "modal"


# -------------------------------------------------------------------------------------------------------- overrides


class Rows:
    """Segments the rows of a picture from a given one to the last."""

    def __init__(self, first):
        self.first = first

    def segment(self, picture, points):
        return np.broadcast_to(np.arange(len(picture))[:, None] >= self.first, picture.shape[:2])


@pytest.fixture
def opened(monkeypatch):
    """Names of segmenters and depth models, in the order of opening."""
    names = []

    def open_segmenter(name, device):
        names.append(name)
        return Rows({"top": 0, "low": 14}[name])

    monkeypatch.setattr(base_method, "open_segmenter", open_segmenter)
    monkeypatch.setattr(base_method, "open_depth", lambda name, device: names.append(name) or object())
    monkeypatch.setattr(base_method, "check_helpers", lambda helpers: None)
    return names


@pytest.mark.parametrize("kind", ALL)
def test_an_override_reaches_methods_and_controls_alike(kind, opened):
    model = make(kind())
    model.override({"read_off": {"segmenter": "top"}, "window": {"size": 16}, "sampler": {"steps": 2}})
    assert (model.size, model.config.read_off.segmenter, opened) == (16, "top", [])
    image, modal = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), bool)
    modal[2:8, 4:10] = True
    occluder = np.roll(modal, 6, axis=0)
    query = Query(image, modal, 0, occluder)
    (first,) = model.predict_batch([query])
    model.override({"sampler": {"steps": 3}})  # another option: open models stay open
    model.predict_batch([query])
    assert opened == ["top"]
    model.override({"read_off": {"segmenter": "low"}})
    (second,) = model.predict_batch([query])
    assert opened == ["top", "low"] and first.raw.sum() != second.raw.sum()
    model.override({"read_off": {"kind": "difference"}})
    model.predict_batch([query])
    assert opened == ["top", "low"]


def test_a_depth_model_is_reopened_only_if_another_one_is_named(opened):
    model = make(InpaintConfig(depth="one"))
    assert model.depth_model is model.depth_model
    model.override({"sampler": {"steps": 3}})
    assert model.depth_model and opened == ["one"]
    model.override({"depth": "two"})
    assert model.depth_model and opened == ["one", "two"]


@pytest.mark.parametrize("kind", [TeleaConfig, NoiseFillConfig])
def test_options_that_controls_refuse_or_ignore(kind):
    model = make(kind())
    model.override({"sampler": {"steps": 3}, "leakage": {"s": 0.1}, "backend": {"name": "sd15"}})
    assert model.config == kind()
    refused(r"no model has the option 'window\.sizes'", model.override, {"window": {"sizes": 3}})
    refused("cannot change the method", model.override, {"name": "modal"})
    refused(
        r"model\.window\.size is missing: .* has no inpainting model",
        model.override,
        {"window": {"size": None}},
    )
    assert model.config == kind()
