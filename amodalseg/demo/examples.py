"""Example pictures of the procedural world for the page."""

from __future__ import annotations

from pathlib import Path

from amodalseg.config.schema import SyntheticData
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.images import save_png
from amodalseg.data.record_pictures import record_image

SIZE = 320
"""Side of the pictures, pixels."""
CHOSEN = (19, 2, 18)
"""Indices of the objects: partly hidden, easy to tell from their surroundings, no letters, which need matplotlib."""


def draw_examples(folder: Path) -> list[Path]:
    """Draw the example pictures. Returns: their files."""
    world = SyntheticWorld(SyntheticData(split="demo", size=SIZE, rate_min=0.2, rate_max=0.5))
    paths = []
    for place, index in enumerate(CHOSEN, start=1):
        paths.append(folder / f"example_{place}.png")
        save_png(paths[-1], record_image(world.get(index)))
    return paths
