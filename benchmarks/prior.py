"""Does an inpainting prior generate whole objects? Held-out objects, half hidden, compared with controls.

    python benchmarks/prior.py [PRIOR] [--data CONFIG.yaml] [--objects 200] [--steps 20] [--out DIR] [val.key=value ...]

PRIOR is a run folder, a released folder, a ``last.ckpt``, or the name of a shipped one. ``benchmarks/README.md``
explains the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.whole_objects import PriorSample, WholeObjects
from amodalseg.data.images import save_png
from amodalseg.data.open import open_source
from amodalseg.engine.training.tasks import prior_grid
from amodalseg.errors import UserError
from amodalseg.models import pick_device
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.backends.prior import SHIPPED
from amodalseg.models.inpainting.parts.read_off import differs_from
from amodalseg.models.inpainting.prior_training.validation import complete_halves

COMPLETIONS = {"prior": "", "prior, nothing given": "alone_", "telea": "telea_", "whole hole": "hole_"}
CASES = 50  # completed at once


def telea_counts(case: PriorSample) -> dict[str, int]:
    """Intersection and union of the hidden half with the read-off from Telea's inpainting of the hole."""
    hole = case.hole > 0
    picture = cv2.inpaint(case.picture, case.hole, 3, cv2.INPAINT_TELEA)
    found, hidden = differs_from(picture, case.empty) & hole, (case.mask > 0) & hole
    return {"telea_inter": int((found & hidden).sum()), "telea_union": int((found | hidden).sum())}


def interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval over objects."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns: the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("prior", nargs="?", default=SHIPPED)
    parser.add_argument(
        "--data", default="configs/experiment/inpainting_prior_cpu.yaml", help="its val objects are used"
    )
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", type=int, default=12, help="of the picture grid")
    parser.add_argument("--out", help="a folder for prior.json and prior.png")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    try:
        backend = EmbeddedPrior(options.prior, pick_device(options.device))
        source = open_source(load_config(TrainConfig, options.data, options.overrides).val)
        records = [source.get(index) for index in range(len(source))]
        objects = WholeObjects(records, backend.abilities.size, options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows, pictures = [], []
    for start in range(0, options.objects, CASES):
        cases = [objects.half_hidden(place) for place in range(start, min(start + CASES, options.objects))]
        found, shown = complete_halves(backend, cases, options.steps, seed=options.seed)
        rows += [{**row, **telea_counts(case)} for row, case in zip(found, cases, strict=True)]
        pictures += shown[: max(0, options.rows - len(pictures))]
    rows = [row for row in rows if row["hole_inter"]]
    found_ious = {
        name: np.array([100 * row[f"{key}inter"] / row[f"{key}union"] for row in rows])
        for name, key in COMPLETIONS.items()
    }
    table = {name: interval(values) for name, values in found_ious.items()}
    table |= {f"prior - {name}": interval(found_ious["prior"] - found_ious[name]) for name in list(COMPLETIONS)[1:]}
    print(f"IoU of the hidden half of {len(rows)} objects ({len(records)} different ones), {options.steps} steps")
    for name, (mean, low, high) in table.items():
        print(f"  {name:30s} {mean:6.1f} [{low:.1f} .. {high:.1f}]")
    if options.out:
        out = Path(options.out)
        write_whole(out / "prior.json", json.dumps({"objects": len(rows), "table": table, "rows": rows}, indent=1))
        save_png(out / "prior.png", prior_grid(pictures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
