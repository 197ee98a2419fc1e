"""A run's folder: which run it belongs to, and the provenance that published numbers need."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from amodalseg.atomic import PART, write_whole
from amodalseg.config.load import build, to_dict, to_yaml
from amodalseg.config.yaml_file import read_yaml
from amodalseg.errors import UserError
from amodalseg.lock import NAME as LOCK
from amodalseg.ranks import is_first_process

CONFIG_FILE = "config.yaml"
RESULTS = ("last.ckpt", "model.safetensors", "answers", "objects.csv", "edit.json")
"""Files that make a folder a run: before the first of these exists, it may be restarted with other options."""
FREE = ("out", "device", "log", "models", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
        "trainer.progress", "trainer.accelerator", "trainer.compile", "checkpoint.resume",
        "loader.num_workers", "model.inversion.folder", "override.inversion.folder")  # fmt: skip
"""Options, or whole sections, that may differ between a run and its continuation; models may be added."""


def check_folder(folder: Path, config: Any) -> None:
    """Refuse a folder that does not belong to this run, without touching it.

    Raises:
        UserError: the folder holds a run of another configuration (the message names the differing options) or other
            files, or is itself a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder} is a file; name a folder")
    if any((folder / name).exists() for name in RESULTS):
        old, new = flat(_completed(_read_config(folder / CONFIG_FILE), config)), flat(to_dict(config))
        differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and not _is_free(key))
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            further = f"; to train on from it, give continue_from={folder}, or init={folder} for its weights"
            raise UserError(
                f"{folder} holds another run (it differs in {', '.join(differing[:3])}{more}); "
                "choose another out= or remove the folder" + (further if differing == ["trainer.max_steps"] else "")
            )
    elif folder.is_dir() and not (folder / CONFIG_FILE).is_file() and _holds_files(folder):
        raise UserError(f"{folder} holds files that are not a run of this program; choose another out=")


def claim(folder: Path, config: Any) -> None:
    """Claim the folder for this run: ``check_folder``, then remove leftovers of a kill and write the configuration."""
    check_folder(folder, config)
    if is_first_process():
        for unfinished in folder.glob(f".*{PART}"):
            unfinished.unlink()
        write_whole(folder / CONFIG_FILE, to_yaml(config))


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() and path.suffix != PART and not path.name.startswith(LOCK) for path in folder.iterdir())


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"{path} cannot be read, so the run cannot be identified; choose another out=") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a configuration, so the run cannot be identified; choose another out=")
    return content


def _completed(old: dict[str, Any], config: Any) -> dict[str, Any]:
    """A run's configuration, with defaults for options added since it was written."""
    try:
        return to_dict(build(type(config), [(CONFIG_FILE, old)]))
    except UserError:  # a configuration of another kind or with removed options is compared unchanged
        return old


def _is_free(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in FREE)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def provenance() -> dict[str, Any]:
    """Provenance for published numbers: commit (marked if the tree has changes) and library versions."""
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
