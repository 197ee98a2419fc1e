"""The report of an evaluation: a self-contained HTML file, and the same tables in Markdown."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amodalseg.atomic import write_whole
from amodalseg.metrics.calibration import LEAST, calibration
from amodalseg.metrics.counts import Row
from amodalseg.metrics.detection import DETECTION, DetectionProtocol
from amodalseg.metrics.protocols import PROTOCOLS, Protocol
from amodalseg.report.beside import ABLATIONS, APART, Section, beside_published
from amodalseg.report.figures import iou_against_rate, iou_against_steps, reliability
from amodalseg.report.page import color_legend, html_page, png_figure
from amodalseg.report.table import (
    MAIN,
    Table,
    across_tables,
    all_figures,
    by_data,
    main_tables,
    result_key,
    rows_by_result,
    to_html,
    to_markdown,
)

INTERVALS = (
    "Percent where a column names no other unit (SSIM has none); the best of each column is bold. Small print: 95 % "
    "bootstrap interval, resampling whole images with replacement; with fewer than about 20 images it is only a rough "
    "guide. Columns of different protocols must not be compared with each other, nor with published numbers of another "
    "protocol. A mean over sets weighs every data set the same and is given where every set has a value."
)
WORDS = (
    "Modal: the visible pixels of an object, given to the model. Amodal: the whole object, visible and hidden. "
    "Occluded: amodal and not modal. Occlusion rate: the occluded share of the amodal area."
)


class Strip(NamedTuple):
    """A picture of one object in the report. png: the file's bytes. caption: one line."""

    png: bytes
    caption: str


def write_report(
    folder: Path,
    results: Sequence[dict],
    rows: Sequence[Row],
    strips: Mapping[str, Sequence[Strip]],
    curves: Mapping[str, Sequence[tuple[int, float | None, float | None]]],
    run_info: Mapping[str, Any],
    with_html: bool = True,
) -> tuple[Path, Path | None]:
    """Write ``report.md`` and ``report.html``, atomically.

    Args:
        folder: created if it is missing.
        results: from ``metrics.protocols.summarize``.
        rows: from which the results were computed.
        strips: title of a section -> its pictures.
        curves: model -> (steps, full, occluded) by ``per_object_occluded``; empty: no such diagram.
        run_info: what is needed to repeat the run: ``data``, ``command``, ``commit``, ``versions`` (a dict), and
            anything else; values may be dicts and texts of several lines.
        with_html: False: write Markdown only.

    Returns:
        Paths of the Markdown and the HTML file (None if there is none).
    """
    folder = Path(folder)
    markdown, page = folder / "report.md", folder / "report.html"
    mains = [*across_tables(results), *main_tables(results, rows)]
    alls, sections = all_figures(results), beside_published(results, rows)
    protocols = PROTOCOLS | {name: DETECTION[name] for result in results for name in result.get("detection", {})}
    write_whole(markdown, _markdown(mains, sections, alls, protocols, run_info))
    if not with_html:
        return markdown, None
    main_names = list(dict.fromkeys(protocol for protocol, _ in MAIN))
    parts = [f"<h1>Evaluation report</h1>\n<p class=soft>{html.escape(_summary(results))}</p>"]
    for table in mains:
        parts.append(f"<h2>Scores: {html.escape(table.title)}</h2>\n<div class=scroll>{to_html(table)}</div>")
    main_cards = _cards({name: PROTOCOLS[name] for name in main_names})
    parts.append(f"<p class=soft>{INTERVALS}</p>\n{main_cards}\n<p class=soft>{WORDS}</p>")
    parts += [_beside_published(section) for section in sections]
    parts += _diagrams(results, rows, curves)
    if any(strips.values()):
        moves, edits = (any(r["scores"][name]["num_objects"] for r in results) for name in ("moved", "edited"))
        parts.append(f"<h2>Objects</h2>\n{color_legend(moves, edits)}")
    for title, pictures in strips.items():
        if pictures:
            parts.append(f"<h3>{html.escape(title)}</h3>")
        parts += [png_figure(strip.png, strip.caption) for strip in pictures]
    others = {name: protocol for name, protocol in protocols.items() if name not in main_names}
    parts.append(f"<h2>All figures</h2>\n{_cards(others)}")
    parts += [_fold(f"{table.title}: all {len(table.lines)} figures", [table]) for table in alls]
    parts.append(f"<h2>How it was made</h2>\n{_facts(run_info)}")
    write_whole(page, html_page("Evaluation report", "\n".join(parts)))
    return markdown, page


