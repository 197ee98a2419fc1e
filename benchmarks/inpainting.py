"""The ablations of the two tuning-free methods, papers 002 and 001, compared with their noise controls.

    python benchmarks/inpainting.py --group all --objects 50 --seeds 0 1 2 --prior embedded --out outputs/ablations

Every variant is a file of ``configs/model`` that changes one thing in the reference of its group. All generate at the
size of the prior, predict the same composites (``configs/eval/photos.yaml``) with the same seeds, and are compared
object by object: with the reference, and with noise in the same area and the same read-off. Predictions stay in the
folder; an interrupted run continues after them. ``benchmarks/README.md`` explains the tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amodalseg.atomic import write_whole
from amodalseg.config.load import build, load_config, to_dict
from amodalseg.config.schema import BackendConfig, EvalConfig, ModelOnly, NeighboursConfig, NoiseFillConfig
from amodalseg.data.open import open_source
from amodalseg.data.source import prompted
from amodalseg.engine.evaluation.evaluate import evaluate
from amodalseg.errors import UserError
from amodalseg.metrics.counts import Row, read_rows, write_rows
from amodalseg.metrics.paired import differences, pair_rows
from amodalseg.metrics.protocols import PROTOCOLS
from amodalseg.models import MODELS, create_method, pick_device
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.methods.mixed_context import Inpaint, MixedContext
from amodalseg.models.inpainting.methods.occlusion_free_bias import OcclusionFreeBias
from amodalseg.models.inpainting.methods.opening import open_backend
from amodalseg.models.inpainting.methods.outpaint import NaiveOutpaint
from amodalseg.types import AmodalRecord

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "configs/eval/photos.yaml"
PROTOCOL, FIGURES = "per_object_occluded", ("occluded", "full")
DRAWN: dict[str, Callable[..., Any]] = {
    "occlusion_free_bias": OcclusionFreeBias,
    "mixed_context": MixedContext,
    "inpaint": Inpaint,
    "naive_outpaint": NaiveOutpaint,
}


class Variant(NamedTuple):
    """One row of a table.

    name: in the table. source: a file of ``configs/model`` without its suffix, or a model's name. paper: where the
    paper has this row, and its difference to the paper's reference. direction: its sign, 0 if there is no number.
    """

    name: str
    source: str
    paper: str = ""
    direction: int = 0


OFB, MC = "occlusion_free_bias", "mixed_context"
# the first variant of a group is its reference
GROUPS: dict[str, list[Variant]] = {
    "002": [
        Variant("all parts", f"{OFB}/full"),
        Variant("no leakage", f"{OFB}/no_leakage", "table 7: -37.6", -1),
        Variant("equation 7 to the letter", f"{OFB}/blend"),
        Variant("original background", f"{OFB}/no_background", "table 7: -5.6", -1),
        Variant("white background", f"{OFB}/white", "table 9: -8.5", -1),
        Variant("box", f"{OFB}/no_mask", "tables 7, 9: -6.2, -2.2", -1),
        Variant("box on white", f"{OFB}/box_white", "table 9: -9.6", -1),
        Variant("nearer neighbours", f"{OFB}/area_depth", "table S3: -4.3", -1),
        Variant("epsilon 0.1", f"{OFB}/epsilon_0_1", "table 8: -4.9", -1),
        Variant("epsilon 0.15", f"{OFB}/epsilon_0_15", "table 8: -4.1", -1),
        Variant("epsilon 0.45", f"{OFB}/epsilon_0_45", "table 8: -4.8", -1),
        Variant("epsilon 0.6", f"{OFB}/epsilon_0_6", "table 8: -10.3", -1),
        Variant("epsilon 0.9", f"{OFB}/epsilon_0_9", "table 8: -19.8", -1),
        Variant("no mask guidance", f"{OFB}/no_guidance"),
        Variant("mask guidance 7.5", f"{OFB}/weight_7_5"),
    ],
    "soft": [
        Variant("strength", f"{OFB}/full"),
        Variant("soft", f"{OFB}/soft"),
        Variant("as published", f"{OFB}/published"),
    ],
    "001": [
        Variant("all parts", MC),
        Variant("no swap", f"{MC}/no_swap", "table 2: -18 hard, +2 easy", -1),
        Variant("no composite", f"{MC}/no_composite"),
        Variant("swap at 0.2 N", f"{MC}/timestep_02", "figure 8: most at 0.4 N"),
        Variant("swap at 0.6 N", f"{MC}/timestep_06", "figure 8: most at 0.4 N"),
        Variant("swap at 0.8 N", f"{MC}/timestep_08", "figure 8: most at 0.4 N"),
        Variant("decoder block 1", f"{MC}/feature_up_0", "figure 9: block 3, pictures"),
        Variant("decoder block 2", f"{MC}/feature_up_1", "figure 9: block 3, pictures"),
        Variant("decoder block 4", f"{MC}/feature_up_3", "figure 9: block 3, pictures"),
        Variant("1 round", f"{MC}/iterations_1", "section 3.4: no figure"),
        Variant("2 rounds", f"{MC}/iterations_2", "section 3.4: no figure"),
        Variant("naive outpainting", "naive_outpaint", "table 2: -50 hard, -22 easy", -1),
    ],
    "controls": [
        Variant("modal", "modal"),
        Variant("hull", "convex_hull"),
        Variant("hull in occluders", "hull_in_occluders"),
        Variant("Telea in occluders, grey", "telea"),
        Variant("noise in hull", "noise_fill/hull"),
        Variant("noise in occluders, grey", "noise_fill/occluders"),
        Variant("plain inpainting", "inpaint"),
    ],
}
JUDGED = {"002": "full", "soft": "full", "001": "occluded", "controls": "full"}
"""The figure by which a group is judged. Paper 002 prints the mIoU of full masks; the successful completions that 001
counts are closest to the IoU of the hidden part."""


def options_of(source: str, size: int) -> Any:
    """The options of a method that generates at that size; None for a model without options."""
    if source in MODELS:
        return None
    path = ROOT / f"configs/model/{source}.yaml"
    if path.is_file():
        return load_config(ModelOnly, path, [f"model.window.size={size}"]).model
    return build(ModelOnly, [(source, {"model": {"name": source, "window": {"size": size}}})]).model


def control_of(options: Any) -> NoiseFillConfig | None:
    """The noise control: noise in the area of a method, on its final background, with the same read-off."""
    name = getattr(options, "name", "")
    if name == "occlusion_free_bias":
        area, behind = options.area, options.background
    elif name == "mixed_context" and options.swap:
        area, behind = "occluders", "removed" if options.composite else options.background
    elif name in ("mixed_context", "inpaint"):
        area, behind = "occluders", "original"
    elif name == "naive_outpaint":
        area, behind = "outside", "original"
    else:
        return None
    control = NoiseFillConfig(
        window=options.window, background=behind, area=area, read_off=options.read_off, post=options.post
    )
    if name == "occlusion_free_bias":
        control.neighbours, control.everywhere = options.neighbours, options.leakage.mode == "soft"
    return control


class Bench:
    """Runs variants and stores their predictions.

    Args:
        backend: shared by all. records: the objects. seeds: of the noise. folder: of the predictions.
    """

    def __init__(
        self, backend: InpaintingBackend, records: Sequence[AmodalRecord], seeds: Sequence[int], folder: Path
    ) -> None:
        self.backend, self.records, self.seeds, self.folder = backend, records, seeds, folder
        self.asked = 0
        digest = hashlib.blake2b(digest_size=8)
        for name, weight in sorted(backend.unet.state_dict().items()) if hasattr(backend, "unet") else ():
            digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
        self.weights = digest.hexdigest()

    def rows(self, source: str, options: Any) -> list[Row]:
        """All objects with all seeds; a seed is a part of the object's id.

        Args:
            source: a model's name, if it has no options. options: of a method.
        """
        model: Any = DRAWN[options.name](options, self.backend) if getattr(options, "name", "") in DRAWN else None
        if model is None:
            model = MODELS[source]() if options is None else create_method(options)
        found: list[Row] = []
        for seed in self.seeds:
            kept = self._predicted(model, source, options, seed if model.stochastic else 0)
            found += [{**row, "object_id": f"{row['object_id']} seed {seed}"} for row in kept]
        return found

    def _predicted(self, model: Any, source: str, options: Any, seed: int) -> list[Row]:
        plain = to_dict(options) if options is not None else source
        about = [plain, self.weights, self.backend.name, [record.key for record in self.records], seed]
        digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8).hexdigest()
        path = self.folder / f"{model.name}-{digest}-{seed}.csv"
        if not path.is_file():
            began = time.perf_counter()
            write_rows(path, evaluate(model, self.records, seed=seed)["rows"])
            self.asked += 1
            seconds = (time.perf_counter() - began) / len(self.records)
            print(f"  seed {seed}: {seconds:.2f} s per object", file=sys.stderr, flush=True)
        return read_rows(path)


def compared(rows: Sequence[Row], other: Sequence[Row]) -> dict[str, list[float | None]]:
    """Figure -> [difference to other rows, low, high], in points."""
    (pairs,) = pair_rows(other, rows).values()
    assert not (pairs.only_a or pairs.only_b)
    return {
        one.figure: [100 * (one.b - one.a), *(None if end is None else 100 * end for end in (one.low, one.high))]
        for one in differences(pairs)
        if one.protocol == PROTOCOL
    }


def verdict(difference: Sequence[float | None], direction: int) -> str:
    """Whether a difference has the paper's direction; empty if the paper has no number."""
    _, low, high = difference
    if not direction:
        return ""
    if low is None or high is None:
        return "one photo only"
    if low <= 0 <= high:
        return "within noise"
    return "replicates" if (low > 0) == (direction > 0) else "does not"


