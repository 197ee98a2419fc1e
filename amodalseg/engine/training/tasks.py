"""What can be trained: for each kind of model its module, its data, and how a validation is scored and drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from amodalseg.config.schema import TrainConfig
from amodalseg.data.data_module import AmodalDataModule, PriorDataModule
from amodalseg.metrics.protocols import score
from amodalseg.models.conddiff_amo.direct_module import DirectModule
from amodalseg.models.conddiff_amo.module import CondDiffAMOModule
from amodalseg.models.inpainting.backends.prior import FOLDER
from amodalseg.models.inpainting.prior_training.module import PriorModule
from amodalseg.models.inpainting.prior_training.validation import TITLES, prior_scores
from amodalseg.models.pcnet_m.module import PCNetMModule
from amodalseg.models.training import TrainingModule
from amodalseg.report.pictures import grid, validation_grid


@dataclass(frozen=True)
class Task:
    """One kind of model.

    module, data: classes, made from a training configuration. weights: what a run leaves, a name in its folder.
    score: rows of a validation -> figures by protocol and name; without rows the names with None. logged: which of them
    go to the log. shown: protocols beside the progress bar. paint: ``validation_pictures`` -> uint8 (H, W, 3).
    """

    module: type[TrainingModule]
    data: type[AmodalDataModule]
    weights: str
    score: Callable[[Sequence[Any]], dict[str, dict[str, Any]]]
    logged: dict[str, tuple[str, ...]]
    shown: tuple[str, ...]
    paint: Callable[[Sequence[Any]], np.ndarray]


def prior_grid(pictures: Sequence[Sequence[np.ndarray]], side: int = 128) -> np.ndarray:
    """A row for each object: what was given, the completion, what was read off, the truth, and nothing given."""
    rows = [[cv2.resize(cell, (side, side), interpolation=cv2.INTER_NEAREST) for cell in row] for row in pictures]
    return grid(rows, TITLES)


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
        FOLDER,
        prior_scores,
        {"half_hidden": ("iou", "alone", "hole", "gain"), "denoising": ("fit", "loss")},
        ("half_hidden",),
        prior_grid,
    ),
}
"""By ``model.name``."""


def task_of(config: TrainConfig) -> Task:
    """The task of a training configuration."""
    return TASKS[config.model.name]
