"""Published next to measured numbers: comparable ones in one table, the others apart, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amodalseg.data.check.known_sets import CARDS
from amodalseg.metrics.counts import Row
from amodalseg.report.published import EXTENTS, MODAL_SOURCES, Published, load_published
from amodalseg.report.table import UNDEFINED, Cell, Table, by_data, interval, percent, result_key, rows_by_result

BESIDE = (
    "Percent. In bold: measured here on {count} objects of {title}, with 95 % intervals; below: published numbers; "
    "both sorted by the first column, highest first. Published numbers refer to the split and objects of each paper, "
    "which few papers state; where a row does not name its modal masks, its paper does not say whether they were "
    "annotated or predicted."
)
PART = "The split is reported to have {all} objects: numbers of a part of them cannot be ranked among published ones."
OTHER_PART = (
    "{paper} states that its numbers are of {number:,} {unit}s{split}; measured here: {count:,} {unit}s of {here}."
)
APART = "Not to be ranked with the numbers measured here, for the reason given in each row."
ABLATIONS = "Ablations, and rows of single design choices"
NOT_STATED = "protocol not stated"
TWINS = {("conddiff", "full"): "pooled"}
"""Figures that by definition equal one of another protocol; they are listed in its table too."""
WITH_UNOCCLUDED = "_with_unoccluded"
WHOLE = 0.9
"""Minimum share of a split's objects to count as the whole split: some objects are excluded rightly."""
Line = tuple[list[float | None], list[Cell]]
"""Values to sort by, and the cells."""


@dataclass(frozen=True)
class Section:
    """One data set's published numbers next to the measured ones.

    Attributes:
        title: ``dataset / split``. intro: a sentence or two.
        tables: per protocol, the comparable numbers; apart: those that are not; ablations: those to show folded.
    """

    title: str
    intro: str
    tables: list[Table]
    apart: list[Table]
    ablations: list[Table]


def beside_published(results: Sequence[dict], rows: Sequence[Row]) -> list[Section]:
    """Put the published numbers for each measured data set next to the measured ones.

    A published number appears in the table of its protocol unless something makes it incomparable: its protocol must be
    known, it must carry no flag, and its modal masks must be of the same kind or of unknown kind. All others are set
    apart.

    Args:
        results: from ``metrics.protocols.summarize``.
        rows: from which the results were computed.

    Returns:
        One section per data set and split with published numbers.
    """
    sections, behind = [], rows_by_result(rows)
    for title, group in by_data(results).items():
        published = [number for number in load_published() if number.dataset == group[0]["dataset"]]
        if not published:
            continue
        given = {row["modal_source"].partition(":")[0] for result in group for row in behind[result_key(result)]}
        fair = [number for number in published if number.setting != "ablation" and not _why_incomparable(number, given)]
        unfair = [number for number in published if number.setting != "ablation" and _why_incomparable(number, given)]
        ablations = [number for number in published if number.setting == "ablation"]
        count, known = max(result["num_objects"] for result in group), _published_size(group[0])
        intro = BESIDE.format(count=f"{count:,}", title=title)
        if count < WHOLE * known:
            intro += " " + PART.format(all=f"{known:,}")
        intro = " ".join([intro, *_other_parts(published, group[0], behind[result_key(group[0])])])
        sections.append(
            Section(
                title,
                intro,
                [
                    _table(
                        protocol,
                        [n for n in fair if protocol in (n.protocol, TWINS.get((n.protocol, n.figure)))],
                        given,
                        group,
                        elsewhere=unfair,
                    )
                    for protocol in _protocols(published)
                    if protocol and any(number.protocol == protocol for number in fair)
                ],
                [_table(protocol, _of_protocol(protocol, unfair), given) for protocol in _protocols(unfair)],
                [_table(protocol, _of_protocol(protocol, ablations), given) for protocol in _protocols(ablations)],
            )
        )
    return sections


def _other_parts(published: Sequence[Published], result: dict, rows: Sequence[Row]) -> list[str]:
    """A sentence for each paper whose split, or number of images or objects, differs from the measured one."""
    found, split = [], result["split"].removesuffix("2014")
    measured = {"image": len({row["image_id"] for row in rows}), "object": len(rows)}
    for paper in dict.fromkeys(number.paper for number in published):
        extent = EXTENTS.get((paper, result["dataset"]))
        if extent is None:
            continue
        count = measured[extent.unit]
        same = WHOLE * extent.number <= count <= extent.number / WHOLE and extent.split in ("", split)
        if not same:
            of = f" of the split {extent.split}" if extent.split else ""
            found.append(
                OTHER_PART.format(
                    paper=paper, number=extent.number, unit=extent.unit, split=of, count=count, here=result["split"]
                )
            )
    return found


