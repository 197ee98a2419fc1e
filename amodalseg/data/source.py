"""Sources of objects: anything that returns objects by index."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from amodalseg.types import AmodalRecord


class Source(Protocol):
    """Objects accessible in any order; each is a pure function of (the source's seed, epoch, index)."""

    def __len__(self) -> int: ...

    def get(self, index: int, epoch: int = 0) -> AmodalRecord: ...


class RecordList:
    """Records in memory: the same in every epoch."""

    def __init__(self, records: Sequence[AmodalRecord]) -> None:
        self.records = list(records)

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        return self.records[index]


class PackedRecords:
    """Many records in one block of memory: half a million of them take a few hundred megabytes.

    A list of as many Python objects takes several times that, and again in every loader worker, because accessing an
    object writes its reference count to its memory page. The block is written and read only by this process and its
    workers.
    """

    def __init__(self, records: Sequence[AmodalRecord]) -> None:
        packed = [pickle.dumps(record, pickle.HIGHEST_PROTOCOL) for record in records]
        self.ends = np.cumsum([len(item) for item in packed], dtype=np.int64)
        self.block = np.frombuffer(b"".join(packed), np.uint8)
        self.unprompted = np.array(["empty_modal" in record.flags for record in records], bool)

    def __len__(self) -> int:
        return len(self.ends)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        start = self.ends[index - 1] if index else 0
        record: AmodalRecord = pickle.loads(self.block[start : self.ends[index]].tobytes())
        return record


class Subset:
    """Some objects of a source, in the given order."""

    def __init__(self, source: Source, places: np.ndarray) -> None:
        self.source, self.places = source, places
        if hasattr(source, "unprompted"):
            self.unprompted = source.unprompted[places]

    def __len__(self) -> int:
        return len(self.places)

    def get(self, index: int, epoch: int = 0) -> AmodalRecord:
        return self.source.get(int(self.places[index]), epoch)


def prompted(source: Source) -> tuple[Source, int]:
    """Leave out objects without a visible pixel, which cannot be queried. Returns: the others, and how many were left
    out.

    Only sources that know this in advance are filtered; others refuse such an object when it is read.
    """
    if isinstance(source, RecordList):
        unprompted = np.array(["empty_modal" in record.flags for record in source.records], bool)
    else:
        unprompted = getattr(source, "unprompted", np.zeros(0, bool))
    if not unprompted.any():
        return source, 0
    return Subset(source, np.flatnonzero(~unprompted)), int(unprompted.sum())
