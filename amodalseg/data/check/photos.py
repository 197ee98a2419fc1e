"""Checks of photos: present, readable, of the size of their masks, and in one split only. No pixel is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from amodalseg.data.check.finding import Finding, finding, place
from amodalseg.data.images import image_size
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord

ASPECT = 0.01
"""Tolerance for the aspect ratios of photo and masks, as a share: below it, resizing the photo is correct."""


def check_photos(records: Sequence[AmodalRecord], split: str) -> tuple[list[Finding], list[AmodalRecord]]:
    """Look at the header of every photo.

    Args:
        records: read without their photos.
        split: for the findings.

    Returns:
        Findings of the kinds ``photos`` and ``sizes``; and the records whose photos can be opened, flagged
        ``size_mismatch`` where their photo is to be resized.
    """
    first: dict[Path, AmodalRecord] = {}
    for record in records:
        if isinstance(record.image, Path):
            first.setdefault(record.image, record)

    def look(path: Path) -> tuple[int, int] | str:
        try:
            return image_size(path)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        seen = pool.map(look, first)
        sizes = dict(zip(first, tqdm(seen, "photos", len(first), disable=len(first) < 2000), strict=True))
    broken = [f"{text}: {first[path].key}" for path, text in sizes.items() if isinstance(text, str)]
    usable: list[AmodalRecord] = []
    stretched: list[str] = []
    scaled: list[str] = []
    stale: list[str] = []
    reported: set[tuple[Path, int, int]] = set()
    for record in records:
        size = sizes.get(record.image) if isinstance(record.image, Path) else (record.height, record.width)
        if not isinstance(size, tuple):
            continue
        (height, width), own = size, (record.height, record.width)
        usable.append(record if size == own else replace(record, flags=record.flags | {"size_mismatch"}))
        case = (Path(str(record.image)), *own)
        if case in reported or (size == own and "size_mismatch" not in record.flags):
            continue
        reported.add(case)
        text = f"{place(record)}: masks {own[1]}x{own[0]}, photo {width}x{height}"
        if size == own:
            stale.append(f"{text}, the annotation file says otherwise")
        else:
            like = abs(width * own[0] / (height * own[1]) - 1) <= ASPECT
            (scaled if like else stretched).append(text)
    missing = sum(not path.is_file() for path, text in sizes.items() if isinstance(text, str))
    found = []
    if broken:
        text = f"{len(broken):,} of {len(first):,} photos are missing ({missing:,}) or unreadable"
        found.append(finding("photos", "fault", split, text, broken))
    else:
        found.append(finding("photos", "fine", split, f"photos exist and have a readable header: {len(first):,}"))
    for severity, cases, what in (
        ("fault", stretched, "photos have another aspect ratio than their masks: resizing would distort them"),
        ("note", scaled, "photos have another size than their masks, but the same aspect ratio: they are resized"),
        ("note", stale, "photos have a wrong size in the annotation file; masks and photo agree"),
    ):
        if cases:
            found.append(finding("sizes", severity, split, f"{len(cases):,} {what} (width x height)", cases))
    if not reported:
        found.append(finding("sizes", "fine", split, "masks, annotation file and photos have the same size"))
    return found, usable


class Names(NamedTuple):
    """The photos of one split by name: location, and hashes of the masks drawn in it."""

    paths: dict[str, Path]
    masks: dict[str, set[int]]


def photo_names(records: Iterable[AmodalRecord]) -> Names:
    """Collect the names of photos: of files, and of frames together with their video."""
    names = Names({}, {})
    for record in records:
        if isinstance(record.image, Path):
            name = record.image_id if "video" in (record.group or {}) else record.image.name
            names.paths[name] = record.image
            if record.amodal_rle is not None:
                names.masks.setdefault(name, set()).add(hash(bytes(record.amodal_rle["counts"])))
    return names


def check_overlap(splits: Mapping[str, Names], names_restart: bool, compare_masks: bool) -> list[Finding]:
    """Compare the photos of all splits, pair by pair.

    Args:
        splits: the photos of each.
        names_restart: whether splits may use a name for different photos. If not, a name in two splits is a fault; if
            so, only if the photos are equal byte for byte.
        compare_masks: photos with the same name and a common mask also count as the same: annotations were copied.
    """
    found = []
    for (one, here), (other, there) in combinations(splits.items(), 2):
        shared = sorted(here.paths.keys() & there.paths.keys())
        same = shared
        if names_restart:
            same = [
                name for name in shared
                if (compare_masks and here.masks.get(name, set()) & there.masks.get(name, set()))
                or _equal(here.paths[name], there.paths[name])
            ]  # fmt: skip
        title = f"{one} and {other}"
        if same:
            text = f"{len(same):,} photos belong to {title}"
            found.append(finding("overlap", "fault", "", text, [f"{here.paths[n]} and {there.paths[n]}" for n in same]))
        else:
            text = f"{title} share no photo"
            text += f" ({len(shared):,} names occur in both, for different photos)" if shared else ""
            found.append(finding("overlap", "fine", "", text))
    return found


def _equal(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    return one.read_bytes() == other.read_bytes()
