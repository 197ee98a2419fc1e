"""The cost of a training step, and the benefit of each way to speed it up.

    python benchmarks/steps.py configs/experiment/photos_tiny.yaml --threads 1 --processes 2
    python benchmarks/steps.py configs/experiment/photos_lite.yaml --compile loader.batch_size=32

One batch of procedural objects stays in memory, so that only the step is measured: forward, loss, backward, clipping,
optimiser. Each row adds one change to the one above. The bound is the time if all operations ran as fast as a large
matrix product in the row's precision. With ``--processes N`` the last variant runs in N processes that exchange
gradients (DDP), each with its own threads; the efficiency is their objects per second divided by N times those of one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from amodalseg.config.load import load_config  # noqa: E402
from amodalseg.config.schema import TrainConfig  # noqa: E402
from amodalseg.data.data_module import AmodalDataModule, collate  # noqa: E402
from amodalseg.engine.training.tasks import task_of  # noqa: E402
from amodalseg.models.loss import amodal_loss  # noqa: E402
from amodalseg.models.memory import keep_freed_memory  # noqa: E402
from benchmarks.sampler import matmul_peak  # noqa: E402

WAYS = ("plain", "+ channels last", "+ fused optimiser", "+ bf16", "+ compiled")
DRAWN = ["data.name=synthetic", "val.name=synthetic", "out=unused", "optim.early_size=null", "loader.num_workers=0"]


class Step:
    """One training step on a resident batch."""

    def __init__(self, config: TrainConfig, way: str, device: str, rank: int = 0, world: int = 1) -> None:
        level = WAYS.index(way)
        module: Any = task_of(config).module(config, 10)
        self.module, self.config, self.half = module.to(device), config, level >= 3
        network = module.network
        network.to(memory_format=torch.channels_last if level >= 1 else torch.contiguous_format)
        if level >= 4:
            network.compile()
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=level >= 2)
        if world > 1:
            module.network = nn.parallel.DistributedDataParallel(network)
        drawn, size = AmodalDataModule(config).train_set, config.model.window.size
        batch = collate([drawn[(0, number, size)] for number in range(config.loader.batch_size)])
        self.batch = batch._replace(image=batch.image.to(device), masks=batch.masks.to(device))
        self.device = torch.device(device)
        network.train()

    def forward(self) -> torch.Tensor:
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext()
        with autocast:
            logits, target = self.module.logits_and_target(self.batch)
        modal, _, unknown, _ = self.batch.masks.float().split(1, dim=1)
        loss: torch.Tensor = amodal_loss(logits, target, self.config.model.loss, modal, unknown)[0]
        return loss

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()
        nn.utils.clip_grad_norm_(self.module.network.parameters(), 1.0)
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def gflop(self) -> float:
        """GFLOP of one step; backward counts as two forward passes, as PyTorch miscounts it for depthwise layers."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.forward()
        return 3 * counter.get_total_flops() / 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a training configuration; key=value behind it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (minutes)")
    options, given = parser.parse_known_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as training does on a CPU
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = load_config(TrainConfig, options.config, [*given, *DRAWN])
    config.model.pcn.pretrained = False
    ways = WAYS if options.compile else WAYS[:-1]
    steps = {way: Step(config, way, device) for way in ways}
    seconds = in_turns([*steps.values()], options.repeats)
    gflop, size = steps[WAYS[0]].gflop(), config.loader.batch_size
    print(f"{options.config}: batch {size}, {options.threads} threads, {gflop:.0f} GFLOP a step\n")
    print("| variant | ms/step | objects/s | speed-up | bound, ms | % of the bound |\n|---|---:|---:|---:|---:|---:|")
    for way, spent in zip(ways, seconds, strict=True):
        bound = gflop / matmul_peak(device, torch.bfloat16 if steps[way].half else torch.float32)
        print(
            f"| {way} | {1000 * spent:.0f} | {size / spent:.1f} | {seconds[0] / spent:.2f} | {1000 * bound:.1f} | "
            f"{100 * bound / spent:.1f} |"
        )
    if options.processes > 1:
        rate = parallel_rate(config, WAYS[3], device, options)
        alone = size / seconds[3]
        print(f"\n{options.processes} processes: {rate:.1f} objects/s, {100 * rate / alone / options.processes:.1f} %")
    return 0


def in_turns(steps: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """Median seconds of each; they take turns, so that other load affects all of them."""
    times: list[list[float]] = [[] for _ in steps]
    for number in range(repeats + 2):
        for step, found in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            if number > 1:  # the first ones compile and allocate memory
                found.append(time.perf_counter() - began)
    return [median(found) for found in times]


def parallel_rate(config: TrainConfig, way: str, device: str, options: argparse.Namespace) -> float:
    """Objects per second of all processes together."""
    rates, world = mp.get_context("spawn").SimpleQueue(), options.processes
    with tempfile.TemporaryDirectory() as folder:
        given = world, config, way, device, options, rates, Path(folder, "meeting").as_uri()
        mp.spawn(_process, given, world)  # type: ignore[no-untyped-call]
    return float(rates.get())


def _process(rank: int, world: int, config: Any, way: str, device: str, options: Any, rates: Any, meeting: str) -> None:
    warnings.simplefilter("ignore")  # about the strides of gradients, which Lightning does not show either
    torch.set_num_threads(options.threads)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", meeting, rank=rank, world_size=world)
    step = Step(config, way, f"cuda:{rank}" if device == "cuda" else device, rank, world)
    seconds = in_turns([step], options.repeats)[0]
    if rank == 0:
        rates.put(world * config.loader.batch_size / seconds)
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
