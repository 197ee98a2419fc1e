"""Comparison of two models: a self-contained HTML file, and the same tables in Markdown."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from amodalseg.atomic import write_whole
from amodalseg.metrics.counts import Row, row_key
from amodalseg.metrics.paired import Difference, Pairs, Tally
from amodalseg.metrics.protocols import bootstrap_groups, unit_of
from amodalseg.report.page import color_legend, html_page, png_figure
from amodalseg.report.table import MAIN, PICTURES, Cell, Table, in_unit, label, percent, to_html, to_markdown, to_plain

HOW = (
    "Percent where a line names no other unit (SSIM has none); the difference is B - A. In small print its 95 % "
    "interval: whole images (or videos) are resampled with replacement, the same ones for both, so what makes an "
    "image hard for both cancels out. One figure in twenty leaves such an interval by chance: choose the figure before "
    "you look."
)
FEW = 20


class Part(NamedTuple):
    """Results on one data set and split.

    pairs: objects that both models predicted. figures, tallies: see ``metrics.compare``. gains, losses: objects on
    which B gains and loses most, as (row of A, row of B).
    """

    pairs: Pairs
    figures: list[Difference]
    tallies: dict[str, Tally]
    gains: list[tuple[Row, Row]]
    losses: list[tuple[Row, Row]]


Parts = Mapping[tuple[str, str], Part]


def write_comparison(
    folder: Path, names: tuple[str, str], parts: Parts, strips: Mapping[str, bytes], notes: Sequence[str]
) -> tuple[Path, Path]:
    """Write ``compare.md`` and ``compare.html``, atomically.

    Args:
        folder: created if it is missing.
        names: of A and B.
        parts: (dataset, split) -> results there.
        strips: object's key -> PNG file, for the objects that have a picture.
        notes: further remarks for the reader, for instance why there are no pictures.

    Returns:
        Paths of the two files.
    """
    markdown, page = folder / "compare.md", folder / "compare.html"
    legend = [f"A: {names[0]}", f"B: {names[1]}", *notes]
    text, body = ["# Comparison\n", *(f"- {line}" for line in legend), "\n" + HOW + "\n"], ["<h1>Comparison</h1>"]
    body += [f"<p>{html.escape(line)}</p>" for line in legend] + [f"<p class=soft>{HOW}</p>"]
    for (dataset, split), part in parts.items():
        title, sentences = f"{dataset} / {split}", _sentences(part)
        text += [f"## {title}\n", *(f"- {line}" for line in sentences), ""]
        body += [f"<h2>{html.escape(title)}</h2>", *(f"<p>{html.escape(line)}</p>" for line in sentences)]
        if not part.figures:
            continue
        main, every = main_table(title, part), _figures(f"All figures: {title}", part.figures)
        text += [to_markdown(main), to_markdown(_tallies(part)), f"### {every.title}\n", to_markdown(every)]
        body += [f"<div class=scroll>{to_html(table)}</div>" for table in (main, _tallies(part))]
        fold = f"<summary>all {len(every.lines)} figures</summary><div class=scroll>{to_html(every)}</div>"
        body.append(f"<details>{fold}</details>")
        body += [color_legend()] if any(row_key(one) in strips for one, _ in [*part.gains, *part.losses]) else []
        for heading, changes in (("B gains most", part.gains), ("B loses most", part.losses)):
            if changes:
                text += [f"### {heading}\n", *(f"- {_caption(*rows)}" for rows in changes), ""]
                body += [f"<h3>{heading}</h3>", *(_object(rows, strips) for rows in changes)]
    write_whole(markdown, "\n".join(text) + "\n")
    write_whole(page, html_page("Comparison", "\n".join(body)))
    return markdown, page


def plain_comparison(parts: Parts) -> str:
    """The main figures, wins and losses for a terminal."""
    text = []
    for (dataset, split), part in parts.items():
        tables = [main_table(f"{dataset} / {split}", part), _tallies(part)] if part.figures else []
        text.append("\n".join([*(to_plain(table) for table in tables), *_sentences(part)]))
    return "\n\n".join(text)


def main_table(title: str, part: Part) -> Table:
    """The figures shown in every report."""
    found = {(d.protocol, d.figure): d for d in part.figures}
    return _figures(title, [found[name] for name in [*MAIN, *PICTURES] if name in found])


def _figures(title: str, figures: Sequence[Difference]) -> Table:
    lines = []
    for d in figures:
        unit = unit_of(d.protocol, d.figure)
        change, *limits = (
            "" if value is None else f"{unit.scale * value:+.{unit.decimals}f}" for value in (d.b - d.a, d.low, d.high)
        )
        note = " to ".join(limits) if all(limits) else ""
        cells = [Cell(in_unit(d.a, unit)), Cell(in_unit(d.b, unit)), Cell(change, note), Cell(d.verdict)]
        lines.append([Cell(label(d.protocol, d.figure)), *cells])
    return Table(title, ["figure", "A", "B", "B - A", "verdict"], lines)


def _tallies(part: Part) -> Table:
    lines = [
        [Cell(f"{name} IoU"), *(Cell(str(n)) for n in (found.b, found.a, found.ties)), Cell(_share(found))]
        for name, found in part.tallies.items()
    ]
    return Table("object by object", ["", "B higher", "A higher", "same", "B's share of wins"], lines)


def _share(found: Tally) -> str:
    return percent(found.b / (found.a + found.b)) if found.a + found.b else "–"


def _sentences(part: Part) -> list[str]:
    """The results in words."""
    pairs, text = part.pairs, []
    if not part.figures:
        text.append("No object is in both files here, so there is nothing to compare.")
    else:
        main = next((d for d in part.figures if (d.protocol, d.figure) == MAIN[0]), part.figures[0])
        images, units = len({row["image_id"] for row in pairs.a}), int(bootstrap_groups(pairs.a).max()) + 1
        where = _many(images, "image") + (f", resampled as {_many(units, 'video')}" if units < images else "")
        values = [in_unit(value, unit_of(main.protocol, main.figure)) for value in (main.a, main.b)]
        text.append(
            f"{_many(len(pairs.a), 'object')} in {where}. By {label(main.protocol, main.figure)} B is at {values[1]} "
            f"and A at {values[0]}: {main.verdict}."
        )
        if 1 < units < FEW:
            kind = "images" if units == images else "videos"
            text.append(f"With fewer than {FEW} {kind} the intervals are a rough guide, and so are the verdicts.")
        sources = [sorted({row["modal_source"] for row in rows}) for rows in (pairs.a, pairs.b)]
        if sources[0] != sources[1]:
            given = " and ".join(f"{name} was given {', '.join(s)}" for name, s in zip("AB", sources, strict=True))
            text.append(f"The modal masks differ: {given}. The difference is not the models' alone.")
    for name, count in (("A", pairs.only_a), ("B", pairs.only_b)):
        if count:
            text.append(f"{_many(count, 'object')} {'is' if count == 1 else 'are'} in {name} only: left out.")
    return text


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _caption(one: Row, other: Row) -> str:
    def iou(row: Row, kind: str) -> str:
        return percent(row[f"{kind}_inter"] / row[f"{kind}_union"] if row[f"{kind}_union"] else 1.0)

    rate = f"occlusion rate {100 * one['occluded_area'] / max(1, one['amodal_area']):.0f} %"
    hidden = f"occluded IoU: A {iou(one, 'occ')}, B {iou(other, 'occ')}" if one["occluded_area"] else ""
    full = f"full IoU: A {iou(one, 'out')}, B {iou(other, 'out')}"
    return " · ".join(part for part in (row_key(one), one["category"], rate, hidden, full) if part)


def _object(rows: tuple[Row, Row], strips: Mapping[str, bytes]) -> str:
    png = strips.get(row_key(rows[0]))
    return png_figure(png, _caption(*rows)) if png else f"<p>{html.escape(_caption(*rows))}</p>"
