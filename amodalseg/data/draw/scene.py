"""A scene: a photo with things pasted over it, planned but not yet painted, and the ground truth of one object."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from amodalseg import masks
from amodalseg.data.draw.cover import Silhouette
from amodalseg.data.draw.cutout import Tone, tone_of
from amodalseg.data.draw.paint import Layer, paint
from amodalseg.data.window import Window
from amodalseg.types import AmodalRecord


class Scene:
    """One object in a photo, what is pasted over and beside it, and its occluded region.

    Attributes:
        host: the record that provides the photo.
        photo: its pixels, uint8 (H, W, 3), read-only.
        amodal: bool (H, W), the whole object.
        hidden: bool (H, W), its occluded region.
        occluder: bool (H, W), the occluders, each as a whole.
        unknown: bool (H, W), where it is unknown whether it continues; None: nowhere.
        shows_whole: whether the photo itself shows the whole object.
        layers: pasted over the photo, lowest first.
        about: further fields of the record returned by ``record``.
    """

    def __init__(self, host: AmodalRecord, photo: np.ndarray, amodal: np.ndarray) -> None:
        self.host, self.photo, self.amodal = host, photo, amodal
        self.hidden, self.occluder = np.zeros_like(amodal), np.zeros_like(amodal)
        self.shows_whole = False
        self.unknown: np.ndarray | None = None
        self.layers: list[Layer] = []
        self.about: dict[str, Any] = {}

    @cached_property
    def tone(self) -> Tone:
        """Of the photo."""
        return tone_of(self.photo)

    @property
    def modal(self) -> np.ndarray:
        """bool (H, W): the visible pixels of the object."""
        return self.amodal & ~self.hidden

    @property
    def key(self) -> str:
        """The object's key, as in its record."""
        about = self.about
        return f"{about['dataset']}/{about['split']}/{self.host.image_id}/{about['object_id']}"

    def cover(self, shape: Silhouette) -> None:
        """Record that a shape covers the object."""
        mask = shape.mask_in(self.amodal.shape)
        self.hidden |= mask & self.amodal
        self.occluder |= mask

    def crop(self, window: Window) -> np.ndarray:
        """Paint only the part inside a window, uint8 (S, S, 3)."""
        return paint(self.photo, self.layers, window)

    def record(self) -> AmodalRecord:
        """The whole picture, painted, with its masks."""
        return AmodalRecord(
            image=paint(self.photo, self.layers),
            modal_rle=masks.encode(self.modal),
            amodal_rle=masks.encode(self.amodal),
            occluder_rle=masks.encode(self.occluder),
            whole_rgb=self.photo * self.amodal[..., None] if self.shows_whole else None,
            unknown_rle=None if self.unknown is None else masks.encode(self.unknown),
            flags=frozenset() if self.hidden.any() else frozenset({"fully_visible"}),
            image_id=str(self.host.image_id),  # scenes of one photo are not independent, so intervals resample photos
            **self.about,
        )
