"""The configuration files that ship with the project: found by name, from any working directory."""

from __future__ import annotations

import difflib
from pathlib import Path

from amodalseg.config import schema

CONFIGS = (Path(__file__).resolve().parents[1] / "configs", Path(__file__).resolve().parents[2] / "configs")
"""Inside an installed package, beside the package in a checkout."""
PARTS: dict[type, str] = {
    schema.TrainConfig: "experiment", schema.EvalConfig: "eval", schema.ModelOnly: "model", schema.EditConfig: "edit",
}  # fmt: skip
"""Kind of configuration -> subfolder with its files."""


def find_config(kind: type, name: str | Path) -> Path:
    """The configuration file of a name.

    Args:
        kind: of the configuration.
        name: a file; or a shipped one: ``photos_tiny``, ``table4/a``, ``configs/experiment/photos_tiny.yaml``.

    Returns:
        The user's own file if it exists, else the shipped one; ``name`` itself if there is neither.
    """
    path = Path(name)
    if path.is_file() or path.is_absolute() or kind not in PARTS:
        return path
    for folder in CONFIGS:
        places = [folder / PARTS[kind] / f"{path}.yaml", folder / PARTS[kind] / path]
        places += [folder.parent / path] if path.parts[:1] == ("configs",) else []
        for place in places:
            if place.is_file():
                return place
    return path


def shipped_configs(kind: type) -> list[str]:
    """Names of the shipped files of a kind of configuration."""
    roots = [folder / PARTS[kind] for folder in CONFIGS]
    return sorted(
        {path.relative_to(root).with_suffix("").as_posix() for root in roots for path in root.rglob("*.yaml")}
    )


def nearest_shipped(kind: type, name: str | Path) -> str:
    """A hint for the message about a missing file: the most similar shipped name, or nothing."""
    near = difflib.get_close_matches(Path(name).with_suffix("").name, shipped_configs(kind) if kind in PARTS else [], 1)
    return f"; did you mean '{near[0]}', which ships with amodalseg?" if near else ""
