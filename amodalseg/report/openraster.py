"""Layered pictures as OpenRaster files (``.ora``, for GIMP, Krita and MyPaint): a zip of PNGs and one XML file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from amodalseg.atomic import write_whole
from amodalseg.errors import UserError
from amodalseg.report.grid import encode_png

THUMBNAIL = 256
"""Maximum length of the longer side, pixels, as the format requires."""


class Layer(NamedTuple):
    """A layer. picture: uint8 (h, w, 3) or (h, w, 4), RGB or RGBA. top, left: position of its first pixel."""

    name: str
    picture: np.ndarray
    top: int = 0
    left: int = 0
    visible: bool = True


def write_layers(path: Path, layers: Sequence[Layer], height: int, width: int) -> None:
    """Write a layered picture.

    Args:
        path: ``NAME.ora``; it is written completely or not at all.
        layers: from the farthest to the nearest.
        height, width: of the picture, in pixels; layers may extend beyond it.

    Raises:
        UserError: the suffix is wrong, or the file cannot be written.
    """
    check_name(path)
    root = ElementTree.Element("image", {"version": "0.0.3", "w": str(width), "h": str(height)})
    stack = ElementTree.SubElement(root, "stack")
    merged = flattened(layers, height, width)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        # first and uncompressed, as the format requires
        archive.writestr(_member("mimetype"), "image/openraster")
        for number, layer in reversed(list(enumerate(layers))):  # the format lists the nearest first
            source = f"data/layer{number:03d}.png"
            archive.writestr(_member(source), encode_png(layer.picture))
            ElementTree.SubElement(
                stack,
                "layer",
                {
                    "name": layer.name, "src": source, "x": str(layer.left), "y": str(layer.top), "opacity": "1.0",
                    "visibility": "visible" if layer.visible else "hidden", "composite-op": "svg:src-over",
                },
            )  # fmt: skip
        archive.writestr(_member("stack.xml"), ElementTree.tostring(root, "UTF-8", xml_declaration=True))
        archive.writestr(_member("mergedimage.png"), encode_png(merged))
        archive.writestr(_member("Thumbnails/thumbnail.png"), encode_png(_small(merged)))
    write_whole(path, file.getvalue())


def check_name(path: Path) -> None:
    """Raises UserError: the name is not valid for a layered picture."""
    if path.suffix.lower() != ".ora" or path.is_dir():
        raise UserError(f"'{path}' is not a layered picture file; give a name that ends in .ora")


def _member(name: str) -> zipfile.ZipInfo:
    """A zip entry with a fixed time, so that the same layers give the same bytes."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def flattened(layers: Sequence[Layer], height: int, width: int) -> np.ndarray:
    """Flatten layers, the farthest first: uint8 (height, width, 4)."""
    canvas = Image.new("RGBA", (width, height))
    for layer in layers:
        if layer.visible:
            whole = Image.new("RGBA", (width, height))
            whole.paste(Image.fromarray(layer.picture).convert("RGBA"), (layer.left, layer.top))
            canvas = Image.alpha_composite(canvas, whole)
    return np.asarray(canvas)


def _small(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image)
