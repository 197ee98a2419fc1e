"""A record's pictures, checked against its masks: the photo, the whole object, the photo after a move or an edit."""

from __future__ import annotations

import numpy as np

from amodalseg.data.images import image_size, image_turning, load_image, resize
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, Picture


def check_size(record: AmodalRecord) -> None:
    """Compare the size in a photo's header with its masks'. Raises UserError as ``record_image`` does."""
    if not isinstance(record.image, np.ndarray):
        height, width = image_size(record.image, upright="upright" in record.flags)
        if (height, width) != (record.height, record.width) and "size_mismatch" not in record.flags:
            raise _other_size(record, height, width)


def record_image(record: AmodalRecord) -> np.ndarray:
    """The photo of an object, in the size of its masks.

    Args:
        record: its image is a file, a part of one, or pixels.

    Returns:
        uint8 (H, W, 3) RGB. Resized if the reader has flagged ``size_mismatch``: masks are the ground truth and stay
        unchanged.

    Raises:
        UserError: the photo cannot be read, or differs from the masks in size without that flag.
    """
    pixels = photo_of(record)
    if pixels.shape[:2] == (record.height, record.width):
        return pixels
    if "size_mismatch" in record.flags:
        return resize(pixels, record.height, record.width)
    raise _other_size(record, *pixels.shape[:2])


def photo_of(record: AmodalRecord) -> np.ndarray:
    """The photo of an object as stored, rotated upright if the reader has flagged that, uint8 (H, W, 3) RGB."""
    if isinstance(record.image, np.ndarray):
        return record.image
    return load_image(record.image, upright="upright" in record.flags)


def record_whole(record: AmodalRecord) -> np.ndarray | None:
    """The true picture of the whole object, in the size of its masks.

    Returns:
        uint8 (H, W, 3) RGB, undefined outside the amodal mask; None if unknown.

    Raises:
        UserError: the file cannot be read, or differs from the masks in size.
    """
    if record.whole_rgb is None or isinstance(record.whole_rgb, np.ndarray):
        return record.whole_rgb
    pixels = load_image(record.whole_rgb)
    if pixels.shape[:2] != (record.height, record.width):
        raise UserError(
            f"the picture of the whole object {record.whole_rgb} is {pixels.shape[1]}x{pixels.shape[0]}, the masks of "
            f"{record.key} are {record.width}x{record.height} (width x height); make it again in their size"
        )
    return pixels


def record_moved(record: AmodalRecord) -> np.ndarray | None:
    """The true photo after the record's move, uint8 (H, W, 3) RGB, or None without one.

    Raises:
        UserError: the file cannot be read.
    """
    return None if record.move is None else _pixels(record.move.picture)


def record_edited(record: AmodalRecord) -> np.ndarray | None:
    """The true photo after the record's edit, uint8 (H, W, 3) RGB, or None without one.

    Raises:
        UserError: the file cannot be read.
    """
    return None if record.edit is None else _pixels(record.edit.picture)


def _pixels(picture: Picture) -> np.ndarray:
    return picture if isinstance(picture, np.ndarray) else load_image(picture)


def _other_size(record: AmodalRecord, height: int, width: int) -> UserError:
    what = "the image" if isinstance(record.image, np.ndarray) else record.image
    turn = 1 if isinstance(record.image, np.ndarray) else image_turning(record.image)
    if turn >= 5 and (width, height) == (record.height, record.width):
        upright = "upright" in record.flags
        advice = "the masks are of the stored size: data.upright=false" if upright else "data.upright=true turns it"
        return UserError(
            f"{what} is stored rotated by its EXIF data (orientation {turn}), so it is read as {width}x{height}, "
            f"and the masks of {record.key} are {record.width}x{record.height} (width x height); {advice}"
        )
    return UserError(
        f"image and mask of different size: {what} is {width}x{height}, the masks of {record.key} are "
        f"{record.width}x{record.height} (width x height); correct the photo or its annotation"
    )
