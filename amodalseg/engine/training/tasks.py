"""Training tasks: for each kind of model its module, its data, and how a validation is scored and drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from amodalseg.config.schema import TrainConfig
from amodalseg.data.data_module import AmodalDataModule, CaptionDataModule, PriorDataModule
from amodalseg.metrics.protocols import score
from amodalseg.models.conddiff_amo.direct_module import DirectModule
from amodalseg.models.conddiff_amo.module import CondDiffAMOModule
from amodalseg.models.inpainting.backends import prior, word_files
from amodalseg.models.inpainting.parts import small_segmenter
from amodalseg.models.inpainting.prior_training import segmenter_module, validation, word_validation
from amodalseg.models.inpainting.prior_training.module import PriorModule
from amodalseg.models.inpainting.prior_training.segmenter_module import WordSegmenterModule, segmenter_scores
from amodalseg.models.inpainting.prior_training.word_module import WordPriorModule
from amodalseg.models.inpainting.prior_training.word_validation import word_scores
from amodalseg.models.pcnet_m.module import PCNetMModule
from amodalseg.models.training import TrainingModule
from amodalseg.report.grid import grid
from amodalseg.report.pictures import validation_grid


@dataclass(frozen=True)
class Task:
    """One kind of model.

    module, data: classes, created from a training configuration. weights: name of the weights in the run folder.
    score: rows of a validation -> figures by protocol and name; without rows the names with None. logged: which of them
    are logged. shown: protocols beside the progress bar. paint: ``validation_pictures`` -> uint8 (H, W, 3).
    """

    module: type[TrainingModule]
    data: type[AmodalDataModule]
    weights: str
    score: Callable[[Sequence[Any]], dict[str, dict[str, Any]]]
    logged: dict[str, tuple[str, ...]]
    shown: tuple[str, ...]
    paint: Callable[[Sequence[Any]], np.ndarray]


def prior_grid(
    pictures: Sequence[Sequence[np.ndarray]], side: int = 128, titles: Sequence[str] = validation.TITLES
) -> np.ndarray:
    """A row of small pictures for each object, enlarged to ``side`` pixels without smoothing.

    Args:
        pictures: uint8 (h, w, 3), as many per row as titles; by default the input, the completion, the read-off, the
            ground truth, and the completion without input.
        side: pixels.
        titles: of the columns.
    """
    rows = [[cv2.resize(cell, (side, side), interpolation=cv2.INTER_NEAREST) for cell in row] for row in pictures]
    return grid(rows, titles)


def mask_task(module: type[TrainingModule]) -> Task:
    """The task of a network that predicts a mask."""
    return Task(
        module,
        AmodalDataModule,
        "model.safetensors",
        score,
        dict.fromkeys(("pooled", "per_object", "per_object_occluded"), ("full", "occluded")),
        ("per_object_occluded",),
        validation_grid,
    )


TASKS: dict[str, Task] = {
    "conddiff_amo": mask_task(CondDiffAMOModule),
    "direct": mask_task(DirectModule),
    "pcnet_m": mask_task(PCNetMModule),
    "inpainting_prior": Task(
        PriorModule,
        PriorDataModule,
        prior.FOLDER,
        validation.prior_scores,
        {"half_hidden": ("iou", "alone", "hole", "gain"), "denoising": ("fit", "loss")},
        ("half_hidden",),
        prior_grid,
    ),
    "word_prior": Task(
        WordPriorModule,
        CaptionDataModule,
        word_files.FOLDER,
        word_scores,
        {"drawn": ("named", "only"), "denoising": ("fit", "loss")},
        ("denoising",),
        partial(prior_grid, titles=word_validation.TITLES),
    ),
    "word_segmenter": Task(
        WordSegmenterModule,
        CaptionDataModule,
        small_segmenter.FOLDER,
        segmenter_scores,
        {"by_name": ("iou", "wrong")},
        ("by_name",),
        partial(prior_grid, titles=segmenter_module.TITLES),
    ),
}
"""Tasks by ``model.name``."""


def task_of(config: TrainConfig) -> Task:
    """The task of a training configuration."""
    return TASKS[config.model.name]
