"""``amodalseg scene``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from amodalseg.cli.arguments import count, whole_number


def add_scene_command(commands: Any) -> None:
    """Add the command to the subparsers."""
    text = "complete all objects of photos, estimate their occlusion order, and write them as layers"
    parser = commands.add_parser("scene", help=text, description=text)
    parser.add_argument("model", metavar="MODEL", help="a name, a run folder, a file (also .onnx), or hf:owner/name")
    parser.add_argument("--coco", required=True, metavar="JSON", help="COCO instances with the objects' modal masks")
    parser.add_argument("--images", required=True, help="the folder of their photos")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for NAME.ora, NAME.png and NAME.json")
    parser.add_argument("--overwrite", action="store_true", help="start again instead of keeping existing outputs")
    parser.add_argument(
        "--upright", action="store_true", help="rotate photos by their EXIF data: the masks are upright"
    )
    parser.add_argument(
        "--crowd", choices=("skip", "complete"), default="skip", help="annotations with iscrowd=1 (skip)"
    )
    parser.add_argument(
        "--outside", action="store_true", help="allow photo names in the json that lie outside of --images"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="random seed (0)")
    parser.add_argument("--steps", type=count, help="sampler steps (the model's own)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; openvino for an .onnx file (auto)")
    parser.set_defaults(run=_scene)


def _scene(options: argparse.Namespace) -> int:
    from amodalseg.engine.prediction.complete import Settings
    from amodalseg.engine.prediction.predict import report_failures
    from amodalseg.engine.prediction.scene import complete_photos
    from amodalseg.models import load_model

    settings = Settings(
        options.seed, steps=options.steps, overwrite=options.overwrite, upright=options.upright, crowd=options.crowd,
        outside=options.outside,
    )  # fmt: skip
    model = load_model(options.model, options.device)
    source, images, out = Path(options.coco), Path(options.images), Path(options.out)
    return report_failures(complete_photos(model, source, images, out, settings))
