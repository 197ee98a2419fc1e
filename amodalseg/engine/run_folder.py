"""A run's folder: whose it is, and what a published number needs beside it."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from amodalseg.atomic import write_whole
from amodalseg.config.load import to_dict, to_yaml
from amodalseg.errors import UserError

CONFIG_FILE = "config.yaml"
FREE = ("out", "log", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.progress",
        "trainer.accelerator", "trainer.compile", "checkpoint.resume", "loader.num_workers", "overwrite")  # fmt: skip
"""Options that may change between a run and its continuation."""


def claim(folder: Path, config: Any) -> None:
    """Make the folder this run's own, or refuse it.

    Raises:
        UserError: the folder holds a run of another configuration (the options that differ are named), or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder} is a file; name a folder")
    kept = folder / CONFIG_FILE
    if kept.is_file():
        old, new = _flat(yaml.safe_load(kept.read_text()) or {}), _flat(to_dict(config))
        differing = sorted(
            key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and not key.startswith(FREE)
        )
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise UserError(
                f"{folder} holds another run (it differs in {', '.join(differing[:3])}{more}); "
                "choose another out= or remove the folder"
            )
    elif folder.is_dir() and any(path.is_file() for path in folder.iterdir()):
        raise UserError(f"{folder} holds files that are no run of this program; choose another out=")
    write_whole(kept, to_yaml(config))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def provenance() -> dict[str, Any]:
    """What a published number needs beside it: commit (with a mark if the tree is changed) and library versions."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit and git("status", "--porcelain", "--untracked-files=no"):
        commit += " (with uncommitted changes)"
    packages = (
        "amodalseg",
        "torch",
        "torchvision",
        "timm",
        "lightning",
        "numpy",
        "pycocotools",
        "opencv-python-headless",
    )
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return {"commit": commit or "unknown", "versions": versions}
