"""The Lightning data module: the order of objects in a run, as a pure function of the number of batches done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from amodalseg.config.schema import CaptionsData, TrainConfig, WholeObjectsData
from amodalseg.data.dataset import EvaluationSet, TrainingSet
from amodalseg.data.draw.captioned import CaptionedPictures, HeldOutCaptions, stack_captioned
from amodalseg.data.draw.captions import CaptionedWorld
from amodalseg.data.draw.whole_objects import HeldOut, WholeObjects, stack
from amodalseg.data.open import open_source
from amodalseg.data.source import prompted
from amodalseg.errors import UserError
from amodalseg.types import Batch, Sample, stable_seed

logger = logging.getLogger(__name__)


class RunSampler(Sampler[list[tuple[int, int, int]]]):
    """Batches of (epoch, index, window size) keys for one rank, starting anywhere in the run.

    The run is one stream: epoch after epoch, each a new permutation of all objects. Each batch takes the next
    ``world * batch_size`` positions of the stream and each rank its own slice, so ranks never share an object, and a
    resumed run continues exactly where it was saved. No padding: no object is repeated to fill a last batch.
    """

    def __init__(
        self, num_objects: int, batch_size: int, num_batches: int, seed: int, rank: int, world: int,
        position: Callable[[], int], size_of: Callable[[int], int],
    ) -> None:  # fmt: skip
        self.num_objects, self.batch_size, self.num_batches = num_objects, batch_size, num_batches
        self.seed, self.rank, self.world, self.position, self.size_of = seed, rank, world, position, size_of

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        permutation, of_epoch = np.empty(0, dtype=np.int64), -1
        for number in range(self.position(), self.num_batches):
            first = (number * self.world + self.rank) * self.batch_size
            batch, size = [], self.size_of(number)
            for place in range(first, first + self.batch_size):
                epoch, index = divmod(place, self.num_objects)
                if epoch != of_epoch:
                    shuffle = np.random.default_rng(stable_seed("order", self.seed, epoch))
                    permutation, of_epoch = shuffle.permutation(self.num_objects), epoch
                batch.append((epoch, int(permutation[index]), size))
            yield batch


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into two uint8 tensors: moving many small ones between processes costs more than decoding them."""
    height, width, _ = samples[0].image.shape
    images = np.empty((len(samples), 3, height, width), np.uint8)
    for channels, sample in zip(images, samples, strict=True):
        # several times as fast as numpy or torch at splitting channels
        for channel, plane in zip(channels, cv2.split(np.ascontiguousarray(sample.image)), strict=True):
            channel[:] = plane
    stack = np.stack([sample.masks for sample in samples])
    return Batch(torch.from_numpy(images), torch.from_numpy(stack), [sample.key for sample in samples])


def as_list(items: list[Any]) -> list[Any]:
    """Collate for validation: photos differ in size, so a batch stays a list (a named function, so it pickles)."""
    return items


