"""The floor of every table: three rules that know nothing but the modal mask."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np

from amodalseg.masks import box_xyxy
from amodalseg.models.base import AmodalModel, check_query
from amodalseg.types import Prediction, Query


class _Geometric(AmodalModel):
    """A rule from modal mask to amodal mask that keeps all modal pixels. It has no probability and draws nothing."""

    @abstractmethod
    def complete(self, modal: np.ndarray) -> np.ndarray:
        """Modal mask, bool (H, W), not empty -> amodal mask, bool (H, W), a new array."""

    def predict_batch(self, queries: Sequence[Query]) -> list[Prediction]:
        for query in queries:
            check_query(query)
        predictions = []
        for query in queries:
            start = time.perf_counter()
            amodal = self.complete(query.modal)
            seconds = time.perf_counter() - start
            predictions.append(Prediction(amodal, query.modal, raw=amodal, seconds=seconds))
        return predictions


class ModalCopy(_Geometric):
    """Nothing is hidden: the modal mask itself."""

    name = "modal"

    def complete(self, modal: np.ndarray) -> np.ndarray:
        return modal.copy()


class FilledBox(_Geometric):
    """The filled tight box of the modal mask."""

    name = "box"

    def complete(self, modal: np.ndarray) -> np.ndarray:
        box = box_xyxy(modal)
        assert box is not None, "check_query refuses empty masks"
        x0, y0, x1, y1 = box
        amodal = np.zeros_like(modal)
        amodal[y0:y1, x0:x1] = True
        return amodal


class ConvexHull(_Geometric):
    """The filled convex hull of all modal pixels' centres, all parts together; pixels that its outline meets count."""

    name = "convex_hull"

    def complete(self, modal: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(modal)
        hull = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.int32))
        return cv2.fillConvexPoly(np.zeros(modal.shape, np.uint8), hull, 1).astype(bool)
