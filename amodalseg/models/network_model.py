"""A trained network as an ``AmodalModel``: one file of weights and options, a device, and options that may change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from amodalseg.config.schema import NetworkConfig
from amodalseg.errors import UserError
from amodalseg.models.hub import HubModel
from amodalseg.models.weights import check_state, load_state, read_weights, save_weights
from amodalseg.models.windowed import WindowBatch, WindowModel

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(image: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) RGB -> float32 with ImageNet's mean and standard deviation, on the tensor's own device."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image.device).view(1, 3, 1, 1)
    return (image.float() / 255 - mean) / std


def to_tensors(batch: WindowBatch) -> tuple[Tensor, Tensor]:
    """The windows as network inputs: pixels uint8 (B, 3, S, S) and modal masks bool (B, 1, S, S)."""
    return torch.from_numpy(batch.image).permute(0, 3, 1, 2), torch.from_numpy(batch.modal)[:, None]


class NetworkModel(HubModel, WindowModel):
    """A network and the configuration of everything around it.

    Args:
        config: the model's configuration.
        network: default: one with random weights.
        name: the model's name in reports; default: its kind.
        batch_size: windows per forward pass; bounds memory for any number of queries.

    Attributes:
        about: training metadata from the file it was loaded from: data, step, scores.
    """

    network_class: ClassVar[Any]
    """Builds the network from the configuration."""

    def __init__(
        self, config: NetworkConfig, network: nn.Module | None = None, *, name: str | None = None, batch_size: int = 16
    ) -> None:
        self.config, self.name, self.batch_size = config, name or config.name, batch_size
        self.own_size = config.window.size
        self.network = network if network is not None else self.network_class(config)
        self.about: dict[str, Any] = {}

    @classmethod
    def load(cls, path: Path, name: str | None = None) -> Self:
        """Load a model file or a training checkpoint; its weights are frozen (``requires_grad``), ready to predict.

        ``NetworkModel.load`` opens a model of any kind; a subclass opens only its own kind.
        Raises UserError as ``read_weights`` and ``load_state`` do, and for a model of another kind.
        """
        from amodalseg.models import network_model_class  # knows the subclasses

        state, config, about = read_weights(path)
        kind = network_model_class(config.name)
        if not issubclass(kind, cls):
            raise UserError(f"{path} holds a model of another kind, '{config.name}'; amodalseg.load_model opens it")
        with torch.device("meta"):  # allocates nothing: options of a damaged file may ask for any size
            check_state(kind.network_class(config), state, path)
        model = kind(config, name=name or path.stem)
        load_state(model.network, state, path)
        model.network.eval().requires_grad_(False)
        model.about = about
        model.make_ready()
        return cast("Self", model)

    def make_ready(self) -> None:
        """Prepare a loaded model for prediction."""

    def save(self, path: Path, about: dict[str, Any] | None = None) -> None:
        """Write weights, configuration and metadata to one ``.safetensors`` file."""
        save_weights(path, self.network.state_dict(), self.config, self.about if about is None else about)

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())
