"""Ablations: train variants of one recipe, score them on the same objects, and print paired differences.

    python benchmarks/experiments.py table4 --steps 750
    python benchmarks/experiments.py controls --steps 1000 --set photos --set scenes
    python benchmarks/experiments.py sampling --model conddiff_amo_tiny

Every row changes one thing in the reference of its group, or is another model with the reference's data and schedule.
Existing runs and scores are kept, so a group can be interrupted, resumed, and extended. Differences to the reference
are paired by object, with a 95 % bootstrap interval over pictures: the intervals of two separate scores can overlap
even if their difference is not in doubt.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from amodalseg.metrics.counts import read_rows

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "configs/experiment/photos_tiny.yaml"
SHORT = [
    "model.window.size=64",
    "optim.early_size=null",
    "optim.decay_share=1",
    "optim.ema=0.998",
    "optim.warmup_steps=50",
]
SETS = {name: f"configs/eval/{name}.yaml" for name in ("photos", "scenes", "cocoa", "duts", "people", "human")}
NO_VGPE = ["override.vgpe.clamp=false", "override.vgpe.ensemble=false"]
DDPM = ["override.sampler.kind=ddpm", "override.sampler.steps=10"]
PCNET_M, NOT_TOLD = "configs/experiment/photos_pcnet_m.yaml", ["override.eraser.source=unknown"]
VM, OCR, AFG, UST = (f"model.{key}=false" for key in ("pcn.modal", "ocr.enabled", "afg.enabled", "ust.enabled"))
LE = "model.afg.instead=le"

# the recipe of 0.1.0, on all packs of photos, with every object equally likely
BEFORE = [
    "data.hosts={coco: 733, duts: 6514, ecssd: 850, people: 599}",
    "data.targets={coco: 366, duts: 6448, ecssd: 558, people: 597}",
    "data.occluders={coco: 1066, duts: 6512, ecssd: 758, people: 599}",
    "data.mix.pair=0", "data.occlude.unoccluded=0.25", "data.front=0.2",
    "augment.color=0.5", "augment.grayscale=0", "augment.scale=0.15",
]  # fmt: skip
BY_ROLE = [
    "data.hosts={coco: 2, duts: 1.5, ecssd: 1, people: 0.5}",
    "data.targets={coco: 1.5, duts: 6, ecssd: 1.5, people: 1}",
    "data.occluders={coco: 2.5, duts: 5, ecssd: 1, people: 1.5}",
]  # fmt: skip

# group -> row -> training options, after another recipe if there is one; the first row is the reference
TRAINED: dict[str, dict[str, list[str]]] = {
    "table4": {
        "full": [], "A: no VM, OCR, AFG": [VM, OCR, AFG], "A: LE for AFG": [VM, OCR, AFG, LE],
        "B: no VM": [VM], "C: no OCR": [OCR], "D: no AFG": [AFG],
        "D: LE for AFG": [AFG, LE], "F: LE for AFG": [OCR, AFG, LE], "G: LE for AFG": [VM, AFG, LE],
        "E: no VM, OCR": [VM, OCR], "F: no OCR, AFG": [OCR, AFG], "G: no VM, AFG": [VM, AFG], "I: no UST": [UST],
        "full, seed 1": ["seed=1"], "I: no UST, seed 1": [UST, "seed=1"],
    },
    "scenes": {
        "all kinds": [], "covered only": [f"data.mix.{kind}=0" for kind in ("natural", "behind", "surface")],
        "no surfaces": ["data.mix.surface=0"], "no natural": ["data.mix.natural=0"], "no behind": ["data.mix.behind=0"],
        "with synthetic": ["data.mix.synthetic=0.15"], "none unoccluded": ["data.occlude.unoccluded=0"],
        "no modal jitter": ["augment.modal_jitter=0"],
    },
    "loss": {
        "bce + iou + hidden": [], "bce + iou": ["model.loss.hidden=0"],
        "bce + 2 hidden": ["model.loss.iou=0", "model.loss.hidden=2"],
    },
    "input": {
        "zero_conv": [], "random adapter": ["model.pcn.adapter_init=random"],
        "identity adapter": ["model.pcn.adapter_init=identity"],
    },
    "window": {"c2f": [], "square": ["model.window.kind=square"]},
    "diffusion": {
        "linear UST, shift -3.41, tanh": [], "block 4": ["model.ust.block=4"],
        "cosine UST": ["model.ust.schedule=cosine"], "shift 0": ["model.gauss.shift=0"],
        "sigmoid": ["model.diff.x0_act=sigmoid"],
        "t ~ Beta(2, 1)": ["model.diff.t_dist=beta", "model.diff.beta_a=2"],
    },
    "packs": {
        "all packs, by number": BEFORE, "shares by role": [*BEFORE, *BY_ROLE],
        "pairs": [*BEFORE, "data.mix.pair=0.3"],
        "more unoccluded": [*BEFORE, "data.occlude.unoccluded=0.45", "data.front=0.4"],
        "stronger colours": [*BEFORE, "augment.color=0.8", "augment.grayscale=0.1", "augment.scale=0.25"],
        "no drop path": [*BEFORE, "model.pcn.drop_path=0"], "the recipe": [],
    },
    "controls": {
        "conddiff_amo": [], "direct": ["configs/experiment/photos_direct.yaml"],
        "pcnet_m": [PCNET_M], "pcnet_m with the image": [PCNET_M, "model.rgb=true"],
    },
}  # fmt: skip
# group -> row -> alternative prediction setting of the trained model -> evaluation options
PREDICTED_WITH: dict[str, dict[str, dict[str, list[str]]]] = {
    "table4": {
        row: {"ddpm": DDPM, "no VGPE": NO_VGPE, "ddpm, no VGPE": [*DDPM, *NO_VGPE]} for row in TRAINED["table4"]
    },
    "controls": {
        "conddiff_amo": {"1 step": ["override.sampler.steps=1"]},
        "pcnet_m": {"not told the occluder": NOT_TOLD},
        "pcnet_m with the image": {"not told the occluder": NOT_TOLD},
    },
}
# row -> evaluation options for one trained model
SAMPLED: dict[str, list[str]] = {
    "renoise_ust, 5 steps": [],
    **{f"renoise_ust, {n}": [f"override.sampler.steps={n}"] for n in (1, 2, 3, 10, 20)},
    "ddpm, 10": DDPM,
    "ddpm, 5": [DDPM[0], "override.sampler.steps=5"],
    "ddim, 10": ["override.sampler.kind=ddim", "override.sampler.steps=10"],
    "x_T gauss": ["override.sampler.init=gauss"],
    "condition every 2nd step": ["override.sampler.refresh_every=2"],
    "condition once": ["override.sampler.refresh_every=5"],
    "no clamp": NO_VGPE[:1],
    "no ensemble": NO_VGPE[1:],
    "no VGPE": NO_VGPE,
}


def main() -> None:
    """Run one group and print its table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=[*TRAINED, "sampling"])
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of each training run (1000)")
    parser.add_argument("--model", default="conddiff_amo_tiny", help="what the group 'sampling' evaluates")
    parser.add_argument("--out", type=Path, default=Path("outputs/experiments"), help="folder of the runs")
    parser.add_argument("--set", action="append", choices=SETS, dest="sets", help="an evaluation set (photos)")
    parser.add_argument("--row", action="append", dest="rows", help="only this row beside the reference (all)")
    options, given = parser.parse_known_args()
    options.sets = options.sets or ["photos"]
    wrong = [row for row in options.rows or [] if row not in {**TRAINED, "sampling": SAMPLED}[options.group]]
    if wrong:
        parser.error(f"'{wrong[0]}' is not a row of {options.group}: {', '.join(TRAINED.get(options.group, SAMPLED))}")
    options.out = ROOT / options.out
    folder = options.out / options.group

    table: dict[str, dict[str, Path]] = {}
    if options.group == "sampling":
        for row, changes in SAMPLED.items():
            if changes and options.rows and row not in options.rows:
                continue
            table[row] = {s: evaluate(options.model, folder / slug(row), s, changes) for s in options.sets}
    else:
        for row, changes in TRAINED[options.group].items():
            if changes and options.rows and row not in options.rows:
                continue
            run = folder / slug(row) if changes else options.out / f"reference_{options.steps}"
            if not (run / "model.safetensors").is_file():
                length = [
                    f"trainer.max_steps={options.steps}",
                    "checkpoint.val_every_steps=1000000",
                    "val.num_objects=8",
                ]
                recipe, own = split_recipe(changes)
                call("train.py", recipe, f"out={run}", *SHORT, *length, "trainer.progress=false", *own, *given)
            table[row] = {s: evaluate(str(run), run, s, []) for s in options.sets}
            for name, how in PREDICTED_WITH.get(options.group, {}).get(row, {}).items():
                table[f"{row} · {name}"] = {s: evaluate(str(run), run / slug(name), s, how) for s in options.sets}
    for name in options.sets:
        print(f"\n{name} (`{SETS[name]}`)\n\n{markdown({row: read(paths[name]) for row, paths in table.items()})}")


