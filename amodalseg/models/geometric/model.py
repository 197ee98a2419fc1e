"""The baselines of every table: rules that use only the modal mask, or the occluder as well."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import numpy as np

from amodalseg.masks import box_xyxy, convex_hull
from amodalseg.models.base import AmodalModel, check_query
from amodalseg.predictions import Prediction
from amodalseg.types import Query


class _Geometric(AmodalModel):
    """A rule from modal mask to amodal mask that keeps all modal pixels. It is deterministic and has no probability."""

    @abstractmethod
    def complete(self, modal: np.ndarray, occluder: np.ndarray | None) -> np.ndarray:
        """Modal mask in its own box, bool (h, w), and the known occluder there -> amodal mask, a new array."""

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        for query in queries:
            check_query(query)
        predictions: list[Prediction] = []
        for query in queries:
            start = time.perf_counter()
            x0, y0, x1, y1 = cast(tuple[int, int, int, int], box_xyxy(query.modal))
            place = slice(y0, y1), slice(x0, x1)
            occluder = None if query.occluder is None else query.occluder[place]
            amodal = np.zeros_like(query.modal)
            amodal[place] = self.complete(query.modal[place], occluder)
            seconds = time.perf_counter() - start
            predictions.append(Prediction(query.modal, amodal[None], has_probability=False, seconds=seconds))
        return self.with_changes(queries, predictions)


class ModalCopy(_Geometric):
    """Nothing is hidden: the modal mask itself."""

    name = "modal"

    def complete(self, modal: np.ndarray, occluder: np.ndarray | None) -> np.ndarray:
        return modal.copy()


class Nothing(ModalCopy):
    """The modal mask itself; moves and edits leave the photo unchanged, which is one end of their scales."""

    name = "nothing"

    def edit_photo(self, query: Query, prediction: Prediction, steps: int | None = None) -> np.ndarray:
        return query.image.copy()

    def move(self, query: Query, prediction: Prediction, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        return query.image.copy(), query.modal.copy()


class FilledBox(_Geometric):
    """The filled tight box of the modal mask."""

    name = "box"

    def complete(self, modal: np.ndarray, occluder: np.ndarray | None) -> np.ndarray:
        return np.ones_like(modal)


class ConvexHull(_Geometric):
    """The filled convex hull of all modal pixel centres, over all parts, including the pixels on its outline."""

    name = "convex_hull"

    def complete(self, modal: np.ndarray, occluder: np.ndarray | None) -> np.ndarray:
        return convex_hull(modal)


class HullInOccluders(ConvexHull):
    """The convex hull, restricted to modal mask and occluder; the whole hull if the occluder is unknown."""

    name = "hull_in_occluders"

    def complete(self, modal: np.ndarray, occluder: np.ndarray | None) -> np.ndarray:
        hull = super().complete(modal, occluder)
        return hull if occluder is None else hull & (modal | occluder)
