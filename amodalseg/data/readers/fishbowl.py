"""FishBowl (Tangemann et al. 2021): videos of a rendered aquarium, as generated or as SaVOS prepared them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import FishBowlData
from amodalseg.data.readers.files import ID, Keys, by_id, load_json, missing_photos, require
from amodalseg.data.readers.record import make_record, mask_of_size, read_mask
from amodalseg.data.readers.safe_pickle import load_pickle
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.types import AmodalRecord

logger = logging.getLogger(__name__)

FRAMES = 128
MIN_AMODAL, MIN_MODAL, BORDER = 400, 64, 16
"""SaVOS keeps frames with more than these areas, whose amodal box is this far from the image's border; pixels."""
LEAST, MOST, LENGTH = 0.1, 0.7, 10
"""SaVOS tests on tracks of more than LENGTH frames with an occlusion rate between LEAST and MOST, both exclusive."""


class Frame(NamedTuple):
    """A fish in one frame. rate: as stored, if any. extra: stored boxes."""

    number: int
    modal: Rle
    amodal: Rle
    rate: float | None = None
    extra: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Track(NamedTuple):
    """A fish in a video. length: of the video, in frames. frames: in their order, with gaps."""

    video: str
    name: str
    category_id: int | None
    category: str | None
    length: int
    frames: list[Frame]


def read_fishbowl(config: FishBowlData, *, photos: bool = True) -> list[AmodalRecord]:
    """Read one split; every frame of every fish is an object.

    | | raw | prepared |
    |---|---|---|
    | annotations | ``<split>_data/<split>/<video>/objects.json`` (visible), | ``<split>_data/<split>_data.pkl`` |
    | | ``<split>_data/<split>_objects/<video>_object<N>/objects.json`` (whole) | |
    | frames | ``<split>_data/<split>_frames/<video>/%05d.png`` | the same |
    | objects | all frames with a pixel of either mask | those in the file |
    | ``modal_rle``, ``amodal_rle`` | ``masks`` of the video and of the re-render, joined by ``id`` | ``VM``, ``FM`` |
    | ``raw_rate`` | none | ``OCC_R`` |
    | ``category``, ``category_id`` | ``type_name``, ``type_id`` | ``fish_type``, none |
    | ``extra["bbox"]``, ``["modal_bbox"]`` | none | ``FM_bx``, ``VM_bx``: first and last row, first and last column |

    ``image_id`` is ``<video>-<frame>`` with frames counted from 0, ``object_id`` the fish's id, and ``group`` holds
    ``video``, ``frame`` and ``track``. The generator writes videos; their frames are expected as PNG files numbered
    from 0, or from 1 where a video has no number 0 and its last number is its number of frames.

    ``subset=savos`` are the tracks that SaVOS tests on: of the frames with more than 400 amodal pixels whose box keeps
    16 pixels from the border the first unbroken run; of its frames with more than 64 visible pixels the first unbroken
    run; tracks with more than 10 frames of the former, and an occlusion rate between 0.1 and 0.7 in one of the latter;
    without their first and last frame. A prepared file has gone through this, so there only the last two are applied.
    SaVOS then scores the frames whose rate lies between 0.1 and 0.7, which is done by the protocol.

    Args:
        config: ``form``; ``annotations``: the folder of the videos' folders (raw) or the pickle (prepared), which is
            read without executing it; ``images``: the folder of the videos' frame folders.
        photos: off: frames need not be there.

    Raises:
        UserError: a file, key, frame or mask that is missing or wrong; the message names file, track and frame.
    """
    root, split = Path(config.root), config.split
    base = root / f"{split}_data"
    pickle = base / f"{split}_data.pkl"
    source = Path(config.annotations) if config.annotations is not None else pickle
    if config.annotations is None and (config.form == "raw" or (config.form == "auto" and not pickle.is_file())):
        source = base / split
    if not source.exists():
        raise UserError(
            f"no FishBowl annotations at {source}: the prepared form is {pickle}, the raw one {base / split} with a "
            "folder for each video; for files elsewhere set data.annotations"
        )
    raw = source.is_dir()
    if config.form == ("prepared" if raw else "raw"):
        is_one = "a folder, as the raw form has it" if raw else "a file, as the prepared form has it"
        raise UserError(f"{source} is {is_one}, but data.form={config.form}")
    folder = base / f"{split}_frames" if config.images is None else Path(config.images)
    records: list[AmodalRecord] = []
    kept: dict[Any, Any] = {}  # equal photos and sizes are the same Python objects: there may be a million records
    for track in _raw(source) if raw else _prepared(source):
        frames = _savos(track.frames, prepared=not raw) if config.subset == "savos" else track.frames
        if ("first", track.video) not in kept:
            kept["first", track.video] = _first_number(folder / track.video, track.length) if photos else 0
        for frame in frames:
            photo = folder / track.video / f"{frame.number + kept['first', track.video]:05d}.png"
            for rle in (frame.modal, frame.amodal):
                rle["size"] = kept.setdefault(tuple(rle["size"]), rle["size"])
            records.append(
                make_record(
                    config.name,
                    split,
                    f"{track.video}-{frame.number}",
                    track.name,
                    kept.setdefault(photo, photo),
                    frame.modal,
                    frame.amodal,
                    fix_subset=config.fix_subset,
                    category_id=track.category_id,
                    category=track.category,
                    raw_rate=frame.rate,
                    group={"video": track.video, "frame": frame.number, "track": track.name},
                    extra=dict(frame.extra),
                )
            )
            flags = records[-1].flags
            records[-1].flags = kept.setdefault(flags, flags)
    if photos:
        missing = missing_photos(folder, (record.image for record in records), config.skip_broken)  # type: ignore[misc]
        records = [record for record in records if record.image not in missing] if missing else records
    return records


