"""Every file that describes a method or a control can be built, and names only known models."""

from pathlib import Path

import pytest

from amodalseg import UserError
from amodalseg.config.load import load_config
from amodalseg.config.schema import InpaintingPriorConfig, ModelOnly, SquareConfig, StepsConfig
from amodalseg.models import create_method
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.backends.hub_models import HUB_IDS
from amodalseg.models.inpainting.backends.prior import build_scheduler, build_unet
from amodalseg.models.inpainting.methods import base_method
from amodalseg.models.inpainting.methods.mixed_context import MixedContext
from amodalseg.models.inpainting.methods.opening import EMBEDDED, WORD_PRIOR
from amodalseg.models.inpainting.parts.segmenter import SEGMENTERS
from tests.models.contract import query

CONFIGS = Path(__file__).parents[4] / "configs/model"
FILES = sorted(CONFIGS.glob("*/*.yaml"))
SIDES = {"sd15": 512, "sd15_text": 512, "sd2": 512, "sdxl": 1024, "flux_schnell": 1024, "flux_fill": 1024}
NOISE = {  # area and background of a method's control
    "occlusion_free_bias": ("hull", "pixels"), "mixed_context": ("occluders", "grey"),
    "inpaint": ("occluders", "original"), "naive_outpaint": ("outside", "original"),
    "diffoom": ("outside", "flat"), "mrgd": ("occluders", "original"),
}  # fmt: skip


SHIPPED = (EMBEDDED, WORD_PRIOR)


def name_of(path):
    return str(path.relative_to(CONFIGS).with_suffix(""))


def read(path):
    return load_config(ModelOnly, path).model


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_builds_the_model_of_its_folder_from_known_models(path, monkeypatch):
    backends, helpers = [], []
    monkeypatch.setattr(base_method, "check_backend", lambda config: backends.append(config.name))
    monkeypatch.setattr(base_method, "check_helpers", helpers.append)
    config = read(path)
    model = create_method(config)
    assert model.name == path.parent.name
    assert set(backends) <= {*SHIPPED, *HUB_IDS} and len(backends) == hasattr(config, "backend")
    looks = path.stem == "found"
    assert [(bool(found.depth), bool(found.detector)) for found in helpers] == [(looks, looks)]
    assert helpers[0].segmenter in (None, *SEGMENTERS.values())
    if backends and config.read_off.kind != "difference":  # SAM is used with models that have to be downloaded anyway
        assert (helpers[0].segmenter is None) == (backends[0] in SHIPPED)


def test_published_pairs_of_method_and_model_have_files():
    names = {name_of(path) for path in FILES}
    assert names >= {
        *(f"occlusion_free_bias/{name}" for name in HUB_IDS if name != "sd15_text"),
        *("inpaint/sd2", "inpaint/sdxl", "naive_outpaint/sd2", "mixed_context/sd2"),
    }


def test_every_file_of_a_published_model_has_a_control():
    assert SIDES.keys() == HUB_IDS.keys()
    controls = [read(path) for path in FILES if path.parent.name == "noise_fill"]
    for path in FILES:
        config = read(path)
        if getattr(config, "backend", None) is None or config.backend.name in SHIPPED:
            continue
        area, behind = NOISE[config.name]
        soft = config.name == "occlusion_free_bias" and config.leakage.mode == "soft"
        wanted = area, behind, SIDES[config.backend.name], soft
        found = [
            control for control in controls
            if (control.area, control.background, control.window.size, control.everywhere) == wanted
        ]  # fmt: skip
        assert len(found) == 1 and found[0].read_off.segmenter == config.read_off.segmenter, path
        assert found[0].window.side == config.window.side


def test_a_missing_decoder_block_is_refused_with_the_existing_ones():
    unet = build_unet(InpaintingPriorConfig(size=16, channels=[8, 16, 16], head=8)).eval()  # three decoder blocks
    backend = EmbeddedPrior.of_network(unet, build_scheduler().alphas_cumprod)
    config = read(CONFIGS / "mixed_context/feature_up_3.yaml")
    config.window, config.sampler = SquareConfig(size=16), StepsConfig(steps=2)
    asked = query(16, 16, (4, 4, 10, 10))
    asked.occluder = ~asked.modal
    with pytest.raises(UserError) as caught:
        MixedContext(config, backend).predict_batch([asked])
    assert str(caught.value) == (
        "feature=up_blocks.3: this inpainting model has auto, clean, up_blocks.0, up_blocks.1, up_blocks.2, mid_block"
    )
