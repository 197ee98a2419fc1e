"""Detects what reading a file must never cause: execution, connections, or opening anything outside its folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

RUNS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn",
        "socket.connect", "socket.bind", "urllib.Request", "ctypes.dlopen", "os.remove", "os.rename")  # fmt: skip
"""Python audit events that reading a file never needs; files inside the folder may be removed and renamed."""
SYSTEM = ("/usr/", "/lib", "/proc/", "/sys/", "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/ld.so")
"""Locations that libraries read when they are first used."""


class Canary:
    """Watches Python's audit events while its block runs. The audit hook remains for the life of the process.

    Attributes:
        strays: what was opened outside the folder, or done beyond reading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.strays = folder, []  # type: Path, list[str]
        self._active = False
        own = Path(__file__).resolve().parents[1]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amodalseg"  # cached file lists
        places = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(own), str(folder), str(cache)}
        self._allowed = (*(f"{place}/" for place in places), *SYSTEM)
        (folder / "outside").mkdir(parents=True, exist_ok=True)
        sys.addaudithook(self._on_event)

    def __enter__(self) -> None:
        self._active = True

    def __exit__(self, *_: object) -> None:
        self._active = False

    def executed(self) -> list[str]:
        """Files that exist only if code in a damaged file was executed; all have the same name."""
        places = (self.folder, Path.cwd(), Path.home(), Path("/tmp"))
        return [str(place / "executed") for place in places if (place / "executed").exists()]

    def _on_event(self, event: str, details: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open" and isinstance(details[0], (str, bytes, os.PathLike)):
            path = os.path.realpath(os.fsdecode(details[0]))
            if not path.startswith(self._allowed) and path not in self._allowed and path != str(self.folder):
                self.strays.append(f"open {path}")
        elif event in RUNS and details[:1] != (None,):  # None: the process itself, opened as a library
            inside = event in ("os.remove", "os.rename") and os.path.realpath(details[0]).startswith(str(self.folder))
            if not inside:
                self.strays.append(f"{event} {details!r:.200}")
