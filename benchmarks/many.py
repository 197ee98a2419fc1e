"""Many objects end to end: the overhead of ``predict --coco`` over the network, and whether memory stays constant.

    python benchmarks/many.py checkpoints/conddiff_amo_lite.onnx --objects 2000 --photos 250
    python benchmarks/many.py MODEL --coco a.json b.json --images photos_a photos_b --objects 20000

Draws photos of 640 x 480 with objects in them, or takes those of COCO files, whose annotations are repeated up to the
requested number. Prints objects/s, the network's own rate within the same run (its time alone), and the memory of the
process after a tenth of the objects and at the end. ``--threads`` are those of the network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from amodalseg import masks  # noqa: E402
from amodalseg.engine.prediction.complete import Settings  # noqa: E402
from amodalseg.engine.prediction.predict_coco import predict_coco  # noqa: E402
from amodalseg.models import load_model  # noqa: E402
from amodalseg.models.windowed import WindowModel  # noqa: E402
from benchmarks.machine import memory  # noqa: E402

SIZE = 480, 640
"""Height and width of the photos that are drawn."""


def main() -> None:
    """Run once and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name, a run folder or a file")
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--photos", type=int, default=250, help="that are drawn (250)")
    parser.add_argument("--coco", type=Path, nargs="+", default=[], help="annotations in place of drawn photos")
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="the folder of each file's photos")
    parser.add_argument("--num-workers", type=int, default=1)
    options = parser.parse_args()
    if len(options.coco) != len(options.images):
        parser.error(f"{len(options.coco)} files of annotations and {len(options.images)} folders of photos")
    model = load_model(options.model, "cpu")
    assert isinstance(model, WindowModel), f"{options.model} uses no window"
    clock = Clock(model, options.objects)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = taken(options, folder) if options.coco else drawn(options.photos, options.objects, folder)
        (folder / "given.json").write_text(json.dumps(content))
        began, cpu = time.perf_counter(), time.process_time()
        failures = predict_coco(
            model,
            folder / "given.json",
            folder / "photos",
            folder / "out.json",
            Settings(num_workers=options.num_workers),
        )
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert not failures, failures[:3]
    count, late = options.objects, memory(os.getpid(), "VmRSS")
    print(
        "| objects | photos | objects/s | network alone, objects/s | share of the network % | CPU ms/object |", end=""
    )
    print(" memory after a tenth, MB | at the end, MB |\n|---:|---:|---:|---:|---:|---:|---:|---:|")
    early = clock.early
    print(
        f"| {count} | {len(content['images'])} | {count / seconds:.1f} | {count / clock.seconds:.1f} | "
        f"{100 * clock.seconds / seconds:.1f} | {1000 * cpu / count:.2f} | {1000 * early:.0f} | {1000 * late:.0f} |"
    )


class Clock:
    """Measures the seconds spent in a model's network, and the memory after a tenth of the objects."""

    def __init__(self, model: WindowModel, objects: int) -> None:
        self.seconds, self.early, self.objects, self.done = 0.0, 0.0, objects, 0
        self.asked = model.window_probability
        model.window_probability = self  # type: ignore[method-assign,assignment]

    def __call__(self, batch: Any) -> np.ndarray:
        began = time.perf_counter()
        found = self.asked(batch)
        self.seconds += time.perf_counter() - began
        self.done += len(batch.image)
        if not self.early and self.done >= self.objects / 10:
            self.early = memory(os.getpid(), "VmRSS")
        return found


def drawn(photos: int, objects: int, folder: Path) -> dict[str, Any]:
    """A COCO file of ellipses on noise, with as many per photo as necessary."""
    rng, (height, width) = np.random.default_rng(0), SIZE
    (folder / "photos").mkdir()
    images, annotations = [], []
    for number in range(photos):
        photo = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(objects * number // photos, objects * (number + 1) // photos):
            mask = np.zeros(SIZE, np.uint8)
            place = tuple(int(n) for n in rng.integers((60, 60), (width - 60, height - 60)))
            axes = tuple(int(n) for n in rng.integers(12, 90, 2))
            cv2.ellipse(mask, place, axes, float(rng.integers(180)), 0, 300, 1, -1)
            photo[mask > 0] = rng.integers(0, 255, 3)
            rle = masks.encode(mask > 0)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "segmentation": masks.as_text(rle), "area": masks.area(rle), "bbox": list(masks.box_xywh(rle)),
            })  # fmt: skip
        cv2.imwrite(str(folder / "photos" / f"{number}.jpg"), photo)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def taken(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Several COCO files merged into one with the requested number of annotations, without crowds."""
    (folder / "photos").mkdir()
    images, found = [], []
    for source, place in zip(options.coco, options.images, strict=True):
        content = json.loads(source.read_text())
        numbers = {}
        for image in content["images"]:
            numbers[image["id"]] = len(images)
            link = f"{len(images)}{Path(image['file_name']).suffix}"
            (folder / "photos" / link).symlink_to((place / image["file_name"]).resolve())
            images.append({**image, "id": len(images), "file_name": link})
        good = (entry for entry in content["annotations"] if not entry.get("iscrowd"))
        found += [{**entry, "image_id": numbers[entry["image_id"]], "category_id": 1} for entry in good]
    repeated = itertools.islice(itertools.cycle(found), options.objects)
    annotations = [{**entry, "id": number} for number, entry in enumerate(repeated, 1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


if __name__ == "__main__":
    main()
