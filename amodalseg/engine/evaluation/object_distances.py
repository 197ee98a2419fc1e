"""The metrics of table 1 of progressive mixed context (001), which need large models and an object's true picture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodalseg.data.images import resize
from amodalseg.errors import UserError
from amodalseg.masks import box_xyxy
from amodalseg.models import pick_device
from amodalseg.models.inpainting.parts.likeness import CLIP, DINO, Embedder, find_embedder, open_embedder
from amodalseg.predictions import Prediction
from amodalseg.types import Query

FIGURES = ("clip", "dino", "lpips")
SIDE = 224  # pixels on a side of the compared pictures


class ObjectDistances:
    """Compares a completed object with the true one, both alone on black.

    Args:
        clip, dino: names that ``find_embedder`` accepts.
        lpips: maps two pictures, float (1, 3, S, S) in [-1, 1], to their distance; None: LPIPS on AlexNet, from
            torchmetrics.
        device: the device of the models.

    Raises:
        UserError: a library or a model is missing; the message says what to install or download, and where to put it.
    """

    def __init__(
        self, clip: str = "clip", dino: str = "dinov2", lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
        device: str = "auto",
    ) -> None:  # fmt: skip
        self._clip, self._dino, self.device = find_embedder(clip, CLIP), find_embedder(dino, DINO), pick_device(device)
        self.lpips = lpips or open_lpips(self.device)

    @cached_property
    def clip(self) -> Embedder:
        """Opened on first use."""
        return open_embedder(str(self._clip), CLIP, self.device)

    @cached_property
    def dino(self) -> Embedder:
        """Opened on first use."""
        return open_embedder(str(self._dino), DINO, self.device)

    @torch.no_grad()
    def measure(
        self, query: Query, prediction: Prediction, truth: np.ndarray, amodal: np.ndarray
    ) -> dict[str, float | None]:
        """The metrics of one object.

        Args:
            query: with the text as its ``category``.
            prediction: its prediction, with ``image``.
            truth: uint8 (H, W, 3), a picture that shows the whole object.
            amodal: bool (H, W), not empty: the whole object.

        Returns:
            Keyed by ``FIGURES``: ``clip``, the cosine similarity of the completed object and the category, None without
            a category; ``dino``, 1 - the cosine similarity of the completed and the true object, in place of DreamSim;
            ``lpips``. The last two are distances: lower is better.

        Raises:
            UserError: the prediction has no picture.
        """
        if prediction.image is None:
            raise UserError("these distances compare pictures; the model predicts masks only")
        drawn, true = on_black(prediction.image, prediction.amodal, truth, amodal)
        seen = self.dino.pictures([drawn, true])
        pair = [torch.from_numpy(one).permute(2, 0, 1)[None].to(self.device) / 127.5 - 1 for one in (drawn, true)]
        found: dict[str, float | None] = {
            "clip": None,
            "dino": 1 - float(seen[0] @ seen[1]),
            "lpips": float(self.lpips(*pair)),
        }
        if query.category:
            found["clip"] = float(self.clip.pictures([drawn])[0] @ self.clip.texts([query.category])[0])
        return found


def on_black(
    picture: np.ndarray, mask: np.ndarray, truth: np.ndarray, amodal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two objects alone on black, in the square around their joint box, at one scale: uint8 (SIDE, SIDE, 3) each.

    Args:
        picture, truth: uint8 (H, W, 3). mask, amodal: bool (H, W), the object in each; not both empty.
    """
    box = box_xyxy(mask | amodal)
    assert box is not None
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    found = []
    for shown, where in ((picture, mask), (truth, amodal)):
        canvas = np.zeros((side, side, 3), np.uint8)
        canvas[: y1 - y0, : x1 - x0] = np.where(where[..., None], shown, 0)[y0:y1, x0:x1]
        found.append(resize(canvas, SIDE, SIDE))
    return found[0], found[1]


def open_lpips(device: str) -> Any:
    """LPIPS on AlexNet, from torchmetrics.

    Raises:
        UserError: AlexNet's weights are not available and cannot be downloaded.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns about a renamed argument
            return LearnedPerceptualImagePatchSimilarity(net_type="alex").to(device)
    except OSError as error:
        raise UserError(
            f"AlexNet's weights cannot be downloaded ({' '.join(str(error).split())[:120]}): run once where there is a "
            "network, or copy alexnet-owt-7be5be79.pth to the folder checkpoints of torch.hub.get_dir()"
        ) from error
