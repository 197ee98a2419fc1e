"""A scene: a photo with things laid over it, decided and not yet painted, and the truth about one object in it."""

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
    """One object in a photo, what is laid over and beside it, and what of it is hidden.

    Attributes:
        host: the record whose photo it is.
        photo: its pixels, uint8 (H, W, 3), not to be written to.
        amodal: bool (H, W), the whole object.
        hidden: bool (H, W), the hidden part of it.
        occluder: bool (H, W), what lies over it, each as a whole.
        unknown: bool (H, W), where nobody knows whether it goes on; None: nowhere.
        shows_whole: whether the photo itself shows the whole object.
        layers: what lies on the photo, the first one lowest.
        about: further fields of the record that ``record`` makes.
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
        """bool (H, W): what is left of the object."""
        return self.amodal & ~self.hidden

    @property
    def key(self) -> str:
        """Names the object, as its record's."""
        about = self.about
        return f"{about['dataset']}/{about['split']}/{self.host.image_id}/{about['object_id']}"

    def cover(self, shape: Silhouette) -> None:
        """Note that a shape lies over the object."""
        mask = shape.mask_in(self.amodal.shape)
        self.hidden |= mask & self.amodal
        self.occluder |= mask

    def crop(self, window: Window) -> np.ndarray:
        """What a window shows of it, uint8 (S, S, 3): nothing else is painted."""
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
            image_id=str(self.host.image_id),  # scenes of one photo are not independent: intervals are over photos
            **self.about,
        )
