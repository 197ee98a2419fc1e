"""Samples per second from loose files, from shards and with the webdataset library, compared in one run.

    python benchmarks/data.py --objects 1000
    python benchmarks/data.py --scenes configs/experiment/photos_tiny.yaml    # needs photos under AMODALSEG_DATA

Draws a set like Pix2gestalt's (256 x 256 composites in four folders of PNG files), packs it, and measures the whole
pipeline from files to a collated batch in one process with one thread; then how the time is distributed, and the cost
of opening sets of growing size. With ``--scenes``: training scenes, painted only within the object's window and painted
as whole pictures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from amodalseg import masks
from amodalseg.config.schema import AugmentConfig, Pix2gestaltData, ShardsData, SyntheticData, WindowConfig
from amodalseg.data import augment, dataset, images, record_pictures
from amodalseg.data.dataset import TrainingSet
from amodalseg.data.draw.scenes import Scenes
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.images import save_png
from amodalseg.data.open import open_source
from amodalseg.data.pack import shards
from amodalseg.data.pack.shard_writer import MB, write_shards
from amodalseg.data.readers import pix2gestalt
from amodalseg.types import AmodalRecord

SIZE, SEED = 256, 0
SHUFFLE = 1000
"""Samples in webdataset's shuffle buffer."""
Batches = Iterator[Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, measure, and print tables as Markdown. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000, help="in the set that is read (1000)")
    parser.add_argument("--rounds", type=int, default=7, help="in which the ways take turns (7)")
    parser.add_argument("--batches", type=int, default=16, help="of each way in a round (16)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="*", default=[1000, 10_000, 100_000], help="sizes of sets to open")
    parser.add_argument("--folder", type=Path, help="keep the drawn sets there, and use what is there already")
    parser.add_argument("--scenes", metavar="CONFIG", help="draw the scenes of a training configuration instead")
    parser.add_argument("--size", type=int, default=96, help="side of their windows, pixels (96)")
    parser.add_argument("--quick", action="store_true", help="tiny numbers: does it run?")
    options = parser.parse_args(arguments)
    if options.quick:
        options.objects, options.rounds, options.batches, options.batch_size, options.steps = 12, 2, 2, 4, [50]
    import torch  # here, because the processes that measure memory must not load it

    torch.set_num_threads(1)
    if options.scenes:
        print_scenes(options.scenes, options.size, options.objects, options.rounds)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        write_set(folder, options.objects)
        ways = open_ways(folder, options.batch_size)
        rates = compare(ways, options.rounds, options.batches, options.batch_size)
        print(f"{options.objects} objects, {SIZE} px, batches of {options.batch_size}, one process, one thread")
        print_rates("from", rates)
        print_shares(ways, options.batches * options.rounds, options.batch_size)
        if options.steps:
            print_growth(folder, options.steps)
    return 0


# ------------------------------------------------------------------------------------------------------------- speed


def write_set(folder: Path, count: int) -> None:
    """Write the composites as loose files and as shards (without pictures of whole objects, which are not read)."""
    loose, packed = folder / "loose", folder / "shards"
    if not (packed / shards.SUMMARY_NAME).is_file():
        world = SyntheticWorld(SyntheticData(size=SIZE, num_objects=count))
        for number in range(count):
            write_files(world.get(number), loose, str(1_000_000 + 7 * number))
        source = open_source(Pix2gestaltData(root=str(loose)))
        size = max(1, sum(path.stat().st_size for path in (loose / "occlusion").iterdir()) // 8)
        write_shards(source, packed, about={"name": "benchmark"}, size=size, whole=False)


def write_files(record: AmodalRecord, root: Path, name: str) -> None:
    """Write an object as the four files of Pix2gestalt."""
    assert isinstance(record.image, np.ndarray) and isinstance(record.whole_rgb, np.ndarray)
    pictures = {
        "occlusion": record.image, "visible_object_mask": 255 * record.modal.astype(np.uint8),
        "whole_mask": 255 * record.amodal.astype(np.uint8),
        "whole": np.where(record.amodal[..., None], record.whole_rgb, np.uint8(255)),
    }  # fmt: skip
    for kind, picture in pictures.items():
        save_png(root / kind / f"{name}{pix2gestalt.FOLDERS[kind]}", picture)


def open_ways(folder: Path, batch_size: int) -> dict[str, Batches]:
    """Endless batches for each way; all crop, augment and collate with the same code."""
    from amodalseg.data import data_module

    def at_random(source: Any) -> Batches:
        data = training_set(source)
        for keys in data_module.RunSampler(len(data), batch_size, sys.maxsize, SEED, 0, 1, lambda: 0, lambda _: SIZE):
            yield data_module.collate([data[key] for key in keys])

    def in_a_stream() -> Batches:
        import webdataset

        urls = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
        data, batch = training_set(None), []
        for epoch in range(sys.maxsize):
            pipeline = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=epoch, empty_check=False)
            for sample in pipeline.shuffle(SHUFFLE, seed=epoch):
                (entry,) = json.loads(sample["json"])
                batch.append(data.sample(streamed(sample, entry), epoch, entry["number"], SIZE))
                if len(batch) == batch_size:
                    yield data_module.collate(batch)
                    batch = []

    return {
        "loose files": at_random(open_source(Pix2gestaltData(root=str(folder / "loose")))),
        "shards": at_random(open_source(ShardsData(root=str(folder / "shards")))),
        "webdataset": in_a_stream(),
    }


def training_set(source: Any) -> TrainingSet:
    """A training set with the standard window and augmentation."""
    return TrainingSet(source, WindowConfig(size=SIZE), AugmentConfig(), SEED, False)


def streamed(sample: dict[str, Any], entry: dict[str, Any]) -> AmodalRecord:
    """An object from the members that webdataset yields, with its photo decoded as for the shards."""
    pixels = cv2.imdecode(np.frombuffer(sample["png"], np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert pixels is not None
    return shards.read_entry(entry, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), None, sample["__key__"])


def compare(
    ways: dict[str, Batches], rounds: int, batches: int, batch_size: int
) -> dict[str, list[tuple[float, float]]]:
    """Samples per second, by wall time and by the process's own CPU time, for each way in each round.

    The ways take turns, and each round starts with a different one, so that other load affects all of them equally.
    """
    for way in ways.values():
        next(way)  # opens files, fills the shuffle buffer
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, own = time.perf_counter(), time.process_time()
            for _ in range(batches):
                next(ways[name])
            wall, own = time.perf_counter() - wall, time.process_time() - own
            rates[name].append((batches * batch_size / wall, batches * batch_size / own))
    return rates


# ------------------------------------------------------------------------------------------------------------ scenes


def print_scenes(config: str, size: int, count: int, rounds: int) -> None:
    """Samples per second of training scenes, painted in both ways in turn. Each scene is drawn once in each way."""
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import TrainConfig
    from amodalseg.data.data_module import AmodalDataModule

    data = AmodalDataModule(load_config(TrainConfig, config, ["out=unused"])).train_set
    source = data.source
    if not isinstance(source, Scenes):
        raise SystemExit(f"{config} trains on data.name={data.source.__class__.__name__}, not on scenes")
    ways: dict[str, Callable[[int], Any]] = {
        "window alone": lambda index: data[0, index, size],
        "whole picture": lambda index: data.sample(source.get(index), 0, index, size),
    }
    for index in range(count):  # decodes photos, as in the first minutes of a run
        data[0, index, size]
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            wall, own = time.perf_counter(), time.process_time()
            for index in range(number * count // rounds, (number + 1) * count // rounds):
                way(index)
            wall, own = time.perf_counter() - wall, time.process_time() - own
            rates[name].append((count // rounds / wall, count // rounds / own))
    print(f"{config}: {count} scenes at {size} px, one process, one thread\n{source.describe()}")
    print_rates("painted", rates)


def print_rates(title: str, rates: dict[str, list[tuple[float, float]]]) -> None:
    """A table of samples per second by wall time and by the process's own CPU time."""
    print(f"| {title} | samples/s | min to max | samples per second of its own CPU time |\n|---|---:|---:|---:|")
    for name, found in rates.items():
        wall, own = ([rate[i] for rate in found] for i in range(2))
        print(f"| {name} | {median(wall):.0f} | {min(wall):.0f} to {max(wall):.0f} | {median(own):.0f} |")


# ------------------------------------------------------------------------------------------------------------ shares


class Stages:
    """Time of each stage, excluding the stages it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inner = [0.0]

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is added to the stage."""

        def run(*args: Any, **options: Any) -> Any:
            self.inner.append(0.0)
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                took = time.perf_counter() - began
                self.seconds[stage] += took - self.inner.pop()
                self.inner[-1] += took

        return run


def print_shares(ways: dict[str, Batches], count: int, batch_size: int) -> None:
    """Milliseconds and share of each stage per sample, for both ways of random access."""
    from amodalseg.data import data_module

    parts: list[tuple[str, Any, str]] = [
        ("read bytes", images, "read_bytes"), ("read bytes", shards, "read_bytes"),
        ("decode pictures", record_pictures, "load_image"), ("decode pictures", pix2gestalt, "read_mask_file"),
        ("masks, json", masks, "decode"), ("masks, json", masks, "encode"), ("masks, json", shards, "read_entry"),
        ("masks, json", pix2gestalt, "make_record"), ("masks, json", shards.json, "loads"),
        ("crop", dataset, "object_window"), ("crop", dataset, "crop_image"), ("crop", dataset, "crop_mask"),
        ("augment", augment.Augment, "__call__"), ("augment", augment.Augment, "window_jitter"),
        ("collate", data_module, "collate"),
    ]  # fmt: skip
    print("\n| ms per sample | " + " | ".join(name for name in ways if name != "webdataset") + " |\n|---|---:|---:|")
    table: dict[str, list[str]] = {}
    for name in ways:
        if name == "webdataset":
            continue
        stages = Stages()
        with ExitStack() as stack:
            for stage, place, attribute in parts:
                call = stages.timed(stage, getattr(place, attribute))
                stack.enter_context(patch.object(place, attribute, call))
            began = time.perf_counter()
            for _ in range(count):
                next(ways[name])
            total = time.perf_counter() - began
        stages.seconds["the rest"] = total - sum(stages.seconds.values())
        samples = count * batch_size
        for stage in ("read bytes", "decode pictures", "masks, json", "crop", "augment", "collate", "the rest"):
            seconds = stages.seconds[stage]
            table.setdefault(stage, []).append(f"{1000 * seconds / samples:.3f} ({100 * seconds / total:.0f} %)")
        table.setdefault("together", []).append(f"{1000 * total / samples:.3f}")
    for stage, cells in table.items():
        print(f"| {stage} | " + " | ".join(cells) + " |")


# ------------------------------------------------------------------------------------------------------------ growth


class Small:
    """Many objects with tiny photos, since only their number matters."""

    def __init__(self, count: int) -> None:
        self.count, self.pixels = count, np.zeros((32, 32, 3), np.uint8)
        mask = np.zeros((32, 32), bool)
        mask[8:24, 8:24] = True
        self.rle = masks.encode(mask)

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        return AmodalRecord("small", "train", str(index), "0", self.pixels, self.rle, self.rle)


def print_growth(folder: Path, steps: Sequence[int]) -> None:
    """Time to build and to open sets of growing size, and their memory."""
    print("\n| from | objects | listing or packing, s | opening, ms | additional memory, MB | per worker, MB |")
    print("|---|---:|---:|---:|---:|---:|")
    some = next((folder / "loose/occlusion").iterdir()).name.removesuffix(pix2gestalt.FOLDERS["occlusion"])
    for kind in ("loose files", "shards"):
        for count in steps:
            place = folder / f"{kind.split()[0]}-{count}"
            if kind == "loose files" and not place.is_dir():
                for name, ending in pix2gestalt.FOLDERS.items():
                    (place / name).mkdir(parents=True)
                    file = (folder / "loose" / name / f"{some}{ending}").resolve()
                    for number in range(count):
                        os.symlink(file, place / name / f"{1_000_000 + 13 * number}{ending}")
            began = time.perf_counter()
            if kind == "loose files":
                (place / pix2gestalt.INDEX_NAME).unlink(missing_ok=True)
                with patch.object(pix2gestalt, "SETTLED", 0):  # these folders no longer change
                    open_source(Pix2gestaltData(root=str(place)))
            elif not place.is_dir():
                write_shards(Small(count), place, about={}, size=64 * MB)
            built = time.perf_counter() - began
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                opened, memory, worker = pool.apply(measure_opening, (kind, str(place)))
            print(f"| {kind} | {count} | {built:.2f} | {1000 * opened:.1f} | {memory:.1f} | {worker:.1f} |", flush=True)


def measure_opening(kind: str, root: str) -> tuple[float, float, float]:
    """Seconds to open a set, its memory (MB), and the memory of a forked worker alone (MB); run in a fresh process."""
    before = memory_in("Pss")
    began = time.perf_counter()
    source = open_source(Pix2gestaltData(root=root) if kind == "loose files" else ShardsData(root=root))
    opened = time.perf_counter() - began
    took = memory_in("Pss") - before
    reader, writer = os.pipe()
    if not (child := os.fork()):
        for place in np.random.default_rng(0).integers(0, len(source), 500):
            source.get(int(place))
        os.write(writer, f"{memory_in('Private_Dirty'):.6f}".encode())
        os._exit(0)
    os.close(writer)
    worker = float(os.read(reader, 100))
    os.waitpid(child, 0)
    return opened, took, worker


def memory_in(kind: str) -> float:
    """Memory of this process in MB, as reported by Linux."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


if __name__ == "__main__":
    sys.exit(main())
