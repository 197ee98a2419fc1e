"""The moves of DiffOOM's paper: 150 occluded objects of 120 COCOA photos, 8 targets each, and the paper's figures.

    python benchmarks/moves_cocoa.py data/cocoa --models modal hull_in_occluders diffoom --out outputs/moves_cocoa

Needs COCOA, DINOv2 and CLIP; ``--kid`` also Inception. ``benchmarks/README.md`` explains the table, and what the paper
leaves open. The cases are written to ``cases.json``, and read from there if given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.data.catalog import read_dataset
from amodalseg.data.record_pictures import record_image
from amodalseg.engine.evaluation.ask import ask
from amodalseg.engine.evaluation.likeness import FIGURES, Likeness, kid, on_white
from amodalseg.errors import UserError
from amodalseg.masks import box_xyxy
from amodalseg.models import load_model
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord, Query, stable_seed

SPLITS = "train", "val"
IMAGES, OBJECTS, TARGETS = 120, 150, 8
SIZE = 0.03  # of the photo's area, for an object "of considerable size"
RATE = 0.1, 0.7  # occlusion rates


def is_large(record: AmodalRecord) -> bool:
    """Whether an object is a thing of considerable size."""
    return not record.is_stuff and masks.area(record.modal_rle) >= SIZE * record.height * record.width


def draw_cases(
    records: Sequence[AmodalRecord], images: int = IMAGES, objects: int = OBJECTS, targets: int = TARGETS, seed: int = 0
) -> dict[str, list[list[int]]]:
    """Sample objects and their targets.

    Args:
        records: of COCOA, in any order.
        images, objects, targets: how many of each.
        seed: of the sampling.

    Returns:
        The object's key -> its distinct targets, x and y, at which the modal box lies completely inside the photo.

    Raises:
        UserError: too few photos or objects are large and occluded.
    """
    rng = np.random.default_rng(stable_seed("moves of cocoa", seed))
    fit = sorted((r for r in records if is_large(r) and RATE[0] <= r.occlusion_rate <= RATE[1]), key=lambda r: r.key)
    by_photo: dict[str, list[AmodalRecord]] = {}
    for place in rng.permutation(len(fit)):
        by_photo.setdefault(str(fit[place].image), []).append(fit[place])
    chosen = list(by_photo.values())[:images]
    first, more = [own[0] for own in chosen], [record for own in chosen for record in own[1:]]
    picked = [*first, *more][:objects]
    if len(chosen) < images or len(picked) < objects:
        raise UserError(
            f"{len(picked)} objects of {len(chosen)} photos are large and occluded by {RATE[0]:.0%} to {RATE[1]:.0%}, "
            f"and {objects} of {images} are asked for; give --objects and --images, or more splits"
        )
    return {record.key: draw_targets(record, targets, rng) for record in picked}


def draw_targets(record: AmodalRecord, targets: int, rng: np.random.Generator) -> list[list[int]]:
    """Distinct positions for the centre of an object's modal box, with the box inside the photo."""
    x0, y0, x1, y1 = box_xyxy(record.modal) or (0, 0, 1, 1)
    middle = (x0 + x1) // 2, (y0 + y1) // 2
    room = record.width - (x1 - x0) + 1, record.height - (y1 - y0) + 1  # positions of the box's corner, x and y
    home = y0 * room[0] + x0
    flat = rng.permutation(room[0] * room[1])
    flat = flat[flat != home][:targets]
    if len(flat) < targets:
        raise UserError(f"{record.key} fills its photo: it has no {targets} places to go to")
    return [[int(p % room[0]) + middle[0] - x0, int(p // room[0]) + middle[1] - y0] for p in flat]


def case_query(record: AmodalRecord, to: Sequence[int], seed: int) -> Query:
    """The query of one case."""
    own = stable_seed(seed, record.key, *to)
    return Query(record_image(record), record.modal, own, record.occluder, record.category, (int(to[0]), int(to[1])))


def shown_whole(records: Sequence[AmodalRecord], count: int, seed: int) -> list[np.ndarray]:
    """Unoccluded objects on white: the complete objects that KID compares with."""
    whole = sorted((r for r in records if is_large(r) and not r.occlusion_rate), key=lambda r: r.key)
    order = np.random.default_rng(stable_seed("whole of cocoa", seed)).permutation(len(whole))[:count]
    found = []
    for place in order:
        record = whole[place]
        query = Query(record_image(record), record.modal)
        found.append(on_white(query, Prediction(query.modal, query.modal[None])))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Raises UserError."""
    options = _parser().parse_args(arguments)
    likeness = Likeness(options.dino, options.clip, options.device)
    read = [record for split in options.splits for record in read_dataset("cocoa", options.root, split=split)]
    records = {record.key: record for record in read}
    out = Path(options.out)
    if options.cases:
        cases = json.loads(Path(options.cases).read_text("utf-8"))
        unknown = sorted(set(cases) - set(records))
        if unknown:
            missing = f"{len(unknown)} objects that are not in {options.root}: {unknown[0]}"
            raise UserError(f"{options.cases} names {missing}")
    else:
        cases = draw_cases(read, options.images, options.objects, options.targets, options.seed)
    write_whole(out / "cases.json", json.dumps(cases, indent=1) + "\n")
    real = shown_whole(read, len(cases), options.seed) if options.kid else []
    found = {}
    for name in options.models:
        model = load_model(name, options.device)
        measured: dict[str, list[float]] = {figure: [] for figure in FIGURES}
        drawn = []
        for key, targets in tqdm(cases.items(), desc=name, unit="object", disable=None):
            for number, to in enumerate(targets):
                query = case_query(records[key], to, options.seed)
                (prediction, _), *_ = ask(model, [query])
                for figure, value in likeness.measure(query, prediction).items():
                    measured[figure] += [] if value is None else [value]
                if number == 0 and options.kid:
                    drawn.append(on_white(query, prediction))
        figures = {figure: fmean(values) if values else None for figure, values in measured.items()}
        figures["kid"] = kid(real, drawn, subset_size=min(50, len(real), len(drawn)))[0] if options.kid else None
        found[name] = figures
        write_whole(out / "figures.json", json.dumps(found, indent=1) + "\n")
    print(table(found))


def table(found: dict[str, dict[str, float | None]]) -> str:
    """Models and figures; the paper's are 0.561, 0.742, 0.960 (table 2), 30.49 and 0.0142 (table 1)."""
    names = [*FIGURES, "kid"]
    lines = [f"{'model':40s}" + "".join(f"{name:>10s}" for name in ("DINO-OP", "DINO-TP", "CLIP-TP", "CLIP-T", "KID"))]
    for model, figures in found.items():
        cells = []
        for name in names:
            value = figures[name]
            scale, digits = {"clip_t": (100, 2), "kid": (1, 4)}.get(name, (1, 3))
            cells.append(f"{'–' if value is None else format(scale * value, f'.{digits}f'):>10s}")
        lines.append(f"{model:40s}" + "".join(cells))
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="the moves of DiffOOM's paper, drawn from COCOA")
    parser.add_argument("root", help="folder of COCOA")
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="as eval takes them")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for cases.json and figures.json")
    parser.add_argument("--cases", metavar="JSON", help="of an earlier run, in place of new ones")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    parser.add_argument("--targets", type=int, default=TARGETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dino", default="dinov2", help="DINOv2: a short name, owner/name on the hub, or a folder")
    parser.add_argument("--clip", default="clip", help="CLIP, likewise")
    parser.add_argument("--kid", action="store_true", help="also KID, which needs torch-fidelity")
    parser.add_argument("--device", default="auto")
    return parser


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
