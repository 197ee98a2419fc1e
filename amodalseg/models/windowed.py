"""What models that look through a window share: crops, batches in bounded memory, and the way back into the photo.

Knows no PyTorch: the trained model and the predictor of an exported file answer through the same lines.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial

import numpy as np

from amodalseg.config.schema import NetworkConfig
from amodalseg.data.window import Window, crop_image, crop_mask, object_window, paste, paste_mask
from amodalseg.models.base import AmodalModel, check_query, sample_seed
from amodalseg.types import Prediction, Query

Place = tuple[Window, int, int]
"""A window, and height and width of its photo."""


class WindowModel(AmodalModel):
    """Answers in the window; this class asks and pastes back. A subclass sets ``config``: ``window`` and ``post``.

    A model that does not sample (``draws`` is False) is asked once for each object, whatever ``num_samples`` says.
    """

    config: NetworkConfig
    has_probability = True

    @abstractmethod
    def window_probability(
        self,
        image: np.ndarray,
        modal: np.ndarray,
        occluders: Sequence[np.ndarray | None],
        seeds: Sequence[int],
        steps: int | None,
    ) -> np.ndarray:
        """One run of the network.

        Args:
            image: uint8 (B, S, S, 3) RGB.
            modal: bool (B, S, S).
            occluders: of the B objects, bool (S, S) of what covers it, or None where the query does not say.
            seeds: of the B objects' noise.
            steps: of the sampler; None: the model's own.

        Returns:
            float32 (B, S, S) in [0, 1].
        """

    def evaluations(self, steps: int | None) -> int:
        """Of the network, for one draw. Args: steps, of the sampler; None: the model's own."""
        return 1

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        for query in queries:
            check_query(query)
        began = time.perf_counter()
        num_samples = num_samples if self.draws else 1
        windows = [object_window(query.modal, self.config.window) for query in queries]
        jobs = [(index, draw) for index in range(len(queries)) for draw in range(num_samples)]
        size = self.config.window.size
        # full-size maps of all objects would not fit into memory: answers are kept as small as the network gives them
        maps = np.zeros((len(queries), num_samples, size, size), np.float32)
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            image = np.stack([crop_image(queries[index].image, windows[index]) for index, _ in batch])
            modal = np.stack([crop_mask(queries[index].modal, windows[index]) for index, _ in batch])
            occluders = [_occluder(queries[index], windows[index]) for index, _ in batch]
            seeds = [sample_seed(queries[index].seed, draw) for index, draw in batch]
            answers = self.window_probability(image, modal, occluders, seeds, steps)
            for (index, draw), found in zip(batch, answers, strict=True):
                maps[index, draw] = found
        share = (time.perf_counter() - began) / max(1, len(queries))
        evaluations = num_samples * self.evaluations(steps)
        return [
            self._prediction(query, window, found, share, evaluations)
            for query, window, found in zip(queries, windows, maps, strict=True)
        ]

    def _prediction(
        self, query: Query, window: Window, maps: np.ndarray, seconds: float, evaluations: int
    ) -> Prediction:
        """The answer from an object's window maps (K, S, S), one for each sample."""
        mean = maps[0] if len(maps) == 1 else maps.mean(axis=0)
        threshold, place = self.config.post.threshold, (window, *query.modal.shape)
        modal = query.modal if self.config.post.union_visible else None
        return Prediction(
            partial(_final_mask, mean, place, threshold, modal),
            query.modal,
            partial(_final_mask, mean, place, threshold, None),
            partial(paste, mean, *place),
            partial(_final_masks, maps, place, threshold, modal) if len(maps) > 1 else None,
            seconds,
            evaluations=evaluations,
        )


def _occluder(query: Query, window: Window) -> np.ndarray | None:
    return None if query.occluder is None else crop_mask(query.occluder, window)


def _final_mask(values: np.ndarray, place: Place, threshold: float, modal: np.ndarray | None) -> np.ndarray:
    """Window map (S, S) -> mask in the photo, bool (H, W), united with ``modal`` if that is given."""
    mask = paste_mask(values, *place, threshold)
    return mask if modal is None else np.logical_or(mask, modal, out=mask)


def _final_masks(maps: np.ndarray, place: Place, threshold: float, modal: np.ndarray | None) -> np.ndarray:
    """``_final_mask`` of several window maps, (K, S, S) -> (K, H, W)."""
    return np.stack([_final_mask(values, place, threshold, modal) for values in maps])
