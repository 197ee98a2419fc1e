"""Training on other photos than a base file names: options about the old files do not apply to the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Layers = list[tuple[str, dict[str, Any]]]
HELD_OUT = {"coco_occlude": "coco_occlude", "scenes": "coco_occlude", "whole_objects": "whole_objects"}
"""``data.name`` of sets made from COCO-instances files -> ``name`` of the default validation set."""
SHARES = ("hosts", "targets", "occluders")
"""Options of ``data`` that name packs, which other files do not have."""


def with_own_photos(layers: Sequence[tuple[str, dict[str, Any]]]) -> Layers:
    """Complete the layers of a training configuration in which ``data.annotations`` is replaced.

    Shares of packs that earlier layers give are dropped. Unless the same layer or a later one names a validation set
    (``val.name`` or ``val.annotations``), a share of the given photos is held out of training for validation,
    replacing a validation set made of other photos. A validation set that needs no photos (``synthetic``) or is a
    published one is kept.

    Args:
        layers: (origin, plain dict), later ones win.

    Returns:
        The layers, perhaps with one more.
    """
    sections = [(_section(layer, "data"), _section(layer, "val")) for _, layer in layers]
    given = [place for place, (data, _) in enumerate(sections) if "annotations" in data]
    if not given:
        return list(layers)
    place, completed = given[-1], list(layers)
    name = _last_name([data for data, _ in sections[: place + 1]])
    if name not in HELD_OUT or _last_name([data for data, _ in sections]) != name:
        return completed
    for earlier, (origin, layer) in enumerate(layers[:place]):
        data = _section(layer, "data")
        if any(name in data for name in SHARES):
            kept = {key: value for key, value in data.items() if key not in SHARES}
            completed[earlier] = (origin, {**layer, "data": kept})
    before = _last_name([val for _, val in sections[:place]])
    named = any("name" in val or "annotations" in val for _, val in sections[place:])
    if not named and (before is None or before in HELD_OUT):
        val = {"name": HELD_OUT[name], "annotations": "${data.annotations}", "images": "${data.images}",
               "split": "val", "num_objects": 200, "photos": "held_out"}  # fmt: skip
        completed.insert(
            place, ("the photos that are held out", {"val": val, "data": {"name": name, "photos": "most"}})
        )
    return completed


def _last_name(sections: Sequence[dict[str, Any]]) -> Any:
    return next((section["name"] for section in reversed(sections) if "name" in section), None)


def _section(layer: dict[str, Any], name: str) -> dict[str, Any]:
    section = layer.get(name)
    return section if isinstance(section, dict) else {}
