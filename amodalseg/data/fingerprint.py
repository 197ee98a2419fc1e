"""What tells whether a data set is still the one that a run began with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from amodalseg.data.source import PackedRecords, Source
from amodalseg.types import AmodalRecord, FilePart

MOST = 20_000
"""Objects that are looked at; of a larger set as many, evenly spaced."""


def fingerprint(source: Source) -> str:
    """A text that changes with the objects, their masks and the sizes of their photo files, and not with the folder.

    Args:
        source: any; of one that draws its objects from records (scenes, composites) these are looked at.

    Returns:
        ``<number of objects>-<hash>``, without a hash for sources that would have to draw or read every object. Pixels
        are not read: a photo that is replaced by another one of as many bytes is not noticed.
    """
    if isinstance(source, PackedRecords):
        count, get = len(source), source.get
    else:
        records = getattr(getattr(source, "occluder", source), "records", None)
        if records is None:
            return f"{len(source)}-"
        count, get = len(records), records.__getitem__
    digest = hashlib.blake2b(digest_size=12)
    for place in np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int)):
        digest.update(_of_record(get(int(place))))
    return f"{count}-{digest.hexdigest()}"


def _of_record(record: AmodalRecord) -> bytes:
    image = record.image
    if isinstance(image, Path):
        size = image.stat().st_size if image.exists() else -1
    else:
        size = image.length if isinstance(image, FilePart) else image.nbytes
    masks = (rle and rle["counts"] for rle in (record.modal_rle, record.amodal_rle, record.unknown_rle))
    return repr((record.key, size, *masks)).encode()