def _markdown(
    mains: Sequence[Table],
    sections: Sequence[Section],
    alls: Sequence[Table],
    protocols: Mapping[str, Protocol | DetectionProtocol],
    run_info: Mapping[str, Any],
) -> str:
    text = ["# Evaluation report\n", WORDS + "\n"]
    for table in mains:
        text += [f"## {table.title}\n", to_markdown(table)]
    text.append(INTERVALS.replace("Small print", "In brackets") + "\n")
    for section in sections:
        text += [f"## Beside published numbers: {section.title}\n", section.intro + "\n"]
        text += [f"### {table.title}\n\n{to_markdown(table)}" for table in section.tables]
        if section.apart:
            text += [f"### Set apart\n\n{APART}\n", *map(to_markdown, section.apart)]
        if section.ablations:
            text += [f"<details><summary>{ABLATIONS}</summary>\n", *map(to_markdown, section.ablations), "</details>\n"]
    text += ["## What the protocols measure\n"]
    text += [f"- **{name}**: {p.explanation} *Used by: {p.source}.*" for name, p in protocols.items()]
    for table in alls:
        text += [f"\n## All figures: {table.title}\n", to_markdown(table)]
    text += ["\n## How it was made\n", *(f"- {name}: {_one_line(value)}" for name, value in _ordered(run_info))]
    return "\n".join(text) + "\n"


def _beside_published(section: Section) -> str:
    parts = [f"<h2>Beside published numbers: {html.escape(section.title)}</h2>", f"<p>{html.escape(section.intro)}</p>"]
    parts += [f"<div class=scroll>{to_html(table)}</div>" for table in section.tables]
    if section.apart:
        parts.append(f"<h3>Set apart</h3>\n<p class=soft>{APART}</p>")
        parts += [f"<div class=scroll>{to_html(table)}</div>" for table in section.apart]
    if section.ablations:
        parts.append(_fold(ABLATIONS, section.ablations))
    return "\n".join(parts)


def _fold(summary: str, tables: Sequence[Table]) -> str:
    inside = "\n".join(f"<div class=scroll>{to_html(table)}</div>" for table in tables)
    return f"<details><summary>{html.escape(summary)}</summary>\n{inside}</details>"


def _summary(results: Sequence[dict]) -> str:
    models = list(dict.fromkeys(result["model"] for result in results))
    data = {(r["dataset"], r["split"]): (r["num_objects"], r["num_occluded"]) for r in results}
    sizes = "; ".join(f"{d} / {s}: {n} objects, {k} with occlusion" for (d, s), (n, k) in data.items())
    return f"{', '.join(models)} on {sizes}" if results else "No results."


def _cards(protocols: Mapping[str, Protocol | DetectionProtocol]) -> str:
    cards = [
        f"<div class=card><code>{name}</code><p>{html.escape(protocol.explanation)}</p>"
        f"<p class=source>Used by: {html.escape(protocol.source)}.</p></div>"
        for name, protocol in protocols.items()
    ]
    return f"<div class=cards>{''.join(cards)}</div>".replace(" %", "&nbsp;%")


def _diagrams(
    results: Sequence[dict],
    rows: Sequence[Row],
    curves: Mapping[str, Sequence[tuple[int, float | None, float | None]]],
) -> list[str]:
    parts = ["<h2>IoU against occlusion rate</h2>"] if rows else []
    behind = rows_by_result(rows)
    for title, group in by_data(results).items() if rows else ():
        by_model = {result["model"]: behind[result_key(result)] for result in group}
        caption = (
            f"{title}: per_object · full and per_object · occluded of the objects in each range of the occlusion rate; "
            "below, how many objects are behind each mean."
        )
        parts.append(png_figure(iou_against_rate(by_model), caption))
    for title, group in by_data(results).items() if rows else ():
        counted = {r["model"]: [row["calibration"] for row in behind[result_key(r)]] for r in group}
        found = {model: calibration(texts) for model, texts in counted.items()}
        sure = {model: one for model, one in found.items() if one is not None}
        if sure:
            missed = "; ".join(f"{model} {one.missed}" for model, one in sure.items())
            caption = (
                f"{title}: of pixels that are not visible, the share that belongs to the hidden part, over the "
                f"probability of at least {100 * LEAST:.0f} % that a model gives them; below, how many there are. ECE: "
                f"the mean distance from the diagonal, over pixels. Hidden pixels with a lower probability: {missed}."
            )
            parts += ["<h2>Reliability of probabilities</h2>", png_figure(reliability(sure), caption)]
    if curves:
        where = f"First objects of {next(iter(by_data(results)))}: " if results else ""
        caption = f"{where}per_object_occluded · full and per_object_occluded · occluded, by number of sampling steps."
        parts += ["<h2>IoU against sampling steps</h2>", png_figure(iou_against_steps(curves), caption)]
    return parts


def _ordered(run_info: Mapping[str, Any]) -> list[tuple[str, Any]]:
    first = [name for name in ("data", "command", "commit", "versions") if name in run_info]
    return [(name, run_info[name]) for name in [*first, *(name for name in run_info if name not in first)]]


def _one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return f"\n\n```\n{value}\n```\n" if "\n" in str(value) else f"`{value}`"


def _facts(run_info: Mapping[str, Any]) -> str:
    items = []
    for name, value in _ordered(run_info):
        text = _one_line(value) if isinstance(value, Mapping) else str(value)
        items.append(f"<dt>{html.escape(name)}</dt><dd><pre>{html.escape(text)}</pre></dd>")
    return f"<dl>{''.join(items)}</dl>"
