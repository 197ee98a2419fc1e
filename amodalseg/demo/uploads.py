"""Photos and mask files uploaded by a browser: checked against limits before decoding, and read upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodalseg.atomic import open_regular
from amodalseg.data.images import PICTURE_ERRORS, any_size, load_image, load_turned
from amodalseg.data.mask_files import looks_inverted, mask_labels, read_mask_file
from amodalseg.engine.prediction.complete import fit_to_photo
from amodalseg.errors import UserError

MEGABYTES = 32
"""Maximum size of one upload."""
MEGAPIXELS = 50
"""Maximum size of a photo or a mask file."""
TYPES = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WebP", "BMP": "BMP", "TIFF": "TIFF"}
"""Pillow's names of the accepted formats, and their common names."""
MASK_TYPES = [".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npy"]
"""File extensions of accepted mask files."""
OBJECTS = 8
"""Maximum number of objects of one photo."""


def read_photo(path: Path) -> np.ndarray:
    """A photo as viewers display it, uint8 (H, W, 3) RGB.

    Raises:
        UserError: it was removed, is not of a type in ``TYPES``, damaged, or exceeds ``MEGABYTES`` or ``MEGAPIXELS``.
    """
    _check(path, set(TYPES))
    try:
        return load_image(path, upright=True)
    except UserError as error:
        raise _named(error, path) from error


def read_masks(path: Path, photo_path: Path) -> tuple[list[np.ndarray], str]:
    """The objects of a mask file, upright like its photo: one, or one per label.

    Returns:
        The masks, bool (H, W) of the photo's size each, and a remark about them: a sentence, or an empty string.

    Raises:
        UserError: the file is not a mask (as defined in ``docs/predict.md``), differs in size, is empty or too large,
            or has more than ``OBJECTS`` labels.
    """
    if path.suffix.lower() != ".npy":
        _check(path, {*TYPES, "GIF"})
    photo, turn = load_turned(photo_path, upright=True)
    try:
        labels: list[str | None] = [*mask_labels(path)] or [None]
        if len(labels) > OBJECTS:
            raise UserError(f"{path} holds {len(labels)} objects; the demo takes {OBJECTS}: 'amodalseg predict' more")
        masks = [
            fit_to_photo(read_mask_file(path, label, upright=True, quiet=True), photo, turn, True) for label in labels
        ]
        for mask in masks:
            if mask.shape != photo.shape[:2]:
                raise UserError(
                    f"the mask {path} is {mask.shape[1]}x{mask.shape[0]} and the photo "
                    f"{photo.shape[1]}x{photo.shape[0]} (width x height): give a mask of the photo's size"
                )
            if not mask.any():
                raise UserError(f"the mask {path} is empty: white marks what is visible of the object")
    except UserError as error:
        raise _named(error, path) from error
    inverted = len(masks) == 1 and looks_inverted(masks[0])
    return masks, " The mask looks inverted: white should mark the object." if inverted else ""


def _check(path: Path, types: set[str]) -> None:
    """Reject a file by its size, and a picture by its header."""
    taken = ", ".join(sorted({TYPES.get(name, name) for name in types}))
    try:
        size = path.stat().st_size
        if size > MEGABYTES * 2**20:
            raise UserError(f"{path.name} has {size / 2**20:.0f} MB; the demo takes {MEGABYTES}: make it smaller")
        with open_regular(path) as file, any_size(file) as picture:
            found, pixels = picture.format, picture.width * picture.height
    except FileNotFoundError as error:
        raise UserError("the file has been deleted: uploads are kept for an hour; upload it again") from error
    except UserError:
        raise
    except PICTURE_ERRORS as error:
        raise UserError(f"{path.name} is broken, or not a picture: the demo takes {taken}") from error
    if found not in types:
        raise UserError(f"{path.name} is a {found} file: the demo takes {taken}")
    if pixels > MEGAPIXELS * 1e6:
        raise UserError(
            f"{path.name} has {pixels / 1e6:.0f} megapixels; the demo takes {MEGAPIXELS}: make it smaller, or use "
            "'amodalseg predict'"
        )


def _named(error: UserError, path: Path) -> UserError:
    """The same error without the server's folders."""
    return UserError(str(error).replace(str(path), path.name))
