"""How good are modal masks obtained from a box or from points?

    python benchmarks/prompts.py [--data configs/eval/duts.yaml] [--models grabcut sam2] [--objects 300] [--out FILE]

``benchmarks/README.md`` explains the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

import amodalseg
from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.engine.prediction.select import OFFLINE, Selector, open_selector
from amodalseg.errors import UserError
from amodalseg.masks import box_xyxy
from amodalseg.metrics.bootstrap import bootstrap_intervals
from amodalseg.metrics.rules import Figure, Ratio

ROOT = Path(__file__).resolve().parents[1]
INSIDE = 1 / 3
"""Minimum distance of further points to the outline, as a share of the largest such distance."""


def points_in(mask: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Positions of clicks: the point farthest from the outline, then, well inside, those farthest from the others.

    Args:
        mask: bool (H, W), not empty.
        count: number of points; some are repeated if fewer pixels lie well inside the mask.

    Returns:
        (x, y) each.
    """
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= INSIDE * depth.max())
    first = int(depth[rows, columns].argmax())
    chosen, apart = [first], np.full(len(rows), np.inf)
    while len(chosen) < count:
        apart = np.minimum(apart, np.hypot(rows - rows[chosen[-1]], columns - columns[chosen[-1]]))
        chosen.append(int(apart.argmax()))
    return [(int(columns[place]), int(rows[place])) for place in chosen]


def prompts(modal: np.ndarray) -> dict[str, dict[str, Any]]:
    """The prompts for ``select``, by the name of a row."""
    points = points_in(modal, 3)
    return {
        "box": {"box": box_xyxy(modal)},
        "one point": {"points": points[:1]},
        "three points": {"points": points},
        "box and one point": {"box": box_xyxy(modal), "points": points[:1]},
    }


def measure(objects: Any, selectors: dict[str, Selector]) -> tuple[dict[tuple[str, str], np.ndarray], np.ndarray]:
    """Select each object with each prompt.

    Returns:
        float (N, 2) by selector and prompt: IoU with the true modal mask, 0 if nothing is found, and seconds; and int
        (N,), each object's photo.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    photos: dict[str, int] = {}
    groups = []
    for place in tqdm(range(len(objects)), unit="object", disable=None):
        record, query = objects[place]
        groups.append(photos.setdefault(record.image_id, len(photos)))
        for name, selector in selectors.items():
            for kind, prompt in prompts(query.modal).items():
                began = time.perf_counter()
                try:
                    mask = amodalseg.select(query.image, model=selector, **prompt)
                except UserError:
                    mask = np.zeros_like(query.modal)
                seconds = time.perf_counter() - began
                iou = (mask & query.modal).sum() / (mask | query.modal).sum()
                found.setdefault((name, kind), []).append((float(iou), seconds))
    return {key: np.array(values) for key, values in found.items()}, np.array(groups)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns: 0, or 2 if something cannot be opened."""
    parser = argparse.ArgumentParser(prog="benchmark")
    parser.add_argument("--data", default=str(ROOT / "configs/eval/duts.yaml"), help="an evaluation (its data)")
    parser.add_argument("--models", nargs="+", default=[OFFLINE], help="what `select` takes (grabcut)")
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", help="a json file for the table and every value")
    options = parser.parse_args(arguments)
    try:
        config = load_config(EvalConfig, options.data, [f"data.num_objects={options.objects}", "out=unused"])
        objects = EvaluationSet(open_source(config.data), 0)
        found, groups = measure(objects, {name: open_selector(name, options.device) for name in options.models})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = {}
    print(f"{len(groups)} objects of {options.data}\n| model | from | IoU, % | median | of 80 % or more | seconds |")
    print("|---|---|---:|---:|---:|---:|")
    for (name, kind), values in found.items():
        ious = values[:, 0]
        figure = Figure([Ratio(ious, np.ones_like(ious))])
        interval = bootstrap_intervals({"iou": figure}, groups)["iou"]
        table[f"{name}, {kind}"] = {"iou": ious.mean(), "interval": interval, "values": ious.tolist()}
        span = "" if interval is None else f" [{100 * interval[0]:.1f} – {100 * interval[1]:.1f}]"
        print(
            f"| `{name}` | {kind} | {100 * ious.mean():.1f}{span} | {100 * np.median(ious):.1f} "
            f"| {100 * (ious >= 0.8).mean():.0f} | {np.median(values[:, 1]):.2f} |"
        )
    if options.out:
        write_whole(Path(options.out), json.dumps({"data": options.data, "objects": len(groups), "table": table}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
