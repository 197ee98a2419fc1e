"""Run lengths -> polygons, for tools that read only these: ``python polygons.py amodal.json --out polygons.json``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodalseg import UserError, masks
from amodalseg.atomic import write_whole
from amodalseg.data.readers.files import load_json


def polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a mask's pieces, bool (H, W), as COCO polygons; holes are filled, because those have none.

    They lie a quarter of a pixel inside the mask's edge, so that COCO's tools fill them to the same mask.
    """
    fine = np.kron(mask, np.ones((2, 2), bool)).astype(np.uint8)
    found, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((ring[:, 0] + 0.5) / 2).ravel().tolist() for ring in found]


def main() -> None:
    """Write the file, and report the loss."""
    parser = argparse.ArgumentParser(description="Convert the run lengths of a COCO file to polygons.")
    parser.add_argument("coco", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--modal", action="store_true", help="convert modal_segmentation instead of segmentation")
    given = parser.parse_args()
    try:
        if given.out.resolve() == given.coco.resolve():
            raise UserError("--out would overwrite an input; give another name")
        content: dict[str, Any] = load_json(given.coco)
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        worst, key = 1.0, "modal_segmentation" if given.modal else "segmentation"
        for entry in content["annotations"]:
            rle = masks.from_segmentation(entry[key], *sizes[entry["image_id"]])
            entry["segmentation"] = polygons(masks.decode(rle))
            again = masks.from_segmentation(entry["segmentation"], *sizes[entry["image_id"]])
            entry["area"], entry["bbox"] = masks.area(again), list(masks.box_xywh(again))
            entry.pop("modal_segmentation", None)
            worst = min(worst, float(masks.ious([rle], [again])[0, 0]))
    except (UserError, ValueError, KeyError) as error:
        sys.exit(f"{given.coco}: {error}")
    write_whole(given.out, json.dumps(content) + "\n")
    print(f"{len(content['annotations'])} annotations: {given.out}; the least IoU with the masks is {worst:.4f}")


if __name__ == "__main__":
    main()
