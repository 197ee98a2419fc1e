"""Check that an exported file gives the same masks as PyTorch; every file must pass before it gets its final name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from amodalseg.config.schema import SyntheticData, WindowConfig
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.errors import UserError
from amodalseg.models.conddiff_amo.model import CondDiffAMO

Run = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(image, modal, noise) -> (probability, mask), arrays like the inputs and outputs of ``SamplerGraph``."""
NUM_OBJECTS = 50
BATCHES = (1, 3, 16)
SIDES = (48, 96, 200, 320)
"""Sides of the drawn pictures, pixels: some windows are enlarged, others shrunk."""
MIN_IDENTICAL = 0.9999
"""Minimum share of identical mask pixels: only rounding of probabilities near the threshold may cause a difference."""


@dataclass(frozen=True)
class Comparison:
    """A file compared with PyTorch. ``identical``: the smallest share of equal mask pixels over the batch sizes."""

    name: str
    identical: float
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {100 * self.identical:.4f} % of the mask's pixels equal PyTorch's, probabilities within "
            f"{self.largest_difference:.1e} ({NUM_OBJECTS} objects, batches of {', '.join(map(str, BATCHES))})"
        )


class VerificationSet:
    """Objects of the procedural world and of pure noise, with PyTorch's predictions.

    Args:
        model: the reference, on the CPU.
    """

    def __init__(self, model: CondDiffAMO) -> None:
        self.model = model
        pairs = list(objects(model.config.window))
        self.image = np.stack([image.transpose(2, 0, 1) for image, _ in pairs])
        self.modal = np.stack([modal[None] for _, modal in pairs]).astype(np.uint8)
        predictions = []
        for start in range(0, NUM_OBJECTS, model.batch_size):
            image, modal, noise = map(torch.from_numpy, self.batch(start, model.batch_size))
            predictions.append(model.probability(image, modal > 0, noise).numpy())
        self.probability = np.concatenate(predictions)
        self.mask = self.probability > model.config.post.threshold
        if model.config.post.union_visible:
            self.mask |= self.modal > 0

    def batch(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, modal mask and noise of some objects. Noise is resampled, as all of it may not fit into memory."""
        stop = min(start + size, NUM_OBJECTS)
        return self.image[start:stop], self.modal[start:stop], self.model.sample_noise(range(start, stop)).numpy()


def objects(config: WindowConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``NUM_OBJECTS`` windows: uint8 (S, S, 3) and bool (S, S), the last fifth of them random pixels and rectangles."""
    drawn = NUM_OBJECTS - NUM_OBJECTS // 5
    for index in range(drawn):
        record = SyntheticWorld(SyntheticData(size=SIDES[index % len(SIDES)], split="export")).get(index)
        window = object_window(record.modal, config)
        assert isinstance(record.image, np.ndarray)
        yield crop_image(record.image, window), crop_mask(record.modal, window)
    rng = np.random.default_rng(0)
    for _ in range(drawn, NUM_OBJECTS):
        modal = np.zeros((config.size, config.size), bool)
        (top, bottom), (left, right) = (np.sort(rng.integers(0, config.size, 2)) for _ in range(2))
        modal[top : bottom + 1, left : right + 1] = True
        yield rng.integers(0, 256, (config.size, config.size, 3), np.uint8), modal


def compare(name: str, run: Run, world: VerificationSet, batches: Sequence[int] = BATCHES) -> Comparison:
    """Run a file on the verification set.

    Args:
        name: of the file, for messages.
        run: the file's function.
        world: objects and predictions.
        batches: batch sizes; all objects are predicted with each.

    Raises:
        UserError: for some batch size, a smaller share than ``MIN_IDENTICAL`` of the mask pixels equals PyTorch's.
    """
    identical, largest = 1.0, 0.0
    for size in batches:
        equal = 0
        for start in range(0, NUM_OBJECTS, size):
            probability, mask = run(*world.batch(start, size))
            part = slice(start, start + len(mask))
            equal += int(np.count_nonzero(mask == world.mask[part]))
            # a maximum must not hide NaN
            largest = max(
                largest, float(np.nan_to_num(np.abs(probability - world.probability[part]), nan=np.inf).max())
            )
        identical = min(identical, equal / world.mask.size)
        if identical < MIN_IDENTICAL:
            raise UserError(
                f"{name} was not written: in batches of {size} only {100 * identical:.3f} % of the mask's pixels equal "
                f"PyTorch's (probabilities differ by up to {largest:.2g}); use other releases of onnx, onnxscript and "
                "onnxruntime, or of torch"
            )
    return Comparison(name, identical, largest)
