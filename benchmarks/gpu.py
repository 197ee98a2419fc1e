"""Check, measure and train on one GPU within some minutes; every part stores its results as soon as they exist.

    python benchmarks/gpu.py --minutes 8 --out FOLDER [--experiment photos_small] [--data FOLDER] [key=value ...]

``benchmarks/README.md`` describes the parts and the content of FOLDER. Exit code: 0, 1 if a part failed, 2 for invalid
input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from gpu_report import NAMES, Result, write_results  # noqa: E402 (beside this file)

from amodalseg.config.load import load_config  # noqa: E402
from amodalseg.config.schema import TrainConfig  # noqa: E402
from amodalseg.errors import UserError  # noqa: E402

SHARES = {
    "predictions": 7, "compile": 14, "process_group": 5, "resume": 7, "sampler_tiny": 8, "sampler_b4": 14,
    "training": 41, "release": 4,
}  # fmt: skip
"""Parts in order of execution, and the maximum share of the time of each, in percent."""
RESERVE, RESERVED_SHARE = 60.0, 0.35
"""Time reserved for starting, opening the data and the last validation: seconds, but at most a share."""
NO_END = ["trainer.max_steps=1000000000", "checkpoint.val_every_steps=1000000000"]
"""Options with which only the time limit ends the training; one validation follows."""
TINY = [
    "model.window.size=32", "model.dn.dim=16", "model.sampler.steps=2", "data.num_objects=12", "data.size=64",
    "val.num_objects=3", "val.size=64", "loader.batch_size=2", "loader.num_workers=0", "optim.warmup_steps=2",
    "log.pictures=2", "log.every_steps=1",
]  # fmt: skip
"""Options of ``--tiny``, on top of configs/experiment/synthetic_tiny.yaml."""


@dataclass(frozen=True)
class Step:
    """A part of the plan. ends: seconds after the start at which it is killed. command: for its process."""

    name: str
    ends: float
    command: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plan. Returns the exit code."""
    try:
        options = read_options(arguments)
        if options.dry_run:
            print(show_plan(options))
            return 0
        with tempfile.TemporaryDirectory(prefix="amodalseg_gpu_") as folder:
            results = run_all(options, Path(options.work or folder))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the results so far are written", file=sys.stderr)
        return 130
    return int(any(result.state != "passed" for result in results))


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line and check it as far as possible without starting anything. Raises UserError."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="of the whole run")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the results: new, or empty")
    parser.add_argument("--experiment", help="a name in configs/experiment or a .yaml (photos_small)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of the photos (AMODALSEG_DATA)")
    parser.add_argument("--parts", default=",".join(SHARES), help=f"some of {','.join(SHARES)} (all)")
    parser.add_argument("--work", metavar="FOLDER", help="keep runs and logs here (a temporary folder)")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--tiny", action="store_true", help="small networks, drawn scenes: does every part run?")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of the training; they win")
    options = parser.parse_intermixed_args(arguments)
    if not options.minutes > 0:
        raise UserError(f"--minutes {options.minutes:g} leaves no time; give more than 0")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UserError(f"--out {options.out} is not empty; give a new folder")
    if options.data is not None:
        if not options.data.is_dir():
            raise UserError(f"--data {options.data} is not a folder")
        os.environ["AMODALSEG_DATA"] = str(options.data)
    if "AMODALSEG_DATA" in os.environ:  # the parts run in the project's folder
        os.environ["AMODALSEG_DATA"] = str(Path(os.environ["AMODALSEG_DATA"]).resolve())
    options.out = options.out.resolve()
    wrong = [name for name in options.parts.split(",") if name not in SHARES]
    if wrong:
        raise UserError(f"--parts: '{wrong[0]}' is none of {', '.join(SHARES)}")
    options.parts = [name for name in SHARES if name in options.parts.split(",")]
    name = options.experiment or ("synthetic_tiny" if options.tiny else "photos_small")
    named = Path(name).resolve() if name.endswith(".yaml") else ROOT / f"configs/experiment/{name}.yaml"
    options.experiment = str(named)
    options.overrides = [*(TINY if options.tiny else []), *NO_END, *options.overrides]
    config = load_config(TrainConfig, options.experiment, [*options.overrides, "out=unused", "trainer.max_time=1"])
    for section in (config.data, config.val) if "training" in options.parts else ():
        files = getattr(section, "annotations", [])
        if files and not any(Path(file).is_file() for file in files):
            raise UserError(f"there is no {files[0]}; name the folder of the photos by --data or AMODALSEG_DATA")
    return options


