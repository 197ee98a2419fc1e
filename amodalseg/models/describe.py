"""A description of each available model, without opening it."""

from __future__ import annotations

import inspect
import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from amodalseg.config import schema
from amodalseg.models import CHECKPOINTS, METHODS, MODELS, list_models, model_file

ZOO = Path(__file__).with_name("zoo.json")
"""The shipped weights: files, data, scores with intervals. Written by ``benchmarks/zoo.py``."""


class Description(NamedTuple):
    """One model. name: for ``load_model``. size: of its weights. what: one-line description. notes: from its file."""

    name: str
    size: str
    what: str
    notes: dict[str, str]


def describe_models() -> list[Description]:
    """All of ``list_models()``, in their order. Only the files' metadata is read, not the weights."""
    return [_describe(name) for name in list_models()]


def _describe(name: str) -> Description:
    if name in MODELS:
        return Description(name, "no weights", _first_line(MODELS[name]), {})
    if name in METHODS:
        has_backend = hasattr(schema.MODELS[name](), "backend")
        size = "inpainting model" if has_backend else "no weights"
        return Description(name, size, _first_line(schema.MODELS[name]), {})
    return _describe_file(name, model_file(name))


def _describe_file(name: str, path: Path) -> Description:
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            kept = [key for key in file.keys() if "running_" not in key and "num_batches" not in key]  # noqa: SIM118
            count = sum(prod(file.get_slice(key).get_shape()) for key in kept)
        model, about = json.loads(metadata["model"]), json.loads(metadata["about"])
    except (SafetensorError, OSError, KeyError, ValueError):
        return Description(name, size, "a file that is damaged, or not a model of this program", {})
    what = f"{model['name']}, {count / 1e6:.2f} M parameters, window of {model['window']['size']} px"
    notes = {key: value for key, value in about.items() if isinstance(value, str)}
    return Description(name, size, what, notes | _scores(name, path))


def _scores(name: str, path: Path) -> dict[str, str]:
    """Scores of unmodified shipped weights: occluded region and full mask on each data set, in percent."""
    zoo = json.loads(ZOO.read_text("utf-8"))
    entry = zoo["weights"].get(name)
    if entry is None or path.parent not in CHECKPOINTS or path.stat().st_size != entry["bytes"]:
        return {}
    found = {}
    for place, result in zoo["scores"]["sets"].items():
        figures = result["models"].get(name, {})
        shown = [figures[f"per_object_occluded.{figure}"] for figure in ("occluded", "full") if figures]
        if shown:
            said = " / ".join(
                f"{value[0]:.1f}" + (f" [{value[1]:.1f}, {value[2]:.1f}]" if len(value) == 3 else "") for value in shown
            )
            found[f"score on {place}"] = f"{said} (per_object_occluded: occluded / full)"
    return found


def _first_line(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0].rstrip(".")
