"""``amodalseg merge``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_merge_command(commands: Any) -> None:
    """Add the command to the subparsers."""
    text = "make one COCO file of the shards that 'predict --coco --shard' has written"
    parser = commands.add_parser("merge", help=text, description=text)
    parser.add_argument("--coco", required=True, metavar="JSON", help="the file that was predicted from")
    parser.add_argument("--images", help="its folder of photos")
    parser.add_argument("--image", help="the one photo, where there is one")
    parser.add_argument("--coco-images", metavar="JSON", help="a COCO file with the images of a list of results")
    parser.add_argument("--outside", action="store_true", help="allow a json's photos outside of --images")
    parser.add_argument("--out", required=True, help="the .json file that the shards are named after")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is there")
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
