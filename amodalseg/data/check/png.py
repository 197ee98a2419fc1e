"""Checks of masks that are picture files, for irregularities that reading them as masks would hide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodalseg.config.schema import PublishedData
from amodalseg.data.check.finding import Finding, finding, place
from amodalseg.data.mask_files import Stored, looks_inverted, read_mask_file, read_values
from amodalseg.data.readers.pix2gestalt import FOLDERS
from amodalseg.types import AmodalRecord

SIDE = 256
"""Height and width of every picture of Pix2gestalt, pixels."""


def check_png_masks(config: PublishedData, records: Sequence[AmodalRecord], split: str) -> list[Finding]:
    """Look at the mask files of Pix2gestalt themselves.

    Args:
        config: ``root`` is the data set's folder.
        records: objects that could be read.
        split: for the findings.

    Returns:
        Notes on masks that are anything but black and white in one channel, on masks that look inverted, and on masks
        of another size than 256 x 256 (``reader``).
    """
    grey, inverted, other = [], [], []
    for record in tqdm(records, "mask files", disable=len(records) < 2000):
        for folder in ("visible_object_mask", "whole_mask"):
            path = Path(config.root) / folder / f"{record.image_id}{FOLDERS[folder]}"
            stored, mask = read_values(path), read_mask_file(path, quiet=True)
            unusual = _unusual(stored)
            if unusual:
                grey.append(f"{place(record)}: {unusual} in {folder}")
            if looks_inverted(mask):
                inverted.append(f"{place(record)}: {folder}, {100 * mask.mean():.0f} % of it")
            if mask.shape != (SIDE, SIDE):
                other.append(f"{place(record)}: {folder} is {mask.shape[1]}x{mask.shape[0]}")
    found = []
    for places, what in (
        (grey, "are not black and white: read as all mask files are (docs/predict.md)"),
        (inverted, "look inverted: nearly all of their border is object"),
        (other, f"are not {SIDE}x{SIDE}"),
    ):
        if places:
            text = f"{len(places):,} of {2 * len(records):,} mask files {what}"
            found.append(finding("reader", "note", split, text, places))
    return found or [finding("reader", "fine", split, f"mask files are black and white, {SIDE}x{SIDE}")]


def _unusual(stored: Stored) -> str:
    """How a mask file differs from black and white in one channel; empty if it does not."""
    if stored.palette is not None:
        return "a palette"
    if stored.alpha is not None:
        return "an alpha channel"
    if stored.values.ndim == 3:
        return "colours"
    if stored.values.dtype == bool or stored.values.max() <= 1:
        return "" if stored.values.dtype == bool else "zeros and ones"
    between = np.count_nonzero((stored.values > 0) & (stored.values < 255))
    return f"{between:,} pixels" if between else ""
