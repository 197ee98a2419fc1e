"""Table 1 of progressive mixed context (001) for any models: easy and hard composites, CLIP, DINOv2, LPIPS.

    python benchmarks/pseudo.py --models telea mixed_context --objects 100 --out outputs/pseudo

Needs CLIP, DINOv2 and LPIPS, and photos under ``AMODALSEG_DATA``; ``docs/protocols.md`` defines the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig
from amodalseg.data.open import open_source
from amodalseg.data.record_pictures import record_image, record_whole
from amodalseg.data.source import prompted
from amodalseg.engine.evaluation.ask import ask
from amodalseg.engine.evaluation.object_distances import FIGURES, ObjectDistances
from amodalseg.errors import UserError
from amodalseg.metrics.counts import count_object
from amodalseg.metrics.protocols import PROTOCOLS
from amodalseg.models import load_model
from amodalseg.models.base import AmodalModel
from amodalseg.types import AmodalRecord, Query, stable_seed

ROOT = Path(__file__).resolve().parents[1]
CASES = "easy", "hard"


def records_of(case: str, num_objects: int, options: Sequence[str] = ()) -> list[AmodalRecord]:
    """The composites of ``configs/eval/pseudo_CASE.yaml``. options: of that file, as ``key=value``."""
    more = ["out=unused", f"data.num_objects={num_objects}", *options]
    source, _ = prompted(open_source(load_config(EvalConfig, ROOT / f"configs/eval/pseudo_{case}.yaml", more).data))
    return [source.get(place) for place in range(len(source))]


def measured(
    model: AmodalModel, records: Sequence[AmodalRecord], distances: ObjectDistances, seed: int = 0
) -> dict[str, float | None]:
    """Means over objects: the figures of ``ObjectDistances``, None for a model without pictures, and ``success``."""
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    rows = []
    for record in tqdm(records, desc=model.name, unit="object", disable=None):
        query = Query(
            record_image(record), record.modal, stable_seed(seed, record.key), record.occluder, record.category
        )
        ((prediction, _),) = ask(model, [query])
        rows.append(count_object(record, prediction, model.name))
        whole = record_whole(record)
        if prediction.image is None or whole is None:
            continue
        for name, value in distances.measure(query, prediction, whole, record.amodal).items():
            found[name] += [] if value is None else [value]
    success = PROTOCOLS["success"](rows)["success"]
    return {**{name: fmean(values) if values else None for name, values in found.items()}, "success": success}


def table(found: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """A Markdown table with models as rows, cases and figures as columns."""
    cases = list(next(iter(found.values())))
    names = [*FIGURES, "success"]
    heads = [f"{name}, {case}" for case in cases for name in names]
    lines = [f"| model | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for model, figures in found.items():
        values = [figures[case][name] for case in cases for name in names]
        lines.append(f"| {model} | {' | '.join('–' if value is None else f'{value:.3f}' for value in values)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Raises UserError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help="as eval takes them")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--objects", type=int, default=100, help="of each case")
    parser.add_argument("--out", type=Path, default=Path("outputs/pseudo"), help="folder for figures.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dino", default="dinov2", help="DINOv2: a short name, owner/name on the hub, or a folder")
    parser.add_argument("--clip", default="clip", help="CLIP, likewise")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="of configs/eval/pseudo_*.yaml")
    options = parser.parse_args(arguments)
    distances = ObjectDistances(options.clip, options.dino, device=options.device)
    records = {case: records_of(case, options.objects, options.set) for case in options.cases}
    found = {}
    for name in options.models:
        model = load_model(name, options.device)
        found[name] = {case: measured(model, some, distances, options.seed) for case, some in records.items()}
        write_whole(options.out / "figures.json", json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