def split_recipe(changes: list[str]) -> tuple[str, list[str]]:
    """Split a row into its recipe and its options."""
    files = [word for word in changes if word.endswith(".yaml")]
    return files[0] if files else RECIPE, [word for word in changes if word not in files]


def slug(row: str) -> str:
    """A file name for a row."""
    return "".join(c if c.isalnum() else "_" for c in row).strip("_")


def call(*words: str) -> None:
    """Run a program of the repository; exit with its message if it fails."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr.strip()}")


def evaluate(model: str, folder: Path, name: str, changes: list[str]) -> Path:
    """Score a model on one set, unless the scores exist. Returns: its objects.csv."""
    out = folder / f"eval_{name}"
    if not (out / "objects.csv").is_file():
        quiet = ["report.html=false", "report.steps_curve=[]", "trainer.progress=false"]
        call("eval.py", SETS[name], f"models=[{model}]", f"out={out}", *quiet, *changes)
    return out / "objects.csv"


def read(path: Path) -> dict[tuple[str, str, str], tuple[float, float | None]]:
    """(data set, image, object) -> IoU of the full mask, and of the occluded region (None if nothing is occluded)."""
    return {
        (row["dataset"], row["image_id"], row["object_id"]): (
            row["out_inter"] / row["out_union"],
            row["occ_inter"] / row["occ_union"] if row["occluded_area"] else None,
        )
        for row in read_rows(path)
    }


def markdown(table: dict[str, dict[tuple[str, str, str], tuple[float, float | None]]]) -> str:
    """Means in percent with the paired difference to the first row and its interval.

    For occluded objects, the occluded region and the full mask (`per_object_occluded`); for others, the full mask.
    """
    first = next(iter(table.values()))
    hidden = sorted(key for key, (_, occluded) in first.items() if occluded is not None)
    columns = [("occluded", hidden, 1), ("full", hidden, 0), ("unoccluded", sorted(first.keys() - set(hidden)), 0)]
    columns = [column for column in columns if column[1]]
    names = [f"{name} ({len(keys)})" for name, keys, _ in columns]
    lines = [f"| | {' | '.join([*names, *(f'{name}, difference' for name, *_ in columns)])} |"]
    lines.append(f"|---|{2 * len(columns) * '---:|'}")
    for row, found in table.items():
        assert found.keys() == first.keys(), f"{row} was scored on other objects than the reference"
        means, differences = [], []
        for _, keys, part in columns:
            values, reference = (100 * np.array([rows[key][part] for key in keys], float) for rows in (found, first))
            means.append(f"{values.mean():.1f}")
            difference = values - reference
            low, high = interval(difference, [f"{data}/{image}" for data, image, _ in keys])
            differences.append("" if found is first else f"{difference.mean():+.1f} [{low:+.1f}, {high:+.1f}]")
        lines.append(f"| {row} | {' | '.join([*means, *differences])} |")
    return "\n".join(lines)


def interval(values: np.ndarray, images: list[str], resamples: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over objects; pictures are resampled, with all their objects."""
    names, place = np.unique(images, return_inverse=True)
    total, count = np.bincount(place, values), np.bincount(place)
    chosen = np.random.default_rng(0).integers(len(names), size=(resamples, len(names)))
    low, high = np.quantile(total[chosen].sum(1) / count[chosen].sum(1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
