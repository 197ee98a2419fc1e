"""Location of a published data set's files: the usual places, tried in order, unless the configuration names them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from amodalseg.config.schema import PublishedData
from amodalseg.errors import UserError


def annotation_file(config: PublishedData, names: Sequence[str], folders: Sequence[str], origin: str) -> Path:
    """The annotation file: ``config.annotations``, or the first of the usual places that holds one.

    Args:
        names: of the file, the usual one first.
        folders: under the root that may hold it, the usual one first.
        origin: where the data set comes from, for the message.
    """
    if config.annotations is not None:
        return Path(config.annotations)
    places = [Path(config.root) / folder / name for folder in folders for name in names]
    for place in places:
        if place.is_file():
            return place
    tried = ", ".join(map(str, places))
    raise UserError(
        f"no annotations of {config.name}, split {config.split}; these places were tried: {tried}. {origin}; for a "
        "file elsewhere set data.annotations=FILE"
    )


def known_split(config: PublishedData, splits: Mapping[str, str]) -> str:
    """The split under its usual name. Args: splits, every name of a split -> the usual one. Raises UserError."""
    if config.split not in splits and config.annotations is None:
        raise UserError(
            f"{config.name} has no split '{config.split}': it has {', '.join(dict.fromkeys(splits.values()))}"
        )
    return splits.get(config.split, config.split)


def photo_folder(config: PublishedData, folders: Sequence[str], names: Collection[str], photos: bool) -> Path:
    """The folder of the photos: ``config.images``, or the first of the usual places that holds any of them.

    Args:
        folders: under the root that may hold them, the usual one first; "." is the root.
        names: of the photos, relative to that folder.
        photos: off: they need not exist.

    Raises:
        UserError: there is no photo, and none of the usual folders.
    """
    if config.images is not None:
        return Path(config.images)
    places = [Path(config.root) / folder for folder in folders]
    there = [place for place in places if place.is_dir()]
    holding = next((place for place in there if any((place / name).is_file() for name in names)), None)
    if holding:
        return holding
    there = [place for place in there if place != Path(config.root)]
    if photos and not there:
        raise UserError(
            f"no photos of {config.name}, split {config.split}; these folders were tried: "
            f"{', '.join(map(str, places))}; for a folder elsewhere set data.images=FOLDER"
        )
    return (there or places)[0]  # the reader reports missing photos
