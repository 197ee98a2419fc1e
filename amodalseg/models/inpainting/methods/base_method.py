"""Shared by methods that complete an object's picture: the square they work in, and pasting back into the photo."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from amodalseg.config.load import build, own_options, to_dict
from amodalseg.config.schema import ModelOnly, ReadOffConfig, WindowConfig
from amodalseg.data.window import Window, crop_image, crop_mask, object_window, paste
from amodalseg.errors import UserError
from amodalseg.masks import grown
from amodalseg.models.base import AmodalModel, check_query, sample_seed
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.methods.completion import Completion, CompletionPrediction, Crop, cut
from amodalseg.models.inpainting.methods.context import Windows, inpaint_windows
from amodalseg.models.inpainting.methods.opening import Helpers, check_backend, check_helpers, open_backend
from amodalseg.models.inpainting.parts.depth import DepthModel, open_depth
from amodalseg.models.inpainting.parts.read_off import read_off, whole
from amodalseg.models.inpainting.parts.removal import remove
from amodalseg.models.inpainting.parts.segmenter import SamSegmenter, open_segmenter
from amodalseg.models.moving import move_by_paste, without
from amodalseg.predictions import Prediction
from amodalseg.types import Query, stable_seed

if TYPE_CHECKING:
    from typing_extensions import Self

BEST_WITHOUT_SEGMENTER = "grabcut"


def overridden(config: Any, options: dict[str, Any]) -> Any:
    """A method's options with some replaced; arguments and errors as for ``AmodalModel.override``."""
    own = own_options(config, options)
    if "name" in own:
        raise UserError("override cannot change the method; name the other method in models")
    return build(ModelOnly, [("the model", {"model": to_dict(config)}), ("override", {"model": own})]).model


class ReadsOff(AmodalModel):
    """A method that completes a square and reads the mask off the picture, with the options ``config.read_off``.

    Subclasses predict in the square; this class batches and pastes back.

    Args:
        config: of the method, one of the method dataclasses of the schema.

    Raises:
        UserError: a segmenter, a depth model or LaMa is missing that the options require.
    """

    device: str = "cpu"
    has_probability = True
    _backend: InpaintingBackend | None = None
    _segmenter: SamSegmenter | None = None
    _depth: DepthModel | None = None

    def __init__(self, config: Any) -> None:
        check_helpers(self._all_helpers(config))
        self.config, self.name = config, config.name

    @property
    def size(self) -> int:
        """Side of the square, pixels."""
        assert self.config.window.size is not None
        return self.config.window.size

    def _square(self, mask: np.ndarray) -> Window:
        """The method's square around a mask, bool (H, W) and not empty."""
        side = self.config.window.side
        return object_window(mask, WindowConfig(size=self.size, expand=side**2, margin=side))

    @abstractmethod
    def complete(self, crops: Sequence[Crop], steps: int | None) -> list[Completion]:
        """Complete at most ``batch_size`` objects; steps: of the sampler, None: the model's own."""

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        for query in queries:
            check_query(query)
        began = time.perf_counter()
        windows = [self._square(query.modal) for query in queries]
        jobs = [(index, number) for index in range(len(queries)) for number in range(num_samples)]
        found: list[list[Completion]] = [[] for _ in queries]
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            crops = [
                cut(queries[index], windows[index], sample_seed(queries[index].seed, number)) for index, number in batch
            ]
            for (index, _), done in zip(batch, self.complete(crops, steps), strict=True):
                found[index].append(done)
        share, post = (time.perf_counter() - began) / max(1, len(queries)), self.config.post
        predictions: list[Prediction] = []
        for query, window, completions in zip(queries, windows, found, strict=True):
            maps = np.stack([one.mask for one in completions]).astype(np.float32)
            calls = sum(one.evaluations for one in completions)
            predictions.append(CompletionPrediction(
                query.modal, maps, post.threshold, post.union_visible, window=window, seconds=share, evaluations=calls,
                photo=query.image, picture=completions[0].picture,
            ))  # fmt: skip
        return self.with_changes(queries, predictions, steps)

    def helpers(self, config: Any) -> Helpers:
        """The helper models that these options require, besides an inpainting model."""
        options: ReadOffConfig = config.read_off
        return Helpers(segmenter=options.segmenter if _kind(options) == "segmenter" else None)

    def _all_helpers(self, config: Any) -> Helpers:
        """``helpers``, including those used by moves."""
        found = self.helpers(config)
        return found._replace(lama=True) if getattr(config, "origin", None) == "lama" else found

    @property
    def segmenter(self) -> SamSegmenter:
        """The segmenter that the options name. Raises UserError if it cannot be opened."""
        if self._segmenter is None:
            self._segmenter = open_segmenter(self.config.read_off.segmenter, self.device)
        return self._segmenter

    @property
    def depth_model(self) -> DepthModel:
        """The depth model that the options name. Raises UserError if it cannot be opened."""
        if self._depth is None:
            self._depth = open_depth(self.config.depth, self.device)
        return self._depth

    def override(self, options: dict[str, Any]) -> dict[str, Any]:
        config = overridden(self.config, options)
        helpers = self._all_helpers(config)
        if helpers != self._all_helpers(self.config):
            check_helpers(helpers)
            self._segmenter = self._depth = None  # those of the new options are opened on demand
        self.config = config
        return own_options(config, options)

    def to(self, device: torch.device | str) -> Self:
        if str(device) != self.device:  # reopened there on demand, so that idle models hold no memory
            self._backend = self._segmenter = self._depth = None
        self.device = str(device)
        return self

    def read_off(
        self, picture: np.ndarray, crop: Crop, area: np.ndarray, background: np.ndarray, *, connected: bool = False
    ) -> np.ndarray:
        """The object in its completed picture, bool (S, S); arguments as ``read_off.read_off``.

        connected: drop parts that are not connected to the visible region, or lie outside the area.
        """
        kind = _kind(self.config.read_off)
        segmenter = self.segmenter if kind == "segmenter" else None
        points = np.random.default_rng(stable_seed("points", crop.seed))
        mask = read_off(kind, picture, crop.modal, area, background, segmenter, points)
        return whole(mask, crop.modal, area) if connected else mask


