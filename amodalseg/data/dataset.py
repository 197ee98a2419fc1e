"""Record -> ``Sample`` for training, record -> ``Query`` for evaluation. Without torch, so workers stay small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amodalseg.config.schema import AugmentConfig, WindowConfig
from amodalseg.data.augment import Augment
from amodalseg.data.draw.scene import Scene
from amodalseg.data.record_pictures import record_image
from amodalseg.data.source import Source, prompted
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, Query, Sample, stable_seed


class TrainingSet:
    """Record -> window -> augmented ``Sample``. Workers need no state other than the keys.

    A key is (epoch, index, side of the window in pixels); the side defaults to the configured one.
    """

    def __init__(
        self, source: Source, window: WindowConfig, augment: AugmentConfig | None, seed: int, fresh: bool
    ) -> None:
        self.source, self.window, self.seed, self.fresh = source, window, seed, fresh
        self.augment = Augment(augment) if augment is not None else None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | tuple[int, int, int]) -> Sample:
        epoch, index, size = key if len(key) == 3 else (*key, self.window.size)
        # a scene used only through its window need not be painted as a whole
        get = getattr(self.source, "plan", self.source.get)
        return self.sample(get(index, epoch if self.fresh else 0), epoch, index, size)

    def sample(self, scene: AmodalRecord | Scene, epoch: int, index: int, size: int) -> Sample:
        """Crop and augment one object, determined by its index and the epoch alone; ``size`` is the window's."""
        rng = np.random.default_rng(stable_seed("augment", self.seed, epoch, index))
        modal, covers, unknown = scene.modal, scene.occluder, scene.unknown
        scale, shift = self.augment.window_jitter(rng) if self.augment else (1.0, (0.0, 0.0))
        if not modal.any():
            raise UserError(f"{scene.key} has no visible pixels, so it cannot be used for training; leave it out")
        window = object_window(modal, replace(self.window, size=size), scale=scale, shift=shift)
        image = scene.crop(window) if isinstance(scene, Scene) else crop_image(record_image(scene), window)
        modal, amodal = crop_mask(modal, window), crop_mask(scene.amodal, window)
        occluder = np.zeros_like(modal) if covers is None else crop_mask(covers, window)
        unknown = np.zeros_like(modal) if unknown is None else crop_mask(unknown, window)
        if self.augment:
            image, modal, amodal, unknown, occluder = self.augment(image, modal, amodal, rng, occluder, unknown)
        return Sample(image, np.stack([modal, amodal, unknown, occluder]).view(np.uint8), scene.key)


class EvaluationSet:
    """Record -> (record, query): full images, one fixed seed for each object.

    Attributes:
        num_unprompted: objects of the data set without a visible pixel; they cannot be queried and are left out.
    """

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.num_unprompted = prompted(source)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: int) -> tuple[AmodalRecord, Query]:
        record = self.source.get(place)
        return record, record_query(record, self.seed)


def record_query(record: AmodalRecord, seed: int) -> Query:
    """The query for a record; its seed depends on the object's key, never on its position in a batch."""
    to = None if record.move is None else record.move.to
    edit = None if record.edit is None else record.edit.request
    own = stable_seed(seed, record.key)
    return Query(record_image(record), record.modal, own, record.occluder, record.category, to, edit)
