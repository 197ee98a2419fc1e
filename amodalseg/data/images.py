"""Photos in and out of files, and the one way in which pictures are resized."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from amodalseg.atomic import write_whole
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, FilePart

# Loader workers already keep every core busy; OpenCV's own threads in each of them would only fight over the cores, and
# a fork while they run can hang.
cv2.setNumThreads(0)
# What OpenCV would write to the terminal, we say in one line. The function has moved between its releases 4 and 5.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)


def read_bytes(path: str | Path | FilePart) -> bytes:
    """The bytes of a file, or of a part of one. Raises OSError."""
    if not isinstance(path, FilePart):
        return Path(path).read_bytes()
    descriptor = os.open(path.path, os.O_RDONLY)  # one of its own: loader workers must not share a place in a file
    try:
        return os.pread(descriptor, path.length, path.offset)
    finally:
        os.close(descriptor)


def load_image(path: str | Path | FilePart, *, grey: bool = False) -> np.ndarray:
    """Read a photo as the annotations see it: pixels as stored, whatever EXIF says about turning them.

    Args:
        path: any format that OpenCV reads; greyscale is replicated, alpha dropped.
        grey: read it as grey values, for instance a mask.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W) grey.

    Raises:
        UserError: the file is missing, is no picture, or ends too early.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from error
    # Some releases of OpenCV fill the rest of a JPEG that ends too early with anything. Neither marker can occur within
    # its entropy-coded data, so a whole file has an end-of-image marker behind the last start-of-scan marker. Libpng
    # writes its own lines to the terminal; a whole PNG has a chunk IEND, here with its checksum.
    # Looked for from the end, either is found at once in a whole file.
    cut_jpeg = data.startswith(b"\xff\xd8") and data.find(b"\xff\xda", max(0, data.rfind(b"\xff\xd9"))) >= 0
    cut_png = data.startswith(b"\x89PNG") and data.rfind(b"IEND\xae\x42\x60\x82") < 0
    if cut_jpeg or cut_png:
        raise UserError(f"the image {path} ends too early: the file is cut off, copy it again")
    how = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # an empty file, or more pixels than OpenCV allows
        pixels = None
    if pixels is None:
        raise UserError(f"cannot decode the image {path}: it is broken, or no picture")
    return pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def image_size(path: str | Path | FilePart) -> tuple[int, int]:
    """Height and width of a photo in stored pixels, from its header alone. Raises UserError as ``load_image`` does."""
    try:
        with Image.open(io.BytesIO(read_bytes(path)) if isinstance(path, FilePart) else path) as image:
            return image.height, image.width
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror or 'it is broken, or no picture'}") from error


def save_png(path: str | Path, image: np.ndarray) -> None:
    """Write a picture so that the file is either whole or not there; its folder is made if need be.

    Args:
        path: the file.
        image: uint8 (H, W, 3) RGB, or uint8 (H, W) grey.
    """
    assert image.dtype == np.uint8, image.dtype
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(".png", pixels)
    assert done
    write_whole(path, data.tobytes())


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize about pixel areas: average along an axis that shrinks, interpolate linearly along one that grows.

    Args:
        image: uint8 or float32 (H, W) or (H, W, 3).
        height, width: of the result, pixels.

    Returns:
        A new array of the same type; exactly the same values where the size does not change.
    """
    h, w = image.shape[:2]
    if (height - h) * (width - w) < 0:  # OpenCV's area mode averages nothing as soon as one axis grows
        return resize(resize(image, height, w), height, width)
    how = cv2.INTER_AREA if height < h or width < w else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how)


def check_size(record: AmodalRecord) -> None:
    """Compare the size in a photo's header with its masks'. Raises UserError as ``record_image`` does."""
    if not isinstance(record.image, np.ndarray):
        height, width = image_size(record.image)
        if (height, width) != (record.height, record.width) and "size_mismatch" not in record.flags:
            raise _other_size(record, height, width)


def record_image(record: AmodalRecord) -> np.ndarray:
    """The photo of an object, in the size of its masks.

    Args:
        record: its image is a file, a part of one, or pixels.

    Returns:
        uint8 (H, W, 3) RGB. Resized where the reader has flagged ``size_mismatch``: masks are the truth, so they stay.

    Raises:
        UserError: the photo cannot be read, or differs from the masks in size without that flag.
    """
    pixels = record.image if isinstance(record.image, np.ndarray) else load_image(record.image)
    if pixels.shape[:2] == (record.height, record.width):
        return pixels
    if "size_mismatch" in record.flags:
        return resize(pixels, record.height, record.width)
    raise _other_size(record, *pixels.shape[:2])


def record_whole(record: AmodalRecord) -> np.ndarray | None:
    """The true picture of the whole object, in the size of its masks.

    Returns:
        uint8 (H, W, 3) RGB, of no meaning outside the amodal mask; None where it is not known.

    Raises:
        UserError: the file cannot be read, or differs from the masks in size.
    """
    if record.whole_rgb is None or isinstance(record.whole_rgb, np.ndarray):
        return record.whole_rgb
    pixels = load_image(record.whole_rgb)
    if pixels.shape[:2] != (record.height, record.width):
        raise UserError(
            f"the picture of the whole object {record.whole_rgb} is {pixels.shape[1]}x{pixels.shape[0]}, the masks of "
            f"{record.key} are {record.width}x{record.height} (width x height); make it anew in their size"
        )
    return pixels


def record_moved(record: AmodalRecord) -> np.ndarray | None:
    """The true photo after the record's move, uint8 (H, W, 3) RGB, or None without one.

    Raises:
        UserError: the file cannot be read.
    """
    if record.move is None:
        return None
    return record.move.picture if isinstance(record.move.picture, np.ndarray) else load_image(record.move.picture)


def _other_size(record: AmodalRecord, height: int, width: int) -> UserError:
    what = "the image" if isinstance(record.image, np.ndarray) else record.image
    return UserError(
        f"image and mask of different size: {what} is {width}x{height}, the masks of {record.key} are "
        f"{record.width}x{record.height} (width x height); correct the photo or its annotation"
    )