def _published_size(result: dict) -> int:
    """Number of objects that a data set's split should contain; 0 if unknown."""
    card = CARDS.get(result["dataset"])
    part = card.parts.get(result["split"].removesuffix("2014")) if card else None
    return next((count.value for count in part.counts if count.unit == "objects"), 0) if part else 0


def _why_incomparable(number: Published, given: set[str]) -> str:
    """Why a number must not be ranked with measured ones whose modal masks are ``given``; empty if it may be."""
    named = f"{number.flag.replace('_', ' ')}: " if number.flag in ("suspect", "not_comparable") else ""
    reasons = [named + number.reason] if number.flag else []
    if not number.protocol and number.flag != "unknown_protocol":
        reasons.append(NOT_STATED)
    if number.modal_source != "unknown" and given != {number.modal_source}:
        reasons.append(f"{_words(given)} are given here")
    return "; ".join(reasons)


def _words(given: set[str]) -> str:
    return " and ".join(MODAL_SOURCES[name] for name in sorted(given))


def _protocols(numbers: Iterable[Published]) -> list[str]:
    """Protocols in order of appearance, the unknown one last."""
    return sorted(dict.fromkeys(number.protocol for number in numbers), key=lambda name: not name)


def _of_protocol(protocol: str, numbers: Iterable[Published]) -> list[Published]:
    return [number for number in numbers if number.protocol == protocol]


def _table(
    protocol: str, numbers: Sequence[Published], given: set[str], measured: Sequence[dict] = (),
    elsewhere: Sequence[Published] = (),
) -> Table:  # fmt: skip
    """One protocol's figures as columns; lines are measured models, then rows of published tables, the highest first.

    Args:
        elsewhere: numbers that are set apart; if a row's other figures remain, its cell says so.
    """
    figures = list(dict.fromkeys(number.figure for number in numbers))
    apart = {(*_row(number), number.protocol, number.figure) for number in elsewhere}
    own: list[Line] = []
    lines: list[Line] = []
    for result in measured:
        scores = result["scores"][protocol]
        kinds = [("", "")]
        if any(f"{name}{WITH_UNOCCLUDED}" in scores for name in figures):  # papers do not say which one they report
            kinds = [("", " · without unoccluded objects"), (WITH_UNOCCLUDED, " · with unoccluded objects")]
        for ending, words in kinds:
            values = [scores[name + ending] for name in figures]
            cells = [
                Cell(percent(v), interval(result, protocol, f + ending)) for v, f in zip(values, figures, strict=True)
            ]
            head = Cell(result["model"], f"measured here · {_words(given)}{words}", best=True)
            own.append(([None if value is None else 100 * value for value in values], [head, *cells]))
    printed: dict[tuple[str, ...], dict[str, Published]] = {}
    for number in numbers:
        printed.setdefault((*_row(number), _why_incomparable(number, given), number.protocol), {})[number.figure] = (
            number
        )
    for found in printed.values():
        first = next(iter(found.values()))
        values = [found[name].value if name in found else None for name in figures]
        cells = [
            Cell(found[name].printed)
            if name in found
            else Cell(UNDEFINED, "set apart" if (*_row(first), first.protocol, name) in apart else "")
            for name in figures
        ]
        lines.append((values, [_source(first, given, protocol), *cells]))
    name = protocol or NOT_STATED
    ordered = [cells for part in (own, lines) for _, cells in sorted(part, key=_height, reverse=True)]
    return Table(name, ["method", *(f"{name} · {figure}" for figure in figures)], ordered)


def _height(line: Line) -> list[float]:
    return [-1.0 if value is None else value for value in line[0]]


def _row(number: Published) -> tuple[str, ...]:
    """The published row that a number belongs to."""
    return number.paper, number.table, number.method, number.variant, number.setting


def _source(number: Published, given: set[str], protocol: str) -> Cell:
    """Method and variant; in small print, all that is known about the row."""
    parts = [
        number.venue,
        f"{number.paper}, table {number.table}" if number.table != "README" else f"{number.paper}, README",
        number.setting.replace("_", "-"),
        "" if number.modal_source == "unknown" else MODAL_SOURCES[number.modal_source],
        f"the same figure as {number.protocol}’s" if number.protocol not in ("", protocol) else "",
        _why_incomparable(number, given) or number.reason,
    ]
    return Cell(
        f"{number.method}, {number.variant}" if number.variant else number.method, " · ".join(filter(None, parts))
    )
