"""The format of a data set card: origin, expected content, known errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

EVIDENCE = {
    "R": "checked on the real files",
    "C": "read in published code",
    "I": "reported in an issue of a published repository",
    "P": "printed in a paper",
    "D": "from a README or data card",
    "U": "unverified",
}
"""How reliable a fact is. A count marked [U] is compared and reported, but never called wrong."""


@dataclass(frozen=True)
class Count:
    """A published number.

    unit: ``images``, ``objects``, ``videos`` or ``tracks``. about: approximate. at_most: fewer are not an error.
    """

    unit: str
    value: int
    evidence: str
    about: bool = False
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'about ' if self.about else 'at most ' if self.at_most else ''}{self.value:,} [{self.evidence}]"


@dataclass(frozen=True)
class Part:
    """One split on disk.

    annotations: required files, each with its accepted names; relative to the data set's folder.
    photos: folders of photos, any one of which is enough. counts: expected content of the split.
    """

    annotations: tuple[tuple[str, ...], ...]
    photos: tuple[str, ...]
    counts: tuple[Count, ...] = ()


@dataclass(frozen=True)
class Card:
    """One published data set.

    Attributes:
        title, paper, get, licence: of the data set.
        parts: splits by name; empty: any names (``coco_amodal``).
        total: expected content of all splits together.
        errors: known errors of the published files, and what the reader does about them.
        known: kinds of findings (``check.KINDS``) that the published files are known to cause, with the reason; they
            are notes, never faults.
        names_restart: photos of different splits may have the same names without being the same photos.
        compare_masks: two splits are reported to have had the same annotation file, so their masks are compared.
    """

    title: str
    paper: str
    get: str
    licence: str
    parts: Mapping[str, Part]
    total: tuple[Count, ...] = ()
    errors: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    names_restart: bool = False
    compare_masks: bool = False
