"""Regions with the text-conditioned prior: objects in their boxes, edits that preserve the rest, inversion.

    python benchmarks/regions.py [PRIOR] [--pairs 64] [--steps 20] [--seed 0] [--out DIR]

PRIOR is a run folder, a released folder, a ``last.ckpt``, or the name of a shipped one. ``benchmarks/README.md``
explains the table.
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
from tqdm import tqdm

from amodalseg.atomic import write_whole
from amodalseg.config.schema import CaptionsData
from amodalseg.data.draw.captions import COLOURS, FORMS, CaptionedWorld, colour_shares, with_article
from amodalseg.errors import UserError
from amodalseg.models import pick_device
from amodalseg.models.inpainting.backends.word_prior import WordPrior
from amodalseg.models.inpainting.prior_training.validation import to_images, to_pictures
from amodalseg.models.inpainting.prior_training.word_validation import GUIDANCE, THERE
from amodalseg.models.inpainting.steps.keywords import Emphasise, words_of
from amodalseg.models.inpainting.steps.prompt_edit import EditMaps, EditSteps, align
from amodalseg.models.inpainting.steps.region_guidance import LossWeights, RegionGuidance, inherent_mask
from amodalseg.models.inpainting.steps.region_inversion import invert_regions
from amodalseg.models.inpainting.steps.regions import Regions, RegionSteps
from amodalseg.models.inpainting.steps.sample import Hook, advance, begin
from amodalseg.types import Region, stable_seed

WEIGHT = GUIDANCE - 1
AT_ONCE = 16  # pairs per batch; their noise depends on the seed and the start of the batch
LEFT, RIGHT = (0.0, 0.0, 4 / 7, 1.0), (3 / 7, 0.0, 1.0, 1.0)  # two overlapping squares of a 7 x 4 canvas
IP_ONLY = LossWeights(region=0.0, similarity=0.0)


def pairs_of(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of things of different colours."""
    rng = np.random.default_rng(stable_seed("pairs", seed))
    pairs = []
    for _ in range(count):
        colours = rng.choice([*COLOURS], 2, replace=False)
        first, second = (f"{colour} {rng.choice([*FORMS])}" for colour in colours)
        pairs.append((first, second))
    return pairs


def described(*things: str) -> str:
    """A caption."""
    return " and ".join(with_article(thing) for thing in things) + " on a grey ground"


def shown(
    backend: Regions,
    size: tuple[int, int],
    seeds: Sequence[int],
    steps: int,
    hooks: Sequence[Hook] = (),
    controls: dict[int, tuple] | None = None,
) -> np.ndarray:
    """Pictures generated from noise, uint8 (N, H, W, 3). controls: of attention, by the region's number."""
    blank = torch.zeros(len(seeds), 3, *size)
    prepared = backend.prepare(blank, torch.ones_like(blank[:, :1], dtype=torch.bool))
    parts = list(prepared.parts)
    for number, some in (controls or {}).items():
        parts[number] = replace(parts[number], asked=replace(parts[number].asked, attention=some))
    prepared.parts = tuple(parts)
    return np.stack(to_images(backend.decode(advance(begin(backend, prepared, seeds, steps), hooks).x)))


