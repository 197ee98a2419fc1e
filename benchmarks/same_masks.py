"""Do two installations, or two versions, predict the same masks?

    light/bin/amodalseg predict conddiff_amo_lite --coco instances.json --images photos --out light.json
    full/bin/amodalseg predict conddiff_amo_lite --coco instances.json --images photos --out full.json
    python benchmarks/same_masks.py light.json full.json

Exits with 1 if less than 99.99 % of the photos' pixels are equal. Only masks of the same photo and object are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from amodalseg import masks

ENOUGH = 0.9999


def main(arguments: list[str] | None = None) -> int:
    """Compare all objects and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs=2, type=Path, help="what `amodalseg predict --coco` wrote")
    first, second = (amodal_masks(path) for path in parser.parse_args(arguments).files)
    if first.keys() != second.keys() or not first:
        parser.error("the two files hold different objects, or none")
    pixels = unlike = area = changed = 0
    for key, mask in first.items():
        one, other = masks.decode(mask), masks.decode(second[key])
        differ = int((one != other).sum())
        pixels, unlike, changed = pixels + one.size, unlike + differ, changed + (differ > 0)
        area += int((one | other).sum())
    same = 1 - unlike / pixels
    print(
        f"{len(first)} objects: {100 * same:.4f} % of {pixels:,} pixels are the same; {unlike:,} differ, "
        f"{100 * unlike / max(1, area):.4f} % of the masks' area, in {changed} objects"
    )
    return int(same < ENOUGH)


def amodal_masks(path: Path) -> dict[tuple[int, int], masks.Rle]:
    """(image's id, annotation's id) -> run lengths."""
    entries = json.loads(path.read_text("utf-8"))["annotations"]
    return {(one["image_id"], one["id"]): one["segmentation"] for one in entries}


if __name__ == "__main__":
    sys.exit(main())
