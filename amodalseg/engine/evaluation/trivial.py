"""Trivial predictions, scored from annotations only: no photo is opened and no model is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import WindowConfig
from amodalseg.data.open import open_source
from amodalseg.data.window import crop_mask, object_window, paste_mask
from amodalseg.errors import UserError
from amodalseg.metrics.counts import Row, count_object
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord

WINDOWS = {"window_c2f_256": WindowConfig(256, "c2f"), "window_square_256": WindowConfig(256, "square")}
TRIVIAL = {
    "modal": "the given modal mask itself",
    "box": "its filled box",
    "window_c2f_256": "the true amodal mask, through C2F-Seg's window of 256 pixels and back",
    "window_square_256": "the same through a square window",
}
"""Name and description. The first two are baselines that a method has to beat, the others bounds set by its window."""


def trivial_rows(record: AmodalRecord) -> Iterator[Row]:
    """Score the trivial predictions for one object.

    Args:
        record: with an amodal mask; its photo is not opened.

    Yields:
        One row per name in ``TRIVIAL``, in order; the predictions are not united with the modal mask.

    Raises:
        UserError: the record has no visible pixel, or no amodal mask.
    """
    modal, amodal = record.modal, record.amodal
    places = {name: object_window(modal, config) for name, config in WINDOWS.items()}
    box, (height, width) = masks.box_xyxy(modal), modal.shape
    assert box is not None  # an empty mask has no window either
    filled = np.zeros_like(modal)
    filled[box[1] : box[3], box[0] : box[2]] = True
    predictions = {"modal": modal, "box": filled}
    for name, window in places.items():
        back = crop_mask(amodal, window).astype(np.float32)
        predictions[name] = paste_mask(back, window, height, width, 0.5)
    for name in TRIVIAL:
        yield count_object(record, Prediction(modal, predictions[name][None], union_visible=False), name)


def score_trivially(configs: Sequence[Any], progress: bool = True) -> tuple[list[Row], int]:
    """Score the trivial predictions on whole data sets, from their annotations alone.

    Args:
        configs: data configurations; several are read as parts of one.
        progress: show a bar if there are many objects.

    Returns:
        The rows, and the number of objects without a visible pixel, which cannot be queried and have no rows.

    Raises:
        UserError: something is wrong with the files, or there is no object.
    """
    sources = [open_source(config, photos=False) for config in configs]
    total = sum(map(len, sources))
    rows: list[Row] = []
    unprompted = 0
    bar = tqdm(total=total, desc="scoring annotations", unit="object", disable=not progress or total < 500)
    for source in sources:
        for index in range(len(source)):
            record = source.get(index)
            bar.update()
            if masks.area(record.modal_rle):
                rows += trivial_rows(record)
            else:
                unprompted += 1
    bar.close()
    if not rows:
        raise UserError(f"the data set '{configs[0].name}' contains no objects with a visible pixel")
    return rows, unprompted
