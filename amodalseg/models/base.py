"""What every model is: something that answers queries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from amodalseg.errors import UserError
from amodalseg.types import Prediction, Query


def check_query(query: Query) -> None:
    """Refuse a query that no model can answer. Raises UserError with one line that says what to change."""
    image, modal = query.image, query.modal
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        raise UserError(
            f"the image must be a uint8 array (H, W, 3) in RGB, not {getattr(image, 'dtype', type(image).__name__)} "
            f"{getattr(image, 'shape', '')}"
        )
    if not (isinstance(modal, np.ndarray) and modal.dtype == bool and modal.ndim == 2):
        raise UserError(
            f"the modal mask must be a bool array (H, W), not {getattr(modal, 'dtype', type(modal).__name__)} "
            f"{getattr(modal, 'shape', '')}; compare with a threshold first, for instance mask > 127"
        )
    if image.shape[:2] != modal.shape:
        raise UserError(
            f"image and modal mask differ in size: {image.shape[1]}x{image.shape[0]} and "
            f"{modal.shape[1]}x{modal.shape[0]} (width x height)"
        )
    if not modal.any():
        raise UserError("the modal mask is empty: at least one pixel of the object must be visible")


class AmodalModel(ABC):
    """Completes objects. Windows, normalisation and pasting back belong to the model, not to its caller."""

    name: str = ""

    @abstractmethod
    def predict_batch(self, queries: Sequence[Query]) -> list[Prediction]:
        """Answer queries, of any image sizes, independently of each other: an answer never depends on its batch.

        Raises:
            UserError: a query that ``check_query`` refuses.
        """

    def predict(self, image: np.ndarray, modal: np.ndarray, *, seed: int = 0) -> Prediction:
        """Complete one object.

        Args:
            image: uint8 (H, W, 3) RGB.
            modal: bool (H, W), the visible pixels.
            seed: of every random draw.

        Returns:
            Masks of the image's size.
        """
        return self.predict_batch([Query(image, modal, seed)])[0]
