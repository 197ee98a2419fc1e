"""The checks of ``gpu.py``: does this device predict, compile, communicate and train as the CPU does?"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from amodalseg import load_model
from amodalseg.config.load import load_config
from amodalseg.config.schema import SyntheticData, TrainConfig
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.open import open_source
from amodalseg.engine.distributed import gather
from amodalseg.engine.training.train import train
from amodalseg.models.conddiff_amo.module import CondDiffAMOModule
from amodalseg.models.weights import read_checkpoint
from amodalseg.predictions import Prediction
from amodalseg.types import Query

MODEL = "conddiff_amo_tiny"
LEAST_IOU, LARGEST_MEAN = 0.99, 1e-3
"""Limits for float32 predictions: minimum IoU of an object's two masks, maximum mean difference of all probabilities.
Samplers that start their steps from thresholded masks sometimes turn a rounding at a border into a pixel."""
LEAST_IOU_BF16, LARGEST_MEAN_BF16 = 0.95, 1e-2
LARGEST_CHANGE, LARGEST_NOISE = 1e-6, 1e-4
"""Limits for the weights of a resumed run. Kernels without a fixed order of additions get twice the noise between two
uninterrupted runs instead, but at most the second: a few steps of Adam move every weight by some thousandths."""
ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "model.window.size=64", "model.dn.dim=16", "model.sampler.steps=2", "data.num_objects=64", "data.size=96",
    "val.num_objects=3", "val.size=96", "loader.batch_size=4", "loader.num_workers=1", "optim.warmup_steps=2",
    "optim.ema=0.9", "checkpoint.every_steps=3", "checkpoint.val_every_steps=6", "log.every_steps=1", "log.pictures=0",
    "trainer.max_steps=6", "trainer.progress=false", "trainer.devices=1",
]  # fmt: skip
"""A run of six steps of the tiny network on drawn scenes."""
BREAKS_AT = 4
"""The step, from 0, at which a run is interrupted: one after the checkpoint of the third."""


def predictions(options: argparse.Namespace, write: Any) -> tuple[bool, str, dict[str, Any]]:
    """The shipped model on the device, in float32 and bf16, compared with float32 on the CPU."""
    exact_products()
    queries = some_queries(2 if options.tiny else 16)
    expected = load_model(MODEL, "cpu").predict_batch(queries)
    found = compare(expected, load_model(MODEL, options.device).predict_batch(queries))
    half = compare(expected, load_model(MODEL, options.device).accelerate(precision="bf16").predict_batch(queries))
    figures = {**{f"float32, {key}": value for key, value in found.items()},
               **{f"bf16, {key}": value for key, value in half.items()}}  # fmt: skip
    passed = within(found, LEAST_IOU, LARGEST_MEAN) and within(half, LEAST_IOU_BF16, LARGEST_MEAN_BF16)
    what = (f"{options.device} against the CPU, {len(queries)} objects: masks agree by IoU {found['least IoU']:.4f} at "
            f"least (needed: {LEAST_IOU}), in bf16 {half['least IoU']:.4f} ({LEAST_IOU_BF16})")  # fmt: skip
    return passed, what, figures


def compiled(options: argparse.Namespace, write: Any) -> tuple[bool, str, dict[str, Any]]:
    """Compiled predictions compared with eager ones, with both kinds of evaluation: half the steps reuse the condition.

    The second pass replays what the first has recorded, and a smaller batch is padded.
    """
    exact_products()
    queries = some_queries(4)
    eager, fast = (load_model(MODEL, options.device) for _ in range(2))
    for model in (eager, fast):
        model.override({"sampler": {"refresh_every": 2}})
        model.batch_size = 4
    expected = eager.predict_batch(queries)
    fast.accelerate(compile=True)
    fast.predict_batch(queries)
    replays, replay = 0, torch.cuda.CUDAGraph.replay

    def counting(graph: torch.cuda.CUDAGraph) -> None:
        nonlocal replays
        replays += 1
        replay(graph)

    with patch.object(torch.cuda.CUDAGraph, "replay", counting):
        again = fast.predict_batch(queries) + fast.predict_batch(queries[:3])
    found = compare(expected + expected[:3], again)
    graphs = replays > 0 or options.device == "cpu"
    what = f"least IoU with eager predictions {found['least IoU']:.4f} (needed: {LEAST_IOU}), {replays} graphs replayed"
    return graphs and within(found, LEAST_IOU, LARGEST_MEAN), what, {**found, "CUDA graphs replayed": replays}


def process_group(options: argparse.Namespace, write: Any) -> tuple[bool, str, dict[str, Any]]:
    """A group with only this process, NCCL on a GPU: sums, gathered results, gradients, and a run with strategy ddp."""
    device = torch.device(options.device)
    backend = "gloo" if device.type == "cpu" else "nccl"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=0, world_size=1)
        total = torch.arange(5.0, device=device)
        dist.all_reduce(total)
        collected = gather([{"key": "a", "area": 3}])
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(device)
        image = torch.randn(2, 3, 8, 8, device=device)
        (plain,) = torch.autograd.grad(layer(image).square().mean(), layer.weight)
        together = DistributedDataParallel(layer, None if device.type == "cpu" else [device.index or 0])
        together(image).square().mean().backward()
        assert layer.weight.grad is not None
        checks = {
            "sum": torch.equal(total.cpu(), torch.arange(5.0)),
            "collected rows": collected == [{"key": "a", "area": 3}],
            "gradient": torch.allclose(layer.weight.grad, plain, rtol=1e-4, atol=1e-6),
        }
        dist.destroy_process_group()
        with patch.dict(os.environ):  # Lightning leaves LOCAL_RANK set, and later runs would wait for a second process
            run = small_run(options, Path(folder) / "run", "trainer.strategy=ddp", "trainer.max_steps=2")
        if dist.is_initialized():  # Lightning leaves its process group
            dist.destroy_process_group()
        checks["run with strategy ddp"] = read_checkpoint(run / "last.ckpt")["global_step"] == 2
    wrong = [name for name, right in checks.items() if not right]
    what = f"{backend}: {'wrong: ' + ', '.join(wrong) if wrong else ', '.join(checks) + ' are right'}"
    return not wrong, what, {}


def resume(options: argparse.Namespace, write: Any) -> tuple[bool, str, dict[str, Any]]:
    """A run interrupted after a checkpoint and resumed, compared with two uninterrupted ones that show the noise."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            broke_off, found, noise = break_off(options, Path(folder))
    finally:
        torch.use_deterministic_algorithms(False)
    allowed = min(max(LARGEST_CHANGE, 2 * noise), LARGEST_NOISE)
    what = (f"largest difference of a weight {found:.1e} after going on (allowed: {allowed:.1e}), "
            f"{noise:.1e} between two runs that did not break off")  # fmt: skip
    figures = {"largest difference": found, "between two whole runs": noise}
    return broke_off and found <= allowed, what, figures


