"""The text-conditioned prior for editing: do its words localise, can it be inverted, and does the segmenter work?

    python benchmarks/word_prior.py [PRIOR] [--segmenter NAME] [--objects 64] [--out DIR] [val.key=value ...]

PRIOR is a run folder, a released folder, a ``last.ckpt``, or the name of a shipped one. ``benchmarks/README.md``
explains the table. Exit code 1 if a figure misses the target set for the prior.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import TrainConfig
from amodalseg.data.draw.captioned import Captioned, HeldOutCaptions
from amodalseg.data.draw.captions import COLOURS
from amodalseg.data.open import open_source
from amodalseg.errors import UserError
from amodalseg.models import pick_device
from amodalseg.models.inpainting.backends.backend import InpaintingBackend, Level
from amodalseg.models.inpainting.backends.word_prior import WordPrior
from amodalseg.models.inpainting.parts.small_segmenter import SHIPPED
from amodalseg.models.inpainting.parts.words import WordSegmenter, open_word_segmenter
from amodalseg.models.inpainting.prior_training.validation import to_pictures
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.maps import WatchMaps, word_columns
from amodalseg.models.inpainting.steps.null_text import NullTexts, null_text
from amodalseg.models.inpainting.steps.sample import Sampling, advance
from amodalseg.types import stable_seed

TIMES = (0.1, 0.3, 0.5, 0.7)
GUIDANCE = 3.0  # as diffusers defines it: 1 is none
GOALS = {
    **{f"AUROC of colour words, t = {time}": 0.9 for time in TIMES if time <= 0.5},
    "inversion, dB": 25.0, "inversion, two rounds, dB": 35.0, "null text over empty text, dB": 8.0,
    "segmenter, IoU by name": 0.85,
}  # fmt: skip


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a pixel of ``truth`` has a higher value than one outside it; ties count half."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places.reshape(truth.shape)]
    inside, outside = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - inside * (inside + 1) / 2) / (inside * outside))


def psnr(one: Tensor, other: Tensor) -> np.ndarray:
    """PSNR of pictures (B, 3, H, W) in [-1, 1], in dB, float64 (B,)."""
    errors: np.ndarray = (one - other).double().square().mean(dim=(1, 2, 3)).clamp(min=1e-12).numpy()
    return 10 * np.log10(4 / errors)


def localise(backend: WordPrior, cases: Sequence[Captioned], side: int) -> dict[str, list[float]]:
    """AUROC of each thing's colour word in the mean cross-attention maps of a grid, against its visible pixels."""
    pictures = to_pictures([case.picture for case in cases])
    holes, captions = torch.ones(len(cases), 1, *pictures.shape[-2:]) > 0, [case.caption for case in cases]
    prepared, found = backend.prepare(pictures, holes, captions), {}
    generators = [torch.Generator().manual_seed(stable_seed("map", case.key)) for case in cases]
    draws = [torch.randn(prepared.known.shape[1:], generator=generator) for generator in generators]
    noise = torch.stack(draws).to(prepared.known)
    for time in TIMES:
        cumulated = float(backend.scheduler.alphas_cumprod[round(time * 1000)])
        level = Level(time * 1000, cumulated**0.5, (1 - cumulated) ** 0.5)
        watch = WatchMaps(side)
        with torch.no_grad():
            backend.estimate(
                backend.add_noise(prepared.known, noise, level), level, replace(prepared, attention=(watch,))
            )
        maps, scores = watch.cross_maps(), []
        for row, case in enumerate(cases):
            for thing, modal in zip(case.scene.things, case.scene.modal, strict=True):
                columns = word_columns(backend, case.caption, thing.colour)
                grid = maps[row][:, columns].mean(1).reshape(1, 1, watch.grid.height, watch.grid.width)
                wide = torch.nn.functional.interpolate(grid, modal.shape, mode="bilinear", align_corners=False)
                scores.append(auroc(wide[0, 0].double().cpu().numpy(), modal))
        found[f"AUROC of colour words, t = {time}"] = scores
    return found


