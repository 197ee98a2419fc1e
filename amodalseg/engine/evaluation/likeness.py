"""The metrics of the DiffOOM (tables 1, 2 and 4) and MRGD (CLIP similarity) papers: large models, no ground truth.

Defined in the papers' sections "Evaluation Metrics". The boxes of a move are the modal box before it and the same box
at the target; those of an edit are the boxes of its regions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from amodalseg.data.images import resize
from amodalseg.errors import UserError
from amodalseg.masks import box_xyxy
from amodalseg.models import pick_device
from amodalseg.models.inpainting.parts.likeness import CLIP, DINO, Embedder, find_embedder, open_embedder
from amodalseg.models.moving import completed, shift_of
from amodalseg.predictions import Prediction
from amodalseg.types import Query

PROMPT = "A photo of {}"
"""The paper's prompt."""
FIGURES = ("dino_op", "dino_tp", "clip_tp", "clip_t")
LEAST = 8  # minimum side in pixels of a picture given to a network


class Likeness:
    """Measures moves as the paper does.

    Args:
        dino, clip: names that ``find_embedder`` accepts.
        device: the device of both models.

    Raises:
        UserError: a library or a model is missing; the message says what to install or download, and where to put it.
    """

    def __init__(self, dino: str = "dinov2", clip: str = "clip", device: str = "auto") -> None:
        self._dino, self._clip, self.device = find_embedder(dino, DINO), find_embedder(clip, CLIP), pick_device(device)

    @cached_property
    def dino(self) -> Embedder:
        """Opened on first use."""
        return open_embedder(str(self._dino), DINO, self.device)

    @cached_property
    def clip(self) -> Embedder:
        """Opened on first use."""
        return open_embedder(str(self._clip), CLIP, self.device)

    def measure(self, query: Query, prediction: Prediction) -> dict[str, float | None]:
        """The metrics of one move.

        Args:
            query: with ``to``; its ``category`` fills the prompt.
            prediction: its prediction, with ``moved``.

        Returns:
            Cosine similarities, keyed by ``FIGURES``: ``dino_op``, the photo before and after the move at the origin
            (lower is better: the object is gone); ``dino_tp`` and ``clip_tp``, the object at the origin before the move
            and at the target after it; ``clip_t``, the completed object on white and the prompt, None without a
            category.
        """
        assert query.to is not None and prediction.moved is not None
        box = box_xyxy(query.modal)
        assert box is not None
        dx, dy = shift_of(query.modal, query.to)
        before = _crop(query.image, box)
        after = _crop(prediction.moved, box)
        there = _crop(prediction.moved, (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy))
        seen = self.dino.pictures([before, after, there])
        said = self.clip.pictures([before, there, on_white(query, prediction)])
        found: dict[str, float | None] = {
            "dino_op": float(seen[0] @ seen[1]),
            "dino_tp": float(seen[0] @ seen[2]),
            "clip_tp": float(said[0] @ said[1]),
            "clip_t": None,
        }
        if query.category:
            found["clip_t"] = float(said[2] @ self.clip.texts([PROMPT.format(query.category)])[0])
        return found


def clip_similarity(query: Query, prediction: Prediction, clip: Embedder) -> float:
    """How well an edit matches its text, as measured by MRGD (section "Evaluation Metrics"): CLIP cosine similarity.

    Args:
        query: with ``edit``; its added, removed and changed regions are compared. prediction: with ``edited``.
        clip: as opened by ``parts.likeness.open_embedder``.

    Returns:
        Mean over these regions of the cosine similarity between the photo in the region's box and the region's text
        after the edit. The paper leaves open which text a removed region has; here it is that of the background (of the
        whole picture, if no region is the background).
    """
    assert query.edit is not None and prediction.edited is not None
    height, width = query.image.shape[:2]
    grounds = (region.target for region in query.edit.regions if region.kind == "background")
    ground = next(grounds, None) or query.edit.target
    crops: list[np.ndarray] = []
    words: list[str] = []
    for region in query.edit.regions:
        if region.source != region.target:
            x0, y0, x1, y1 = region.box or (0, 0, 1, 1)
            box = round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)
            crops.append(_crop(prediction.edited, box))
            words.append(region.target or ground)
    return float((clip.pictures(crops) * clip.texts(words)).sum(1).mean())


def on_white(query: Query, prediction: Prediction) -> np.ndarray:
    """The completed object alone on white, cropped to its box: uint8 (h, w, 3)."""
    piece = completed(query.image, prediction)
    return _at_least(np.where(piece.mask[..., None], piece.picture, np.uint8(255)))


def _crop(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Crop a picture to the part of a box that lies inside it: uint8 (h, w, 3)."""
    x0, y0, x1, y1 = box
    return _at_least(picture[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)])


def _at_least(picture: np.ndarray) -> np.ndarray:
    """Pad pictures that are too small for the networks' processors with white."""
    height, width = picture.shape[:2]
    if min(height, width) >= LEAST:
        return picture
    canvas = np.full((max(LEAST, height), max(LEAST, width), 3), 255, np.uint8)
    canvas[:height, :width] = picture
    return canvas


def kid(
    real: Sequence[np.ndarray],
    drawn: Sequence[np.ndarray],
    *,
    features: torch.nn.Module | None = None,
    side: int = 299,
    subset_size: int = 50,
    seed: int = 0,
) -> tuple[float, float]:
    """Kernel inception distance of two sets of pictures (table 1), by torchmetrics.

    Args:
        real, drawn: uint8 (H, W, 3) of any sizes, on white; each is resized to a square.
        features: a network from uint8 (N, 3, side, side) to float (N, D); None: Inception, whose weights the package
            ``torch-fidelity`` downloads.
        side: of the square, pixels.
        subset_size: pictures in each of 100 random subsets.
        seed: of the random subsets.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        UserError: ``torch-fidelity`` or its weights are missing; fewer than ``subset_size`` pictures.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    if min(len(real), len(drawn)) < subset_size:
        raise UserError(f"KID over subsets of {subset_size} needs as many pictures, not {len(real)} and {len(drawn)}")
    try:
        network: Any = 2048 if features is None else features
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning that all features are kept in memory
            metric = KernelInceptionDistance(feature=network, subset_size=subset_size)
    except ModuleNotFoundError as error:
        raise UserError(
            "KID needs torch-fidelity, with Inception's weights: pip install torch-fidelity, and run once where there "
            "is a network"
        ) from error
    except OSError as error:
        raise UserError(
            f"Inception's weights cannot be downloaded ({' '.join(str(error).split())[:120]}): run once where there is "
            "a network, or copy pt_inception-2015-12-05-6726825d.pth to the folder checkpoints of torch.hub.get_dir()"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for pictures, is_real in ((real, True), (drawn, False)):
            for picture in pictures:
                metric.update(_square(picture, side), real=is_real)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def _square(picture: np.ndarray, side: int) -> torch.Tensor:
    """uint8 (H, W, 3) -> uint8 (1, 3, side, side): padded with white, so that the aspect ratio is kept."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    canvas = np.full((longer, longer, 3), 255, np.uint8)
    top, left = (longer - height) // 2, (longer - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return torch.from_numpy(resize(canvas, side, side)).permute(2, 0, 1)[None]
