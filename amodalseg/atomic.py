"""Files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amodalseg.errors import UserError

PART = ".part"
"""Ending of unfinished files; one that is left was cut off by a kill, and is never taken for the real one."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path`` when the block ends well, and vanishes when it does not.

    A reader, or a run that is killed, sees the old file or the new one. The folder is made if it is missing.

    Raises:
        UserError: the file cannot be written there: no permission, no space, no such place.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}{PART}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # the name must not reach the disk before the content
            temporary.chmod(0o666 & ~_umask())  # some libraries make files that only their owner can read
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {final}: {error.strerror or error}") from error


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file in one go through ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
