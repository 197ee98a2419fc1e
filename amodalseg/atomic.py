"""Atomic writing of files, and reading of regular files only."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from amodalseg.errors import UserError

PART = ".part"
"""Suffix of files being written. A leftover one is from a killed process; it is never read as the real file."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Write errors that go away once there is space again."""
FULL = ("unexpected pos", "PytorchStreamWriter failed", "I/O error: ", "iostream error", "file write failed")
"""Messages with which libraries report a failed write in errors other than OSError."""
_cleared: set[Path] = set()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file that replaces ``path`` if the block succeeds, and is removed otherwise.

    A reader, or a run that is killed, sees the old file or the new one. The folder is created if it is missing;
    temporary files of killed processes in it are removed.

    Raises:
        UserError: the file cannot be written: no permission, no space, or an invalid path.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{_host()}-{os.getpid()}{PART}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.parent not in _cleared:  # once: a folder may hold a hundred thousand files
            _cleared.add(final.parent)
            clear_dead(final.parent)
        try:
            yield temporary
            with temporary.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())  # the name must not reach the disk before the content
            temporary.chmod(0o666 & ~_umask())  # some libraries make files that only their owner can read
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error.strerror or error}") from error
    except Exception as error:
        # torch.save and safetensors replace an OSError by exceptions of other classes
        if not any(words in str(error) for words in FULL):
            raise
        reason = str(error).partition("\n")[0].rpartition("I/O error: ")[2]
        raise UserError(f"cannot write {final}: no space, or a limit of the system ({reason:.100})") from error


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a whole file atomically, through ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def clear_dead(folder: Path) -> None:
    """Remove the temporary files that ended processes of this machine left in a folder."""
    for path in folder.glob(f".*.{_host()}-*{PART}"):
        pid = path.name.removesuffix(PART).rpartition("-")[2]
        if pid.isdecimal() and is_dead(int(pid)):
            path.unlink(missing_ok=True)


def is_dead(pid: int) -> bool:
    """Whether this machine has no process with this id."""
    if os.name == "nt":  # on Windows, signal 0 would end the process
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    try:  # a zombie process is dead too
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=3).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, also for pipes and devices, which may block or never end."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise OSError(errno.EINVAL, "not a regular file, but a device, a pipe or a socket", str(path))
    return path.open("rb")


def read_regular(path: Path) -> bytes:
    """The bytes of a file. Raises OSError as ``open_regular`` does."""
    with open_regular(path) as file:
        return file.read()