def described(rows: Sequence[Row], seeds: Sequence[int]) -> dict[str, Any]:
    """Scores in percent, over all seeds and for each, and the cost per object."""

    def scores(some: Sequence[Row]) -> dict[str, float | int | None]:
        found = PROTOCOLS[PROTOCOL](some)
        return {name: None if (value := found[name]) is None else 100 * value for name in FIGURES}

    each = len(rows) // len(seeds)
    return {
        "scores": scores(rows),
        "by_seed": {seed: scores(rows[place * each : (place + 1) * each]) for place, seed in enumerate(seeds)},
        "evaluations": sum(row["evaluations"] for row in rows) / len(rows),
        "seconds": sum(row["seconds"] for row in rows) / len(rows),
    }


def run_group(bench: Bench, group: str, size: int) -> list[dict[str, Any]]:
    """The rows of a group's table: its variants, then the noise that they are compared with."""
    table: list[dict[str, Any]] = []
    controls: dict[str, list[Row]] = {}
    reference: list[Row] = []
    for variant in GROUPS[group]:
        options = options_of(variant.source, size)
        tap = getattr(options, "feature", "auto")
        if tap not in ("auto", "clean", *bench.backend.abilities.taps):
            print(f"{group}: {variant.name} is left out: the prior has no {tap}", file=sys.stderr)
            continue
        print(f"{group}: {variant.name}", file=sys.stderr, flush=True)
        rows = bench.rows(variant.source, options)
        entry = {**variant._asdict(), **described(rows, bench.seeds), "options": options and to_dict(options)}
        if reference:
            entry["difference"] = compared(rows, reference)
            entry["verdict"] = verdict(entry["difference"][JUDGED[group]], variant.direction)
        reference = reference or rows
        control = control_of(options)
        if control is not None:
            name = f"noise: {control.area}, {control.background}{', everywhere' * control.everywhere}"
            name += ", to the letter" * (control.area == "depth" and control.neighbours != NeighboursConfig())
            if name not in controls:
                print(f"{group}: {name}", file=sys.stderr, flush=True)
                controls[name] = bench.rows("noise_fill", control)
            entry |= {"control": name, "beyond": compared(rows, controls[name])}
        table.append(entry)
    for name, rows in controls.items():
        table.append({"name": name, **described(rows, bench.seeds), "difference": compared(rows, reference)})
    return table


