"""Checks of annotated objects: masks against each other, and against stored quantities."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from amodalseg import masks
from amodalseg.data.check.finding import MOVES_A_MEAN, Finding, finding, place
from amodalseg.types import AmodalRecord

RATE, AREA, BOX = 0.01, 0.01, 2.0
"""Tolerances for stored quantities: rates; areas, as a share (and one pixel); sides of boxes, pixels."""
HUGE = 1e300
"""Bound for impossible numbers; Python integers may exceed a float."""
OUTSIDE = 0.01
"""Maximum area of modal pixels outside the amodal mask, as a share of it: tolerates outlines drawn twice."""


@dataclass
class _Tally:
    """Places by kind of error, each with its magnitude."""

    total: int = 0
    outside: list[tuple[float, str]] = field(default_factory=list)
    rates: list[tuple[float, str]] = field(default_factory=list)
    areas: list[tuple[float, str]] = field(default_factory=list)
    boxes: list[tuple[float, str]] = field(default_factory=list)
    stored: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    empty: list[str] = field(default_factory=list)
    unprompted: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)


def check_objects(records: Iterable[AmodalRecord], total: int, split: str) -> list[Finding]:
    """Compare masks, stored quantities and ids of one split.

    Args:
        records: read with ``fix_subset=keep``, so that modal pixels outside the amodal mask are detected.
        total: their number, for the progress bar.
        split: for the findings.

    Returns:
        A finding for each of ``inside``, ``rates``, ``areas``, ``boxes``, ``ids``, ``duplicates``, ``empty``,
        ``prompt``, ``order``, ``fine`` ones included; none where the file stores nothing to compare with.
    """
    tally, keys, shapes = _Tally(), set[str](), dict[int, str]()
    orders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in tqdm(records, total=total, desc=f"checking {split}", disable=total < 2000):
        tally.total += 1
        if record.key in keys:
            tally.ids.append(place(record))
        keys.add(record.key)
        _measure(record, tally)
        annotator = str((record.group or {}).get("annotator"))
        if record.order is not None:
            orders[record.image_id, annotator].append(record.order)
        rle = record.modal_rle if record.amodal_rle is None else record.amodal_rle
        shape = hash((record.image_id, annotator, bytes(rle["counts"])))
        if shape in shapes and masks.area(rle):
            tally.duplicates.append(f"{place(record)} has the mask of {shapes[shape]}")
        shapes.setdefault(shape, record.key)
    gaps = [
        f"{image}: {len(ranks)} objects, orders {min(ranks)} to {max(ranks)}"
        for (image, _), ranks in orders.items()
        if len(set(ranks)) != max(ranks) - min(ranks) + 1
    ]
    found = [*_compared(tally, split), *_counted(tally, split)]
    if gaps:
        text = f"{len(gaps):,} of {len(orders):,} images have gaps or repetitions in their depth order"
        found.append(finding("order", "note", split, text, gaps))
    return found


def _measure(record: AmodalRecord, tally: _Tally) -> None:
    """Areas from unions of run lengths, without decoding."""
    amodal = record.modal_rle if record.amodal_rle is None else record.amodal_rle
    area, area_modal = masks.area(amodal), masks.area(record.modal_rle)
    both = area if record.modal_rle is amodal else masks.area(masks.union([amodal, record.modal_rle]))
    if not area:
        tally.empty.append(place(record))
        return
    if not area_modal:
        tally.unprompted.append(place(record))
    if both > area:
        tally.outside.append(((both - area) / area, place(record)))
    if record.raw_rate is not None:
        tally.stored["rates"] += 1
        rate = (both - area_modal) / area
        if not abs(rate - record.raw_rate) <= RATE:  # NaN too
            text = f"{place(record)}: stored {record.raw_rate:.3f}, from the masks {rate:.3f}"
            tally.rates.append((abs(rate - record.raw_rate), text))
    for what, name, pixels, rle in (
        ("area", "amodal", area, amodal), ("modal_area", "modal", area_modal, record.modal_rle),
    ):  # fmt: skip
        stored = record.extra.get(what)
        if stored is not None:
            tally.stored["areas"] += 1
            off = _furthest([stored], [pixels])
            if not (off <= 1 or off <= AREA * pixels):
                text = f"{place(record)}: {name} area stored {_shown(stored)}, from the mask {pixels}"
                tally.areas.append((off / max(1, pixels), text))
        box = record.extra.get(what.replace("area", "bbox"))
        if box is not None and pixels:
            tally.stored["boxes"] += 1
            true = masks.box_xywh(rle)
            far = _furthest(box, true)
            if not far <= BOX:
                text = f"{place(record)}: {name} box stored {_shown(box)}, from the mask {_shown(true)}"
                tally.boxes.append((far, text))


def _furthest(stored: Any, true: Sequence[float]) -> float:
    """Largest difference between two lists of numbers; infinite if the stored one is anything else, including NaN."""
    if not isinstance(stored, (list, tuple)) or len(stored) != len(true):
        return math.inf
    if not all(isinstance(side, (int, float)) and abs(side) < HUGE for side in stored):
        return math.inf
    return max(float(abs(side - other)) for side, other in zip(stored, true, strict=True))


def _compared(tally: _Tally, split: str) -> list[Finding]:
    total, found = tally.total, []
    outside, many = tally.outside, MOVES_A_MEAN * tally.total
    text = f"modal inside amodal: {total - len(outside):,} of {total:,}"
    if outside:
        grave = [item for item in outside if item[0] > OUTSIDE]
        text += (
            f"; worst: {100 * max(outside)[0]:.1f} % of the amodal area lies outside, {len(grave):,} objects more than "
            f"{100 * OUTSIDE:.0f} % (data.fix_subset=union adds it)"
        )
        places = [f"{where}: {100 * share:.1f} % outside" for share, where in sorted(outside, reverse=True)]
        found.append(finding("inside", "fault" if len(grave) > many else "note", split, text, places))
    else:
        found.append(finding("inside", "fine", split, text))
    for kind, name, limit, wrong in (
        ("rates", "occlusion rates", f"{RATE}", tally.rates),
        ("areas", "areas", f"{100 * AREA:.0f} %", tally.areas),
        ("boxes", "boxes", f"{BOX:.0f} pixels", tally.boxes),
    ):
        stored = tally.stored[kind]
        if not stored:
            continue
        text = f"stored {name} agree with the masks within {limit}: {stored - len(wrong):,} of {stored:,}"
        severity = "fine" if not wrong else "fault" if len(wrong) > MOVES_A_MEAN * stored else "note"
        found.append(finding(kind, severity, split, text, [where for _, where in sorted(wrong, reverse=True)]))
    return found


def _counted(tally: _Tally, split: str) -> list[Finding]:
    total = tally.total
    twice = "fault" if len(tally.duplicates) > MOVES_A_MEAN * total else "note"
    rows = (
        ("ids", "fault", tally.ids, "ids occur more than once", "object ids are unique"),
        ("duplicates", twice, tally.duplicates, "objects have the mask of another one of their image: they count twice",
         "objects of an image have different amodal masks"),
        ("empty", "fault", tally.empty, "amodal masks are empty", "amodal masks have pixels"),
        ("prompt", "note", tally.unprompted, "objects have no visible pixels: they cannot be prompted, and scores "
         "exclude them", "objects have a visible pixel"),
    )  # fmt: skip
    return [
        finding(kind, severity, split, f"{len(places):,} of {total:,} {bad}", places)
        if places
        else finding(kind, "fine", split, f"{good}: {total:,} of {total:,}")
        for kind, severity, places, bad, good in rows
    ]


def _shown(stored: Any) -> str:
    if isinstance(stored, (list, tuple)):
        return f"[{', '.join(map(_shown, stored[:8]))}]"
    return f"{stored:g}" if isinstance(stored, (int, float)) and abs(stored) < HUGE else f"{stored!r:.40}"
