"""Tiny data sets in their real file formats, for tests of readers. One file per format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.worlds.bsds_a import bsds_a_world
from tests.worlds.coco import coco_world
from tests.worlds.coco_amodal import coco_amodal_world
from tests.worlds.cocoa import cocoa_world
from tests.worlds.drawing import compressed, disc, edit_json, photo, ring, run_lengths, write_photo
from tests.worlds.fishbowl import fishbowl_world
from tests.worlds.flat import cocoa_cls_world, d2sa_world, kins_world, sailvos_world
from tests.worlds.mp3d import mp3d_world
from tests.worlds.pix2gestalt import pix2gestalt_world


class World(NamedTuple):
    """A tiny data set on disk.

    name, root: of the section ``data``. train, test: its splits. options: further ``key=value`` of the section.
    """

    name: str
    root: Path
    train: str
    test: str
    options: tuple[str, ...] = ()


def _cocoa(folder: Path) -> World:
    cocoa_world(folder, split="train", seed=1)
    return World("cocoa", cocoa_world(folder, split="val"), "train", "val")


def _cocoa_cls(folder: Path) -> World:
    cocoa_cls_world(folder, "train", seed=1)
    return World("cocoa_cls", cocoa_cls_world(folder), "train", "val")


def _d2sa(folder: Path) -> World:
    d2sa_world(folder, "train", seed=1)
    return World("d2sa", d2sa_world(folder), "train", "val")


def _kins(folder: Path, version: str = "2020") -> World:
    kins_world(folder, "train", version=version, seed=1)
    return World("kins", kins_world(folder, version=version), "train", "test", (f"version={version}",))


def _kins_2019(folder: Path) -> World:
    return _kins(folder, "2019")


def _sailvos(folder: Path) -> World:
    sailvos_world(folder, "train", seed=1)
    return World("sailvos", sailvos_world(folder), "train", "val")


def _pix2gestalt(folder: Path) -> World:
    return World("pix2gestalt", pix2gestalt_world(folder), "train", "val")


def _coco_amodal(folder: Path) -> World:
    coco_amodal_world(folder, split="train", seed=1)
    return World("coco_amodal", coco_amodal_world(folder, split="val"), "train", "val")


def _bsds_a(folder: Path) -> World:
    bsds_a_world(folder, split="train", seed=1)
    return World("bsds_a", bsds_a_world(folder, split="test"), "train", "test")


def _mp3d(folder: Path) -> World:
    mp3d_world(folder, split="train", seed=1)
    return World("mp3d", mp3d_world(folder, split="eval"), "train", "eval")


def _fishbowl(folder: Path, form: str) -> World:
    for seed, split in enumerate(("test", "train")):
        fishbowl_world(folder, split=split, seed=seed, prepared=form == "prepared")
    return World("fishbowl", folder, "train", "test", (f"form={form}",))


def _fishbowl_raw(folder: Path) -> World:
    return _fishbowl(folder, "raw")


def _fishbowl_prepared(folder: Path) -> World:
    return _fishbowl(folder, "prepared")


WORLDS: dict[str, Callable[[Path], World]] = {
    "coco_amodal": _coco_amodal,
    "cocoa": _cocoa,
    "bsds_a": _bsds_a,
    "cocoa_cls": _cocoa_cls,
    "kins": _kins,
    "kins_2019": _kins_2019,
    "d2sa": _d2sa,
    "sailvos": _sailvos,
    "mp3d": _mp3d,
    "fishbowl_raw": _fishbowl_raw,
    "fishbowl_prepared": _fishbowl_prepared,
    "pix2gestalt": _pix2gestalt,
}
"""Every published format, both of its encodings where it has two: an empty folder -> the data set drawn in it."""

__all__ = [
    "WORLDS",
    "World",
    "bsds_a_world",
    "coco_amodal_world",
    "coco_world",
    "cocoa_cls_world",
    "cocoa_world",
    "compressed",
    "d2sa_world",
    "disc",
    "edit_json",
    "fishbowl_world",
    "kins_world",
    "mp3d_world",
    "photo",
    "pix2gestalt_world",
    "ring",
    "run_lengths",
    "sailvos_world",
    "write_photo",
]
