"""Modal and amodal masks drawn by supervision: ``python annotate.py photo.jpg mask.png --out drawn.png``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import supervision as sv

import amodalseg
from amodalseg import UserError
from amodalseg.data.images import load_image, save_png
from amodalseg.data.mask_files import read_mask_file
from amodalseg.predictions import Prediction, PredictionStack


def drawn(photo: np.ndarray, prediction: Prediction | PredictionStack) -> np.ndarray:
    """The photo, uint8 (H, W, 3) RGB, with whole objects in red, their visible parts in blue, and their boxes."""
    whole = prediction.to_supervision()
    visible = replace(whole, mask=whole.data["modal"])
    scene = np.ascontiguousarray(photo[..., ::-1])  # supervision draws on BGR, as OpenCV does
    for annotator, objects in (
        (sv.MaskAnnotator(sv.Color.RED, color_lookup=sv.ColorLookup.INDEX), whole),
        (sv.MaskAnnotator(sv.Color.BLUE, color_lookup=sv.ColorLookup.INDEX), visible),
        (sv.PolygonAnnotator(sv.Color.WHITE, color_lookup=sv.ColorLookup.INDEX), whole),
        (sv.BoxAnnotator(sv.Color.WHITE, thickness=1, color_lookup=sv.ColorLookup.INDEX), whole),
    ):
        scene = annotator.annotate(scene, objects)
    return scene[..., ::-1]


def main() -> None:
    """Complete the object of a mask file, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="conddiff_amo_lite")
    given = parser.parse_args()
    try:
        photo, mask = load_image(given.photo), read_mask_file(given.mask)
        save_png(given.out, drawn(photo, amodalseg.load_model(given.model).predict(photo, mask)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
