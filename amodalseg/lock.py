"""One process at a time in a folder: an advisory lock that ends with its process, and says whose it is."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from amodalseg.atomic import is_dead, write_whole
from amodalseg.errors import UserError

NAME = ".lock"
"""Of the lock's file; beside it lies ``.lock.owner``, which says who holds it. Both go with the lock."""
PATIENCE = 30.0
"""Seconds to wait for a lock whose owner is dead: its loader workers hold it until they have noticed that."""


@contextmanager
def locked(place: Path, what: str, *, file: bool = False, hold: bool = True) -> Iterator[None]:
    """Hold the lock of a folder, or of a file that is about to be written.

    The system gives the lock back when the process ends, however it ends. So a lock that a kill has left is taken over,
    with one line that says so.

    Args:
        place: the folder, made if it is missing; or a file that is to be written, whose lock lies beside it.
        file: whether it is a file.
        what: the option that names it, for the message.
        hold: off: do nothing; for all processes of a run but the first.

    Raises:
        UserError: another process holds it; the line names it. Or the lock cannot be written.
    """
    if not hold:
        yield
        return
    folder, name = (place.parent, f".{place.name}{NAME}") if file else (place, NAME)
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    path, owner = folder / name, folder / f"{name}.owner"
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _acquire(lock, path, owner, place, what)
        except NotImplementedError:
            warnings.warn(
                f"{folder} cannot be locked on this file system: make sure that no second process uses it", stacklevel=3
            )
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_whole(owner, json.dumps({**mine, "command": shlex.join(sys.argv)[:300]}))
    except OSError as error:
        raise UserError(f"cannot lock {place}: {error.strerror or error}") from error
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        _remove_and_release(lock, path)
        for parent in made:  # remove created folders that are still empty
            try:
                parent.rmdir()
            except OSError:
                break


def _remove_and_release(lock: FileLock, path: Path) -> None:
    try:
        path.unlink(missing_ok=True)  # while it is held: afterwards it may be another process's
    except PermissionError:  # Windows removes no open file; once released, it removes none that another process holds
        lock.release()
        with suppress(OSError):
            path.unlink()
    else:
        lock.release()


def _acquire(lock: FileLock, path: Path, owner: Path, place: Path, what: str) -> None:
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read(owner)
            if not _is_dead(holder):
                raise UserError(
                    f"{place} is in use by {_named(holder)}: wait until that has ended, or give another {what}"
                ) from None
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                raise UserError(
                    f"{place} is held by remaining processes of {_named(holder)}: end these, or give another {what}"
                ) from None
        if path.exists():  # the previous holder may have removed the file meanwhile
            break
        lock.release()
    left = _read(owner)
    if left:
        print(f"{place} is taken over from {_named(left)}, which ended before it was done", flush=True)


def _read(owner: Path) -> dict[str, Any]:
    try:
        found = json.loads(owner.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')}: {holder.get('command')})"


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the process that is noted ran on this machine and is no more."""
    pid = holder.get("pid")
    return holder.get("host") == socket.gethostname() and isinstance(pid, int) and is_dead(pid)
