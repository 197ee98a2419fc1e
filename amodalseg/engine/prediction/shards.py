"""Shards of a large prediction, one per machine, and reading them for the merge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodalseg.atomic import write_whole
from amodalseg.errors import UserError

NAME = re.compile(r"(?P<index>[1-9]\d*)-of-(?P<count>[1-9]\d*)")
KEYS = {"shard", "command", "inputs", "crowd", "upright", "predictions", "failures"}


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts: every ``count``-th photo, starting with number ``index``, counted from 1."""

    index: int
    count: int

    def has(self, place: int) -> bool:
        """Whether the photo at a position, counted from 0, is in this part."""
        return place % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


def shard_path(out: Path, shard: Shard) -> Path:
    """The path of a part of an output: ``amodal.2-of-8.json`` for ``amodal.json``."""
    return out.with_name(f"{out.stem}.{shard}{out.suffix}")


@dataclass(frozen=True)
class Part:
    """The predictions of one shard.

    Attributes:
        command, inputs: fingerprints of the options, and of the files that predictions depend on.
        crowd, upright: as in ``Settings``; they determine how the merged output is written.
        predictions: by the annotation's key.
        failures: one line for each annotation that failed.
    """

    command: str
    inputs: Mapping[str, str]
    crowd: str
    upright: bool
    predictions: Mapping[str, dict[str, Any]]
    failures: list[str]

    def write(self, path: Path, shard: Shard) -> None:
        """Write a json file, atomically."""
        write_whole(path, json.dumps({"shard": str(shard), **self.__dict__}) + "\n")

    def belongs_to(self, other: Part) -> bool:
        """Whether both are parts of one prediction. The photos differ from shard to shard and are not compared."""
        mine, yours = ({**part.inputs, "the photos": ""} for part in (self, other))
        return (self.command, mine) == (other.command, yours)


def read_part(path: Path, shard: Shard) -> Part:
    """Read a part. Raises UserError: it cannot be read, or is not such a part."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.keys() != KEYS or found.pop("shard") != str(shard):
        raise UserError(
            f"{path} is not shard {shard} of a prediction, or it is damaged: remove it, and run that shard again"
        )
    return Part(**found)


def read_parts(out: Path) -> list[Part]:
    """All parts of an output.

    Raises:
        UserError: there are none, some are missing, or they are of different commands, weights or annotations.
    """
    found: dict[Shard, Path] = {}
    for path in sorted(out.parent.glob(f"{out.stem}.*{out.suffix}")):
        match = NAME.fullmatch(path.name[len(out.stem) + 1 : -len(out.suffix)])
        if match:
            found[Shard(int(match["index"]), int(match["count"]))] = path
    if not found:
        raise UserError(f"there are no shards {out.stem}.1-of-N{out.suffix} in {out.parent}: run predict with --shard")
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        said = " and ".join(map(str, counts))
        raise UserError(f"{out.parent} holds shards of {out.name} in {said} parts: remove those of another run")
    missing = [str(i) for i in range(1, counts[0] + 1) if Shard(i, counts[0]) not in found]
    if missing:
        several = f"{', '.join(missing[:10])}{' ...' if len(missing) > 10 else ''}"
        raise UserError(f"{len(missing)} of {counts[0]} shards of {out} are not done: {several}")
    parts = {path: read_part(path, shard) for shard, path in sorted(found.items(), key=lambda item: item[0].index)}
    first, *others = parts
    for path in others:
        if not parts[path].belongs_to(parts[first]):
            raise UserError(
                f"{first} and {path} were predicted with other options, weights or annotations: run one of them again "
                "with --overwrite"
            )
    return [*parts.values()]
