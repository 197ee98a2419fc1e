"""Golden predictions of the shipped weights: ``python tests/golden/make.py`` regenerates them.

Each file in this folder belongs to one file of weights, which it names by its sha256. It holds, for each case, the mask
as COCO run lengths and the non-zero values of the map at every third pixel, which suffices to detect any change.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from amodalseg import load_model, masks  # noqa: E402
from amodalseg.atomic import write_whole  # noqa: E402
from amodalseg.config.schema import CaptionsData  # noqa: E402
from amodalseg.data.draw.captions import CaptionedWorld  # noqa: E402
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior  # noqa: E402
from amodalseg.models.inpainting.backends.word_prior import WordPrior  # noqa: E402
from amodalseg.models.inpainting.parts.words import open_word_segmenter  # noqa: E402
from amodalseg.models.inpainting.prior_training.validation import to_pictures  # noqa: E402
from amodalseg.models.inpainting.steps.sample import advance, begin, inpaint  # noqa: E402
from amodalseg.types import Query  # noqa: E402

FOLDER = Path(__file__).parent
EVERY = 3
"""Pixels between the values that are kept."""
WEIGHTS = {
    "conddiff_amo_lite": ROOT / "checkpoints/conddiff_amo_lite.safetensors",
    "conddiff_amo_tiny": ROOT / "checkpoints/conddiff_amo_tiny.safetensors",
    "inpainting_prior": ROOT / "checkpoints/inpainting_prior/unet/diffusion_pytorch_model.safetensors",
    "word_prior": ROOT / "checkpoints/word_prior/unet/diffusion_pytorch_model.safetensors",
    "word_segmenter": ROOT / "checkpoints/word_segmenter/model.safetensors",
}
"""The shipped models, and the file that each one's golden predictions belong to."""

Case = dict[str, Any]
"""``mask``: bool (H, W). ``values``: float (H, W), of a picture the mean over its colours."""


def question(height: int, width: int, top: int, left: int, seed: int) -> Query:
    """A ball behind a post on stripes, in integers: equal on every machine, and independent of other code."""
    rows, columns = np.mgrid[:height, :width]
    ball = (rows - top) ** 2 + (columns - left) ** 2 <= 28**2
    post = abs(columns - left - 12) <= 9
    image = np.stack([60 + rows // 2 % 100, 90 + columns % 64, 120 + (rows + columns) % 48], axis=2)
    image[ball] = np.stack([200 - rows % 16, 70 + columns % 8, 60 + 0 * rows], axis=2)[ball]
    image[post] = (40, 60 + seed, 150)
    return Query(image.astype(np.uint8), ball & ~post, seed, occluder=post)


def conddiff_cases(model: Any) -> dict[str, Case]:
    """Cases of a model or its exported file: an object inside the photo, and one at its border with two samples."""
    inside, border = question(120, 160, 60, 70, seed=3), question(100, 90, 78, 24, seed=8)
    predictions = {
        "inside": model.predict(inside.image, inside.modal, seed=3),
        "border, two samples": model.predict(border.image, border.modal, seed=8, num_samples=2),
    }
    return {name: {"mask": one.amodal, "values": one.probability} for name, one in predictions.items()}


def prior_cases() -> dict[str, Case]:
    """Cases of the prior alone, in a hole on the right half, and through ``mixed_context``."""
    prior = EmbeddedPrior()
    side = prior.abilities.size
    picture = question(side, side, side // 2, side // 2, seed=5).image
    hole = np.zeros((side, side), bool)
    hole[:, side // 2 :] = True
    drawn = inpaint(prior, to_pictures([picture]), torch.from_numpy(hole)[None, None], [5], steps=4)[0]
    model = load_model("mixed_context", "cpu", override={"sampler": {"steps": 4}, "iterations": 2})
    asked = question(100, 90, 48, 36, seed=8)
    prediction = model.predict_batch([asked])[0]
    return {
        "right half": {"mask": hole, "values": drawn.mean(dim=0).cpu().numpy()},
        "mixed_context": {"mask": prediction.amodal, "values": prediction.image.mean(axis=2) / 255},
    }


def word_cases() -> dict[str, Case]:
    """Cases of the text-conditioned prior: two captions, generated in four steps."""
    prior = WordPrior()
    side, captions = prior.abilities.size, ["a red star on a black ground", "a blue fish in front of a green tree"]
    blank = torch.zeros(2, 3, side, side)
    prepared = prior.prepare(blank, torch.ones(2, 1, side, side, dtype=torch.bool), captions)
    drawn = prior.decode(advance(begin(prior, prepared, [1, 2], 4)).x).mean(dim=1).cpu().numpy()
    return {text: {"mask": one > 0, "values": one} for text, one in zip(captions, drawn, strict=True)}


def segmenter_cases() -> dict[str, Case]:
    """Cases of the word segmenter: its masks of two things in a drawn scene."""
    world = CaptionedWorld(CaptionsData(split="val", num_objects=20, size=32))
    scene = next(one for one in (world.scene(place, size=32) for place in range(20)) if len(one.things) == 2)
    names = [thing.name for thing in scene.things]
    logits = open_word_segmenter().logits(to_pictures([scene.picture()] * 2), names).cpu().numpy()
    return {name: {"mask": one > 0, "values": 1 / (1 + np.exp(-one))} for name, one in zip(names, logits, strict=True)}


def make(name: str) -> dict[str, Case]:
    """All cases of a shipped model."""
    parts = {"inpainting_prior": prior_cases, "word_prior": word_cases, "word_segmenter": segmenter_cases}
    if name in parts:
        return parts[name]()
    return conddiff_cases(load_model(name, "cpu"))


def sha256(name: str) -> str:
    """The SHA-256 of a shipped model's weights."""
    return hashlib.sha256(WEIGHTS[name].read_bytes()).hexdigest()


def pack(case: Case) -> dict[str, Any]:
    """A case as plain values, for json."""
    rle = masks.encode(case["mask"])
    values = np.round(np.asarray(case["values"], np.float64)[EVERY // 2 :: EVERY, EVERY // 2 :: EVERY], 5)
    kept = {str(place): value for place, value in enumerate(values.ravel().tolist()) if value}
    return {"size": rle["size"], "mask": rle["counts"].decode(), "values": kept}


def main() -> None:
    """Write every file of golden predictions."""
    for name in WEIGHTS:
        content = {"weights": sha256(name), "cases": {case: pack(found) for case, found in make(name).items()}}
        lines = json.dumps(content, indent=0).replace(",\n", ", ")
        write_whole(FOLDER / f"{name}.json", (lines + "\n").encode())
        print(FOLDER / f"{name}.json")


if __name__ == "__main__":
    main()
