"""Statistics of a data set: occlusion rates, sizes, categories. Computed from masks, without photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.data.source import Source
from amodalseg.data.views import picture_key
from amodalseg.errors import UserError

MANY = 2000
"""Number of objects above which progress is shown."""
QUANTILES = (5, 25, 50, 75, 95)
TOP = 20
"""Number of categories listed."""
COUNTS = ("height", "width", "modal_area", "amodal_area", "hidden_area", "outside_area", "touches_border")


@dataclass
class Stats:
    """Counts of one split.

    Attributes:
        name: ``dataset / split``.
        counts: pixels, int64 (N,) under each name in ``COUNTS``: ``hidden_area`` is amodal and not modal,
            ``outside_area`` modal and not amodal, ``touches_border`` 0 or 1. Modal masks are the annotated ones. If a
            set has no amodal masks, modal ones are used instead and ``amodal`` is False.
        amodal: whether the set has amodal masks.
        per_image: int64 (M,): objects of each photo that has any.
        categories: category -> number of objects, most first; objects without one are not in it.
        flags: flag -> number of objects.
        num_stuff: objects annotated as stuff; None if no object has this information.
    """

    name: str
    counts: dict[str, np.ndarray]
    amodal: bool
    per_image: np.ndarray
    categories: dict[str, int]
    flags: dict[str, int]
    num_stuff: int | None

    def __len__(self) -> int:
        return len(self.counts["height"])

    @property
    def rates(self) -> np.ndarray:
        """Occlusion rates of the occluded objects, float64 (K,) in (0, 1]."""
        hidden, amodal = self.counts["hidden_area"], self.counts["amodal_area"]
        return hidden[hidden > 0] / amodal[hidden > 0]

    @property
    def sizes(self) -> np.ndarray:
        """sqrt(area) of the amodal masks, float64 (N,), pixels."""
        return np.sqrt(self.counts["amodal_area"].astype(np.float64))

    @property
    def shares(self) -> np.ndarray:
        """Areas of the amodal masks as shares of their photos, float64 (N,) in [0, 1]."""
        return self.counts["amodal_area"] / (self.counts["height"] * self.counts["width"])


def measure(source: Source) -> Stats:
    """Compute the statistics of a source, with a progress bar. Raises UserError if it is empty."""
    if not len(source):
        raise UserError("the data set contains no objects, so there is nothing to count")
    table = np.zeros((len(source), len(COUNTS)), np.int64)
    photos: Counter[tuple[str, ...]] = Counter()
    categories: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    stuff: Counter[bool | None] = Counter()
    amodal_known = True
    for place in tqdm(range(len(source)), desc="counting", unit="object", disable=len(source) < MANY):
        record = source.get(place)
        modal = record.gt_modal_rle or record.modal_rle
        amodal = record.amodal_rle or modal
        amodal_known &= record.amodal_rle is not None
        area, whole, both = masks.area(modal), masks.area(amodal), masks.area(masks.union([modal, amodal]))
        x, y, width, height = masks.box_xywh(amodal)
        edge = x == 0 or y == 0 or x + width == record.width or y + height == record.height
        table[place] = record.height, record.width, area, whole, both - area, both - whole, edge and whole > 0
        photos[picture_key(record)] += 1
        flags.update(record.flags)
        stuff[record.is_stuff] += 1
        name = record.category or (None if record.category_id is None else str(record.category_id))
        categories.update([name] if name else [])
    return Stats(
        f"{record.dataset} / {record.split}",
        dict(zip(COUNTS, table.T.copy(), strict=True)),
        amodal_known,
        np.array(list(photos.values()), np.int64),
        dict(sorted(categories.items(), key=lambda item: (-item[1], item[0]))),
        dict(flags),
        stuff[True] if stuff[True] or stuff[False] else None,
    )


def describe(columns: Sequence[Stats]) -> str:
    """The numbers as an aligned text, one column for each split."""
    lines = [["", *(stats.name for stats in columns)]]
    numbers = [_numbers(stats) for stats in columns]
    lines += [[line[0][0], *(value for _, value in line)] for line in zip(*numbers, strict=True)]
    total = Counter[str]()
    for stats in columns:
        total.update(stats.categories)
    top = [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))][:TOP]
    for name in top:
        lines.append([f"  {name}", *(_share(stats.categories.get(name, 0), len(stats)) for stats in columns)])
    if len(total) > len(top):
        lines.append([f"  {len(total) - len(top)} others", *(
            _share(sum(count for name, count in stats.categories.items() if name not in top), len(stats))
            for stats in columns
        )])  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    places = [str.ljust, *[str.rjust] * len(columns)]
    return "\n".join(
        "  ".join(place(cell, width) for place, cell, width in zip(places, line, widths, strict=True)) for line in lines
    )


def _numbers(stats: Stats) -> list[tuple[str, str]]:
    """The lines of one column as (title, value)."""
    counts, number = stats.counts, len(stats)
    quantiles = "/".join(map(str, QUANTILES))
    hidden = counts["hidden_area"] > 0
    unseen = counts["modal_area"] == 0

    def known(text: str) -> str:
        return text if stats.amodal else "unknown"

    return [
        ("photos with objects", f"{len(stats.per_image):,}"),
        ("objects", f"{number:,}"),
        ("objects a photo, mean", f"{stats.per_image.mean():.2f}"),
        (f"  {quantiles} %", _quantiles(stats.per_image, ".0f")),
        ("with occlusion", known(_share(int(hidden.sum()), number))),
        ("  occlusion rate of these in %, mean", known(f"{100 * stats.rates.mean():.1f}" if hidden.any() else "-")),
        (f"  {quantiles} %", known(_quantiles(100 * stats.rates, ".1f"))),
        ("totally hidden", known(_share(int((unseen & hidden).sum()), number))),
        ("modal pixels outside the amodal mask", known(_share(int((counts["outside_area"] > 0).sum()), number))),
        ("empty mask", _share(int((counts["amodal_area"] == 0).sum()), number)),
        (f"sqrt(area) in px, {quantiles} %", _quantiles(stats.sizes, ".0f")),
        (f"share of the photo in %, {quantiles} %", _quantiles(100 * stats.shares, ".2f")),
        ("touching the photo's border", _share(int(counts["touches_border"].sum()), number)),
        ("stuff", "unknown" if stats.num_stuff is None else _share(stats.num_stuff, number)),
        ("crowds", _share(stats.flags.get("crowd", 0), number)),
        ("with a category", _share(sum(stats.categories.values()), number)),
        ("categories", f"{len(stats.categories):,}"),
    ]


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / max(1, total):.1f} %)"


def _quantiles(values: np.ndarray, form: str) -> str:
    if not len(values):
        return "-"
    found: Any = np.percentile(values, QUANTILES)
    return " / ".join(format(value, form) for value in found)
