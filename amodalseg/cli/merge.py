"""``amodalseg merge``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_merge_command(commands: Any) -> None:
    """Add the command to the subparsers."""
    text = "merge the shards of 'predict --coco --shard' into one COCO file"
    parser = commands.add_parser("merge", help=text, description=text)
    parser.add_argument("--coco", required=True, metavar="JSON", help="the COCO file that was predicted")
    parser.add_argument("--images", help="its folder of photos")
    parser.add_argument("--image", help="the photo, if all annotations are of one photo")
    parser.add_argument("--coco-images", metavar="JSON", help="a COCO file with the images of a list of results")
    parser.add_argument(
        "--outside", action="store_true", help="allow photo names in the json that lie outside of --images"
    )
    parser.add_argument("--out", required=True, help="the .json output from which the shards are named")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.set_defaults(run=_merge)


def _merge(options: argparse.Namespace) -> int:
    from amodalseg.engine.prediction.predict import report_failures
    from amodalseg.engine.prediction.predict_coco import merge_coco
    from amodalseg.errors import UserError

    if (options.images is None) == (options.image is None):
        raise UserError("give --images, or --image for annotations of one photo")
    listing, images, image = (
        Path(given) if given else None for given in (options.coco_images, options.images, options.image)
    )
    return report_failures(
        merge_coco(Path(options.coco), images, Path(options.out), listing, image, options.outside, options.overwrite)
    )