def plan(options: argparse.Namespace, work: Path) -> list[Step]:
    """The parts with their ends. A part may use the time left over by earlier ones; training uses all of it."""
    shares = {name: SHARES[name] for name in options.parts}
    gone, steps = 0.0, []
    for name, share in shares.items():
        began, gone = gone, gone + 60 * options.minutes * share / sum(shares.values())
        steps.append(Step(name, gone, command_of(options, work, name, gone - began)))
    return steps


def command_of(options: argparse.Namespace, work: Path, name: str, seconds: float) -> list[str]:
    """The command line of a part with a time limit in seconds."""
    command = [sys.executable, str(ROOT / "benchmarks/gpu_parts.py"), name, "--device", options.device,
               "--work", str(work), "--result", str(work / f"{name}.json")]  # fmt: skip
    command += ["--tiny"] if options.tiny else []
    if name == "training":
        minutes = (seconds - min(RESERVE, RESERVED_SHARE * seconds)) / 60
        command += ["--experiment", options.experiment, f"trainer.max_time={minutes:.4f}", *options.overrides]
    if name == "release":
        command += ["--out", str(options.out), "--experiment", options.experiment]
    return command


def show_plan(options: argparse.Namespace) -> str:
    """The plan as text; for training, the minimum time it gets."""
    lines = [f"{options.minutes:g} minutes, results in {options.out}:"]
    for step in plan(options, Path(options.work or "WORK")):
        lines.append(f"{step.name:14} ends by {step.ends:5.0f} s  {shlex.join(step.command)}")
    return "\n".join(lines)


def run_all(options: argparse.Namespace, work: Path) -> list[Result]:
    """Run part after part; the folder always holds the results so far. Returns: the results of all parts."""
    began = time.monotonic()
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    steps = plan(options, work)
    results = [Result(step.name) for step in steps]
    about: dict[str, Any] = {"minutes": options.minutes, "experiment": Path(options.experiment).stem}

    def write() -> None:
        write_results(options.out, about, results, work)

    for step, result in zip(steps, results, strict=True):
        (work / f"{step.name}.json").unlink(missing_ok=True)  # from another run in the same folder
        seconds = step.ends - (time.monotonic() - began)
        result.state = "running"
        write()
        try:
            run_part(command_of(options, work, step.name, seconds), result, work, seconds, write)
        finally:
            write()
        print(f"{step.name}: {result.state} in {result.seconds:.0f} s. {result.what}", flush=True)
    return results


def run_part(command: list[str], result: Result, work: Path, seconds: float, write: Callable[[], None]) -> None:
    """Run one part in its own process group with a time limit in seconds, and read its report."""
    file, log = work / f"{result.name}.json", work / f"{result.name}.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    began, seen = time.monotonic(), None
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None and time.monotonic() - began < seconds:
                time.sleep(0.2)
                stamp = file.stat().st_mtime_ns if file.exists() else None
                if stamp != seen:
                    seen = stamp
                    take(result, file)
                    write()
            timed_out = process.poll() is None
        finally:
            result.seconds = time.monotonic() - began
            stop(process)
    finished = take(result, file)
    if timed_out:
        result.state, result.what = "timed out", f"killed after {seconds:.0f} s. {result.what}".strip()
    elif not finished or process.returncode not in (0, 1):
        tail = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
        result.state, result.what = "failed", f"exit code {process.returncode}: {' '.join(tail)[:300]}"
    else:
        result.state = "passed" if result.passed else "failed"


def take(result: Result, file: Path) -> bool:
    """Read what a part has reported so far. Returns: whether it has reported its end."""
    if not file.exists():
        return False
    found = json.loads(file.read_text("utf-8"))
    result.passed, result.what, result.figures = found["passed"], found["what"], found["figures"]
    result.machine = found["machine"]
    return found["done"]


def stop(process: subprocess.Popen) -> None:
    """Terminate a part with all its processes, which are in its group; files are written whole."""
    with contextlib.suppress(ProcessLookupError):  # all have terminated
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


assert list(SHARES) == list(NAMES)

if __name__ == "__main__":
    sys.exit(main())
