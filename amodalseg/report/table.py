"""Tables of scores for a page, a document and a terminal. Every column names its protocol."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from amodalseg.atomic import write_whole
from amodalseg.metrics.counts import Row
from amodalseg.metrics.protocols import PROTOCOLS, unit_of
from amodalseg.metrics.rules import PERCENT, Unit

MAIN = [
    ("per_object_occluded", "occluded"),
    ("per_object_occluded", "full"),
    ("per_object", "full"),
    ("pooled", "occluded"),
    ("pooled", "full"),
]
PICTURES = [("appearance", "psnr"), ("appearance", "ssim")]
"""Main figures where any model draws pictures whose truth is known."""
MOVED = [("moved", name) for name in ("origin_psnr", "target_psnr", "rest_psnr", "stays", "iou")]
"""Main figures where any model moved objects."""
EDITED = [("edited", name) for name in ("region_psnr", "kept_psnr", "kept_ssim", "rest_ssim", "stays")]
"""Main figures where any model edited photos."""
ACROSS = MAIN[:2]
"""Figures by which data sets are compared: the two that unoccluded objects cannot raise."""
UNDEFINED = "–"
PLAIN_NOTE = "Below each figure its 95 % interval, whole images resampled; with fewer than about 20 a rough guide."


@dataclass(frozen=True)
class Cell:
    """text: the content. note: small print below or after it. best: whether it is the best of its figure."""

    text: str
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A title, the column names, and lines of cells; the first column holds text, the others numbers."""

    title: str
    header: list[str]
    lines: list[list[Cell]]


def main_tables(results: Sequence[dict], rows: Sequence[Row] = ()) -> list[Table]:
    """The main figures, one line per model, one table per data set and split.

    Args:
        results: from ``metrics.protocols.summarize``.
        rows: from which the results were computed; if given, time, memory and network evaluations are added.

    Returns:
        Tables, in percent with one decimal unless a column names another unit, with 95 % intervals as notes; the best
        value of each column is marked if there are several models.
    """
    behind = rows_by_result(rows)
    for result in results if rows else ():
        assert len(behind[result_key(result)]) == result["num_objects"], "results and rows belong to each other"
    tables = []
    for title, group in by_data(results).items():
        columns = [[Cell(result["model"]) for result in group]]
        shown = list(MAIN)
        for protocol, further in (("appearance", PICTURES), ("moved", MOVED), ("edited", EDITED)):
            shown += further if any(result["scores"][protocol]["num_objects"] for result in group) else []
        columns += [_figure_cells(group, protocol, name) for protocol, name in shown]
        header = ["model", *(label(protocol, name) for protocol, name in shown), "objects", "with occlusion"]
        columns += [[Cell(str(result[name])) for result in group] for name in ("num_objects", "num_occluded")]
        if rows:
            header += ["seconds / object, median", "peak memory, MB", "evaluations / object"]
            costs = [_costs(behind[result_key(result)]) for result in group]
            columns += [list(column) for column in zip(*costs, strict=True)]
        tables.append(Table(title, header, [list(line) for line in zip(*columns, strict=True)]))
    return tables


def across_tables(results: Sequence[dict]) -> list[Table]:
    """Several data sets side by side: one table for each of ``ACROSS``, with a line per model and a column per set.

    The last column is the mean over the data sets with equal weights, for models with a value on every set: a mean over
    fewer sets would not be comparable.

    Returns:
        Tables; none if there is only one data set and split.
    """
    groups = by_data(results)
    if len(groups) < 2:
        return []
    models = list(dict.fromkeys(result["model"] for result in results))
    tables = []
    for protocol, name in ACROSS:
        columns = [[Cell(model) for model in models]]
        for group in groups.values():
            cells = dict(zip([r["model"] for r in group], _figure_cells(group, protocol, name), strict=True))
            columns.append([cells.get(model, Cell(UNDEFINED)) for model in models])
        means: list[float | None] = []
        for model in models:
            values = [r["scores"][protocol][name] for r in results if r["model"] == model]
            whole = len(values) == len(groups) and None not in values
            means.append(fmean(values) if whole else None)
        columns.append(_ranked(means))
        lines = [list(line) for line in zip(*columns, strict=True)]
        tables.append(Table(f"across data sets, {protocol} · {name}", ["model", *groups, "mean over sets"], lines))
    return tables


def all_figures(results: Sequence[dict]) -> list[Table]:
    """Every figure of every protocol, one line each, with one column per model; a table per data set and split.

    Figures of detection protocols (``detection`` of a result, if measured) come last.
    """
    tables = []
    for title, group in by_data(results).items():
        names = [(protocol, name) for protocol, figures in group[0]["scores"].items() for name in figures]
        lines = [[Cell(label(protocol, name)), *_figure_cells(group, protocol, name)] for protocol, name in names]
        found = [result.get("detection", {}) for result in group]
        pairs = dict.fromkeys((protocol, name) for each in found for protocol in each for name in each[protocol])
        for protocol, name in pairs:
            values = [each.get(protocol, {}).get(name) for each in found]
            lines.append([Cell(f"{protocol} · {name}"), *_ranked(values)])
        tables.append(Table(title, ["protocol · figure", *(result["model"] for result in group)], lines))
    return tables


