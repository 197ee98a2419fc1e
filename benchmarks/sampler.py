"""The cost of each way of sampling and its effect on the predictions, compared in one run.

    python benchmarks/sampler.py MODEL [--data configs/eval/photos.yaml] [--objects 200] [--threads 2] [--out x.json]

MODEL is anything ``load_model`` takes, or a training configuration (.yaml), whose weights are then random, which is
sufficient for times. ``benchmarks/README.md`` explains the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from amodalseg.atomic import write_whole
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig, SyntheticData, TrainConfig
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.data.window import crop_image, crop_mask, object_window
from amodalseg.diffusion.ensemble import Ensemble, clamp_visible, is_clamped
from amodalseg.diffusion.sampler import sample
from amodalseg.engine.evaluation.evaluate import collect_predictions
from amodalseg.errors import UserError
from amodalseg.metrics.protocols import score
from amodalseg.models import load_model, pick_device
from amodalseg.models.conddiff_amo.evaluation import NetworkDenoiser
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.memory import keep_freed_memory
from amodalseg.models.network_model import normalise

Windows = tuple[Tensor, Tensor, list[int]]
"""Pixels uint8 (N, 3, S, S), modal masks bool (N, 1, S, S), and the objects' seeds."""


class Straightforward(CondDiffAMO):
    """Evaluates the whole network in every step, and computes the ensemble at the end from the history of all steps."""

    @torch.no_grad()
    def probability(self, image: Tensor, modal: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        config, sampler, device = self.config, self._sampler(steps), self.device
        mask, history = modal.to(device).float(), list[Tensor]()
        plain = NetworkDenoiser(self.network, normalise(image.to(device)), mask, config, sampler)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            x0 = plain(x, t)
            clamped = is_clamped(len(history), sampler.steps, config.vgpe)
            history.append(clamp_visible(x0, mask) if clamped else x0)
            return x0

        sample(denoise, mask, noise.to(device), sampler, config.gauss, config.ust, config.vgpe)
        ensemble = Ensemble(config.vgpe)
        for x0 in torch.stack(history):
            ensemble.add(x0)
        return ensemble.result()


@dataclass
class Row:
    """One way of sampling. Times are medians over the repeats; IoU in percent, ``per_object_occluded``.

    peak_mb: of the process (CPU) or of the device's allocations (GPU). share: of the measured matmul peak, in percent.
    """

    name: str
    steps: int
    batch: int
    ms: float = 0.0
    objects_per_s: float = 0.0
    speedup: float = 0.0
    peak_mb: float | None = None
    gflop: float = 0.0
    share: float = 0.0
    occluded: float | None = None
    full: float | None = None
    occluded_change: float | None = None
    full_change: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns the exit code: 0, or 2 for invalid input."""
    try:
        options = parser().parse_args(arguments)
        torch.set_num_threads(options.threads)
        device = pick_device(options.device)
        models = create_models(open_weights(options.model), options, device)
        dataset = open_objects(options)
        rows = measure(models, dataset, options, device)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    print(f"{options.model} on {device}{threads}, torch {torch.__version__}, {len(dataset)} objects")
    print(markdown(rows))
    if options.out:
        about = {**vars(options), "torch": torch.__version__, "device": device}
        write_whole(options.out, json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("model", metavar="MODEL", help="a model name, file or run folder, or a training .yaml")
    found.add_argument("--data", help="evaluation .yaml whose objects are asked for (the procedural world)")
    found.add_argument("--objects", type=int, default=200, help="objects behind the IoU (200); 0: times only")
    found.add_argument("--timed", type=int, default=16, help="objects in one timed run (16)")
    found.add_argument("--repeats", type=int, default=5, help="runs of each row, interleaved (5)")
    found.add_argument("--batch", type=int, default=16, help="objects in one batch (16)")
    found.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch on the CPU")
    found.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    found.add_argument("--compile", action="store_true", help="add rows through torch.compile (minutes)")
    found.add_argument("--quick", action="store_true", help="few rows, objects and repeats: does it run?")
    found.add_argument("--out", help="json file for the figures")
    return found


def open_weights(name: str) -> CondDiffAMO:
    """A sampling model; with random weights if given a training configuration."""
    if name.endswith(".yaml"):
        config = load_config(TrainConfig, name, ["out=unused"]).model
        config.pcn.pretrained = False
        torch.manual_seed(0)
        return CondDiffAMO(config, name=Path(name).stem)
    model = load_model(name, "cpu")
    if not isinstance(model, CondDiffAMO):
        raise UserError(f"'{name}' does not sample, so there is nothing to make faster")
    return model


def open_objects(options: argparse.Namespace) -> EvaluationSet:
    """The objects of ``--data``, or procedural ones."""
    count = max(options.timed, 4 if options.quick else options.objects)
    if options.data is None:
        return EvaluationSet(open_source(SyntheticData(split="val", num_objects=count)), 0)
    config = load_config(EvalConfig, options.data, ["out=unused"])
    return EvaluationSet(open_source(config.data), config.seed)


def create_models(weights: CondDiffAMO, options: argparse.Namespace, device: str) -> list[CondDiffAMO]:
    """All rows, the straightforward loop first. They share one set of frozen weights."""
    weights.network.to(device).eval().requires_grad_(False)
    plain = CondDiffAMO(weights.config).network.to(device)  # the same in the default memory format
    plain.load_state_dict(weights.network.state_dict())
    plain.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    steps = 2 if options.quick else 10

    def row(
        name: str, kind: type[CondDiffAMO] = CondDiffAMO, batch: int = options.batch, sampler: dict | None = None,
        fast: dict | None = None, network: Any = weights.network,
    ) -> CondDiffAMO:  # fmt: skip
        changed = replace(weights.config.sampler, refresh_every=1, steps=steps)
        config = replace(weights.config, sampler=replace(changed, **(sampler or {})))
        model = kind(config, network, name=name, batch_size=batch)
        return model if fast is None else model.accelerate(**fast)

    rows = [
        row("straightforward", Straightforward, 1, network=plain),
        row("+ channels last", Straightforward, 1),
        row("+ batches"),
        row("+ bf16", fast={"precision": "bf16"}),
    ]
    if options.compile:
        rows += [row("fp32, compiled", fast={"compile": True}),
                 row("bf16, compiled", fast={"precision": "bf16", "compile": True})]  # fmt: skip
    for count in (1,) if options.quick else (1, 2, 3, 5):
        rows.append(row(f"{count} steps" if count > 1 else "1 step", sampler={"steps": count}))
    for every in (2,) if options.quick else (2, 5):
        rows.append(row(f"refresh_every={every}", sampler={"refresh_every": every}))
    if not options.quick:
        rows.append(row("5 steps, refresh_every=2", sampler={"steps": 5, "refresh_every": 2}))
        rows += [row(f"{n} steps, bf16", sampler={"steps": n}, fast={"precision": "bf16"}) for n in (5, 3, 2)]
    return rows


def measure(models: list[CondDiffAMO], dataset: EvaluationSet, options: argparse.Namespace, device: str) -> list[Row]:
    """Time all rows in turns, several times, then count their operations and score their predictions."""
    timed, repeats = (2, 2) if options.quick else (options.timed, options.repeats)
    timed = min(timed, len(dataset))
    windows = prepare(dataset, timed, models[0])
    if device == "cpu":
        keep_freed_memory()  # for every row alike: the process has one heap
    for model in models:
        run(model, windows, device)  # warm-up, compiling
    seconds: list[list[float]] = [[] for _ in models]
    peaks = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for _ in range(repeats):  # interleaved, so that other load affects every row
        peaks = {dtype: max(best, matmul_peak(device, dtype)) for dtype, best in peaks.items()}
        for model, found in zip(models, seconds, strict=True):
            found.append(run(model, windows, device))
    count = 0 if options.objects == 0 else 4 if options.quick else min(options.objects, len(dataset))
    rows = []
    for model, found in zip(models, seconds, strict=True):
        each = statistics.median(found) / timed
        row = Row(model.name, model.config.sampler.steps, model.batch_size, 1e3 * each, 1 / each)
        row.peak_mb, row.gflop = peak_memory(model, windows, device), count_gflop(model, windows)
        half = model.acceleration is not None and model.acceleration.precision == "bf16"
        row.share = 100 * row.gflop / each / peaks[torch.bfloat16 if half else torch.float32]
        if count:
            predicted = collect_predictions(model, dataset, options.batch, limit=count)
            scores = score([prediction.row for prediction in predicted])["per_object_occluded"]
            row.occluded, row.full = percent(scores["occluded"]), percent(scores["full"])
        rows.append(row)
    for row in rows:
        row.speedup = rows[0].ms / row.ms
        row.occluded_change = change(row.occluded, rows[0].occluded)
        row.full_change = change(row.full, rows[0].full)
    return rows


def prepare(dataset: EvaluationSet, count: int, model: CondDiffAMO) -> Windows:
    """Crop the first objects to the model's windows, once, because opening photos is not part of sampling."""
    queries = [dataset[i][1] for i in range(count)]
    places = [object_window(query.modal, model.config.window) for query in queries]
    image = [torch.from_numpy(crop_image(q.image, w)).permute(2, 0, 1) for q, w in zip(queries, places, strict=True)]
    modal = [torch.from_numpy(crop_mask(q.modal, w))[None] for q, w in zip(queries, places, strict=True)]
    return torch.stack(image), torch.stack(modal), [query.seed for query in queries]


def run(model: CondDiffAMO, windows: Windows, device: str) -> float:
    """Sample all windows in the model's batches. Returns seconds."""
    image, modal, seeds = windows
    noise = torch.as_tensor(model.sample_noise(seeds))
    wait: Callable[[], object] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    began = time.perf_counter()
    for start in range(0, len(image), model.batch_size):
        part = slice(start, start + model.batch_size)
        model.probability(image[part], modal[part], noise[:, part])
    wait()
    return time.perf_counter() - began


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product on this device, the best of several runs."""
    side = 8192 if device.startswith("cuda") else 1024
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best / 1e9


def peak_memory(model: CondDiffAMO, windows: Windows, device: str) -> float | None:
    """Peak memory of one run in MB; None if the system does not report it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        run(model, windows, device)
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark on Linux
        run(model, windows, device)
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


def count_gflop(model: CondDiffAMO, windows: Windows) -> float:
    """Operations for one object, in 1e9; a compiled network is counted as the original one."""
    image, modal, seeds = windows
    eager = type(model)(model.config, model.network, name=model.name, batch_size=1)
    counter = FlopCounterMode(display=False)
    # attention as two products, because the fused kernels of the CPU are not counted
    with sdpa_kernel(SDPBackend.MATH), counter:
        eager.probability(image[:1], modal[:1], torch.as_tensor(model.sample_noise(seeds[:1])))
    return counter.get_total_flops() / 1e9


def percent(value: float | None) -> float | None:
    """A share as a percentage."""
    return None if value is None else 100 * value


def change(value: float | None, reference: float | None) -> float | None:
    """The difference, if both are known."""
    return None if value is None or reference is None else value - reference


def markdown(rows: list[Row]) -> str:
    """The rows as the table in ``docs/inference.md``."""

    def show(value: float | None, digits: str = ".1f") -> str:
        return "" if value is None else format(value, digits)

    lines = [
        "| way | steps | batch | ms/object | objects/s | speed-up | peak MB | GFLOP/object | of peak % "
        "| occluded | full |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        iou = [f"{show(v)} ({show(c, '+.2f')})" if v is not None else ""
               for v, c in ((row.occluded, row.occluded_change), (row.full, row.full_change))]  # fmt: skip
        cells = [row.name, str(row.steps), str(row.batch), show(row.ms, ".2f"), show(row.objects_per_s),
                 show(row.speedup, ".2f"), show(row.peak_mb, ".0f"), show(row.gflop, ".2f"), show(row.share),
                 *iou]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