def _kind(options: ReadOffConfig) -> str:
    """One of the kinds of ``read_off``; ``segmenter`` only where one is named, as configurations are checked."""
    if options.kind != "auto":
        return options.kind
    return "segmenter" if options.segmenter else BEST_WITHOUT_SEGMENTER


class InpaintingMethod(ReadsOff):
    """A method based on an inpainting model; the ``config`` of subclasses also has ``backend`` and ``sampler``.

    Args:
        config: of the method.
        backend: default: the one named in the configuration, opened on first use.
    """

    stochastic = True

    def __init__(self, config: Any, backend: InpaintingBackend | None = None) -> None:
        super().__init__(config)
        self._backend = backend
        if backend is None:
            check_backend(config.backend)
        else:
            self.device = str(backend.device)

    def override(self, options: dict[str, Any]) -> dict[str, Any]:
        backend = overridden(self.config, options).backend
        if backend == self.config.backend:
            return super().override(options)
        check_backend(backend)
        own = super().override(options)
        self._backend = None  # the new one is opened on demand
        return own

    @property
    def backend(self) -> InpaintingBackend:
        """The inpainting model. Raises UserError if it cannot be opened."""
        if self._backend is None:
            self._backend = open_backend(self.config.backend, self.device)
        return self._backend

    @property
    def reads_text(self) -> bool:  # type: ignore[override]
        return self.backend.abilities.text

    @property
    def size(self) -> int:
        return self.config.window.size or self.backend.abilities.size

    def scene_size(self, height: int, width: int) -> tuple[int, int]:
        """Size for a whole photo: height and width that the model supports, with its own size as the longer side."""
        step = self.backend.abilities.multiple
        scale = self.size / max(height, width)
        rows, columns = (max(2, round(scale * side / step)) * step for side in (height, width))
        return rows, columns

    def move(self, query: Query, prediction: Prediction, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As ``AmodalModel.move``; the option ``origin`` determines how the origin is filled."""
        how, steps = self.config.origin, steps or self.config.sampler.steps
        if how != "model":
            return move_by_paste(query, prediction, partial(without, how=how))
        prediction.evaluations += steps

        def redrawn(photo: np.ndarray, go: np.ndarray, unseen: np.ndarray) -> np.ndarray:
            return self._inpaint_hole(photo, go, unseen, query.seed, steps)

        return move_by_paste(query, prediction, redrawn)

    def _inpaint_hole(self, photo: np.ndarray, go: np.ndarray, unseen: np.ndarray, seed: int, steps: int) -> np.ndarray:
        """A ``Fill``: the square around the removed region is inpainted, without a prompt."""
        window = self._square(go)
        # a pixel of the square that is partly object is removed with it
        hole = grown(crop_mask(go, window), 1) | crop_mask(unseen, window)
        shown = remove(crop_image(photo, window), hole)  # for models that look into their holes
        windows = Windows([shown], [hole], [stable_seed("origin", seed)], [""])
        painted = inpaint_windows(self.backend, windows, steps)[0]
        filled = photo.copy()
        for channel in range(3):
            back = paste(painted[..., channel].astype(np.float32), window, *go.shape)
            filled[go, channel] = np.rint(back[go]).astype(np.uint8)
        return filled

    def num_parameters(self) -> int | None:
        return None if self._backend is None else self._backend.num_parameters()
