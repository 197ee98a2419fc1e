"""Occlusion order: how often a model's completions reveal it, compared with rules that use no picture.

    python benchmarks/order.py [MODEL ...] [--scenes configs/eval/scenes.yaml] [--sets cocoa=data/cocoa] [--out FILE]

``benchmarks/README.md`` says which pairs are evaluated and explains the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig
from amodalseg.data.catalog import read_dataset
from amodalseg.data.open import open_source
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from amodalseg.metrics.bootstrap import bootstrap_intervals
from amodalseg.metrics.order import LEAST, hidden_pixels, pairs, touching
from amodalseg.metrics.rules import Figure, Ratio
from amodalseg.models import DEFAULT, load_model
from amodalseg.types import AmodalRecord, stable_seed

ROOT = Path(__file__).resolve().parents[1]
PART = 64
"""Minimum size, in pixels, of a connected part over a scene's object for its order to be tested."""
RULES = ("larger in front", "smaller in front", "lower in front")


class Photo(NamedTuple):
    """Objects of one photo. name: of the photo. image: uint8 (H, W, 3). modal, amodal: bool (H, W) each.

    nearer: int (N, N): 1 if i is annotated as in front of j, -1 if behind, 0 if not annotated.
    """

    name: str
    image: np.ndarray
    modal: list[np.ndarray]
    amodal: list[np.ndarray]
    nearer: np.ndarray


def annotated(records: Iterable[AmodalRecord]) -> Iterator[Photo]:
    """Photos of a data set with several objects; each annotator's version counts as a separate photo."""
    groups: dict[tuple[str, str], list[AmodalRecord]] = {}
    for record in records:
        if record.amodal_rle is not None and record.modal.any():
            groups.setdefault((record.image_id, str((record.group or {}).get("annotator"))), []).append(record)
    for (name, _), own in groups.items():
        if len(own) > 1:
            ranks = [np.nan if record.order is None else record.order for record in own]
            nearer = np.nan_to_num(np.sign(np.subtract.outer(ranks, ranks))).astype(int)
            modal, amodal = [one.modal for one in own], [one.amodal for one in own]
            yield Photo(name, record_image(own[0]), modal, amodal, -nearer)


def drawn(records: Iterable[AmodalRecord]) -> Iterator[Photo]:
    """Drawn scenes: the queried object, and each connected component of its occluder."""
    for record in records:
        over = masks.decode(record.occluder_rle) if record.occluder_rle is not None else None
        if over is None or not over.any():
            continue
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(over.astype(np.uint8), connectivity=8)
        parts = [numbers == one for one in range(1, count) if stats[one, cv2.CC_STAT_AREA] >= PART]
        nearer = np.zeros((len(parts) + 1,) * 2, int)
        nearer[1:, 0], nearer[0, 1:] = 1, -1
        yield Photo(record.image_id, record_image(record), [record.modal, *parts], [record.amodal, *parts], nearer)


def truth(photo: Photo) -> np.ndarray:
    """int (N, N): 1 if i occludes a part of j, -1 if j occludes a part of i, 0 for neither.

    The annotated order decides; without one, the object that occludes more of the other.
    """
    if not photo.nearer.any():
        return _signed(pairs(photo.modal, photo.amodal))
    areas = np.array([np.count_nonzero(mask) for mask in photo.modal])
    enough = np.maximum(1, LEAST * np.minimum(areas[:, None], areas[None]))
    return _signed(np.where((photo.nearer > 0) & (hidden_pixels(photo.modal, photo.amodal) >= enough), 1, 0))


def _signed(hides: np.ndarray) -> np.ndarray:
    found: np.ndarray = (hides > 0).astype(int) - (hides.T > 0)
    return found


def by_rule(photo: Photo, rule: str) -> np.ndarray:
    """The prediction of a rule, in the form of ``truth``; it predicts no occlusion only for ties."""
    if rule == "lower in front":
        values = [float(np.nonzero(mask)[0].mean()) for mask in photo.modal]
    else:
        values = [float(np.count_nonzero(mask)) for mask in photo.modal]
    found = np.sign(np.subtract.outer(values, values)).astype(int)
    return -found if rule == "smaller in front" else found


