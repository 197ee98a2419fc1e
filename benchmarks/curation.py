"""How well the counterfactual rule distinguishes complete objects from truncated ones.

    python benchmarks/curation.py [--prior embedded] [--objects 100] [--ways grey:difference]
    python benchmarks/curation.py --natural data/cocoa --objects 50

Whole objects of the val photos under ``AMODALSEG_DATA`` are judged once unchanged and once truncated by a straight
line. This test differs from the paper's, whose incomplete objects are natural: ``--natural`` takes whole and partly
occluded objects from COCOA, or from a file in its format. Precision and recall are those of "complete".
``benchmarks/README.md`` explains the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import BackendConfig, EvalConfig
from amodalseg.data.catalog import read_dataset
from amodalseg.data.open import open_source
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from amodalseg.models import pick_device
from amodalseg.models.inpainting.methods.curation import Judgement, Rule, judge
from amodalseg.models.inpainting.methods.opening import open_backend
from amodalseg.types import AmodalRecord, Query, stable_seed

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
CUT = 0.2, 0.6
"""Minimum and maximum share of an object that is cut off."""
BATCH = 20
HIDDEN, LARGE = 0.2, 0.01
"""For natural objects: minimum occlusion rate of an incomplete one, and minimum visible share of the photo."""


def cut(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of an object on one side of a line of random direction, bool (H, W)."""
    angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(*CUT)
    rows, columns = np.indices(mask.shape)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    return mask & (along > np.quantile(along[mask], share))


def scores(growth: Sequence[float], truth: Sequence[bool], threshold: float) -> dict[str, float]:
    """Balanced accuracy, precision and recall of "complete", in [0, 1].

    Args:
        growth: of each object. truth: whether it is complete; both kinds occur.
        threshold: a growth up to it counts as complete.
    """
    said, true = np.asarray(growth) <= threshold, np.asarray(truth)
    recall, refused = said[true].mean(), (~said[~true]).mean()
    precision = (said & true).sum() / max(1, said.sum())
    return {"balanced": float((recall + refused) / 2), "precision": float(precision), "recall": float(recall)}


def order(growth: Sequence[float], truth: Sequence[bool]) -> float:
    """Share of the pairs of a complete and a truncated object in which the complete one grew less; ties count half."""
    values, true = np.asarray(growth), np.asarray(truth)
    gaps = values[~true][None] - values[true][:, None]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def cases(num_objects: int, seed: int) -> list[tuple[Query, Query]]:
    """Whole objects of the val photos, each with its truncated version."""
    options = ["out=unused", f"data.num_objects={num_objects}", "data.occlude.unoccluded=1"]
    config = load_config(EvalConfig, ROOT / "configs/eval/photos.yaml", options)
    source = open_source(config.data)
    made = []
    for index in tqdm(range(len(source)), desc="reading", disable=num_objects < 500):
        record = source.get(index)
        image, mask = record_image(record), record.amodal
        rng = np.random.default_rng(stable_seed("curation", seed, record.key))
        own = stable_seed("curation", seed, index)
        made.append((Query(image, mask, own), Query(image, cut(mask, rng), own)))
    return made


def natural_cases(root: str, num_objects: int, seed: int) -> list[tuple[Query, Query]]:
    """Whole things of COCOA, and as many others annotated as at least one fifth occluded.

    Args:
        root: of the data set, as in ``configs/data/cocoa.yaml``.
        num_objects: of each kind.
        seed: of the draw.

    Raises:
        UserError: there are too few of a kind.
    """
    things = [one for one in read_dataset("cocoa", root, split="val") if not one.is_stuff and _is_large(one)]
    kinds = [
        [one for one in things if holds(_rate(one))] for holds in (lambda rate: rate == 0, lambda rate: rate >= HIDDEN)
    ]
    if min(map(len, kinds)) < num_objects:
        raise UserError(
            f"{root} has {len(kinds[0])} whole and {len(kinds[1])} hidden things of some size, not {num_objects}"
        )
    rng = np.random.default_rng(stable_seed("natural curation", seed))
    drawn = [[kind[int(place)] for place in rng.permutation(len(kind))[:num_objects]] for kind in kinds]
    queries = [
        [Query(record_image(one), one.modal, stable_seed("curation", seed, one.key)) for one in kind] for kind in drawn
    ]
    return list(zip(*queries, strict=True))


def _is_large(record: AmodalRecord) -> bool:
    return masks.area(record.modal_rle) >= LARGE * record.height * record.width


def _rate(record: AmodalRecord) -> float:
    """The occlusion rate, from the masks."""
    amodal = record.amodal
    return float((amodal & ~record.modal).sum() / max(1, amodal.sum()))


def table(judged: Sequence[tuple[Judgement, Judgement]]) -> str:
    """The table in Markdown, for judgements on whole and truncated objects."""
    growth = [one.growth for pair in judged for one in pair]
    truth = [whole for _ in judged for whole in (True, False)]
    lines = ["| growth up to | balanced accuracy | precision | recall |", "|---|---|---|---|"]
    for threshold in THRESHOLDS:
        row = scores(growth, truth, threshold)
        lines.append(f"| {threshold:.2f} | {row['balanced']:.3f} | {row['precision']:.3f} | {row['recall']:.3f} |")
    lines.append(
        f"\nA whole object grows less than a cut one in {100 * order(growth, truth):.1f} % of all pairs (50: chance)."
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge the objects in every requested way and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="embedded", help="what model.backend.name takes")
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--natural", metavar="ROOT", help="whole and hidden objects of COCOA instead of cut ones")
    parser.add_argument("--seed", type=int, default=0)
    ways = ["original:grabcut", "grey:grabcut", "grey:difference"]
    parser.add_argument("--ways", nargs="+", default=ways, metavar="BACKGROUND:READ", help=" ".join(ways))
    parser.add_argument("--num-samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=Rule().steps, help="of the sampler")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="json file for all judgements")
    options = parser.parse_args(arguments)
    backend = open_backend(BackendConfig(name=options.prior), pick_device(options.device))
    natural = options.natural
    try:
        pairs = (
            natural_cases(natural, options.objects, options.seed) if natural else cases(options.objects, options.seed)
        )
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
    kept = {}
    for way in options.ways:
        background, _, read = way.partition(":")
        # the cut may be anywhere, so whether an object is near the border carries no information here
        rule = replace(
            Rule(), background=background, read=read, num_samples=options.num_samples, steps=options.steps, border=0
        )
        judged = []
        for start in tqdm(range(0, len(pairs), BATCH), desc=way, disable=len(pairs) < 50):
            part = pairs[start : start + BATCH]
            whole, cut_ = (judge(backend, [pair[which] for pair in part], rule) for which in (0, 1))
            judged += zip(whole, cut_, strict=True)
        print(f"\n{len(pairs)} + {len(pairs)} objects, background {background}, read off by {read}\n")
        print(table(judged), flush=True)
        kept[way] = [[one.growth for one in pair] for pair in judged]
    if options.out:
        write_whole(options.out, json.dumps(kept))


if __name__ == "__main__":
    main()
