"""Shared by all models that see a window: cropping, batches in bounded memory, and pasting back into the photo.

Independent of PyTorch: the trained model and the predictor of an exported file share this code.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from amodalseg.config.load import build, own_options, to_dict
from amodalseg.config.schema import ModelOnly, NetworkConfig
from amodalseg.data.window import Window, crop_image, crop_mask, object_window, paste, paste_mask, place_in
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel, check_query, sample_seed
from amodalseg.predictions import Prediction
from amodalseg.types import Query

STEP = 32
"""Sides of windows are multiples of this, pixels."""
SIZES = 0.5, 2.0
"""Smallest and largest window that a network may be given, in units of its own."""


@dataclass(eq=False, repr=False, kw_only=True)
class WindowPrediction(Prediction):
    """A prediction stored at the network's resolution. window: where the maps, (K, S, S), lie in the photo."""

    window: Window

    def in_photo(self, values: np.ndarray) -> np.ndarray:
        return paste(values, self.window, *self.modal.shape)

    def raw_mask(self, values: np.ndarray) -> np.ndarray:
        height, width = self.modal.shape
        return paste_mask(values, self.window, height, width, self.threshold)

    def modal_in_map(self) -> np.ndarray:
        return crop_mask(self.modal, self.window)

    def final_mask(self, values: np.ndarray) -> np.ndarray:
        mask = self.raw_mask(values)
        if self.union_visible:
            here = place_in(self.window, *self.modal.shape)  # the window contains the modal mask
            mask[here] |= self.modal[here]
        return mask


class WindowBatch(NamedTuple):
    """The windows of B objects.

    image: uint8 (B, S, S, 3) RGB. modal: bool (B, S, S). occluders: each object's occluder, bool (S, S), or None if the
    query has none. seeds: of each object's noise. steps: of the sampler; None: the model's own.
    """

    image: np.ndarray
    modal: np.ndarray
    occluders: Sequence[np.ndarray | None]
    seeds: Sequence[int]
    steps: int | None


class WindowModel(AmodalModel):
    """Predicts in a window; this class batches and pastes back. Subclasses set ``config`` with ``window`` and ``post``.

    A model that does not sample (``stochastic`` is False) is run once per object, whatever ``num_samples`` is.
    """

    config: NetworkConfig
    has_probability = True
    sections: ClassVar[tuple[str, ...]] = ("post",)
    """Sections of the options that are independent of the weights, so that ``override`` may change them."""
    own_size: int | None = None
    """The window's size in the model's file; ``override`` may change it within ``SIZES``. None: the size is fixed."""

    @abstractmethod
    def window_probability(self, batch: WindowBatch) -> np.ndarray:
        """Run the network once. Returns float32 (B, S, S) in [0, 1]."""

    def evaluations(self, steps: int | None) -> int:
        """Network evaluations for one sample. Args: steps, of the sampler; None: the model's own."""
        return 1

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        for query in queries:
            check_query(query)
        began = time.perf_counter()
        num_samples = num_samples if self.stochastic else 1
        windows = [object_window(query.modal, self.config.window) for query in queries]
        jobs = [(index, number) for index in range(len(queries)) for number in range(num_samples)]
        size, post = self.config.window.size, self.config.post
        # full-size maps of all objects would not fit into memory, so predictions stay at the network's resolution
        maps = np.zeros((len(queries), num_samples, size, size), np.float32)
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            image = np.stack([crop_image(queries[index].image, windows[index]) for index, _ in batch])
            modal = np.stack([crop_mask(queries[index].modal, windows[index]) for index, _ in batch])
            covers = [(queries[index].occluder, windows[index]) for index, _ in batch]
            occluders = [None if cover is None else crop_mask(cover, window) for cover, window in covers]
            seeds = [sample_seed(queries[index].seed, number) for index, number in batch]
            probabilities = self.window_probability(WindowBatch(image, modal, occluders, seeds, steps))
            if not np.isfinite(probabilities).all():  # NaN would silently give the modal mask
                raise UserError(f"'{self.name}' computes NaN or infinity: its numbers overflow in this precision")
            for place, (index, number) in enumerate(batch):
                maps[index, number] = probabilities[place]
                occluder = occluders[place]
                if post.within_occluder and occluder is not None:
                    maps[index, number] *= occluder | modal[place]
        share, calls = (time.perf_counter() - began) / max(1, len(queries)), num_samples * self.evaluations(steps)
        predictions: list[Prediction] = [
            WindowPrediction(
                query.modal,
                found,
                post.threshold,
                post.union_visible,
                window=window,
                calibration=(post.calibration.scale, post.calibration.shift),
                seconds=share,
                evaluations=calls,
            )
            for query, window, found in zip(queries, windows, maps, strict=True)
        ]
        return self.with_changes(queries, predictions, steps)

    def override(self, options: dict[str, Any]) -> dict[str, Any]:
        own = own_options(self.config, options)
        free = [*self.sections, *(["window.size"] if self.own_size else [])]
        changed = _changed(own, to_dict(self.config))  # what is fixed may be given with its own value
        wrong = sorted(name for name in _names(changed) if not {name, name.partition(".")[0]} & set(free))
        if "window.size" in wrong:
            raise UserError(
                f"the window of '{self.name}' is fixed at {self.config.window.size} px in its file: export the model "
                "again with another --size"
            )
        if wrong:
            can = " and ".join(filter(None, (", ".join(free[:-1]), free[-1])))
            raise UserError(f"override.{wrong[0]} cannot change after training; {can} can")
        layers = [("the model", {"model": to_dict(self.config)}), ("override", {"model": own})]
        config = build(ModelOnly, layers).model
        if self.own_size:
            self._check_size(config.window.size, self.own_size)
        self.config = config
        return own

    def _check_size(self, size: int, own: int) -> None:
        least, most = (share * own for share in SIZES)
        if not least <= size <= most:
            first, last = math.ceil(least / STEP) * STEP, int(most // STEP) * STEP
            raise UserError(
                f"override.window.size={size} is too far from {own} px, the size of '{self.name}': "
                f"give a multiple of {STEP} from {first} to {last}"
            )


def _changed(options: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The part of nested options whose values differ from the present ones."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        inside = _changed(value, now[key]) if isinstance(value, dict) and isinstance(now[key], dict) else value
        if value != now[key] and inside != {}:
            found[key] = inside
    return found


def _names(options: dict[str, Any]) -> list[str]:
    """Sections of nested options; those of the window one by one."""
    window = options.get("window")
    inside = [f"window.{name}" for name in window] if isinstance(window, dict) else ["window"] * ("window" in options)
    return [*inside, *(name for name in options if name != "window")]