def break_off(options: argparse.Namespace, folder: Path) -> tuple[bool, float, float]:
    """Whether a run stopped where it should; its largest difference to a complete run; that between two such runs."""
    whole, again, broken = (folder / name for name in ("whole", "again", "broken"))
    small_run(options, whole)
    small_run(options, again)
    original = CondDiffAMOModule.training_step

    def breaks(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == BREAKS_AT:
            raise PowerCut
        return original(self, batch, batch_idx)

    broke_off = False
    with patch.object(CondDiffAMOModule, "training_step", breaks):
        try:
            small_run(options, broken)
        except PowerCut:
            broke_off = read_checkpoint(broken / "last.ckpt")["global_step"] == 3
    small_run(options, broken)
    noise, found = (largest_difference(whole / "last.ckpt", run / "last.ckpt") for run in (again, broken))
    return broke_off, found, noise


class PowerCut(Exception):
    """Interrupts a run in the middle."""


def exact_products() -> None:
    """Switch off TF32, with which convolutions on a GPU round float32 inputs to ten bits by default."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def some_queries(count: int) -> list[Query]:
    """The first objects of the drawn validation set."""
    dataset = EvaluationSet(open_source(SyntheticData(split="val", num_objects=count)), 0)
    return [dataset[index][1] for index in range(count)]


def compare(expected: list[Prediction], found: list[Prediction]) -> dict[str, float]:
    """The agreement of two lists of predictions."""
    pairs = list(zip(expected, found, strict=True))
    ious = [(a.amodal & b.amodal).sum() / (a.amodal | b.amodal).sum() for a, b in pairs]
    gaps = [np.abs(a.probability - b.probability) for a, b in pairs]
    return {"least IoU": float(min(ious)), "mean IoU": float(np.mean(ious)),
            "mean difference of probability": float(np.mean([gap.mean() for gap in gaps]))}  # fmt: skip


def within(found: dict[str, float], least_iou: float, largest_mean: float) -> bool:
    """Whether predictions agree; NaN does not count as agreement."""
    return found["least IoU"] >= least_iou and found["mean difference of probability"] <= largest_mean


def small_run(options: argparse.Namespace, out: Path, *more: str) -> Path:
    """Train ``SMALL``, or resume it. Returns: its folder."""
    accelerator = f"trainer.accelerator={'cpu' if options.device == 'cpu' else 'gpu'}"
    tiny = ["model.window.size=32", "loader.batch_size=2", "loader.num_workers=0"] if options.tiny else []
    overrides = [*SMALL, *tiny, accelerator, *more, f"out={out}"]
    train(load_config(TrainConfig, ROOT / "configs/experiment/synthetic_tiny.yaml", overrides))
    return out


def largest_difference(one: Path, other: Path) -> float:
    """The largest difference between the weights of two checkpoints."""
    first, second = (read_checkpoint(path)["state_dict"] for path in (one, other))
    return max(float((first[key].double() - second[key].double()).abs().max()) for key in first)
