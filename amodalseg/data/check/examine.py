"""Whether a published data set on disk is what its papers used: ``amodalseg data check``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodalseg.config.schema import PUBLISHED, PublishedData
from amodalseg.data.check.card import EVIDENCE, Card, Count, Part
from amodalseg.data.check.finding import Finding, describe, finding, refusal
from amodalseg.data.check.known_sets import card_of, expected_parts, find, usual_split
from amodalseg.data.check.objects import check_objects
from amodalseg.data.check.outlines import check_outlines
from amodalseg.data.check.photos import Names, check_overlap, check_photos, photo_names
from amodalseg.data.check.png import check_png_masks
from amodalseg.data.readers import READERS
from amodalseg.data.readers.files import load_json
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, stable_seed

__all__ = ["Examination", "Finding", "check_dataset", "describe", "examine"]
SAMPLE = 2000
"""Objects examined if each consists of its own files, unless all are requested."""
NESTED = ("cocoa", "bsds_a")
"""Sets whose files contain polygons in lists of regions."""
SELECTING = ("include_stuff", "annotator", "subset", "max_rate", "drop_categories")
"""Options that leave objects out, so that counts cannot be compared with published ones."""


@dataclass
class Examination:
    """The results of a check.

    findings: in the order of their splits. counts: by split and unit. names: of photos, by split. pictures: readable
    objects, by split.
    """

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    names: dict[str, Names] = field(default_factory=dict)
    pictures: dict[str, list[AmodalRecord]] = field(default_factory=dict)


def check_dataset(
    config: PublishedData, splits: Sequence[str] | None = None, *, subset: bool = False, every: bool = False
) -> list[Finding]:
    """Check one data set. Arguments as ``examine``. Returns: its findings, ``fine`` ones included."""
    return examine(config, splits, subset=subset, every=every).findings


def examine(
    config: PublishedData,
    splits: Sequence[str] | None = None,
    *,
    subset: bool = False,
    every: bool = False,
    draw: int = 0,
) -> Examination:
    """Check files, counts, masks, ids, stored quantities and photos.

    Args:
        config: of the data set. Options that only change how it is used (``modal_source``, ``fix_subset``,
            ``num_objects``, ``skip_broken``, ``tolerance``) have no effect: the files are checked as they are.
        splits: to check; default: all whose annotation files exist.
        subset: the copy is intentionally partial, so counts are only reported.
        every: examine every object even if its files must be opened, instead of a fixed sample of ``SAMPLE``.
        draw: number of objects to keep for drawing: up to a quarter suspicious ones, a fair sample otherwise.

    Raises:
        UserError: the data set is not one of the published ones.
    """
    if not isinstance(config, PublishedData):
        raise UserError(f"data check takes a published data set: {', '.join(PUBLISHED)}")
    config = _as_it_is(config)
    card, parts, found = card_of(config), expected_parts(config), Examination()
    root = Path(config.root)
    there = [name for name, part in parts.items() if all(find(root, names) for names in part.annotations)]
    asked = there if splits is None else [usual_split(config, split) for split in splits]
    for split in asked:
        if split not in parts:
            raise UserError(f"{card.title} has no split '{split}'; it has {', '.join(parts) or 'none in this folder'}")
        _split(config, split, card, parts[split], found, subset=subset, every=every, draw=-(-draw // len(asked)))
    if not asked:
        missing = [str(root / names[0]) for part in parts.values() for names in part.annotations]
        text = f"nothing of {card.title} is in {root}. Get it: {card.get}. Licence: {card.licence}"
        found.findings.append(finding("files", "fault", "", text, missing))
        return found
    absent = [name for name in parts if name not in there and name not in asked]
    if absent:
        found.findings.append(finding("files", "note", "", f"not there, not checked: {', '.join(absent)}"))
    for split in there:
        if split not in asked:
            _names_only(config, split, found)
    named = {split: found.names[split] for split in parts if split in found.names}
    found.findings += check_overlap(named, card.names_restart, card.compare_masks)
    if card.total and set(found.counts) == set(parts):
        both = [found.counts[split] for split in parts]
        total = {unit: sum(counts[unit] for counts in both) for unit in both[0]}
        found.findings += _counts(config, "", total, card.total, subset)
    found.findings = [_known(item, card) for item in found.findings]
    return found


def _as_it_is(config: PublishedData) -> PublishedData:
    changes: dict[str, Any] = {"fix_subset": "keep", "modal_source": "gt", "num_objects": None, "skip_broken": False}
    if hasattr(config, "tolerance"):
        changes["tolerance"] = 0
    return replace(config, **changes)


def _split(
    config: PublishedData, split: str, card: Card, part: Part, found: Examination,
    *, subset: bool, every: bool, draw: int,
) -> None:  # fmt: skip
    root = Path(config.root)
    files = [find(root, names) for names in part.annotations]
    missing = [str(root / names[0]) for names, path in zip(part.annotations, files, strict=True) if path is None]
    origin = f"Get them: {card.get}. Licence: {card.licence}"
    if missing:
        text = f"{len(missing)} of {len(files)} annotation files or folders are missing. {origin}"
        found.findings.append(finding("files", "fault", split, text, missing))
        return
    records = _read(config, split, ", ".join(map(str, files)), found, every=every)
    if records is None:
        return
    folders = [str(root / name) for name in part.photos]
    has_photos = any(not isinstance(record.image, Path) or record.image.is_file() for record in records)
    if has_photos or not records:
        found.findings.append(finding("files", "fine", split, f"read from {', '.join(map(str, files))}"))
    else:
        text = f"none of the photos is there (the first: {records[0].image}). {origin}"
        found.findings.append(finding("files", "fault", split, text, folders))
    found.names[split] = photo_names(records)
    listed = [path for path in files if path is not None and path.is_file() and path.suffix == ".json"]
    found.findings += _counts(config, split, found.counts[split], part.counts, subset, listed)
    found.findings += check_objects(records, len(records), split)
    if config.name in NESTED:  # readers of flat files, which are large, do this themselves
        found.findings += [item for path in listed for item in check_outlines(path, split)]
    if config.name == "pix2gestalt":
        found.findings += check_png_masks(config, records, split)
    if has_photos:
        seen, usable = check_photos(records, split)
        found.findings += seen
        found.pictures[split] = _chosen(usable, draw)


def _read(
    config: PublishedData, split: str, source: str, found: Examination, *, every: bool
) -> list[AmodalRecord] | None:
    """The split's records; None if they cannot be read. Warnings of the reader become notes."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            records = READERS[config.name](replace(config, split=split), photos=False)
        except UserError as error:
            found.findings.append(refusal(str(error), split, source))
            try:  # some readers can skip broken objects
                records = READERS[config.name](replace(config, split=split, skip_broken=True), photos=False)
            except UserError:
                found.findings.append(finding("reader", "note", split, "the rest of this split could not be checked"))
                return None
    found.findings += [finding("reader", "note", split, str(item.message)) for item in warned]
    if isinstance(records, list):
        found.counts[split] = _units(records)
        return records
    total = len(records)
    found.counts[split] = {"images": total, "objects": total}
    places = np.arange(total)
    if not every and total > SAMPLE:
        places = np.sort(np.random.default_rng(stable_seed("check", config.name, split)).choice(total, SAMPLE, False))
        text = f"a fixed sample of {SAMPLE:,} of {total:,} objects was opened (--all opens every one)"
        found.findings.append(finding("reader", "note", split, text))
    opened, refused = [], []
    for index in tqdm(places, f"opening {split}", disable=len(places) < 2000):
        try:
            opened.append(records.get(int(index)))
        except UserError as error:
            refused.append(str(error))
    for text in refused[:1]:
        kind = refusal(text, split, source).kind
        text = f"{len(refused):,} of {len(places):,} objects cannot be opened"
        found.findings.append(finding(kind, "fault", split, text, refused))
    return opened


