"""One network in every available runtime: PyTorch, ONNX Runtime, OpenVINO; in float32, bfloat16 and int8.

    amodalseg export conddiff_amo_lite --out five.onnx
    amodalseg export conddiff_amo_lite --out one.onnx --steps 1
    python benchmarks/runtime.py conddiff_amo_lite five.onnx one.onnx --threads 2 --data configs/eval/photos.yaml

All ways take turns with the same windows, noise and threads. Prints medians in ms per object, the share of pixels equal
to PyTorch's at the same number of steps, and with ``--data`` the scores of the predictions. ``--out results.csv``
appends the times to a file, with device, versions and commit. Each file is also quantised to a temporary int8 file.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from amodalseg.config.load import load_config  # noqa: E402
from amodalseg.config.schema import EvalConfig  # noqa: E402
from amodalseg.engine.evaluation.collect import collect_predictions  # noqa: E402
from amodalseg.engine.evaluation.sets import open_sets  # noqa: E402
from amodalseg.errors import UserError  # noqa: E402
from amodalseg.export.runtime import OnnxPredictor  # noqa: E402
from amodalseg.metrics.protocols import score  # noqa: E402
from amodalseg.models import load_model  # noqa: E402
from amodalseg.models.base import AmodalModel  # noqa: E402
from amodalseg.models.conddiff_amo.model import CondDiffAMO  # noqa: E402
from amodalseg.models.openvino import OpenVinoPredictor  # noqa: E402
from benchmarks.machine import device, facts  # noqa: E402
from benchmarks.sampler import matmul_peak  # noqa: E402

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
PAUSE = 0.05
"""Seconds before each variant, for the threads of the previous one to stop spinning. Its first call is not timed."""


@dataclass
class Way:
    """One way to run the network. run: image, modal, noise as ``OnnxPredictor.run`` takes them -> probability."""

    name: str
    steps: int
    model: AmodalModel
    run: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def main() -> None:
    """Time all ways and print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name, a run folder or a file")
    parser.add_argument("files", nargs="+", type=Path, help="the same model, exported with some numbers of steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (minutes)")
    parser.add_argument("--data", help="an evaluation's configuration: what each way scores on its objects")
    parser.add_argument("--objects", type=int, default=200, help="of --data (200)")
    parser.add_argument("--out", type=Path, help="a csv file that the times are added to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = open_sets(load_config(EvalConfig, options.data))[0].dataset if options.data else None
    with tempfile.TemporaryDirectory() as folder:
        ways = [way for file in options.files for way in ways_of(options.model, file, options, Path(folder))]
        times, probabilities = {}, {}
        for batch in options.batches:
            arrays = random_windows(ways[0].model, batch, max(number_of_maps(way) for way in ways))
            runs = [partial(way.run, *of_steps(arrays, way)) for way in ways]
            times[batch], probabilities[batch] = measure(runs, options.repeats)
        peak = matmul_peak("cpu", torch.float32)
        print(f"{device()}, {options.threads} threads; matrix products reach {peak:.0f} GFLOP/s\n")
        columns = [f"batch {batch}, ms/object" for batch in options.batches]
        print(f"| way | steps | {' | '.join(columns)} | speed-up | same pixels % | occluded | full |")
        print("|---|---:|" + "---:|" * (len(columns) + 4))
        for number, way in enumerate(ways):
            spent = [1000 * times[batch][number] / batch for batch in options.batches]
            first = times[options.batches[0]]
            pytorch = next(i for i, other in enumerate(ways) if other.steps == way.steps)
            last = probabilities[options.batches[-1]]
            same = np.mean((last[number] > 0.5) == (last[pytorch] > 0.5))
            row = [way.name, str(way.steps), *(f"{ms:.1f}" for ms in spent), f"{first[0] / first[number]:.1f}"]
            row += [f"{100 * same:.3f}", *scores(way, dataset, options.objects)]
            print(f"| {' | '.join(row)} |", flush=True)
            if options.out:
                write_rows(options, way, zip(options.batches, spent, strict=True))


def ways_of(name: str, file: Path, options: argparse.Namespace, folder: Path) -> Iterator[Way]:
    """All ways, PyTorch first."""
    onnx = OnnxPredictor(file, num_threads=options.threads)
    steps = onnx.config.sampler.steps

    def of_torch(label: str, *, compile: bool = False) -> Way:
        model = load_model(name, device="cpu")
        assert isinstance(model, CondDiffAMO), f"{name} has no network"
        model.override({"sampler": {"steps": steps}})
        if compile:
            model.accelerate(compile=True)
        return Way(label, steps, model, lambda *arrays: model.probability(*map(torch.from_numpy, arrays)).numpy())

    def of_file(label: str, model: OnnxPredictor) -> Way:
        return Way(label, steps, model, lambda *arrays: model.run(*arrays)[0])

    yield of_torch("PyTorch")
    if options.compile:
        yield of_torch("PyTorch, compiled", compile=True)
    yield of_file("ONNX Runtime", onnx)
    small = quantised(onnx, folder / f"{steps}.onnx")
    yield of_file("ONNX Runtime, int8", OnnxPredictor(small, num_threads=options.threads))
    yield of_file("OpenVINO", OpenVinoPredictor(file, options.threads))
    try:
        yield of_file("OpenVINO, bf16", OpenVinoPredictor(file, options.threads, precision="bf16"))
    except UserError as error:
        print(f"no row for OpenVINO in bf16: {error}")


def quantised(model: OnnxPredictor, path: Path, windows: int = 64) -> Path:
    """An int8 copy of an exported file: weights per channel, activations calibrated on drawn objects."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    from amodalseg.config.schema import SyntheticData
    from amodalseg.data.open import open_source
    from amodalseg.data.window import crop_image, crop_mask, object_window
    from amodalseg.models.openvino import whole_graph

    class Windows(CalibrationDataReader):
        def __init__(self) -> None:
            self.source = open_source(SyntheticData(num_objects=windows))
            self.number = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            if self.number == windows:
                return None
            record = self.source.get(self.number)
            assert isinstance(record.image, np.ndarray)
            window = object_window(record.modal, model.config.window)
            noise = np.random.default_rng(self.number).standard_normal((model.num_noise_maps, 1, 1, *2 * [window.size]))
            self.number += 1
            return {
                "image": np.ascontiguousarray(crop_image(record.image, window).transpose(2, 0, 1)[None]),
                "modal": crop_mask(record.modal, window)[None, None].astype(np.uint8),
                "noise": noise.astype(np.float32),
            }

    whole = path.with_name(f"whole_{path.name}")
    whole.write_bytes(whole_graph(model.path))
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(whole, path, Windows(), per_channel=True, op_types_to_quantize=["Conv", "MatMul", "Gemm"], **kinds)
    return path


def number_of_maps(way: Way) -> int:
    """The number of noise maps."""
    if isinstance(way.model, OnnxPredictor):
        return way.model.num_noise_maps
    assert isinstance(way.model, CondDiffAMO)
    return len(way.model.sample_noise([0]))


def random_windows(model: AmodalModel, batch: int, maps: int) -> Arrays:
    """Windows of random pixels with a rectangle as the modal mask, and the sampler's noise."""
    rng, size = np.random.default_rng(batch), model.config.window.size
    modal = np.zeros((batch, 1, size, size), np.uint8)
    for mask in modal[:, 0]:
        y, x = rng.integers(size // 8, size // 2, 2)
        mask[y : y + size // 3, x : x + size // 3] = 1
    image = rng.integers(0, 256, (batch, 3, size, size), np.uint8)
    return image, modal, rng.standard_normal((maps, batch, 1, size, size), np.float32)


def of_steps(arrays: Arrays, way: Way) -> Arrays:
    """The first noise maps, as many as a way takes."""
    image, modal, noise = arrays
    return image, modal, noise[: number_of_maps(way)]


def measure(ways: Sequence[Callable[[], np.ndarray]], repeats: int) -> tuple[list[float], list[np.ndarray]]:
    """Median seconds and the result of each way; they take turns, so that other load affects all of them."""
    predictions = [way() for way in ways]
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, found in zip(ways, times, strict=True):
            time.sleep(PAUSE)
            way()
            began = time.perf_counter()
            way()
            found.append(time.perf_counter() - began)
    return [median(found) for found in times], predictions


def scores(way: Way, dataset: object, objects: int) -> list[str]:
    """Occluded and full by ``per_object_occluded``; empty without a data set."""
    if dataset is None:
        return ["", ""]
    found = collect_predictions(way.model, dataset, 16, limit=objects)  # type: ignore[arg-type]
    by = score([counted.row for counted in found])["per_object_occluded"]
    return [f"{100 * by[figure]:.2f}" for figure in ("occluded", "full")]


def write_rows(options: argparse.Namespace, way: Way, spent: Iterator[tuple[int, float]]) -> None:
    """Append rows to the results."""
    about = facts(options.threads)
    new = not options.out.exists()
    with options.out.open("a", newline="") as file:
        for batch, ms in spent:
            row = {"model": options.model, "way": way.name, "steps": way.steps, "batch": batch, "ms": f"{ms:.2f}"}
            writer = csv.DictWriter(file, [*row, *about])
            if new:
                writer.writeheader()
            new = False
            writer.writerow(row | about)


if __name__ == "__main__":
    main()
