"""Checks of masks that are PNG files: what thresholding hides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodalseg.config.schema import PublishedData
from amodalseg.data.check.finding import Finding, finding, place
from amodalseg.data.images import load_image
from amodalseg.data.readers.pix2gestalt import FOLDERS
from amodalseg.types import AmodalRecord

SIDE = 256
"""Of every picture of Pix2gestalt, pixels."""


def check_png_masks(config: PublishedData, records: Sequence[AmodalRecord], split: str) -> list[Finding]:
    """Look at the mask files of Pix2gestalt themselves.

    Args:
        config: ``root`` is the data set's folder.
        records: objects that could be read.
        split: for the findings.

    Returns:
        Notes on masks with grey values besides 0 and 255, and on masks of another size than 256 x 256 (``reader``).
    """
    grey, other = [], []
    for record in tqdm(records, "mask files", disable=len(records) < 2000):
        for folder in ("visible_object_mask", "whole_mask"):
            values = load_image(Path(config.root) / folder / f"{record.image_id}{FOLDERS[folder]}", grey=True)
            between = np.count_nonzero((values > 0) & (values < 255))
            if between:
                grey.append(f"{place(record)}: {between:,} pixels in {folder}")
            if values.shape != (SIDE, SIDE):
                other.append(f"{place(record)}: {folder} is {values.shape[1]}x{values.shape[0]}")
    found = []
    for places, what in ((grey, "are not black and white: cut at 127"), (other, f"are not {SIDE}x{SIDE}")):
        if places:
            text = f"{len(places):,} of {2 * len(records):,} mask files {what}"
            found.append(finding("reader", "note", split, text, places))
    return found or [finding("reader", "fine", split, f"mask files are black and white, {SIDE}x{SIDE}")]
