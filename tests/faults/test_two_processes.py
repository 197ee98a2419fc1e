"""Two processes in one folder: one works, the other is refused with the owner's name, and the result is as usual."""

import time
from pathlib import Path

import pytest

from benchmarks.faults import Disturbance, differences, log_of, run, start


@pytest.mark.parametrize("name", ["train", "eval", "predict", "masks", "convert", "shard"])
def test_the_second_is_refused_while_the_first_works(undisturbed, tmp_path, name):
    command, whole = undisturbed(name)
    folder = tmp_path / name
    operations = int(Path(f"{whole}.operations").read_text())
    first = start(command(folder), folder, Disturbance(pause_at=operations // 2))
    try:
        for _ in range(3000):
            if Path(f"{folder}.paused").exists():
                break
            assert first.is_alive(), log_of(folder)
            time.sleep(0.02)
        Path(f"{folder}.log").unlink()  # the second one logs to another file
        assert run(command(folder), folder) == 2
        assert f"is in use by process {first.pid}" in log_of(folder) and log_of(folder).count("error: ") == 1
    finally:
        Path(f"{folder}.go").touch()
        first.join()
    assert first.exitcode == 0
    assert not differences(folder, whole)


def test_two_processes_that_write_one_file_leave_a_complete_one(undisturbed, tmp_path):
    command, whole = undisturbed("export")
    folder = tmp_path / "export"
    both = [start(command(folder), folder) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0], log_of(folder)
    assert not differences(folder, whole)