def _first_number(folder: Path, length: int) -> int:
    """Number of a video's first frame: 0 or 1."""
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    return int(f"{0:05d}.png" not in names and f"{length:05d}.png" in names)


def _prepared(source: Path) -> Iterator[Track]:
    content = load_pickle(source)
    if not isinstance(content, dict) or not all(isinstance(name, str) and "_" in name for name in content):
        raise UserError(f"{source} must hold an object with names like 00012_3, video and fish")
    keys: Keys = {"FM": (), "VM": ()}
    box: tuple[type, ...] = (list, tuple, np.ndarray)
    optional: Keys = {"OCC_R": (int, float), "FM_bx": box, "VM_bx": box, "fish_type": (str,)}
    names = sorted(content, key=lambda name: (name.rpartition("_")[0], len(name), name))
    for name in tqdm(names, desc=f"tracks of {source.name}", disable=len(names) < 500):
        entries, frames = content.pop(name), []  # frees the content that has been read
        if not isinstance(entries, dict) or not all(type(number) is int and number >= 0 for number in entries):
            raise UserError(f"{source}: track {name} must be an object whose names are frame numbers")
        for number in sorted(entries):
            entry, where = entries[number], f"{source}: track {name}, frame {number}"
            require(entry, keys, where, optional)
            amodal = read_mask(_unwrapped(entry["FM"]), [1, 1], where)
            modal = mask_of_size(_unwrapped(entry["VM"]), amodal["size"], where)
            boxes = {"bbox": entry.get("FM_bx"), "modal_bbox": entry.get("VM_bx")}
            extra = {key: _box_xywh(box, where) for key, box in boxes.items() if box is not None}
            frames.append(Frame(number, modal, amodal, entry.get("OCC_R"), extra))
        fish = next((entry["fish_type"] for entry in entries.values() if "fish_type" in entry), None)
        video, _, fish_id = name.rpartition("_")
        yield Track(video, fish_id, None, fish, FRAMES, frames)


