"""Published numbers as data: the rows of ``published.csv``, each with its source and what is known about it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SETTINGS = ("supervised", "zero_shot", "tuning_free", "ablation", "reference")
FLAGS = {
    "": "no known problem",
    "suspect": "contradicts another printed number, repeats one of another table, or cannot be reproduced",
    "not_comparable": "made by a rule of its own, so it must not be ranked with the rows around it",
    "unknown_protocol": "how it was computed is not stated",
}
LOOSE = {
    "memory_gb": "GB",
    "seconds": "for each object",
    "clip": "cosine of picture and category (001), or 100 times that of picture and text (003)",
    "clip_t": "100 times the cosine of picture and text",
    "dreamsim": "distance to the true picture, on black",
    "lpips": "distance to the true picture, on black",
    "kid": "distance to the complete objects, on white",
    "dino_op": "cosine of the box at the origin before and after a move",
    "dino_tp": "cosine of the object before and after a move",
    "clip_tp": "cosine of the object before and after a move",
    "ssim_e": "around the edited region",
    "ssim_i": "in the other regions",
    "success": "percent of the pictures that people judge complete",
    "preference": "percent of the votes",
    "preference_op": "percent of the votes, for the origin",
    "preference_tp": "percent of the votes, for the target",
    "preference_realism": "percent of the votes, for the whole",
    "accuracy": "share of the objects",
    "precision": "share of the objects",
    "recall": "share of the objects",
}
"""Figures that belong to no protocol here, and their units; ``full`` and ``occluded`` too where that is unknown."""
OTHER_SETS = ("movid", "coco_pseudo", "open_images_pseudo", "cocoa_moves")
MODAL_SOURCES = {
    "gt": "annotated modal masks",
    "pred": "predicted modal masks",
    "unknown": "source of the modal masks not stated",
}


@dataclass(frozen=True)
class Extent:
    """What a paper says about the objects behind its numbers.

    split: as ``data.split`` here, empty if the paper names none or none matches. number, unit: how many images or
    objects (``image`` or ``object``), as stated.
    """

    split: str
    number: int
    unit: str


EXTENTS = {
    ("Tuning-free amodal segmentation", "cocoa"): Extent("", 13_000, "object"),
    ("Tuning-free amodal segmentation", "bsds_a"): Extent("test", 200, "image"),
    ("Tuning-free amodal segmentation", "kins"): Extent("test", 7_000, "image"),
    ("Tuning-free amodal segmentation", "fishbowl"): Extent("test", 128_000, "image"),  # 1,000 videos of 128 frames
    ("Tuning-free amodal segmentation", "sailvos"): Extent("val", 507_000, "object"),
}
"""By paper and data set. CondDiff-AMO, the other paper shown beside measured numbers, states nothing."""


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        method: its name, spelt the same in all tables. venue: where the method appeared, empty if unknown.
        paper, table: where the number is printed, not necessarily in the method's own paper.
        dataset: a name of ``data.name``, or of ``OTHER_SETS``, which have no reader here; ``average`` is a paper's mean
            over its sets; empty for a figure of no data set, or of one that only the paper's authors have.
        setting: one of ``SETTINGS``. variant: what else distinguishes the row, may be empty.
        protocol: a name in ``metrics.protocols.PROTOCOLS``, empty if unknown or if none applies.
        figure: of the protocol, or ``full`` and ``occluded`` if that is unknown, or a key of ``LOOSE``.
        modal_source: a key of ``MODAL_SOURCES``.
        printed: the number as printed, in percent (or as ``LOOSE`` says).
        flag: a key of ``FLAGS``. reason: of the flag, or a remark; every flag has one.
    """

    method: str
    venue: str
    paper: str
    table: str
    dataset: str
    setting: str
    variant: str
    protocol: str
    figure: str
    modal_source: str
    printed: str
    flag: str
    reason: str

    @property
    def value(self) -> float:
        """The number, in its printed unit."""
        return float(self.printed)


@cache
def load_published() -> tuple[Published, ...]:
    """All rows of ``published.csv``, in the order of the papers' tables."""
    text = (files("amodalseg.report") / "published.csv").read_text(encoding="utf-8")
    rows = tuple(
        Published(**{"printed" if name == "value" else name: field for name, field in line.items()})
        for line in csv.DictReader(text.splitlines())
    )
    for row in rows:
        assert row.setting in SETTINGS and row.flag in FLAGS and row.modal_source in MODAL_SOURCES, row
        assert not row.flag or row.reason, row
    return rows
