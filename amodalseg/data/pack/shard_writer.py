"""Packs a data set into tar shards (``data/pack/shards.py`` has the layout and reads them)."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from tqdm import tqdm

from amodalseg.atomic import PART, replacing, write_whole
from amodalseg.data.images import read_bytes
from amodalseg.data.pack.progress import Progress
from amodalseg.data.pack.shards import FORMAT, INDEX, INDEX_NAME, MASKS, SUMMARY_NAME
from amodalseg.data.record_pictures import record_image
from amodalseg.data.source import Source
from amodalseg.errors import UserError
from amodalseg.lock import NAME as LOCK
from amodalseg.lock import locked
from amodalseg.types import AmodalRecord, Picture

BLOCK = 512
"""Size of a member's header in a tar file, bytes."""
MB = 1 << 20


class _Hashed:
    """A file written sequentially, with its size and checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sum, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        self.size += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.size


def write_shards(
    source: Source, folder: Path, *, about: dict[str, Any], size: int = 256 * MB, whole: bool = True,
    skip_broken: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Pack all objects of a source, in its order, as they are at epoch 0.

    An interrupted run continues after its last finished shard, and produces the same files.

    Args:
        source: any.
        folder: new, empty, or with the files of an interrupted run.
        about: the configuration of the source, kept in the summary.
        size: bytes after which a new shard begins.
        whole: pack the pictures of whole objects too.
        skip_broken: leave out objects whose files cannot be read, with a warning, instead of raising.

    Returns:
        The summary, as in ``shards.json``.

    Raises:
        UserError: the folder holds other files, an object cannot be read or stored as json, the folder cannot be
            written to, or there is no object.
    """
    with locked(folder, "--out"):
        progress = Progress(folder, {"about": about, "size": size, "whole": whole, "skip_broken": skip_broken}, source)
        if (folder / SUMMARY_NAME).is_file():
            summary = progress.finished()
            if summary is None:
                raise UserError(f"{folder} already holds a packed data set; give another folder, or delete this one")
            return summary
        unfinished = {path for path in folder.iterdir() if path.name.startswith(".") and path.suffix == PART}
        if any(not path.name.startswith(LOCK) for path in set(folder.iterdir()) - unfinished - progress.files()):
            raise UserError(
                f"{folder} is not empty, and holds no unfinished data set to continue; give another folder, or empty it"
            )
        for path in unfinished:
            path.unlink()
        try:
            return _write_shards(source, folder, about, size, whole, skip_broken, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("run the same command again to continue after the complete shards") from None


def _write_shards(
    source: Source, folder: Path, about: dict[str, Any], size: int, whole: bool, skip_broken: bool, progress: Progress
) -> dict[str, Any]:
    done = progress.load()
    rows = [row for shard in done for row in shard["rows"]]
    shards: list[dict[str, Any]] = [{key: shard[key] for key in ("name", "bytes", "sha256")} for shard in done]
    splits = {split for shard in done for split in shard["splits"]}
    broken = list(done[-1]["broken"]) if done else []
    number, begin = (done[-1]["samples"], done[-1]["next"]) if done else (0, 0)
    samples = _samples(source, skip_broken, begin, broken)
    sample, begin = next(samples, (None, begin))
    while sample is not None:
        name = f"shard-{len(shards):06d}.tar"
        first = len(rows)
        own: set[str] = set()
        with replacing(folder / name) as temporary, temporary.open("wb") as file:
            hashed = _Hashed(file)
            with tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
                while sample is not None and hashed.size < size:
                    rows += _write_sample(tar, sample, len(shards), number, len(rows), whole)
                    own.update(record.split for record in sample)
                    behind, left_out = begin, len(broken)
                    number, (sample, begin) = number + 1, next(samples, (None, begin))
            shards.append({"name": name, "bytes": hashed.size, "sha256": hashed.sum.hexdigest()})
            progress.save({
                **shards[-1], "samples": number, "next": behind, "splits": sorted(own), "broken": broken[:left_out],
                "rows": rows[first:],
            })  # fmt: skip
        splits |= own
    if not rows:
        raise UserError("the data set contains no objects: there is nothing to pack")
    if broken:
        warnings.warn(f"{broken[0]}; {len(broken)} of {len(source)} objects are left out", stacklevel=2)
    content = io.BytesIO()
    np.save(content, np.array([tuple(row) for row in rows], INDEX))
    write_whole(folder / INDEX_NAME, content.getvalue())
    summary = {
        "format": FORMAT, "objects": len(rows), "samples": number, "splits": sorted(splits), "source": about,
        "index": hashlib.sha256(content.getvalue()).hexdigest(), "shards": shards,
    }  # fmt: skip
    write_whole(folder / SUMMARY_NAME, json.dumps(summary, indent=1) + "\n")
    progress.clear()
    return summary


def _samples(
    source: Source, skip_broken: bool, begin: int, broken: list[str]
) -> Iterator[tuple[list[AmodalRecord], int]]:
    """Consecutive objects of one photo; each photo is decoded once, so that no broken one is packed.

    Args:
        source, skip_broken: as in ``write_shards``.
        begin: the first object.
        broken: receives a line for each object that is left out.

    Yields:
        The objects, and the index in the source of the first one after them.
    """
    group: list[AmodalRecord] = []
    progress = tqdm(
        range(begin, len(source)), desc="packing", unit="object", initial=begin, total=len(source),
        disable=len(source) < 2000,
    )  # fmt: skip
    for index in progress:
        try:
            record = source.get(index)
            last = None if not group or isinstance(group[0].image, np.ndarray) else group[0].image
            joins = last is not None and not isinstance(record.image, np.ndarray) and record.image == last
            if not joins:
                record_image(record)
        except UserError as error:
            if not skip_broken:
                raise
            broken.append(str(error))
            continue
        if group and not joins:
            yield group, index
            group = []
        group.append(record)
    if group:
        yield group, len(source)


def _write_sample(
    tar: tarfile.TarFile, sample: list[AmodalRecord], shard: int, number: int, first: int, whole: bool
) -> list[tuple[int | bool, ...]]:
    """Add a photo and its objects, the first of which has the number ``first``. Returns: their rows of the index."""
    ending, data = _picture(sample[0].image)
    photo_name = f"{number:09d}{ending}"
    photo = _add(tar, photo_name, data), len(data)
    alone, entries = [], []
    for place, record in enumerate(sample):
        name, at = None, (0, 0)
        if whole and record.whole_rgb is not None:
            ending, data = _picture(record.whole_rgb)
            name = f"{number:09d}.whole{place}{ending}"
            at = _add(tar, name, data), len(data)
        alone.append(at)
        entries.append(_entry(record, {"number": first + place, "place": place, "photo": photo_name, "whole": name}))
    name, between = f"{number:09d}.json", b",\n"
    start = _add(tar, name, b"[" + between.join(entries) + b"]") + 1
    rows: list[tuple[int | bool, ...]] = []
    for place, (record, entry) in enumerate(zip(sample, entries, strict=True)):
        unprompted = "empty_modal" in record.flags
        rows.append((shard, number, place, start, len(entry), *photo, *alone[place], unprompted))
        start += len(entry) + len(between)
    return rows


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member without machine-dependent metadata. Returns: the offset of its content."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    start = tar.offset  # type: ignore[attr-defined]
    tar.addfile(info, io.BytesIO(data))
    return int(start) + BLOCK


def _picture(picture: Picture) -> tuple[str, bytes]:
    """Ending and bytes of a picture's file; drawn pixels become a PNG."""
    if isinstance(picture, np.ndarray):
        done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        assert done
        return ".png", data.tobytes()
    try:
        content = read_bytes(picture)
    except OSError as error:
        raise UserError(f"cannot read the image {picture}: {error.strerror}") from error
    return Path(picture.name).suffix.lower() or ".img", content


def _entry(record: AmodalRecord, about: dict[str, Any]) -> bytes:
    """An object as json on one line: where it is, and all fields of the record but its pictures."""
    fields = {spec.name: getattr(record, spec.name) for spec in dataclasses.fields(record)}
    image = fields.pop("image")
    del fields["whole_rgb"]
    for name in MASKS:
        if fields[name] is not None:
            counts = fields[name]["counts"]
            counts = counts.decode() if isinstance(counts, bytes) else counts
            fields[name] = {"size": list(map(int, fields[name]["size"])), "counts": counts}
    fields["flags"] = sorted(fields["flags"])
    file = None if isinstance(image, np.ndarray) else str(image.name)
    try:
        return json.dumps({**about, "file": file, **fields}, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"{record.key} has a field that json cannot hold: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r:.60}")