def _units(records: Sequence[AmodalRecord]) -> dict[str, int]:
    groups = [(record.group or {}, record) for record in records]
    units = {"images": len({record.image_id for record in records}), "objects": len(records)}
    if any("video" in group for group, _ in groups):
        units["videos"] = len({group.get("video") for group, _ in groups})
        units["tracks"] = len({(group.get("video"), group.get("track")) for group, _ in groups})
    return units


def _counts(
    config: PublishedData, split: str, counts: dict[str, int], published: Sequence[Count], subset: bool,
    files: Sequence[Path] = (),
) -> list[Finding]:  # fmt: skip
    """Compare with published numbers: a difference from a certain one invalidates every comparison with a table."""
    given, usual = vars(config), vars(type(config)())
    changed = [f"data.{name}={given[name]}" for name in SELECTING if given.get(name) != usual.get(name)]
    compared, found = {count.unit: count for count in published}, []
    alone = [f"{unit} {number:,}" for unit, number in counts.items() if unit not in compared]
    if alone and split:
        found.append(finding("counts", "note", split, f"{', '.join(alone)} (no published number to compare with)"))
    for unit, number in counts.items():
        if unit not in compared:
            continue
        count, what = compared[unit], unit
        if unit == "images" and number < count.value and not subset:  # some photos may have no object
            contents = [load_json(path) for path in files]  # bare annotations have no images
            listed = sum(len(content.get("images", [])) for content in contents if isinstance(content, dict))
            if listed > number:
                what, number = f"images listed ({number:,} of them with objects)", listed
        text = f"{what} {number:,}, published {count} ({EVIDENCE[count.evidence]})"
        severity, places = "fault", [str(path) for path in files]
        if abs(number - count.value) <= (0.02 * count.value if count.about else 0):
            severity, places = "fine", []
        elif subset or changed or Path(config.root).is_file():
            severity, text = "note", f"{text}; not judged ({', '.join(changed) or 'only a part is given'})"
        elif count.at_most and number < count.value:
            severity = "note"
        elif count.about or count.evidence == "U":
            severity, text = "note", f"{text}; the published number is not certain"
        found.append(finding("counts", severity, split, text, places if severity == "fault" else []))
    return found


def _names_only(config: PublishedData, split: str, found: Examination) -> None:
    """Photo names of a split that is not checked itself, for comparison with the others."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = READERS[config.name](replace(config, split=split), photos=False)
    except UserError as error:
        found.findings.append(finding("reader", "note", "", f"{split} cannot be compared with the others: {error}"))
        return
    if isinstance(records, list):
        found.names[split] = photo_names(records)


def _chosen(records: list[AmodalRecord], count: int) -> list[AmodalRecord]:
    """Objects to draw: suspicious ones first, then the most occluded ones of a fair sample; deterministic."""
    odd = {"modal_outside_amodal", "size_mismatch", "empty_modal"}
    first = [record for record in records if odd & record.flags][: count // 4]
    taken = {id(record) for record in first}
    others = [record for record in records if id(record) not in taken]
    order = np.random.default_rng(stable_seed("draw", len(others))).permutation(len(others))[: count - len(first)]
    return first + sorted((others[i] for i in order), key=lambda record: -record.occlusion_rate)


def _known(item: Finding, card: Card) -> Finding:
    if item.severity == "fault" and item.kind in card.known:
        text = f"{item.text}; known of the published files: {card.known[item.kind]}"
        return replace(item, severity="note", text=text)
    return item
