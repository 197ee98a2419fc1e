"""``amodalseg move``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from amodalseg.cli.arguments import whole_number


def add_move_command(commands: Any) -> None:
    """Add the command to the subparsers."""
    text = "complete an object of a photo and move it elsewhere"
    parser = commands.add_parser("move", help=text, description=text)
    parser.add_argument("model", metavar="MODEL", help="a name, a run folder, a file (also .onnx), or hf:owner/name")
    parser.add_argument("--image", required=True, help="a photo")
    parser.add_argument("--mask", required=True, help="the object's modal mask, white on black")
    parser.add_argument("--to", required=True, type=_pixel, metavar="X,Y", help="new centre of its modal box")
    parser.add_argument("--out", required=True, metavar="NAME.png", help="the photo after the move")
    parser.add_argument("--occluder", metavar="FILE", help="mask of the occluder, which stays where it is")
    parser.add_argument(
        "--label", metavar="VALUE", help="which object of a mask file with several: a value, or a colour rrggbb"
    )
    parser.add_argument("--occluder-label", metavar="VALUE", help="the same for the occluder's file, which may be MASK")
    parser.add_argument("--invert", action="store_true", help="in mask files the object is black on white")
    parser.add_argument("--category", metavar="NAME", help="category of the object, for models that read text")
    parser.add_argument("--overlay", metavar="DIR", help="also write before and after side by side")
    parser.add_argument(
        "--upright", action="store_true", help="rotate the photo by its EXIF data: the masks are upright"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="random seed (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; openvino for an .onnx file (auto)")
    parser.set_defaults(run=_move)


def _pixel(text: str) -> tuple[int, int]:
    """Parse two integers; whether they lie in the photo is checked once it is open."""
    parts = text.split(",")
    try:
        x, y = (int(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a pixel of a photo; give two integers: 420,300") from None
    return x, y


def _move(options: argparse.Namespace) -> None:
    from amodalseg.engine.prediction.move import MoveFiles, move_file
    from amodalseg.models import load_model

    occluder, overlay = (Path(path) if path else None for path in (options.occluder, options.overlay))
    files = MoveFiles(
        Path(options.image), Path(options.mask), Path(options.out), occluder, overlay, options.upright, options.label,
        options.occluder_label, options.invert,
    )  # fmt: skip
    model = load_model(options.model, options.device)
    move_file(model, files, options.to, options.category, options.seed)
