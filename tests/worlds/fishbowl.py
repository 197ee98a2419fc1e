"""FishBowl, in the raw and the prepared form."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg import masks
from tests.worlds.drawing import compressed, disc, photo, write_photo

HEIGHT, WIDTH, LENGTH = 100, 130, 13
TYPES = {3: "SmallFishA", 7: "BigFishB", 9: "MediumFishC", 12: "MediumFishA", 5: "SmallFishA", 20: "SmallFishA"}


def fishbowl_masks(video: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Amodal and modal masks, bool (LENGTH, HEIGHT, WIDTH) each, of every fish, the nearest first.

    9: small, crosses 7 and hides a third of it in some frames. 7: does not move. 3: swims past behind 7, and is
    completely hidden in the middle of the first video. 5: smaller than 400 pixels. 12: leaves through the right border.
    20: always behind 7.
    """

    def swim(start: float, step: float, y: float, rx: float, ry: float) -> np.ndarray:
        return np.stack([disc(HEIGHT, WIDTH, start + step * t, y, rx, ry) for t in range(LENGTH)])

    amodal = {
        9: swim(32, 5, 62, 9, 16),
        7: swim(70, 0, 50, 15, 20 - 4 * video),
        3: swim(38, 5, 50, 13, 11),
        5: swim(100, -4, 30, 9, 8),
        12: swim(90, 6, 78, 18, 9),
        20: swim(70, 0, 50, 4, 4),
    }
    nearer, found = np.zeros((LENGTH, HEIGHT, WIDTH), bool), {}
    for fish, whole in amodal.items():
        found[fish] = whole, whole & ~nearer
        nearer |= whole
    return found


def fishbowl_world(folder: Path, *, split: str = "test", seed: int = 0, prepared: bool = False) -> Path:
    """FishBowl: two videos of 13 frames. Returns: the data set's folder.

    Raw: fish 20 has no entry among the visible ones, because it is never visible. Prepared: the output of ``prepare``.
    """
    rng, base, tracks = np.random.default_rng(seed), folder / f"{split}_data", {}
    for video in range(2):
        name = f"{video + 10 * seed:05d}"
        for number in range(LENGTH):
            write_photo(base / f"{split}_frames" / name / f"{number:05d}.png", photo(rng, HEIGHT, WIDTH))
        fish = fishbowl_masks(video)
        if prepared:
            tracks |= {f"{name}_{one}": track for one in fish if (track := prepare(*fish[one], TYPES[one]))}
            continue
        for place, (one, (amodal, modal)) in enumerate(fish.items()):
            entry = {"id": one, "type_id": one % 4, "type_name": TYPES[one], "speed": 1.5, "scale": 1.0}
            whole = [{**entry, "masks": [compressed(mask) for mask in amodal]}]
            _write(base / f"{split}_objects" / f"{name}_object{place}" / "objects.json", whole)
            fish[one] = {**entry, "masks": [compressed(mask) for mask in modal]}
        seen = [fish[one] for one in fish if one != 20]
        _write(base / split / name / "objects.json", seen[::-1])
    if prepared:
        path = base / f"{split}_data.pkl"
        path.write_bytes(pickle.dumps(dict(sorted(tracks.items(), reverse=True)), 3))
    return folder


def prepare(amodal: np.ndarray, modal: np.ndarray, fish_type: str) -> dict[int, dict[str, Any]]:
    """A track as prepared by SaVOS, frame by frame on arrays; empty if the track is dropped."""
    track: dict[int, dict[str, Any]] = {}
    for number, mask in enumerate(amodal):
        box = _box(mask)
        whole = mask.sum() > 400 and box[0] >= 16 and box[2] >= 16 and box[1] <= HEIGHT - 16 and box[3] <= WIDTH - 16
        if whole:
            track[number] = {"FM_bx": box, "FM": _listed(mask)}
        elif track:
            break
    length, started = len(track), False
    for number in list(track):
        if modal[number].sum() <= 64:
            if started:
                for later in [n for n in track if n >= number]:
                    del track[later]
                break
            del track[number]
            continue
        started = True
        track[number] |= {
            "VM_bx": _box(modal[number]), "VM": _listed(modal[number]), "IoU": None,
            "OCC_R": 1 - np.sum(modal[number]) / np.sum(amodal[number]), "fish_type": fish_type,
            "loss_mask_weight": _listed(~(amodal[number] & ~modal[number])),
        }  # fmt: skip
    return track if length > 10 and any(0.1 < frame["OCC_R"] < 0.7 for frame in track.values()) else {}


def _box(mask: np.ndarray) -> list[Any]:
    rows, columns = np.where(mask)
    return [np.min(rows), np.max(rows), np.min(columns), np.max(columns)] if len(rows) else [0, 0, 0, 0]


def _listed(mask: np.ndarray) -> list[dict[str, Any]]:
    """The result of encoding a mask with a third axis of size one."""
    return [masks.encode(mask)]


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
