"""ONNX Runtime against PyTorch: the same windows, noise and threads, in turns.

    amodalseg export conddiff_amo_tiny --out model.onnx
    python benchmarks/runtime.py conddiff_amo_tiny model.onnx --threads 2

Prints medians in ms per object. PyTorch runs the network as every loaded model does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from amodalseg.export.runtime import OnnxPredictor
from amodalseg.models import load_model
from amodalseg.models.conddiff_amo.model import CondDiffAMO


def main() -> None:
    """Time both and print a table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name, a run folder or a file")
    parser.add_argument("onnx", type=Path, help="the same model, exported")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 3, 16])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, predictor = load_model(options.model, device="cpu"), OnnxPredictor(options.onnx, num_threads=options.threads)
    assert isinstance(model, CondDiffAMO), f"{options.model} has no network"
    model.override({"sampler": {"steps": predictor.config.sampler.steps}})
    print(f"{predictor.config.sampler.steps} steps, {options.threads} threads\n")
    print(
        "| batch | PyTorch, ms/object | ONNX Runtime, ms/object | ratio | same pixels % |\n|---:|---:|---:|---:|---:|"
    )
    for batch in options.batches:
        image, modal, noise = random_windows(model, batch)
        tensors = torch.from_numpy(image), torch.from_numpy(modal), torch.from_numpy(noise)
        ways: list[Callable[[], np.ndarray]] = [
            lambda tensors=tensors: model.probability(*tensors).numpy(),  # type: ignore[misc]
            lambda arrays=(image, modal, noise): predictor.run(*arrays)[0],  # type: ignore[misc]
        ]
        seconds, predictions = measure(ways, options.repeats)
        same = np.mean((predictions[0] > 0.5) == (predictions[1] > 0.5))
        torch_ms, onnx_ms = (1000 * value / batch for value in seconds)
        print(f"| {batch} | {torch_ms:.1f} | {onnx_ms:.1f} | {torch_ms / onnx_ms:.2f} | {100 * same:.3f} |", flush=True)


def random_windows(model: CondDiffAMO, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of random pixels with a rectangle as the modal mask, and the sampler's noise."""
    rng, size = np.random.default_rng(batch), model.config.window.size
    modal = np.zeros((batch, 1, size, size), np.uint8)
    for mask in modal[:, 0]:
        y, x = rng.integers(size // 8, size // 2, 2)
        mask[y : y + size // 3, x : x + size // 3] = 1
    image = rng.integers(0, 256, (batch, 3, size, size), np.uint8)
    return image, modal, model.sample_noise(list(range(batch))).numpy()


def measure(ways: list[Callable[[], np.ndarray]], repeats: int) -> tuple[list[float], list[np.ndarray]]:
    """Median seconds and the result of each way; they run in turns, so that a busy moment meets all of them."""
    predictions = [way() for way in ways]
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, found in zip(ways, times, strict=True):
            began = time.perf_counter()
            way()
            found.append(time.perf_counter() - began)
    return [median(found) for found in times], predictions


if __name__ == "__main__":
    main()
