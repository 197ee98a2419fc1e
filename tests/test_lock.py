"""One process per folder: a second one is refused with the first one's name; the lock of a dead one is taken over."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amodalseg import lock
from amodalseg.cli import main
from amodalseg.errors import UserError
from amodalseg.lock import locked

ROOT = Path(__file__).parents[1]
HOLD = """
import os, sys, time
from pathlib import Path
from amodalseg.lock import locked
with locked(Path(sys.argv[1]), "out=", file=sys.argv[2] == "file"):
    if sys.argv[3] == "worker" and os.fork() == 0:
        time.sleep(2)  # a loader's worker that has not noticed yet
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def holding(place, kind="folder", worker="alone"):
    command = [sys.executable, "-c", HOLD, str(place), kind, worker]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_second_process_is_refused_with_the_owner_of_the_folder(tmp_path, kind, capsys):
    place = tmp_path / ("run" if kind == "folder" else "out.json")
    with holding(place, kind) as process:
        with (
            pytest.raises(
                UserError, match=rf"{place} is in use by process {process.pid} on .* \(since 20.*another out="
            ),
            locked(place, "out=", file=kind == "file"),
        ):
            raise AssertionError("two at once")
        kill(process)
        with locked(place, "out=", file=kind == "file"):
            printed = capsys.readouterr().out
    assert f"{place} is taken over from process {process.pid} on" in printed and printed.count("\n") == 1
    assert not list(tmp_path.rglob(".*")), "nothing is left of a lock"


def test_remaining_workers_of_a_killed_process_are_waited_for(tmp_path, capsys):
    with holding(tmp_path / "run", worker="worker") as process:
        kill(process)
        with locked(tmp_path / "run", "out="):
            assert "is taken over from" in capsys.readouterr().out


def test_workers_that_never_end_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.2)
    monkeypatch.setattr(lock, "_is_dead", lambda holder: True)
    message = "is held by remaining processes of process"
    with holding(tmp_path / "run"), pytest.raises(UserError, match=message), locked(tmp_path / "run", "out="):
        raise AssertionError("two at once")


def test_other_processes_of_the_same_run_need_no_lock(tmp_path):
    with locked(tmp_path / "run", "out="), locked(tmp_path / "run", "out=", hold=False):
        assert json.loads((tmp_path / "run/.lock.owner").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("owner", [b"", b"[]", b"\xff", b'{"pid": "x"}', b'{"pid": 99999999999999999999999}'])
def test_a_damaged_note_of_the_owner_does_not_matter(tmp_path, owner):
    with holding(tmp_path / "run"):
        (tmp_path / "run/.lock.owner").write_bytes(owner)
        with pytest.raises(UserError, match="in use by"), locked(tmp_path / "run", "out="):
            raise AssertionError("two at once")


def test_written_files_stay_and_the_folder_can_be_locked_again(tmp_path):
    for number in range(2):
        with locked(tmp_path / "deep/run", "out="):
            (tmp_path / f"deep/run/{number}").touch()
    assert sorted(path.name for path in (tmp_path / "deep/run").iterdir()) == ["0", "1"]


def test_a_system_that_removes_no_open_file(tmp_path, monkeypatch):
    """Windows: the lock's file can be removed only after it is released."""
    held, unlink = [], Path.unlink

    class Watched(lock.FileLock):
        def acquire(self, *arguments, **options):
            held.append(self)
            return super().acquire(*arguments, **options)

    def refuse(path, *arguments, **options):
        if path.name == lock.NAME and held[0].is_locked:
            raise PermissionError(13, "the file is being used by another process", str(path))
        unlink(path, *arguments, **options)

    monkeypatch.setattr(lock, "FileLock", Watched)
    monkeypatch.setattr(Path, "unlink", refuse)
    with locked(tmp_path / "run", "out="):
        (tmp_path / "run/result").touch()
    assert not held[0].is_locked and [path.name for path in (tmp_path / "run").iterdir()] == ["result"]


def test_of_many_concurrent_threads_one_works_at_a_time(tmp_path):
    inside, most, done = [], [], []

    def work():
        for _ in range(40):
            try:
                with locked(tmp_path / "run", "out="):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
            except UserError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and done


COMMANDS = {
    "eval": ["eval", "synthetic", "models=[box]", "data.num_objects=2", "out=PLACE"],
    "train": ["train", "demo", "out=PLACE"],
    "convert": ["data", "convert", "synthetic", "num_objects=2", "--out", "PLACE"],
    "shard": ["data", "shard", "synthetic", "num_objects=2", "--out", "PLACE"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_two_commands_cannot_use_one_folder(tmp_path, name, capsys):
    place = tmp_path / "out"
    held, kind = (place / "train", "file") if name == "convert" else (place, "folder")
    with holding(held, kind) as process:
        before = sorted(path.name for path in place.iterdir())
        assert main([item.replace("PLACE", str(place)) for item in COMMANDS[name]]) == 2
        error = capsys.readouterr().err
        assert f"is in use by process {process.pid}" in error and error.count("\n") == 1
        assert sorted(path.name for path in place.iterdir()) == before, "nothing is touched"
