"""``amodalseg demo``."""

from __future__ import annotations

import argparse
from typing import Any

from amodalseg.cli.arguments import count

MODELS = ("conddiff_amo_lite", "conddiff_amo_tiny", "convex_hull")
"""Models offered by default; none of them needs an optional dependency."""


def add_demo_command(commands: Any) -> None:
    """Add the command to the subparsers."""
    text = "serve a web page that completes the object you click on"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="models to offer: names, run folders, files, hf:owner/name"
    )
    parser.add_argument("--port", type=count, help="port (the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="also create a public link, through gradio's servers")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; openvino for an .onnx file (auto)")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from amodalseg.demo.serve import serve
    from amodalseg.models import load_model

    models = {name: load_model(name, options.device) for name in options.models or MODELS}
    serve(models, options.port, options.share)
