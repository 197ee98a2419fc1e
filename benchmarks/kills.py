"""Kill the commands that write, or let the disk run full; then let them finish, and compare with an undisturbed run.

    python benchmarks/kills.py --kills 30 --full 20 [--seed 0] [--commands train eval] [--keep FOLDER]

``benchmarks/README.md`` says what is counted. Exit code: 0, or 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed
os.environ.setdefault("OMP_NUM_THREADS", "1")  # commands are forked from one process

from benchmarks.faults import (  # noqa: E402
    Disturbance,
    commands,
    differences,
    files_of,
    half_files,
    log_of,
    make_inputs,
    run,
    says_done,
    start,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="kills at random moments, over all commands (30)")
    parser.add_argument("--full", type=int, default=20, help="times that the disk is full, over all commands (20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--commands", nargs="+", help="some of them: train eval predict masks part scene convert shard export"
    )
    parser.add_argument("--keep", type=Path, help="folder for what is made (a temporary one)")
    options = parser.parse_args(arguments)
    place = Path(options.keep or tempfile.mkdtemp())
    try:
        return Campaign(place, options.seed, options.commands).main(options.kills, options.full)
    finally:
        if options.keep is None:
            shutil.rmtree(place, ignore_errors=True)


class Campaign:
    """Disturbs the commands in turn, at random moments, in folders below ``place``."""

    def __init__(self, place: Path, seed: int, names: list[str] | None) -> None:
        self.place, self.random, self.jobs = place, random.Random(seed), 0
        every = commands(make_inputs(place / "inputs"))
        self.commands = {name: every[name] for name in names or every}
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in self.commands}

    def main(self, kills: int, full: int) -> int:
        """Disturb and print. Returns: the exit code."""
        for name, command in self.commands.items():
            folder = self.place / f"{name}_ok"
            run(command(folder), folder)  # warm-up: compiles and caches what a first run needs
            shutil.rmtree(folder)
            before = time.monotonic()
            code = run(command(folder), folder)
            self.seconds[name] = time.monotonic() - before
            assert code == 0, f"{name} fails undisturbed: {log_of(folder)}"
        names = list(self.commands)
        for number in range(kills):
            self._kill(names[number % len(names)])
        for number in range(full):
            self._fill(names[number % len(names)])
        columns = ("kills", "met it", "disks full", "met the end", "differences", "left over", "half files", "no line")
        print(f"| command | undisturbed, s | {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) + 1)}")
        for name, counts in self.counts.items():
            print(f"| `{name}` | {self.seconds[name]:.1f} | {' | '.join(str(counts[column]) for column in columns)} |")
        return int(any(counts[column] for counts in self.counts.values() for column in columns[4:]))

    def _folder(self, name: str) -> Path:
        self.jobs += 1
        return self.place / f"{name}_{self.jobs:02d}"

    def _kill(self, name: str) -> None:
        folder, counts = self._folder(name), self.counts[name]
        by_time = counts["kills"] % 2 == 0  # alternately at a random moment and right before a file operation
        operations = int(Path(f"{self.place / name}_ok.operations").read_text())
        at = None if by_time else Disturbance(kill_at=self.random.randrange(operations))
        process = start(self.commands[name](folder), folder, at)
        if by_time:
            time.sleep(self.random.uniform(0, self.seconds[name]))
            process.kill()
        process.join()
        counts["kills"] += 1
        counts["met it"] += process.exitcode == -9
        for text in half_files(folder):
            self._report(name, "half files", folder, text)
        if process.exitcode == -9:
            self._finish(name, folder)

    def _fill(self, name: str) -> None:
        """Use a tmpfs that is too small if one can be mounted, else a limit on the size of each file."""
        folder, counts = self._folder(name), self.counts[name]
        sizes = sorted(path.stat().st_size for path in files_of(self.place / f"{name}_ok").values())
        mounted = self._mount(folder, int(self.random.uniform(0.02, 1) * sum(sizes)))
        limit = int(self.random.uniform(0, 1) * self.random.choice(sizes))
        code = run(self.commands[name](folder), folder, None if mounted else Disturbance(limit=limit))
        counts["disks full"] += 1
        counts["met the end"] += code == 2
        errors = [line for line in log_of(folder).splitlines() if line.startswith(("error:", "Traceback", "  File"))]
        if code not in (0, 2) or (code == 2 and len(errors) != 1):
            self._report(name, "no line", folder, f"exit {code}: {log_of(folder)[-2000:]}")
        for text in half_files(folder):
            self._report(name, "half files", folder, text)
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=512m", str(folder)], check=True)
        if code:
            self._finish(name, folder)
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)

    def _mount(self, folder: Path, size: int) -> bool:
        folder.mkdir()
        if os.geteuid():
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={max(size, 4096)}", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def _finish(self, name: str, folder: Path) -> None:
        """Run the same command again, to its end."""
        code = run(self.commands[name](folder), folder)
        if code and not says_done(log_of(folder)):
            self._report(name, "differences", folder, f"exit {code}: {log_of(folder)[-1000:]}")
        for text in differences(folder, self.place / f"{name}_ok"):
            self._report(name, "left over" if text.startswith("left over") else "differences", folder, text)

    def _report(self, name: str, kind: str, folder: Path, text: str) -> None:
        self.counts[name][kind] += 1
        print(f"{name}, {kind}: {folder}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