class AmodalDataModule(L.LightningDataModule):
    """Training stream and fixed validation set of one configuration."""

    collate: Callable[..., Any] = staticmethod(collate)

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self._train: Any = None
        self._val: Any = None

    @property
    def full_size(self) -> int:
        """Side of a training sample after the run's coarse part, pixels."""
        return self.config.model.window.size

    @property
    def train_set(self) -> Any:
        """The training samples, opened once."""
        if self._train is None:
            self._train = self._open_train()
        return self._train

    @property
    def val_set(self) -> Any:
        """The validation samples, opened once."""
        if self._val is None:
            self._val = self._open_val()
        return self._val

    def _open_train(self) -> Any:
        data = self.config.data
        source, num_unprompted = prompted(open_source(data))
        if len(source) == 0:
            raise UserError(f"the training data ({data.name}) contains no objects")
        if num_unprompted:
            logger.info(f"{num_unprompted} training objects have no visible pixels and are excluded")
        fresh = getattr(data, "fresh", False)
        return TrainingSet(source, self.config.model.window, self.config.augment, self.config.seed, fresh)

    def _open_val(self) -> Any:
        try:
            found = EvaluationSet(open_source(self.config.val), self.config.seed)
        except UserError as error:  # it may be made of a share of the training photos
            raise UserError(f"validation data: {error}") from error
        if len(found) == 0:
            raise UserError(f"the validation data ({self.config.val.name}) contains no objects")
        return found

    def num_steps(self, world: int) -> int:
        """Optimiser steps of the whole run on ``world`` devices."""
        trainer = self.config.trainer
        if trainer.max_steps is not None:
            return trainer.max_steps
        per_step = self.config.loader.batch_size * world * trainer.accumulate
        return max(1, trainer.max_epochs * len(self.train_set) // per_step)

    def train_dataloader(self) -> DataLoader:
        trainer, loader = self.trainer, self.config.loader
        assert trainer is not None
        accumulate = self.config.trainer.accumulate
        num_batches = self.num_steps(trainer.world_size) * accumulate
        early, late = self.config.optim.early_size or 0, self.full_size
        early_share = self.config.optim.early_share
        num_early = round(early_share * num_batches) if early else 0

        def size_of(number: int) -> int:
            if number >= num_early:
                return late
            module: Any = (
                trainer.lightning_module
            )  # knows the elapsed time; batches already prefetched by workers are unchanged
            return early if module.elapsed_share < early_share else late

        sampler = RunSampler(
            len(self.train_set), loader.batch_size, num_batches, self.config.seed,
            trainer.global_rank, trainer.world_size, lambda: trainer.global_step * accumulate,
            size_of,
        )  # fmt: skip
        return DataLoader(
            self.train_set,  # type: ignore[arg-type]
            batch_sampler=sampler,
            num_workers=loader.num_workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader:
        trainer, loader = self.trainer, self.config.loader
        assert trainer is not None
        # whole batches are dealt out to the ranks, so that the same objects share a batch on any number of ranks
        batches = batches_of_rank(len(self.val_set), loader.batch_size, trainer.global_rank, trainer.world_size)
        batches = batches or [[]]  # Lightning refuses a rank without a batch, but not one with an empty batch
        return DataLoader(
            self.val_set,  # type: ignore[arg-type]
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=loader.num_workers,
            collate_fn=as_list,
        )


class PriorDataModule(AmodalDataModule):
    """The same for the inpainting prior: pictures of whole objects with holes."""

    collate = staticmethod(stack)

    @property
    def full_size(self) -> int:
        return self.config.model.size

    def _open_train(self) -> WholeObjects:
        return self._objects(self.config.data)

    def _open_val(self) -> HeldOut:
        return HeldOut(self._objects(self.config.val))

    def _objects(self, data: Any) -> WholeObjects:
        if not isinstance(data, WholeObjectsData):
            raise UserError(f"the inpainting prior trains on data.name=whole_objects, not {data.name}")
        source = open_source(data)
        records = [source.get(index) for index in range(len(source))]
        return WholeObjects(records, max(self.full_size, self.config.optim.early_size or 0), self.config.seed)


class CaptionDataModule(AmodalDataModule):
    """The same for text-conditioned models: captioned pictures."""

    collate = staticmethod(stack_captioned)

    @property
    def full_size(self) -> int:
        return self.config.model.size

    def _open_train(self) -> CaptionedPictures:
        return CaptionedPictures(self._world(self.config.data))

    def _open_val(self) -> HeldOutCaptions:
        return HeldOutCaptions(self._world(self.config.val), self.full_size)

    def _world(self, data: Any) -> CaptionedWorld:
        if not isinstance(data, CaptionsData):
            raise UserError(f"{self.config.model.name} trains on data.name=captions, not {data.name}")
        return CaptionedWorld(data)


def batches_of_rank(num_objects: int, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """Batches of consecutive objects, dealt out to the ranks in turn.

    The batches do not depend on the number of ranks, so an object is always predicted together with the same others,
    and its prediction is bit-identical.
    """
    batches = [list(range(i, min(i + batch_size, num_objects))) for i in range(0, num_objects, batch_size)]
    return batches[rank::world]