def there_and_back(backend: InpaintingBackend, cases: Sequence[Captioned], steps: int) -> dict[str, list[float]]:
    """PSNR of pictures that were inverted and regenerated."""
    pictures = to_pictures([case.picture for case in cases])
    holes, captions = torch.ones(len(cases), 1, *pictures.shape[-2:]) > 0, [case.caption for case in cases]
    told, null = backend.prepare(pictures, holes, captions), backend.prepare(pictures, holes, [""] * len(cases))
    levels = backend.levels(steps)

    def again(states: list[Tensor], hooks: Sequence[MaskGuidance] = ()) -> np.ndarray:
        sampling = advance(Sampling(backend, told, levels, states[0], states[0]), hooks)
        return psnr(backend.decode(sampling.x).cpu(), pictures)

    plain, corrected = invert(backend, told, steps), invert(backend, told, steps, rounds=2)
    guidance = MaskGuidance(null, GUIDANCE - 1)
    empty = again(plain, [guidance])
    fitted = again(plain, [NullTexts(guidance, null_text(backend, told, guidance, plain))])
    return {
        "inversion, dB": list(again(plain)),
        "inversion, two rounds, dB": list(again(corrected)),
        f"guidance {GUIDANCE:g}, empty text, dB": list(empty),
        f"guidance {GUIDANCE:g}, null text, dB": list(fitted),
        "null text over empty text, dB": list(fitted - empty),
    }


def segment(segmenter: WordSegmenter, cases: Sequence[Captioned]) -> dict[str, list[float]]:
    """IoU of things segmented by name with their visible pixels, and the area segmented for an absent colour."""
    pictures = to_pictures([case.picture for case in cases])
    absent = []
    for case in cases:
        there = {thing.colour for thing in case.scene.things}
        absent.append(f"{next(colour for colour in COLOURS if colour not in there)} {case.query.split()[1]}")
    with torch.no_grad():
        found, wrong = (segmenter.logits(pictures, words).cpu().numpy() > 0
                        for words in ([case.query for case in cases], absent))  # fmt: skip
    truth = [case.mask > 0 for case in cases]
    ious = [float((f & t).sum() / (f | t).sum()) for f, t in zip(found, truth, strict=True)]
    return {"segmenter, IoU by name": ious, "segmenter, share at a wrong colour": wrong.mean(axis=(1, 2)).tolist()}


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns: the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("prior", nargs="?", default="word_prior")
    parser.add_argument("--segmenter", default=SHIPPED, help="'none' leaves it out")
    parser.add_argument("--data", default="configs/experiment/word_prior_cpu.yaml", help="its val pictures are used")
    parser.add_argument("--objects", type=int, default=64, help="pictures, half with one thing and half with two")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, help="of the pictures, pixels on a side; default: as it was trained")
    parser.add_argument("--side", type=int, default=16, help="places on a side of the finest maps that are looked at")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", help="a folder for word_prior.json")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args(arguments)
    try:
        backend = WordPrior(options.prior, pick_device(options.device))
        world = open_source(load_config(TrainConfig, options.data, options.overrides).val)
        held_out = HeldOutCaptions(world, options.size or backend.abilities.size)  # type: ignore[arg-type]
        cases = [held_out[place] for place in range(options.objects)]
        found = localise(backend, cases, options.side) | there_and_back(backend, cases, options.steps)
        if options.segmenter != "none":
            found |= segment(open_word_segmenter(options.segmenter, pick_device(options.device)), cases)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = {name: interval(np.array(values)) for name, values in found.items()}
    missed = [name for name, goal in GOALS.items() if name in table and table[name][0] < goal]
    print(f"{len(cases)} held-out pictures, {options.steps} steps")
    for name, (mean, low, high) in table.items():
        goal = f"   at least {GOALS[name]:g}{': missed' if name in missed else ''}" if name in GOALS else ""
        print(f"  {name:36s} {mean:8.4f} [{low:.4f} .. {high:.4f}]{goal}")
    if options.out:
        told = {"objects": len(cases), "steps": options.steps, "table": table, "missed": missed}
        write_whole(Path(options.out) / "word_prior.json", json.dumps(told, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
