"""Damaged files of every readable kind: each must be read, or refused in one line, within limits of time and memory.

    python benchmarks/fuzz.py --minutes 20 [--seed 0] [--kinds coco yaml] [--keep FOLDER]

Prints a table of inputs of each kind: how many were read and refused, tracebacks, hangs, memory; and anything executed
or opened outside the folder. Exit code: 0, or 1 if there was any such fault.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed
os.environ.setdefault("OMP_NUM_THREADS", "1")

from amodalseg.errors import UserError  # noqa: E402
from benchmarks.canary import Canary  # noqa: E402
from benchmarks.fuzz_targets import Target, targets  # noqa: E402
from benchmarks.mutations import mutate  # noqa: E402

SECONDS, MEMORY_GB = 10.0, 1.5
"""Limits for reading one input."""


class TooLongError(BaseException):
    """An input has run out of time; a BaseException, so that no handler on the way catches it."""


def main(arguments: list[str] | None = None) -> int:
    """Damage and read files until the time is up; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", help="some of them (all)")
    parser.add_argument("--keep", type=Path, help="folder for inputs that failed (none are kept)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("AMODALSEG_MAX_MEGAPIXELS", "50")  # a JPEG header that names 400 takes 2.3 GB
    place = Path(tempfile.mkdtemp()).resolve()
    try:
        kinds = targets(place / "whole")
        chosen = {name: kinds[name] for name in options.kinds or kinds}
        names, fuzz = list(chosen), Fuzz(place, options.seed, options.keep)
        ends, number = time.monotonic() + 60 * options.minutes, 0
        while time.monotonic() < ends:
            name = names[number % len(names)]
            fuzz.one(name, chosen[name], number // len(names))
            number += 1
        return fuzz.tell()
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Fuzz:
    """Counts the outcomes for damaged files."""

    def __init__(self, place: Path, seed: int, keep: Path | None = None) -> None:
        self.place, self.seed, self.keep = place, seed, keep
        self.counts: dict[str, Counter[str]] = {}
        self.slowest: dict[str, float] = {}
        self.grown: dict[str, float] = {}
        self.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # GB, of the libraries alone
        self.failures: list[str] = []
        self.canary = Canary(place)

    def one(self, kind: str, target: Target, number: int) -> None:
        """Damage one file of a kind, reproducibly for the same number and seed, and read what it belongs to."""
        seed = int.from_bytes(hashlib.blake2b(f"{self.seed} {kind} {number}".encode(), digest_size=8).digest(), "big")
        rng = random.Random(seed)
        work = self.place / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(target.folder, work)
        path = work / rng.choice(target.files)
        path.write_bytes(mutate(path.read_bytes(), path.suffix, rng))
        outcome, seconds = self.read(target, work)
        counts = self.counts.setdefault(kind, Counter())
        counts["inputs"] += 1
        counts[outcome] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), seconds)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        self.grown[kind] = self.grown.get(kind, 0.0) + memory - self.memory
        self.memory = memory
        if outcome in ("traceback", "hang") and self.keep is not None:
            shutil.copytree(work, self.keep / f"{kind}_{number}", dirs_exist_ok=True)

    def read(self, target: Target, work: Path) -> tuple[str, float]:
        """Read a folder. Returns: the outcome, and seconds."""
        began = time.process_time()
        outcome = "read"
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            try:
                with warnings.catch_warnings(), _limit(SECONDS), self.canary:
                    warnings.simplefilter("ignore")
                    target.read(work)
            except UserError as error:
                outcome = "refused"
                if len(str(error)) > 5000:
                    self.failures.append(f"{target.read.__name__}: a message of {len(str(error))} characters")
                    outcome = "traceback"
            except TooLongError:
                outcome = "hang"
                self.failures.append(f"hang: {traceback.format_exc()[-600:]}")
            except OSError as error:  # the command line reports it in one line if it names a file
                outcome = "refused" if error.filename is not None else "traceback"
                if outcome == "traceback":
                    self.failures.append(traceback.format_exc()[-1500:])
            except Exception:
                outcome = "traceback"
                self.failures.append(traceback.format_exc()[-1500:])
        seconds = time.process_time() - began
        return ("hang" if seconds > SECONDS else outcome), seconds

    def tell(self) -> int:
        """Print the table. Returns: the exit code."""
        columns = ("inputs", "read", "refused", "traceback", "hang")
        print(f"| kind | {' | '.join(columns)} | slowest, s | peak grew, GB |\n|---|{'---:|' * (len(columns) + 2)}")
        total: Counter[str] = Counter()
        for kind, counts in self.counts.items():
            cells = " | ".join(str(counts[column]) for column in columns)
            print(f"| {kind} | {cells} | {self.slowest[kind]:.1f} | {self.grown[kind]:.2f} |")
            total += counts
        print(f"| all | {' | '.join(str(total[column]) for column in columns)} | {max(self.slowest.values()):.1f} | |")
        memory = self.memory
        done = self.canary.executed()
        strays = self.canary.strays
        print(f"\nmost memory {memory:.2f} GB; executed: {len(done)}; opened outside the folder: {len(strays)}")
        for text in [*done, *self.canary.strays, *dict.fromkeys(self.failures)]:
            print(f"\n{text}", file=sys.stderr)
        return int(bool(total["traceback"] or total["hang"] or done or self.canary.strays or memory > MEMORY_GB))


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def over(*_: int | FrameType | None) -> None:
        raise TooLongError

    before: Callable[..., object] | int | None = signal.signal(signal.SIGPROF, over)
    faulthandler.dump_traceback_later(30 * seconds, exit=True)  # for code that no signal reaches, or that waits
    signal.setitimer(signal.ITIMER_PROF, seconds)  # CPU time, since other programs may be busy too
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, before)


if __name__ == "__main__":
    sys.exit(main())
