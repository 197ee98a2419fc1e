"""Pix2gestalt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.worlds.drawing import disc, photo, write_photo

FILES = {
    "occlusion": "occlusion", "whole": "whole", "whole_mask": "whole_mask", "visible_object_mask": "visible_mask",
}  # fmt: skip


def pix2gestalt_world(folder: Path, num_objects: int = 201, *, seed: int = 0) -> Path:
    """Pix2gestalt: 256 x 256 PNG files in four folders; ids of different lengths, one the beginning of another.

    Of 201 objects three are in ``val``, the fewest for a useful comparison. Each is an ellipse behind a vertical
    bar; the masks have one channel of 0 and 255.

    Returns:
        The data set's folder.
    """
    rng = np.random.default_rng(seed)
    ground = photo(rng, 256, 256) // 32 * 32  # few colours: small files
    for number in range(num_objects):
        name = str(900 + 7 * number)
        amodal = disc(256, 256, *rng.uniform(80, 176, 2), *rng.uniform(30, 70, 2))
        columns = np.flatnonzero(amodal.any(axis=0))
        bar = np.zeros_like(amodal)
        bar[:, columns[len(columns) // 2] : columns[len(columns) // 2] + 25] = True
        colour = rng.integers(0, 255, 3, dtype=np.uint8)
        whole = np.where(amodal[..., None], colour, np.uint8(255))
        pixels = np.where(bar[..., None], 255 - colour, np.where(amodal[..., None], colour, ground))
        pictures = {
            "occlusion": pixels, "whole": whole, "whole_mask": 255 * amodal.astype(np.uint8),
            "visible_object_mask": 255 * (amodal & ~bar).astype(np.uint8),
        }  # fmt: skip
        for kind, picture in pictures.items():
            write_photo(folder / kind / f"{name}_{FILES[kind]}.png", picture)
    return folder
