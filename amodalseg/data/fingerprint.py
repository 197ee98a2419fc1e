"""Fingerprints that tell whether a data set is still the one that a run started with.

No photo is opened: files are identified by path, size and modification time, masks by their run lengths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg.data.source import PackedRecords, RecordList, Source, Subset
from amodalseg.types import AmodalRecord, FilePart

MOST = 20_000
"""Maximum number of objects examined, evenly spaced in a larger set."""


def fingerprint(source: Source) -> str:
    """A text that changes with the objects, their masks and the sizes of their photo files, but not with the folder.

    Args:
        source: any; for one that draws its objects from records (scenes, composites), the records are examined.

    Returns:
        ``<number of objects>-<hash>``, without a hash for sources that would have to draw or read every object. Pixels
        are not read: replacing a photo by another of the same number of bytes is not detected.
    """
    whole: Any = source
    while isinstance(whole, Subset):
        whole = whole.source
    if isinstance(source, PackedRecords) or (whole is not source and isinstance(whole, (PackedRecords, RecordList))):
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


def file_stamp(path: Path) -> tuple[str, int, int]:
    """(absolute path, bytes, modification time in ns) of a file; -1 and -1 if it does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: an impossible file name
        return str(path.absolute()), -1, -1
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def stamp(source: Source) -> str:
    """A text that changes whenever a prediction for one of a source's objects may change: for stored predictions.

    Stricter than ``fingerprint``: it covers all objects with all their masks and metadata, and the path, size and
    modification time of every file. Sources that draw objects from records (composites, scenes) are covered by their
    records; sources that read files on access, by those files.
    """
    digest = hashlib.blake2b(f"{len(source)}".encode(), digest_size=16)
    seen: dict[Path, tuple[str, int, int]] = {}
    for item in _of_source(source):
        if isinstance(item, Path):
            if item not in seen:  # shared by the objects of a photo
                seen[item] = file_stamp(item)
            digest.update(repr(seen[item]).encode())
        else:
            digest.update(item)
    return digest.hexdigest()


def _of_source(source: Any, places: Iterable[int] | None = None) -> Iterator[bytes | Path]:
    if isinstance(source, Subset):
        yield source.places.tobytes()
        yield from _of_source(source.source, source.places.tolist())
    elif isinstance(source, (PackedRecords, RecordList)):
        for place in range(len(source)) if places is None else places:
            yield from _all_of_record(source.get(int(place)))
    elif hasattr(source, "files"):
        yield from source.files(places)
    elif hasattr(source, "source"):  # modifies what another source draws
        yield from _of_source(source.source, places)
    else:  # draws from records, or needs nothing
        for record in getattr(getattr(source, "occluder", source), "records", ()):
            yield from _all_of_record(record)


def _all_of_record(record: AmodalRecord) -> Iterator[bytes | Path]:
    masks = (record.modal_rle, record.amodal_rle, record.gt_modal_rle, record.occluder_rle, record.unknown_rle)
    known = (
        record.key, record.category, record.is_stuff, record.order, record.raw_rate, record.modal_source,
        record.modal_score, sorted(record.flags), record.group,
    )  # fmt: skip
    yield repr((known, [rle and (list(rle["size"]), rle["counts"]) for rle in masks])).encode()
    move, edit = record.move, record.edit
    if move is not None:
        yield repr((move.to, list(move.mask_rle["size"]), move.mask_rle["counts"])).encode()
    if edit is not None:
        yield repr((edit.request, list(edit.kept_rle["size"]), edit.kept_rle["counts"])).encode()
    for picture in (record.image, record.whole_rgb, move and move.picture, edit and edit.picture):
        if isinstance(picture, Path):
            yield picture
        elif isinstance(picture, FilePart):
            yield picture.path
            yield repr(picture).encode()
        elif picture is not None:
            yield hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
