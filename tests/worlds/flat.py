"""Flat COCO-like data sets: COCOA-cls, D2SA, SAIL-VOS, and KINS of 2019 and 2020."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodalseg import masks
from tests.worlds.drawing import compressed, disc, photo, ring, write_photo

Entry = dict[str, Any]


def cocoa_cls_world(folder: Path, split: str = "val", *, seed: int = 0) -> Path:
    """COCOA-cls: sparse category ids, ``invisible_mask`` only of occluded objects. Returns: its folder."""
    rng, images, annotations = np.random.default_rng(seed), [], []
    for number in range(2):
        image_id = 5000 - 700 * number + 10 * seed
        size, name = (96 + 6 * number, 120 - 8 * number), f"COCO_{split}2014_{image_id:012d}.jpg"
        write_photo(folder / f"{split}2014" / name, photo(rng, *size))
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1], "license": 3})
        for place, (amodal, modal) in enumerate(_piled(size)):
            annotations.append({
                **_object(amodal, modal), "id": 900 - 13 * len(annotations), "image_id": image_id,
                "category_id": (1, 44, 90)[place % 3], "iscrowd": 0, "area": int(amodal.sum()), "bbox": _box(amodal),
            })  # fmt: skip
    path = folder / "annotations" / f"COCO_amodal_{split}2014_with_classes.json"
    _write(path, images, annotations, {1: "person", 44: "bottle", 90: "toothbrush"})
    return folder


def d2sa_world(folder: Path, split: str = "val", *, seed: int = 0) -> Path:
    """D2SA: float areas and boxes, ``iscrowd`` a bool, an unreliable order, ids that repeat between the train files.

    Returns:
        The data set's folder.
    """
    rng, parts = np.random.default_rng(seed), ["training_rot0", "augmented"] if split == "train" else ["validation"]
    for part in parts:
        images: list[Entry] = []
        annotations: list[Entry] = []
        for number in range(2):
            image_id = 300 - 20 * number
            size, stem = (90, 120 + 4 * number), {"training_rot0": 0, "augmented": 7000, "validation": 4000}[part]
            name = f"D2S_{stem + image_id:06d}.jpg"
            write_photo(folder / "d2s_amodal_images_v1/images" / name, photo(rng, *size))
            images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1], "license": 1})
            for place, (amodal, modal) in enumerate(_piled(size)):
                area, box, hidden = float(amodal.sum()), [float(side) for side in _box(amodal)], amodal & ~modal
                region = {"name": "product", "area": area, "isStuff": 0, "bbox": box, "order": 1}
                annotations.append({
                    **_object(amodal, modal), "id": 115 + 9 * len(annotations), "image_id": image_id,
                    "category_id": (1, 19, 60)[place % 3], "iscrowd": False, "area": area, "bbox": box,
                    "occl_depth": int(hidden.any()), "amodal_region": region,
                    "amodal_base": {"url": "", "image_id": image_id, "size": 6, "author": "-", "depth_constraint": ""},
                })  # fmt: skip
        path = folder / "d2s_amodal_annotations_v1" / f"D2S_amodal_{part}.json"
        _write(path, images, annotations, {1: "adelholzener", 19: "cocoba", 60: "zucchini"})
    return folder


def sailvos_world(folder: Path, split: str = "val", *, seed: int = 0) -> Path:
    """SAIL-VOS: two videos of two frames; visible masks are a pixel too thin except for the first object of each frame.

    Returns:
        The data set's folder.
    """
    rng, images, annotations, videos = np.random.default_rng(seed), [], [], []
    for number, video in enumerate((f"{split}_ah_1", f"{split}_mcs_2")):
        videos.append({"id": number, "vid_name": video, "num_frames": 2, "num_objs": 6})
        for frame in range(2):
            size, image_id, name = (80, 128), 50 - 10 * number - frame, f"{video}/images/{6 * frame:06d}.bmp"
            write_photo(folder / name, photo(rng, *size))
            image = {"id": image_id, "file_name": name, "frame_id": 6 * frame, "width": size[1], "height": size[0]}
            images.append(image)
            for track, (amodal, seen) in enumerate(_piled(size, shift=3 * frame)):
                thin = cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
                modal = thin if track else seen
                annotations.append({
                    **_object(amodal, modal), "id": 2000 + 3 * len(annotations), "image_id": image_id,
                    "category_id": (2, 7, 163)[track % 3], "obj_id": 100 + track, "model_id": 4, "iscrowd": 0,
                    "bbox": _box(amodal), "bbox_visible": _box(modal), "area": int(amodal.sum()),
                    "area_visible": int(modal.sum()), "occlu_depth": track,
                })  # fmt: skip
    name = "valid.json" if split == "val" else f"{split}.json"
    _write(folder / name, images, annotations, {2: "person", 7: "car", 163: "chair"}, videos=videos, models=[])
    return folder


def kins_world(folder: Path, split: str = "test", *, version: str = "2020", seed: int = 0) -> Path:
    """KINS: a car behind a pole (two visible rings), a van behind it, a trailer of two rings, an isolated cyclist.

    Both splits have the same ids. 2020: polygons, overlap clusters and ranks; 2019: visible parts as run lengths, and
    one completely hidden object, which polygons cannot represent.

    Returns:
        The data set's folder.
    """
    rng, images, annotations = np.random.default_rng(seed), [], []
    for number in range(2):
        size, image_id = (88 + 2 * number, 130), 40 - 30 * number
        name = f"{seed * 1000 + 7 * number:06d}.png"
        write_photo(folder / f"{split}ing/image_2" / name, photo(rng, *size))
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        # category, cluster, rank, amodal rings, visible rings, from boxes x0, y0, x1, y1
        pole, car, van = _ring(30, 10, 36, 70), _ring(10, 40, 60, 64), _ring(20, 20, 70, 60)
        van_seen = [20, 20, 30, 20, 30, 40, 20, 40], [36, 20, 70, 20, 70, 60, 60, 60, 60, 40, 36, 40]
        trailer, rider = [_ring(80, 50, 104, 70), _ring(108, 54, 126, 70)], ring(100.5, 22.25, 15, 12)
        crate = _ring(84, 44, 100, 60)
        shapes = [
            (4, 11, 2, [car], [_ring(10, 40, 30, 64), _ring(36, 40, 60, 64)]),
            (2, 11, 1, [pole], [pole]),
            (7, 11, 3, [van], list(van_seen)),
            (6, 12, 1, trailer, trailer),
            (8, 12, 2, [crate], [_ring(84, 44, 100, 50)]),
            (1, 13, 0, [rider], [rider]),
        ]
        if version == "2019":
            shapes.append((8, 12, 3, [_ring(86, 54, 96, 60)], []))
        for category, cluster, rank, whole, seen in shapes:
            amodal = masks.decode(masks.from_segmentation(whole, *size))
            modal = masks.decode(masks.from_segmentation(seen, *size)) if seen else np.zeros(size, bool)
            entry = {"id": 600 - 7 * len(annotations), "image_id": image_id, "category_id": category}
            if version == "2020":
                entry |= {"a_segm": whole, "i_segm": seen, "a_bbox": _box(amodal), "i_bbox": _box(modal)}
                entry |= {"a_area": int(amodal.sum()), "i_area": int(modal.sum()), "oco_id": cluster, "ico_id": rank}
            else:
                entry |= {"segmentation": whole, "inmodal_seg": compressed(modal), "area": int(amodal.sum())}
                entry |= {"bbox": _box(amodal), "inmodal_bbox": _box(modal), "iscrowd": 0}
            annotations.append(entry)
    name = f"update_{split}_2020.json" if version == "2020" else f"instances_{'val' if split == 'test' else split}.json"
    names = {1: "cyclist", 2: "pedestrian", 4: "car", 5: "tram", 6: "truck", 7: "van", 8: "misc"}
    _write(folder / name, images, annotations, names | ({3: "rider"} if version == "2020" else {}))
    return folder


def _piled(size: tuple[int, int], shift: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Six ellipses, nearest first: (amodal, visible) bool (H, W). The fifth is hidden, the last unoccluded."""
    shapes = [(40, 40, 18, 16), (56, 46, 16, 18), (30, 58, 22, 14), (60, 62, 12, 12), (40, 40, 8, 7), (96, 30, 14, 12)]
    found, nearer = [], np.zeros(size, bool)
    for x, y, rx, ry in shapes:
        amodal = disc(*size, x + shift, y, rx, ry)
        found.append((amodal, amodal & ~nearer))
        nearer |= amodal
    return found


def _object(amodal: np.ndarray, modal: np.ndarray) -> Entry:
    """The masks of an object, and the stored values of its hidden part."""
    hidden = amodal & ~modal
    entry = {"segmentation": compressed(amodal), "visible_mask": compressed(modal)}
    entry["occlude_rate"] = float(hidden.sum() / amodal.sum()) if hidden.any() else 0
    return entry | ({"invisible_mask": compressed(hidden)} if hidden.any() else {})


def _ring(x0: int, y0: int, x1: int, y1: int) -> list[int]:
    """A box as a polygon."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def _box(mask: np.ndarray) -> list[int]:
    """x, y, width, height."""
    x0, y0, x1, y1 = masks.box_xyxy(mask) or (0, 0, 0, 0)
    return [x0, y0, x1 - x0, y1 - y0]


def _write(path: Path, images: list[Entry], annotations: list[Entry], names: dict[int, str], **more: Any) -> None:
    """Write one file, with images in the opposite order and annotations out of order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": number, "name": name, "supercategory": "none"} for number, name in names.items()]
    mixed = [*annotations[1::2], *annotations[0::2]]
    content = {"images": images[::-1], "annotations": mixed, "categories": categories, **more}
    path.write_text(json.dumps(content))
