"""Prediction for some objects, with measured peak memory and smaller batches if memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel
from amodalseg.predictions import Prediction
from amodalseg.types import Query

RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""Phrases with which PyTorch's ``RuntimeError`` and underlying libraries report too little memory."""


class PeakMemory:
    """Context manager that measures peak memory.

    Attributes:
        megabytes: after the block: the peak of PyTorch's allocations if the model is on a GPU, else the peak resident
            memory of the process; 0 if the system does not provide it (Linux does).
    """

    def __init__(self, model: AmodalModel) -> None:
        self.megabytes = 0
        self._gpu = str(model.device) != "cpu" and torch.cuda.is_initialized()

    def __enter__(self) -> PeakMemory:
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            RESET.write_text("5")  # resets the peak to the current resident memory
            self._resident = True
        except OSError:
            self._resident = False
        return self

    def __exit__(self, *_: Any) -> None:
        peak = torch.cuda.max_memory_allocated() if self._gpu else 0
        if not peak and self._resident:
            lines = STATUS.read_text().splitlines()
            peak = 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
        self.megabytes = round(peak / 1e6)


def ask(model: AmodalModel, queries: Sequence[Query], num_samples: int = 1) -> list[tuple[Prediction, int]]:
    """Predict ``model.batch_size`` queries at once; if memory runs out, halve it permanently and try again.

    Returns:
        For each query the prediction, and the peak memory of its batch as measured by ``PeakMemory``.

    Raises:
        UserError: memory is insufficient for a single object, or the model refuses a query.
    """
    found: list[tuple[Prediction, int]] = []
    while len(found) < len(queries):
        part = queries[len(found) : len(found) + model.batch_size]
        try:
            with PeakMemory(model) as peak:
                predictions = model.predict_batch(part, num_samples=num_samples)
            found += [(prediction, peak.megabytes) for prediction in predictions]
            continue
        except (MemoryError, RuntimeError) as error:
            if not is_short_of_memory(error):
                raise
        # outside the except clause: the exception keeps the tensors alive
        _halve_batch(model, part, num_samples)
    return found


def is_short_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in WORDS)


def _halve_batch(model: AmodalModel, part: Sequence[Query], num_samples: int) -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    tried = min(model.batch_size, len(part) * num_samples)
    if tried <= 1:
        height, width = part[0].modal.shape
        raise UserError(
            f"'{model.name}' runs out of memory on one object alone (photo of {width}x{height} pixels): take a smaller "
            "model or smaller photos, free the memory that other programs hold, or use another device"
        )
    model.batch_size = tried // 2
    warnings.warn(f"'{model.name}' ran out of memory on {tried} at once; continuing with {tried // 2}", stacklevel=3)