def _unwrapped(value: Any) -> Any:
    """The run lengths in a list of one, as pycocotools encodes a mask with a third axis of length 1."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else value


def _box_xywh(box: Any, where: str) -> list[int]:
    box = box.tolist() if isinstance(box, np.ndarray) else box
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(type(number) is int for number in box):
        raise UserError(f"{where}: a box must be four whole numbers, not {box!r:.60}")
    top, bottom, left, right = box
    return [left, top, right - left + 1, bottom - top + 1]


def _savos(frames: list[Frame], *, prepared: bool) -> list[Frame]:
    """The frames of a track that SaVOS tests on; none if the track is not among its own."""
    if not prepared:
        whole = _first_run(frames, _is_whole)
        frames = _first_run(whole, lambda frame: masks.area(frame.modal) > MIN_MODAL) if len(whole) > LENGTH else []
    rates = [1 - masks.area(frame.modal) / max(1, masks.area(frame.amodal)) for frame in frames]
    return frames[1:-1] if any(LEAST < rate < MOST for rate in rates) else []


def _first_run(frames: list[Frame], holds: Callable[[Frame], bool]) -> list[Frame]:
    run: list[Frame] = []
    for frame in frames:
        if run and (frame.number != run[-1].number + 1 or not holds(frame)):
            break
        if holds(frame):
            run.append(frame)
    return run


def _is_whole(frame: Frame) -> bool:
    height, width = frame.amodal["size"]
    x, y, w, h = masks.box_xywh(frame.amodal)
    inside = min(x, y) >= BORDER and x + w - 1 <= width - BORDER and y + h - 1 <= height - BORDER
    return inside and masks.area(frame.amodal) > MIN_AMODAL


def _raw(folder: Path) -> Iterator[Track]:
    wholes = folder.with_name(f"{folder.name}_objects")
    wholes = wholes if wholes.is_dir() else folder
    of_video: dict[str, list[Path]] = {}
    for path in sorted(wholes.iterdir()):
        video, mark, _ = path.name.rpartition("_object")
        if mark:
            of_video.setdefault(video, []).append(path / "objects.json")
    videos = sorted(path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    if not videos:
        raise UserError(f"{folder} holds no video: a folder with a number as its name, with objects.json in it")
    unseen = unknown = 0
    keys: Keys = {"id": ID, "masks": (list,)}
    optional: Keys = {"type_id": (int,), "type_name": (str,)}
    for path in tqdm(videos, desc="reading videos", disable=len(videos) < 20):
        source = path / "objects.json"
        content = load_json(source)
        if not isinstance(content, list):
            raise UserError(f"{source} must be a list of objects")
        seen = by_id(content, keys, "object", source, optional)
        for place in of_video.get(path.name, []):
            content = load_json(place)
            if not isinstance(content, list) or len(content) != 1:
                raise UserError(f"{place} must be a list of one object, rendered alone")
            require(content[0], keys, str(place))
            entry = seen.pop(content[0]["id"], None)
            if entry is None:
                unseen += 1
                continue
            where = f"{source}: object {entry['id']}"
            if len(entry["masks"]) != len(content[0]["masks"]):
                raise UserError(f"{where} has {len(entry['masks'])} masks, its re-render {place} has others")
            whole, visible = content[0]["masks"], entry["masks"]
            frames = [frame for number in range(len(visible)) if (frame := _frame(number, visible, whole, where))]
            yield Track(path.name, str(entry["id"]), entry.get("type_id"), entry.get("type_name"), len(visible), frames)
        unknown += len(seen)
    if unseen:
        logger.info(f"{folder}: {unseen} fish are rendered alone but hardly visible in their video; they are left out")
    if unknown:
        text = f"{folder}: {unknown} fish have no re-render <video>_object<N> in {wholes}"
        warnings.warn(f"{text}: their amodal masks are unknown, so they are left out", stacklevel=3)


def _frame(number: int, visible: list[Any], whole: list[Any], where: str) -> Frame | None:
    amodal = read_mask(_unwrapped(whole[number]), [1, 1], f"{where}, frame {number} of its re-render")
    modal = mask_of_size(_unwrapped(visible[number]), amodal["size"], f"{where}, frame {number}")
    return Frame(number, modal, amodal) if masks.area(amodal) or masks.area(modal) else None
