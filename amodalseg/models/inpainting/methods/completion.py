"""One object in its square, and the completed picture pasted back into the photo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from amodalseg.data.window import Window, crop_image, crop_mask, paste_mask
from amodalseg.masks import grown
from amodalseg.models.windowed import WindowPrediction
from amodalseg.types import Query, stable_seed


class Crop(NamedTuple):
    """One object in its square.

    picture: uint8 (S, S, 3) RGB, zero outside the photo. modal: bool (S, S), not empty. occluder: bool (S, S), the
    occluder, or None if unknown. seed: of all random numbers. category: name, or None.
    """

    picture: np.ndarray
    modal: np.ndarray
    occluder: np.ndarray | None
    seed: int
    category: str | None

    def generator(self) -> np.random.Generator:
        """A freshly seeded generator for all random numbers but the sampler's noise."""
        return np.random.default_rng(stable_seed("inpainting", self.seed))


class Completion(NamedTuple):
    """mask: bool (S, S), as read off. picture: uint8 (S, S, 3), completed. evaluations: of a network."""

    mask: np.ndarray
    picture: np.ndarray
    evaluations: int = 0


def cut(query: Query, window: Window, seed: int) -> Crop:
    """Crop an object's square from its photo."""
    modal = crop_mask(query.modal, window)
    if not modal.any():  # too thin to be hit by any sampled pixel
        rows, columns = np.nonzero(query.modal)
        modal[
            (rows - window.top) * window.size // window.height, (columns - window.left) * window.size // window.width
        ] = True
    occluder = None if query.occluder is None else crop_mask(query.occluder, window) & ~modal
    return Crop(crop_image(query.image, window), modal, occluder, seed, query.category)


@dataclass(eq=False, repr=False, kw_only=True)
class CompletionPrediction(WindowPrediction):
    """A prediction with its picture. photo: uint8 (H, W, 3), as given. picture: uint8 (S, S, 3), the first sample's."""

    photo: np.ndarray
    picture: np.ndarray

    def raw_mask(self, values: np.ndarray) -> np.ndarray:
        # The modal mask is the finer of the two: outside it the map counts only next to completed pixels, so that a
        # prediction without an occluded region adds nothing to the modal mask.
        height, width = self.modal.shape
        hidden = grown((values > self.threshold) & ~crop_mask(self.modal, self.window), 1)
        near = paste_mask(hidden.astype(np.float32), self.window, height, width, 0.5) | self.modal
        return near & super().raw_mask(values)

    @cached_property
    def image(self) -> np.ndarray:
        hidden, image = self.occluded, self.photo.copy()
        for channel in range(3):
            painted = self.in_photo(self.picture[..., channel].astype(np.float32))
            image[hidden, channel] = np.rint(painted[hidden]).astype(np.uint8)
        return image
