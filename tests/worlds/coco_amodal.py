"""The exchange format as an annotation tool writes it: two COCO-instances files without the package's own keys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from amodalseg import masks
from tests.worlds.drawing import compressed, disc, photo, ring, run_lengths, write_photo


def coco_amodal_world(folder: Path, num_images: int = 2, *, seed: int = 0, split: str = "val") -> Path:
    """Two files with common ids, entries out of order and in all of COCO's encodings.

    Each photo shows an unoccluded box (a polygon in both files), a plate behind it (amodal as a polygon, modal
    compressed), a dog at the border (run lengths), and a ball completely hidden behind the dog.

    Returns:
        The data set's folder.
    """
    rng = np.random.default_rng(seed)
    images, modal, amodal = [], [], []
    for number in range(num_images):
        height, width, image_id = 92 + 6 * number, 120, 70 - 30 * number
        images.append({"id": image_id, "file_name": f"photo{image_id}.png", "height": height, "width": width})
        write_photo(folder / "images" / split / f"photo{image_id}.png", photo(rng, height, width))
        size = height, width
        box, outline = np.zeros(size, bool), [20, 24, 46, 24, 46, 56, 20, 56]
        box[24:56, 20:46] = True
        oval = ring(52.5, 48, 20, 15)
        plate = masks.decode(masks.from_segmentation(oval, *size))
        dog, ball = disc(*size, 104, 30, 18, 22.5), disc(*size, 100, 30, 6, 7)
        shapes = [
            (3, [outline], [outline]),
            (5, compressed(plate & ~box), [oval]),
            (8, run_lengths(dog), run_lengths(dog)),
            (4, compressed(ball & ~dog), compressed(ball)),
        ]
        for place, (category_id, visible, whole) in enumerate(shapes):
            common = {"id": 900 - 11 * (len(shapes) * number + place), "image_id": image_id, "category_id": category_id}
            modal.append({**common, "segmentation": visible, "iscrowd": 0})
            amodal.append({**common, "segmentation": whole, "iscrowd": 0})
    names = {3: "box", 4: "ball", 5: "plate", 8: "dog"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    for kind, entries in (("modal", modal), ("amodal", amodal[::-1])):
        path = folder / "annotations" / f"{split}_{kind}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"images": images[::-1], "annotations": entries, "categories": categories}
        path.write_text(json.dumps(content))
    return folder
