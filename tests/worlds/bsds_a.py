"""BSDS-A."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.worlds.cocoa import piled_regions
from tests.worlds.drawing import photo, ring, write_photo


def bsds_a_world(folder: Path, *, split: str = "test", seed: int = 0) -> Path:
    """BSDS-A: two photos, one in portrait and one in landscape format, each annotated differently by three people.

    The annotations of the two photos are interleaved in the file. Person 0 annotates three objects, person 1 the same
    ones a little larger, person 2 two of them in the opposite order. ``license`` and ``date_captured`` are ``"?"``,
    ``size`` is wrong, and one ``order`` of person 2 in the second photo is not a number.

    Returns:
        The data set's folder.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number, (height, width) in enumerate([(90, 124), (124, 90)]):
        name = f"{100007 + 5000 * number + seed}.jpg"
        write_photo(folder / "BSR/BSDS500/data/images" / split / name, photo(rng, height, width))
        images.append({
            "id": 50 - 20 * number, "file_name": name, "height": height, "width": width, "license": "?",
            "date_captured": "?", "bsds_url": "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/bsds",
        })  # fmt: skip
        for person in range(3):
            grow = 1 + 0.15 * person
            shapes = [
                ("bear", 1, 0, ring(36, 40, 14 * grow, 18 * grow)),
                ("stone", 2, 0, ring(52, 46, 15 * grow, 13 * grow)),
                ("tree ", 3, 0, ring(62, 60, 18 * grow, 16 * grow)),
            ]
            if person == 2:
                shapes = [(name, place + 1, 0, ring_of) for place, (name, _, _, ring_of) in enumerate(shapes[1::-1])]
            annotations.append({
                "id": 700 - 10 * (3 * number + person), "image_id": images[-1]["id"], "author": f"person{person}",
                "url": images[-1]["bsds_url"], "size": 9, "depth_constraint": "" if person else "1-2,2-3",
                "regions": piled_regions(shapes, height, width),
            })  # fmt: skip
    annotations[5]["regions"][0]["order"] = "?"
    path = folder / "annotations" / f"BSDS_amodal_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": [annotations[i] for i in (0, 3, 4, 1, 2, 5)]}))
    return folder