def cell(difference: dict[str, list[float | None]] | None, figure: str) -> str:
    """A difference with its interval; bold if the interval does not contain 0."""
    if difference is None:
        return ""
    value, low, high = difference[figure]
    if low is None or high is None:
        return f"{value:+.1f}"
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
    return text if low <= 0 <= high else f"**{text}**"


def markdown(group: str, table: Sequence[dict[str, Any]]) -> str:
    """A group's table."""
    first, judged = GROUPS[group][0].name, JUDGED[group]
    columns = ["", "occluded", "full", "occluded, difference", "full, difference", "occluded, beyond its noise"]
    columns += ["full, beyond its noise", "its noise", "paper", f"verdict ({judged})", "evaluations", "s/object"]
    lines = [f"| {' | '.join(columns)} |", "|---" + "|---:" * 6 + "|---|---|---" + "|---:" * 2 + "|"]
    for entry in table:
        cells = [entry["name"], *("" if (v := entry["scores"][f]) is None else f"{v:.1f}" for f in FIGURES)]
        cells += [cell(entry.get(key), figure) for key in ("difference", "beyond") for figure in FIGURES]
        cells += [entry.get("control", "").removeprefix("noise: "), entry.get("paper", ""), entry.get("verdict", "")]
        cells += [f"{entry['evaluations']:.1f}", f"{entry['seconds']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return f"{group}, differences to: {first}\n\n" + "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run groups and print their tables. Returns: the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=[*GROUPS, "all"], default="all")
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--prior", default="embedded", metavar="NAME_OR_FOLDER", help="what model.backend.name takes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("outputs/inpainting"), help="folder of predictions and tables")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="of configs/eval/photos.yaml")
    options = parser.parse_args(arguments)
    seeds = list(dict.fromkeys(options.seeds))
    began = time.perf_counter()
    try:
        backend = open_backend(BackendConfig(name=options.prior), pick_device(options.device))
        data = load_config(EvalConfig, DATA, ["out=unused", f"data.num_objects={options.objects}", *options.set]).data
        source, _ = prompted(open_source(data))
        records = [source.get(place) for place in range(len(source))]
        bench = Bench(backend, records, seeds, options.out / "answers")
        groups = list(GROUPS) if options.group == "all" else [options.group]
        tables = {group: run_group(bench, group, backend.abilities.size) for group in groups}
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    photos, occluded = len({r.image_id for r in records}), sum(bool((r.amodal & ~r.gt_modal).any()) for r in records)
    head = (
        f"Occluded objects: {occluded}, in {photos} photos; seeds: {', '.join(map(str, seeds))}; "
        f"{backend.abilities.size} px; `{PROTOCOL}` in percent."
    )
    text = "\n\n".join([head, *(markdown(group, table) for group, table in tables.items())])
    print(text)
    print(f"{bench.asked} of the predictions were new, {time.perf_counter() - began:.0f} s in all", file=sys.stderr)
    about = {"prior": options.prior, "weights": bench.weights, "size": backend.abilities.size, "seeds": seeds}
    about |= {"objects": occluded, "photos": photos, "protocol": PROTOCOL, "judged": JUDGED}
    write_whole(options.out / "inpainting.json", json.dumps({**about, "tables": tables}, indent=1))
    write_whole(options.out / "inpainting.md", text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
