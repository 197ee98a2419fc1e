"""Findings of a check, and their severity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from amodalseg.types import AmodalRecord

KINDS = {
    "files": "all files of the data set are there",
    "counts": "the numbers of images and objects are those published",
    "inside": "every modal mask lies inside its amodal mask",
    "rates": "stored occlusion rates agree with the masks",
    "areas": "stored areas agree with the masks",
    "boxes": "stored boxes agree with the masks",
    "sizes": "masks, annotation file and photo have the same size",
    "ids": "every id occurs once",
    "duplicates": "no object is annotated twice with the same mask",
    "overlap": "no photo belongs to two splits",
    "empty": "every amodal mask has pixels",
    "unreadable": "every mask can be read",
    "photos": "every object has its photo, and it can be opened",
    "prompt": "every object has visible pixels, so it can be prompted",
    "order": "the depth order of an image has no gaps",
    "reader": "the annotations could be read without corrections",
}
"""Kinds of findings, and what holds if nothing is wrong."""
NOTES_ONLY = ("boxes", "prompt", "order", "reader")
"""Kinds that cannot distort a score."""
MOVES_A_MEAN = 0.001
"""Share of objects above which an error can change a mean by 0.1 points, the last digit printed in tables."""
PLACES = 5
WIDTH = 120


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    kind: of ``KINDS``. severity: ``fault`` (would distort a score), ``note``, or ``fine``. split: where, or "" for all.
    where: the first few places: file, object key. text: the finding. count: number of places.
    """

    kind: str
    severity: str
    split: str
    where: tuple[str, ...]
    text: str
    count: int = 0


def finding(kind: str, severity: str, split: str, text: str, places: Sequence[str] = ()) -> Finding:
    """Create a finding. Args: places, all of them; the first few are kept. ``NOTES_ONLY`` kinds never become faults."""
    assert kind in KINDS and severity in ("fault", "note", "fine"), (kind, severity)
    severity = "note" if severity == "fault" and kind in NOTES_ONLY else severity
    return Finding(kind, severity, split, tuple(places[:PLACES]), text, len(places))


def place(record: AmodalRecord) -> str:
    """Object key and photo, for ``Finding.where``."""
    image = record.image
    return record.key if not hasattr(image, "name") else f"{record.key} ({image.name})"


def refusal(message: str, split: str, source: str) -> Finding:
    """A reader's refusal as a fault. Args: message, of its UserError; source, the annotation file."""
    return finding(_kind_of(message), "fault", split, message, [source])


def _kind_of(message: str) -> str:
    kinds = {
        "ids": r"more than once|twice",
        "photos": r"annotation without image|no image file|no image folder",
        "sizes": r"different size|differ in size|other masks of its image|has a mask of \d+x\d+|has a mask of \[",
        "files": r"^cannot read \S+: |^no |is a folder: |not found|there is no",
    }
    return next((kind for kind, pattern in kinds.items() if re.search(pattern, message)), "unreadable")


def describe(findings: Sequence[Finding]) -> str:
    """Findings as aligned text: by split, faults first, with a verdict in the last line."""
    lines: list[str] = []
    for split in dict.fromkeys(item.split for item in findings):
        lines.append(split or "all splits")
        ranks = {"fault": 0, "note": 1, "fine": 2}
        for item in sorted((i for i in findings if i.split == split), key=lambda i: ranks[i.severity]):
            mark = item.severity.upper() if item.severity == "fault" else item.severity
            lines += wrap(
                f"  {mark:5s}  {item.kind:10s}  {item.text}", WIDTH, subsequent_indent=" " * 19,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            lines += [f"{'':21s}{where}" for where in item.where]
            if item.count > len(item.where) > 0:
                lines.append(f"{'':21s}... and {item.count - len(item.where):,} more")
    faults, notes = (sum(item.severity == name for item in findings) for name in ("fault", "note"))
    kinds = ", ".join(dict.fromkeys(item.kind for item in findings if item.severity == "fault"))
    ending = f"{notes} note{'s' * (notes != 1)}"
    if faults:
        lines.append(f"verdict: {faults} fault{'s' * (faults != 1)} ({kinds}) would distort scores; {ending}")
    else:
        lines.append(f"verdict: nothing that would distort a score; {ending}")
    return "\n".join(lines)
