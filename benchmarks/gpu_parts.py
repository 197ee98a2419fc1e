"""The parts of ``gpu.py``, which starts each in a separate process. One can also be run by hand:

python benchmarks/gpu_parts.py predictions --work FOLDER --result FILE.json [--device cuda]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from gpu_checks import compiled, predictions, process_group, resume  # noqa: E402
from gpu_report import MAX_FILES, OWN_FILES, write_pieces  # noqa: E402

from amodalseg.atomic import write_whole  # noqa: E402
from amodalseg.config.load import load_config  # noqa: E402
from amodalseg.config.schema import TrainConfig  # noqa: E402
from amodalseg.engine.release import release  # noqa: E402
from amodalseg.engine.training.train import train  # noqa: E402
from amodalseg.errors import UserError  # noqa: E402
from amodalseg.models import pick_device  # noqa: E402
from amodalseg.models.weights import read_checkpoint, read_weights  # noqa: E402

Outcome = tuple[bool, str, dict[str, Any]]
"""Whether the part passed, a summary sentence, and its figures."""
B4 = "configs/experiment/photos_b4.yaml"
WAYS = ("straightforward", "+ batches", "+ bf16")
COMPILED = "bf16, compiled"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one part. Returns the exit code: 0 passed, 1 failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--experiment")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(arguments)

    def write(outcome: Outcome, done: bool = False) -> None:
        passed, what, figures = outcome
        report = {"done": done, "passed": passed, "what": what, "figures": figures, "machine": machine(options.device)}
        write_whole(options.result, json.dumps(report, indent=1))

    try:
        options.device = pick_device(options.device)
        outcome = PARTS[options.part](options, write)
    except UserError as error:
        outcome = (False, str(error), {})
    except Exception as error:
        traceback.print_exc()
        outcome = (False, f"{type(error).__name__}: {str(error)[:300]}", {})
    write(outcome, done=True)
    print(outcome[1])
    return int(not outcome[0])


def machine(device: str) -> dict[str, Any]:
    """The machine that the figures were measured on."""
    if device == "cpu" or not torch.cuda.is_available():
        return {"device": "cpu", "cpus": os.cpu_count()}
    found = torch.cuda.get_device_properties(0)
    return {"device": found.name, "gpu_memory_gb": round(found.total_memory / 1e9, 1), "cpus": os.cpu_count(),
            "cuda": torch.version.cuda}  # fmt: skip


def measure_sampler(options: argparse.Namespace, write: Callable[[Outcome], None], model: str) -> Outcome:
    """The straightforward loop compared with batches, bf16 and CUDA graphs; the last after the others are written."""
    import sampler

    device, quick = options.device, ["--quick"] if options.tiny else []
    given = sampler.parser().parse_args([model, "--objects", "0", "--repeats", "2", "--compile", *quick])
    models = sampler.create_models(sampler.open_weights(model), given, device)
    dataset = sampler.open_objects(given)
    peak = sampler.matmul_peak(device, torch.bfloat16)
    compiles = () if options.tiny else (COMPILED,)  # minutes on a CPU
    outcome: Outcome = (False, "", {})
    for names in (WAYS, (*WAYS, *compiles))[: 1 + len(compiles)]:
        rows = sampler.measure([model for model in models if model.name in names], dataset, given, device)
        best = max(rows, key=lambda row: row.objects_per_s)
        shares = {row.name: 100 * row.gflop * row.objects_per_s / peak for row in rows}
        figures = {
            "bf16 matmul, TFLOP/s": peak / 1e3,
            "straightforward, objects/s": rows[0].objects_per_s,
            f"best ({best.name}), objects/s": best.objects_per_s,
            "speed-up": best.speedup,
            "straightforward, % of the bf16 matmul peak": shares[rows[0].name],
            "best, % of the bf16 matmul peak": shares[best.name],
            "table": sampler.markdown(rows),
        }
        what = (f"{best.name}: {best.objects_per_s:.1f} objects/s, {best.speedup:.1f} times the straightforward loop, "
                f"{shares[best.name]:.1f} % of the bf16 matmul peak")  # fmt: skip
        outcome = (True, what, figures)
        write(outcome)
    return outcome


def sampler_tiny(options: argparse.Namespace, write: Callable[[Outcome], None]) -> Outcome:
    """The shipped model."""
    return measure_sampler(options, write, "conddiff_amo_tiny")


def sampler_b4(options: argparse.Namespace, write: Callable[[Outcome], None]) -> Outcome:
    """The paper's network at 256 px."""
    tiny = str(ROOT / "configs/experiment/demo.yaml")
    return measure_sampler(options, write, tiny if options.tiny else str(ROOT / B4))


