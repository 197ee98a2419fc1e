"""The files that ``gpu.py`` writes: results.json, results.md, log.txt, and the pieces of a large file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amodalseg.atomic import write_whole
from amodalseg.engine.run_folder import provenance
from amodalseg.errors import UserError

PIECE = 16_000_000
"""Maximum size of a file in the folder, bytes."""
MAX_FILES = 8
OWN_FILES = ("results.json", "results.md", "log.txt")
LOG_TAIL = 100_000
"""Bytes kept of the end of each part's output."""
NAMES = {
    "predictions": "predictions as on the CPU, and in bf16",
    "compile": "`accelerate(compile=True)`, CUDA graphs",
    "process_group": "a process group of one",
    "resume": "a run that broke off ends in the same weights",
    "sampler_tiny": "sampler, `conddiff_amo_tiny`",
    "sampler_b4": "sampler, `conddiff_amo_b4` at 256 px, random weights",
    "training": "training",
    "release": "release",
}


@dataclass
class Result:
    """The state and results of one part. state: waiting, running, passed, failed or timed out."""

    name: str
    state: str = "waiting"
    seconds: float = 0.0
    what: str = ""
    passed: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


def write_results(out: Path, about: dict[str, Any], results: list[Result], work: Path) -> None:
    """Rewrite results.json, results.md and log.txt, each atomically."""
    machine = next((result.machine for result in results if result.machine), {})
    about = {**about, **machine, **_versions()}
    rows = [{key: value for key, value in asdict(r).items() if key not in ("machine", "passed")} for r in results]
    write_whole(out / "results.json", json.dumps({"about": about, "parts": rows}, indent=1))
    write_whole(out / "results.md", markdown(about, results))
    logs = ((result.name, work / f"{result.name}.log") for result in results)
    text = [b"== %s\n%s\n" % (name.encode(), log.read_bytes()[-LOG_TAIL:]) for name, log in logs if log.exists()]
    write_whole(out / "log.txt", b"".join(text))


_known_versions: dict[str, Any] = {}


def _versions() -> dict[str, Any]:
    if not _known_versions:
        _known_versions.update(provenance())
    return _known_versions


def markdown(about: dict[str, Any], results: list[Result]) -> str:
    """The results as Markdown."""
    device = about.get("device", "no device yet")
    lines = [
        f"# {about['experiment']}, {about['minutes']:g} minutes on {device}",
        "",
        f"torch {about['versions']['torch']}, commit {about['commit']}.",
        "",
        "| part | result | seconds | |",
        "|---|---|---:|---|",
        *(f"| {NAMES[r.name]} | {r.state} | {r.seconds:.0f} | {' '.join(r.what.split())} |" for r in results),
    ]
    for result in results:
        table, figures = result.figures.get("table"), {k: v for k, v in result.figures.items() if _plain(v)}
        if table or figures:
            lines += ["", f"## {NAMES[result.name]}", ""]
        lines += [table, ""] if table else []
        lines += ["| | |", "|---|---:|"] if figures else []
        lines += [f"| {name} | {_show(value)} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and "\n" not in value)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def write_pieces(path: Path, out: Path, room: int, limit: int = PIECE) -> list[str]:
    """Copy a file to a folder; if larger than ``limit``, as NAME.1, NAME.2, ..., to be joined by ``cat``.

    Args:
        path: the file.
        out: the folder.
        room: maximum number of files to add.
        limit: maximum bytes per file.

    Returns:
        The names.

    Raises:
        UserError: the file does not fit.
    """
    content = path.read_bytes()
    pieces = [content[start : start + limit] for start in range(0, len(content), limit)]
    if len(pieces) > min(room, 9):
        raise UserError(f"{path.name} is {len(content) / 1e6:.1f} MB: more than {room} files of {limit / 1e6:g} MB")
    names = [path.name] if len(pieces) == 1 else [f"{path.name}.{number}" for number in range(1, len(pieces) + 1)]
    for name, piece in zip(names, pieces, strict=True):
        write_whole(out / name, piece)
    return names