def asked(photo: Photo) -> list[tuple[int, int]]:
    """The pairs (i, j), i < j, whose visible parts touch, or of which one occludes a part of the other."""
    found = np.argwhere(np.triu(touching(photo.modal) | (truth(photo) != 0), 1))
    return [(int(i), int(j)) for i, j in found]


def table(photos: Sequence[Photo], models: Sequence[str], device: str) -> dict[str, dict[str, object]]:
    """Accuracies by name: over all pairs, over those with occlusion, and over those without."""
    right: dict[str, list[bool]] = {name: [] for name in (*RULES, *models)}
    opened = {name: load_model(name, device) for name in models}
    true, groups, names = [], [], sorted({photo.name for photo in photos})
    for photo in tqdm(photos, unit="photo", disable=None):
        wanted, found = asked(photo), truth(photo)
        if not wanted:
            continue
        said = {rule: by_rule(photo, rule) for rule in RULES}
        for name, model in opened.items():
            made = model.predict(photo.image, np.stack(photo.modal), seed=stable_seed("order", photo.name))
            said[name] = _signed(pairs(photo.modal, [one.amodal for one in made]))
        for i, j in wanted:
            true.append(int(found[i, j]))
            groups.append(names.index(photo.name))
            for name, answer in said.items():
                right[name].append(bool(answer[i, j] == found[i, j]))
    _, numbers = np.unique(groups, return_inverse=True)
    hidden = np.array(true) != 0
    rows = {}
    for name, values in right.items():
        shares = np.array(values, float)
        kinds = {"all": np.ones_like(hidden), "hidden": hidden, "none": ~hidden}
        figures = {kind: Figure([Ratio(shares * those, those.astype(float))]) for kind, those in kinds.items()}
        intervals = bootstrap_intervals(figures, numbers)
        rows[name] = {
            kind: {"pairs": int(those.sum()), "value": float(shares[those].mean()) if those.any() else None,
                   "interval": intervals[kind]} for kind, those in kinds.items()
        }  # fmt: skip
    return rows


def _text(cell: dict[str, object]) -> str:
    value, interval = cell["value"], cell["interval"]
    span = "" if interval is None else " [{:.1f} – {:.1f}]".format(*(100 * end for end in interval))
    return "" if value is None else f"{100 * value:.1f}{span}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each set. Returns: 0, or 2 if something cannot be opened."""
    parser = argparse.ArgumentParser(prog="benchmark")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"({DEFAULT}, convex_hull)")
    parser.add_argument("--scenes", nargs="*", default=[], metavar="CONFIG.yaml", help="evaluations of drawn scenes")
    parser.add_argument("--sets", nargs="*", default=[], metavar="NAME=ROOT", help="data sets with amodal masks")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", help="a json file for the tables")
    options = parser.parse_args(arguments)
    models, told = options.models or ["convex_hull", DEFAULT], {}
    try:
        if not options.scenes and not options.sets:
            raise UserError("give scenes or data sets: --scenes configs/eval/scenes.yaml, --sets cocoa=data/cocoa")
        for path in options.scenes:
            source = open_source(load_config(EvalConfig, path, ["out=unused"]).data)
            told[path] = list(drawn(source.get(index) for index in range(len(source))))
        for item in options.sets:
            name, _, root = item.partition("=")
            told[item] = list(annotated(read_dataset(name, root)))
        tables = {name: table(photos, models, options.device) for name, photos in told.items()}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, rows in tables.items():
        counts = {kind: cell["pairs"] for kind, cell in next(iter(rows.values())).items()}
        print(f"{name}: {len(told[name])} photos, percent of pairs right")
        print("| | all {all} | with occlusion {hidden} | without {none} |\n|---|---:|---:|---:|".format(**counts))
        for row, cells in rows.items():
            print(f"| {row} | {' | '.join(_text(cell) for cell in cells.values())} |")
    if options.out:
        write_whole(Path(options.out), json.dumps(tables))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