def to_markdown(table: Table) -> str:
    """A pipe table; best values in bold, notes in brackets."""

    def join(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [join(table.header), "|---|" + "---:|" * (len(table.header) - 1)]
    for line in table.lines:
        lines.append(join([(f"**{c.text}**" if c.best else c.text) + (f" [{c.note}]" if c.note else "") for c in line]))
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """A ``table`` element; best values in ``strong``, notes in ``small``."""

    def cell(cell: Cell) -> str:
        text = html.escape(cell.text)
        note = f"<small>{html.escape(cell.note)}</small>" if cell.note else ""
        return (f"<strong>{text}</strong>" if cell.best else text) + note

    head = "".join(f'<th scope="col">{_header(name)}</th>' for name in table.header)
    body = "\n".join(
        f'<tr><th scope="row">{cell(line[0])}</th>' + "".join(f"<td>{cell(c)}</td>" for c in line[1:]) + "</tr>"
        for line in table.lines
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"


def to_plain(table: Table) -> str:
    """Aligned columns for a terminal: protocol above figure, best marked with ``*``, notes on a separate line."""
    header = [name.split(" · ") if " · " in name else ["", name] for name in table.header]
    lines = [[part[0] for part in header], [part[1] for part in header]]
    for line in table.lines:
        lines.append([f"{'*' if cell.best else ''}{cell.text}" for cell in line])
        if any(cell.note for cell in line):
            lines.append([cell.note for cell in line])
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    text = [
        "  ".join(part.ljust(width) if not index else part.rjust(width) for index, (part, width) in enumerate(columns))
        for columns in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    text.insert(2, "  ".join("-" * width for width in widths))
    return "\n".join([table.title, *(line.rstrip() for line in text)]) + "\n"


def plain_table(results: Sequence[dict]) -> str:
    """The main figures for a terminal, with intervals; tables across several data sets come first."""
    tables = [to_plain(table) for table in [*across_tables(results), *main_tables(results)]]
    return "\n".join([*tables, f"Percent where a column names no other unit. {PLAIN_NOTE}"])


def write_metrics(path: Path, results: Sequence[dict]) -> None:
    """Write ``metrics.json`` atomically: ``{"results": [...]}``, values as from ``score``, null where undefined."""
    write_whole(path, json.dumps({"results": list(results)}, indent=2, allow_nan=False) + "\n")


def by_data(results: Sequence[dict]) -> dict[str, list[dict]]:
    """Results by data set and split, ``dataset / split`` -> results, in order of appearance."""
    groups: dict[str, list[dict]] = {}
    for result in results:
        groups.setdefault(f"{result['dataset']} / {result['split']}", []).append(result)
    return groups


def result_key(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """The key shared by a result and its rows: model, data set and split. Args: entry, a result or a row."""
    return entry["model"], entry["dataset"], entry["split"]


def rows_by_result(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows by ``result_key``, in one pass, as an evaluation of several data sets can have millions."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(result_key(row), []).append(row)
    return groups


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal; a dash for None."""
    return in_unit(value, PERCENT)


def in_unit(value: float | None, unit: Unit) -> str:
    """A figure's value as printed, without the name of the unit; a dash for None."""
    return UNDEFINED if value is None else f"{unit.scale * value:.{unit.decimals}f}"


def label(protocol: str, name: str) -> str:
    """``protocol · figure``, followed by the unit unless that is percent."""
    unit = unit_of(protocol, name)
    named = "" if unit is PERCENT or name.startswith("num_") or not unit.name else f", {unit.name}"
    return f"{protocol} · {name}{named}"


def interval(result: dict, protocol: str, name: str) -> str:
    """The 95 % interval of one figure in its unit, ``low – high``; empty if there is none."""
    found, unit = result["intervals"][protocol][name], unit_of(protocol, name)
    return f"{in_unit(found[0], unit)} – {in_unit(found[1], unit)}" if found else ""


def _figure_cells(group: Sequence[dict], protocol: str, name: str) -> list[Cell]:
    assert protocol in PROTOCOLS, protocol
    values = [result["scores"][protocol][name] for result in group]
    if name.startswith("num_"):
        return [Cell(str(value)) for value in values]
    return _ranked(values, [interval(result, protocol, name) for result in group], unit_of(protocol, name))


def _ranked(values: Sequence[float | None], notes: Sequence[str] = (), unit: Unit = PERCENT) -> list[Cell]:
    """Cells of one figure. Values are compared as printed: differences below the printed precision do not count."""
    texts = [in_unit(value, unit) for value in values]
    best = (min if unit.lower else max)((float(text) for text in texts if text != UNDEFINED), default=None)
    return [
        Cell(text, note, len(values) > 1 and text != UNDEFINED and float(text) == best)
        for text, note in zip(texts, notes or [""] * len(texts), strict=True)
    ]


def _costs(rows: Sequence[Row]) -> tuple[Cell, Cell, Cell]:
    """Median time, highest peak memory (a dash if not measured), mean number of network evaluations."""
    seconds, memory = median(row["seconds"] for row in rows), max(row["peak_memory"] for row in rows)
    evaluations = fmean(row["evaluations"] for row in rows)
    times = f"{seconds:.4f}" if seconds < 1 else f"{seconds:.1f}"
    return Cell(times), Cell(str(memory) if memory else UNDEFINED), Cell(f"{evaluations:.1f}".removesuffix(".0"))


def _header(name: str) -> str:
    protocol, dot, figure = name.partition(" · ")  # lines break here, and at underscores if necessary
    words = html.escape(protocol).replace("_", "_<wbr>")
    return f"<code>{words}</code>&nbsp;·<br> {html.escape(figure)}" if dot else html.escape(name)
