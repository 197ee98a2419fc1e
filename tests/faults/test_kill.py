"""kill -9 right before a file operation: no partial files, and the same command then gives the usual result."""

import random
import signal
import zlib
from pathlib import Path

import pytest

from benchmarks.faults import Disturbance, differences, half_files, log_of, run, says_done

KILLS = {
    "train": 2, "eval": 2, "predict": 2, "masks": 2, "part": 2, "scene": 3, "move": 2, "edit": 2, "convert": 3,
    "shard": 3, "export": 2,
}  # fmt: skip


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, count in KILLS.items() for n in range(count)])
def test_a_killed_command_resumes(undisturbed, tmp_path, name, number):
    command, whole = undisturbed(name)
    operations = int(Path(f"{whole}.operations").read_text())
    # a random moment of each part of the run, the same on every machine
    moment = random.Random(zlib.crc32(f"{name} {number}".encode())).random()
    kill_at = int(operations * (number + moment) / KILLS[name])
    folder = tmp_path / name
    assert run(command(folder), folder, Disturbance(kill_at=kill_at)) == -signal.SIGKILL
    assert not half_files(folder)
    assert run(command(folder), folder) == 0, log_of(folder)
    assert not differences(folder, whole), f"killed before operation {kill_at} of {operations}"


@pytest.mark.parametrize("name", ["convert", "shard", "predict", "part"])
def test_killed_right_before_the_end(undisturbed, tmp_path, name):
    command, whole = undisturbed(name)
    operations = int(Path(f"{whole}.operations").read_text())
    for back in range(1, 8):  # the last renames, the removal of notes, the lock
        folder = tmp_path / f"{name}{back}"
        assert run(command(folder), folder, Disturbance(kill_at=operations - back)) == -signal.SIGKILL
        again = run(command(folder), folder)
        assert again == 0 or says_done(log_of(folder)), log_of(folder)
        assert not differences(folder, whole), f"killed {back} operations before the end"