def run_training(options: argparse.Namespace, write: Callable[[Outcome], None]) -> Outcome:
    """Train the experiment like train.py; its run folder is WORK/run."""
    run = options.work / "run"
    fixed = [f"out={run}", "trainer.progress=false", "trainer.devices=1"]
    fixed += [f"trainer.accelerator={'cpu' if options.device == 'cpu' else 'gpu'}"]
    config = load_config(TrainConfig, options.experiment, [*options.overrides, *fixed])
    began = time.monotonic()
    train(config)
    seconds = time.monotonic() - began
    steps = read_checkpoint(run / "last.ckpt")["global_step"]
    _, _, about = read_weights(run / "model.safetensors")
    samples = steps * config.loader.batch_size * config.trainer.accumulate
    minutes = min(config.trainer.max_time or seconds / 60, seconds / 60)  # the number of steps may end it earlier
    figures: dict[str, Any] = {
        "steps": steps,
        "samples": samples,
        "minutes of training": minutes,
        "samples/s": samples / (60 * minutes),
        "seconds with start and validation": seconds,
        "training loss, mean of the last tenth": last_loss(run / "metrics/version_0/metrics.csv"),
    }
    if options.device != "cpu":
        figures["peak of GPU memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
    for protocol, region in (("per_object_occluded", "occluded"), ("per_object_occluded", "full"), ("pooled", "full")):
        value = about["val"].get(protocol, {}).get(region)
        if value is not None:
            figures[f"val {protocol}.{region}"] = value
    what = f"{steps} steps, {samples} samples in {minutes:.1f} minutes"
    return samples > 0, what, figures


def run_release(options: argparse.Namespace, write: Callable[[Outcome], None]) -> Outcome:
    """Write the weights in half precision, the curve and the pictures to the folder of results."""
    run, out = options.work / "run", options.out
    weights = next((run / name for name in ("model.safetensors", "last.ckpt") if (run / name).is_file()), None)
    if weights is None:
        return False, "training left no weights", {}
    name = Path(options.experiment).stem
    about = [f"command=benchmarks/gpu.py --experiment {name}", f"hardware={machine(options.device)['device']}"]
    half = release(str(weights), options.work / f"{name}.safetensors", about)
    room = MAX_FILES - len(OWN_FILES)
    pieces = write_pieces(half, out, room)
    pictures = sorted((run / "pictures").glob("*.png"))[-1:]
    curve = sorted((run / "metrics").glob("*/metrics.csv"))[-1:]
    extra = [(file, f"training{file.suffix}") for file in (*curve, *pictures)]
    for file, target in extra[: max(0, room - len(pieces))]:
        write_pieces(file, out, 1)
        (out / file.name).rename(out / target)
    digest = hashlib.sha256(half.read_bytes()).hexdigest()
    figures: dict[str, Any] = {"bytes": half.stat().st_size, "sha256": digest}
    if len(pieces) > 1:
        figures["join the pieces by"] = f"`cat {half.name}.? > {half.name}`"
    source = "" if weights.name == "model.safetensors" else f" of {weights.name}: the training did not end"
    return True, f"{', '.join(pieces)}{source}", figures


def last_loss(file: Path) -> float:
    """The mean of the last tenth of the logged training losses."""
    with file.open() as text:
        losses = [float(row["train/loss"]) for row in csv.DictReader(text) if row["train/loss"]]
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


PARTS: dict[str, Callable[..., Outcome]] = {
    "predictions": predictions,
    "compile": compiled,
    "process_group": process_group,
    "resume": resume,
    "sampler_tiny": sampler_tiny,
    "sampler_b4": sampler_b4,
    "training": run_training,
    "release": run_release,
}

if __name__ == "__main__":
    sys.exit(main())