def both(inner: WordPrior, pairs: Sequence[tuple[str, str]], steps: int, seed: int) -> dict[str, list[float]]:
    """Whether each thing is in its place, on a canvas of two boxes and with one text for everything."""
    side = inner.abilities.size
    size, seeds = (side, side * 7 // 4), [stable_seed("both", seed, place) for place in range(len(pairs))]
    regions = [Region("", "", LEFT), Region("", "", RIGHT)]
    texts = [[described(pair[place]) for pair in pairs] for place in (0, 1)]
    fused = shown(Regions(inner, regions, texts, WEIGHT), size, seeds, steps)
    once = Regions(inner, [Region("", "")], [[described(*pair) for pair in pairs]], WEIGHT)
    return {
        "both in their boxes, regions, %": [100.0 * placed(*case) for case in zip(fused, pairs, strict=True)],
        "both in their boxes, one text, %": [
            100.0 * placed(*case) for case in zip(shown(once, size, seeds, steps), pairs, strict=True)
        ],
    }  # fmt: skip


def placed(picture: np.ndarray, pair: tuple[str, str]) -> bool:
    """Whether each half shows its own colour, and more of it than of the other's."""
    halves = np.array_split(picture, 2, axis=1)
    own, other = [thing.split()[0] for thing in pair], [thing.split()[0] for thing in pair[::-1]]
    shares = [colour_shares(np.ascontiguousarray(half)) for half in halves]
    return all(
        share[here] >= THERE and share[here] > share[there]
        for share, here, there in zip(shares, own, other, strict=True)
    )


def swap(inner: WordPrior, pairs: Sequence[tuple[str, str]], steps: int, seed: int) -> dict[str, list[float]]:
    """Change the colour of one thing: how much of its shape and of the ground is preserved."""
    side, count = inner.abilities.size, len(pairs)
    seeds = [stable_seed("swap", seed, place) for place in range(count)] * 2
    before = [described(first) for first, _ in pairs]
    after = [described(f"{second.split()[0]} {first.split()[1]}") for first, second in pairs]
    length = inner.pipeline.tokenizer.model_max_length
    mappers = [
        align(inner.tokens(one), inner.tokens(other), length, swap=True)
        for one, other in zip(before, after, strict=True)
    ]
    columns = [[column for word, place in words_of(inner, text)[1:3] for column in place] for text in [*before, *after]]
    backend = Regions(inner, [Region("", "")], [[*before, *after]], WEIGHT)
    found: dict[str, list[float]] = {}
    for name, decay, emphasis in (
        ("same noise", None, False),
        ("P2P", False, False),
        ("P2P, decaying", True, False),
        ("P2P, KSSA", False, True),
    ):
        edits = [] if decay is None else [EditMaps(mappers, 1.0, 0.7, decay=decay)]
        controls = (*edits, *([Emphasise(columns)] if emphasis else []))
        pictures = shown(backend, (side, side), seeds, steps, [EditSteps(edits)], {0: controls})
        forms = [vivid(picture) for picture in pictures]
        ious, grounds = [], []
        for place in range(count):
            one, other = forms[place], forms[place + count]
            ious.append(100 * float((one & other).sum() / max(1, (one | other).sum())))
            grounds.append(psnr(pictures[place], pictures[place + count], ~(one | other)))
        found[f"swap, {name}: IoU of the thing, %"], found[f"swap, {name}: ground, dB"] = ious, grounds
    return found


def add(inner: WordPrior, pairs: Sequence[tuple[str, str]], steps: int, seed: int) -> dict[str, list[float]]:
    """Add a second thing in a box that overlaps the first one's: what is preserved outside the new box."""
    side, count = inner.abilities.size, len(pairs)
    seeds = [stable_seed("add", seed, place) for place in range(count)] * 2
    firsts, seconds = [described(first) for first, _ in pairs], [described(second) for _, second in pairs]
    grounds: list[str | None] = ["a grey ground"] * (2 * count)
    regions = [Region("", ""), Region("", "", LEFT), Region(None, "", RIGHT)]
    texts: list[list[str | None]] = [grounds, [*firsts, *firsts], [None] * count + list(seconds)]
    total = [*firsts, *(described(*pair) for pair in pairs)]
    length = inner.pipeline.tokenizer.model_max_length
    found: dict[str, list[float]] = {}
    for name in ("fused only", "P2P", "P2P, IP", "P2P, IP, total region"):
        backend = Regions(inner, regions, texts, WEIGHT, total=total if "total" in name else ())
        edits, controls = [], {}
        if "P2P" in name:
            for number in (0, 1):
                words = [inner.tokens(text or "") for text in texts[number][:count]]
                edits.append(EditMaps([align(one, one, length) for one in words], 1.0, 0.7, decay=False))
                controls[number] = (edits[-1],)
        hooks: list[Hook] = [RegionSteps(0.6), EditSteps(edits)]
        blank = torch.zeros(2 * count, 3, side, side * 7 // 4)
        parts = backend.prepare(blank, blank[:, :1] == 0).parts[:3]
        stays = inherent_mask(parts, [region.kind for region in regions], *parts[0].alpha.shape[-2:])
        if "IP" in name:
            hooks.append(RegionGuidance(None, [], stays, IP_ONLY, sources=False))
        pictures = shown(backend, (side, side * 7 // 4), seeds, steps, hooks, controls)
        where = stays[0, 0].repeat_interleave(inner.factor, 0).repeat_interleave(inner.factor, 1).numpy()
        kept = [psnr(pictures[place], pictures[place + count], where) for place in range(count)]
        found[f"add, {name}: the rest, dB"] = kept
        found[f"add, {name}: both there, %"] = [
            100.0 * placed(*case) for case in zip(pictures[count:], pairs, strict=True)
        ]
    return found


def photo(inner: WordPrior, count: int, steps: int, seed: int) -> dict[str, list[float]]:
    """Held-out pictures as two regions: inverted, and regenerated with guidance."""
    side = inner.abilities.size
    world = CaptionedWorld(CaptionsData(split="val", num_objects=count, seed=seed, size=side))
    scenes = [world.scene(place, size=side) for place in range(count)]
    pictures, captions = to_pictures([scene.picture() for scene in scenes]), [scene.caption() for scene in scenes]
    regions = [Region("", ""), Region("", "", (0.25, 0.25, 0.75, 0.75))]
    backend = Regions(inner, regions, [captions, captions], WEIGHT)
    prepared = backend.prepare(pictures, torch.ones_like(pictures[:, :1], dtype=torch.bool))
    inverted = invert_regions(backend, prepared, steps)
    found = {}
    for name, nulls in (("empty texts", None), ("null texts", inverted.nulls)):
        sampling = begin(backend, prepared, range(count), steps)
        sampling.x = inverted.start
        again = to_images(backend.decode(advance(sampling, [RegionSteps(nulls=nulls)]).x))
        everywhere = np.ones((side, side), bool)
        found[f"inverted, {name}, dB"] = [
            psnr(one, scene.picture(), everywhere) for one, scene in zip(again, scenes, strict=True)
        ]
    return found


def vivid(picture: np.ndarray) -> np.ndarray:
    """Pixels with a hue, bool (H, W): those of things, since grounds have none."""
    value = picture.astype(np.float32)
    spread = np.ptp(value, axis=-1)
    return (spread > 60) & (spread > 0.5 * value.max(axis=-1))


def psnr(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """PSNR of two pictures within a mask, in dB, at most 60, also for an empty mask."""
    errors = (one[where].astype(float) - other[where]) ** 2
    return float(10 * np.log10(255**2 / max(errors.mean() if errors.size else 0.0, 255**2 / 1e6)))


def interval(values: np.ndarray, times: int = 2000) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(times, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns: the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("prior", nargs="?", default="word_prior")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--photos", type=int, default=8, help="pictures to invert, which takes longest; 0: none")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", help="a folder for regions.json")
    options = parser.parse_args(arguments)
    try:
        inner = WordPrior(options.prior, pick_device(options.device))
        pairs = pairs_of(options.pairs, options.seed)
        found: dict[str, list[float]] = {}
        jobs = [(task, first) for task in (both, swap, add) for first in range(0, len(pairs), AT_ONCE)]
        for task, first in tqdm(jobs, desc="pairs", disable=None):
            some = pairs[first : first + AT_ONCE]
            for name, values in task(inner, some, options.steps, stable_seed("regions", options.seed, first)).items():
                found.setdefault(name, []).extend(values)
        if options.photos:
            found |= photo(inner, options.photos, options.steps, options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = {name: interval(np.array(values)) for name, values in found.items()}
    print(f"{len(pairs)} pairs, {options.steps} steps, guidance {GUIDANCE:g}, seed {options.seed}")
    for name, (mean, low, high) in table.items():
        print(f"  {name:46s} {mean:8.2f} [{low:.2f} .. {high:.2f}]")
    if options.out:
        told = {"pairs": len(pairs), "steps": options.steps, "seed": options.seed, "table": table, "values": found}
        write_whole(Path(options.out) / "regions.json", json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
