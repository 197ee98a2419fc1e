"""Published models by name: from the hub's cache, from a folder, or a message that says what to do."""

import shutil
import sys

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.hub_models import HUB_IDS, check_hub_model, open_hub_model
from amodalseg.models.inpainting.parts.depth import open_depth
from amodalseg.models.inpainting.parts.segmenter import open_segmenter
from tests.models.inpainting.tiny_hub import SIDE, change_json, save_stable_diffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("hub") / "sd")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network access and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("name", [*HUB_IDS, "somebody/something"])
def test_without_network_access_one_line_says_what_to_download_and_where_to_put_it(name, offline):
    with pytest.raises(UserError) as caught:
        check_hub_model(BackendConfig(name=name))
    said, hub = str(caught.value), HUB_IDS.get(name, name)
    assert "\n" not in said and said.startswith(f"{hub} is not in the cache ({offline}) and cannot be downloaded")
    assert f"`hf download {hub} --local-dir FOLDER`, and give that folder here instead of the name" in said
    assert not hub.startswith(("runwayml/", "stabilityai/"))  # repositories that no longer exist


def test_missing_segmenters_and_depth_models_have_the_same_message():
    for opened, name in ((open_segmenter, "facebook/sam-vit-huge"), (open_depth, "LiheYoung/depth-anything-small-hf")):
        with pytest.raises(UserError, match=f"^{name} is not in the cache .* `hf download {name} --local-dir FOLDER`"):
            opened(name, "cpu")


def test_the_cache_of_the_hub_is_used_without_network_access(folder, offline):
    place = offline / ("models--" + HUB_IDS["sd15"].replace("/", "--"))
    revision = "0" * 40
    shutil.copytree(folder, place / "snapshots" / revision)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(revision)
    backend = open_hub_model(BackendConfig(name="sd15"), "cpu")
    assert backend.name == "sd15" and backend.abilities.size == SIDE


def test_precision(folder):
    pictures, holes = torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
    for precision, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        backend = open_hub_model(BackendConfig(name=str(folder), precision=precision), "cpu")
        assert backend.network.dtype == dtype and backend.pipeline.text_encoder.dtype == dtype
        assert backend.vae.dtype == torch.float32
        prepared = backend.prepare(pictures, holes)
        estimate = backend.estimate(prepared.known, backend.levels(2)[0], prepared, ("mid_block",))
        assert {value.dtype for value in (prepared.known, estimate.clean, estimate.noise)} == {torch.float32}
        assert estimate.features["mid_block"].dtype == torch.float32


def test_unusable_folders_are_refused_in_one_line(folder, tmp_path, monkeypatch):
    def refused(match, device="cpu", **options):
        with pytest.raises(UserError, match=match) as caught:
            open_hub_model(BackendConfig(**{"name": str(folder), **options}), device)
        assert "\n" not in str(caught.value)

    refused(
        r"not one of sd15, sd15_text, sd2, sdxl, flux_schnell, flux_fill, and not owner/name on the hub$", name="sd15x"
    )
    refused(r"is not a folder, not one of", name="a/b/c")
    refused(r"8 bits and offloading need a GPU, and the device is 'cpu'", offload=True)
    refused(r"^models in 8 bits need bitsandbytes: pip install bitsandbytes$", eight_bit=True)
    refused(r"holds no model_index.json", name=str(tmp_path))
    mine = copy(folder, tmp_path)
    change_json(mine / "model_index.json", _class_name="KandinskyPipeline")
    refused(r"is a KandinskyPipeline; Stable Diffusion \(1.5, 2, XL\) and FLUX can be used", name=str(mine))
    (mine / "model_index.json").write_text("{")
    refused(r"model_index.json cannot be read .*; copy it again$", name=str(mine))
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(r"pip install 'amodalseg\[inpaint\]'$")


def test_damaged_folders_are_refused(folder, tmp_path):
    mine = copy(folder, tmp_path)
    weights = mine / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: value for name, value in tensors.items() if name != "conv_in.weight"}, weights)
    with pytest.raises(UserError, match=r"lacks 1 weights of a UNet2DConditionModel \(conv_in.weight, ...\)$"):
        open_hub_model(BackendConfig(name=str(mine)), "cpu")
    weights.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"cannot be loaded .*; download or copy all of it again$"):
        open_hub_model(BackendConfig(name=str(mine)), "cpu")
    torch.save(tensors, mine / "unet" / "diffusion_pytorch_model.bin")  # pickles are never opened
    weights.unlink()
    with pytest.raises(UserError, match=r"cannot be loaded"):
        open_hub_model(BackendConfig(name=str(mine)), "cpu")


def test_weights_of_the_fp16_variant_are_found(folder, tmp_path):
    mine = copy(folder, tmp_path)
    for path in mine.glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert open_hub_model(BackendConfig(name=str(mine)), "cpu").abilities.size == SIDE
