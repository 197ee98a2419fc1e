"""Progress of packing: each finished shard has a json file beside it, until the set is complete."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import amodalseg
from amodalseg.atomic import read_regular, write_whole
from amodalseg.data.fingerprint import stamp
from amodalseg.data.pack.shards import FORMAT, INDEX_NAME, SUMMARY_NAME
from amodalseg.data.source import Source


class Progress:
    """Metadata of the finished shards in a folder: ``shard-000000.json`` beside ``shard-000000.tar``.

    The file is written before its shard is renamed, so every shard has one. It is valid only for exactly the options,
    data and program version that the shard was made with.
    """

    def __init__(self, folder: Path, options: dict[str, Any], source: Source) -> None:
        self.folder = folder
        made = json.dumps([options, stamp(source), FORMAT, amodalseg.__version__], sort_keys=True, default=str)
        self._stamp = _digest(made.encode())
        self._count = 0

    def files(self) -> set[Path]:
        """The files of an unfinished set in the folder; none if its first file does not identify it as one."""
        if self._read(0) is None:
            return set()
        tars, notes = self.folder.glob("shard-*.tar"), self.folder.glob("shard-*.json")
        return {*tars, *notes, self.folder / INDEX_NAME}

    def load(self) -> list[dict[str, Any]]:
        """What ``save`` recorded of the shards, from the first up to one that is missing or fails verification."""
        found: list[dict[str, Any]] = []
        while (content := self._read(len(found))) is not None:
            if content["stamp"] != self._stamp:
                print(f"{self.folder}: options, data or program have changed since the interruption; starting again")
                found = []
                break
            shard = self.folder / content["shard"]["name"]
            if not shard.is_file() or shard.stat().st_size != content["shard"]["bytes"]:
                break
            found.append(content["shard"])
        self._count = len(found)
        for shard in self.folder.glob("shard-*.tar"):
            if shard.name not in {known["name"] for known in found}:
                shard.unlink()
        self.clear(behind=self._count)
        if found:
            print(f"{self.folder}: {len(found)} shards are complete; continuing after them")
        return found

    def save(self, shard: dict[str, Any]) -> None:
        """Record the next shard."""
        body = json.dumps({"stamp": self._stamp, "shard": shard})
        write_whole(self._path(self._count), f"{_digest(body.encode())}\n{body}")
        self._count += 1

    def finished(self) -> dict[str, Any] | None:
        """The summary of a set that was interrupted when everything but its summary was written; else None."""
        content = self._read(0)
        if content is None or content["stamp"] != self._stamp:
            return None
        self.clear()
        summary: dict[str, Any] = json.loads(read_regular(self.folder / SUMMARY_NAME))
        return summary

    def clear(self, behind: int = 0) -> None:
        """Remove the files, from a number of shards on."""
        for path in sorted(
            self.folder.glob("shard-*.json"), reverse=True
        ):  # the first one, which identifies the set, is removed last
            if path.stem[6:].isdecimal() and int(path.stem[6:]) >= behind:
                path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.json"

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            check, _, body = read_regular(self._path(number)).partition(b"\n")
        except OSError:
            return None
        if check.decode(errors="replace") != _digest(body):
            return None
        found: dict[str, Any] = json.loads(body)
        return found


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
