"""Reading and writing of photos, and the one way in which pictures are resized."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image

from amodalseg.atomic import open_regular, read_regular, write_whole
from amodalseg.errors import UserError
from amodalseg.masks import LIMIT, most_pixels
from amodalseg.types import FilePart

# Loader workers already keep every core busy; OpenCV's own threads in each of them would only compete for the cores,
# and a fork while they run can hang.
cv2.setNumThreads(0)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # ``check_pixels`` has the limit
# Silence OpenCV: errors are reported in one line here. The function has moved between OpenCV 4 and 5.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)


PICTURE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, ZeroDivisionError, MemoryError,
    AttributeError, struct.error, zlib.error, cv2.error,
)  # fmt: skip
"""Exceptions of Pillow and OpenCV for damaged, truncated or unknown files."""
END_OF_PNG = b"\0\0\0\0IEND\xae\x42\x60\x82"
"""The last chunk of a PNG file: length 0, its type, its checksum."""
_bombs = threading.Lock()
EXIF_TURN = 0x0112


def read_bytes(path: str | Path | FilePart) -> bytes:
    """The bytes of a file, or of a part of one. Raises OSError."""
    if not isinstance(path, FilePart):
        return read_regular(Path(path))
    with open_regular(path.path) as file:  # a handle of its own: loader workers must not share a file position
        file.seek(path.offset)
        return file.read(path.length)


def check_pixels(height: int, width: int, path: object) -> None:
    """Refuse a picture that would not fit into memory, before it is decoded. Raises UserError."""
    limit = most_pixels()
    if height * width > limit:
        said = f"{height * width / 1e6:.0f} megapixels; the limit is {limit / 1e6:g}"
        raise UserError(
            f"{path} is a picture of {width}x{height}, {said}: "
            f"make it smaller, or set the environment variable {LIMIT} where memory allows"
        )


def is_whole_png(data: bytes) -> bool:
    """Whether every chunk of a PNG file, up to its end marker, lies within its bytes.

    OpenCV allocates the length that a chunk declares, even four gigabytes in a file of a hundred bytes.
    """
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND":
            return data[place - 12 : place] == END_OF_PNG
    return False


def _size_of(data: bytes) -> tuple[int, int]:
    """Height and width from a picture's header; (0, 0) if unknown. Fast for PNG and JPEG."""
    if data.startswith(b"\x89PNG"):
        width, height = struct.unpack(">II", data[16:24].ljust(8, b"\0"))
        return height, width
    if data.startswith(b"\xff\xd8"):
        place = 2
        while place + 9 < len(data) and data[place] == 0xFF:
            marker = data[place + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
                height, width = struct.unpack(">HH", data[place + 5 : place + 9])
                return height, width
            # fill bytes, and markers without a length
            alone = marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8
            place += (1 if marker == 0xFF else 2) if alone else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        return 0, 0
    try:
        with any_size(io.BytesIO(data)) as picture:
            return picture.height, picture.width
    except PICTURE_ERRORS:
        return 0, 0


def turning(picture: Image.Image) -> int:
    """EXIF orientation of an open picture: 1, or 2 to 8 if viewers rotate or mirror the stored pixels.

    TIFF files give 1: Pillow and OpenCV always read them upright.
    """
    if picture.format == "TIFF":
        return 1
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # to look for it after the pixels, Pillow would decode them all
    try:
        found = picture.getexif().get(EXIF_TURN, 1)
    except PICTURE_ERRORS:  # damaged EXIF data are ignored
        return 1
    return found if found in range(2, 9) else 1


def image_turning(path: str | Path | FilePart) -> int:
    """``turning`` of a file, from its header alone; 1 for an unreadable file, which is reported when it is opened."""
    try:
        with _opened(path) as picture:
            return turning(picture)
    except (UserError, *PICTURE_ERRORS):
        return 1


def _turning_of(data: bytes) -> int:
    # nearly all photos have none, and need not be opened a second time
    if (data.startswith(b"\xff\xd8") and data.find(b"Exif\0", 0, 1 << 17) < 0) or (
        data.startswith(b"\x89PNG") and data.find(b"eXIf", 0, 1 << 16) < 0
    ):
        return 1
    try:
        with any_size(io.BytesIO(data)) as picture:
            return turning(picture)
    except PICTURE_ERRORS:
        return 1


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Stored pixels (H, W, ...) -> upright ones, according to the EXIF orientation ``turn``."""
    if turn >= 5:  # the first stored axis is the picture's horizontal one
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def load_image(path: str | Path | FilePart, *, grey: bool = False, upright: bool = False) -> np.ndarray:
    """Read a photo as annotations refer to it: pixels as stored, ignoring EXIF rotation.

    Args:
        path: any format that OpenCV reads; greyscale is replicated, alpha dropped.
        grey: read it as grey values.
        upright: rotate it according to its EXIF data, for annotations drawn on the upright picture.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W) grey.

    Raises:
        UserError: the file is missing, not a picture, truncated, or has more pixels than ``check_pixels`` allows.
    """
    return load_turned(path, grey=grey, upright=upright)[0]


def load_turned(path: str | Path | FilePart, *, grey: bool = False, upright: bool = False) -> tuple[np.ndarray, int]:
    """As ``load_image``, with the EXIF orientation of the file: 1, or 2 to 8 if viewers rotate it."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror}") from error
    # Some releases of OpenCV fill the rest of a truncated JPEG with arbitrary pixels. Neither marker can occur within
    # entropy-coded data, so a complete file has an end-of-image marker after the last start-of-scan marker. For a
    # truncated PNG, libpng prints its own messages to the terminal. The checks are fast: in a complete file the markers
    # are found at once from the end, and a PNG has few chunks.
    cut_jpeg = data.startswith(b"\xff\xd8") and data.find(b"\xff\xda", max(0, data.rfind(b"\xff\xd9"))) >= 0
    cut_png = data.startswith(b"\x89PNG") and not is_whole_png(data)
    if cut_jpeg or cut_png:
        raise UserError(f"the image {path} ends too early: the file is cut off, copy it again")
    check_pixels(*_size_of(data), path)
    how = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB  # swapping channels later would double the memory
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # an empty file, or more pixels than OpenCV allows
        pixels = None
    if pixels is None:
        raise UserError(f"cannot decode the image {path}: it is broken, or not a picture")
    turn = _turning_of(data)
    return (turned(pixels, turn) if upright and turn != 1 else pixels), turn


def image_size(path: str | Path | FilePart, *, upright: bool = False) -> tuple[int, int]:
    """Height and width of a photo, from its header alone, in stored pixels. Raises UserError as ``load_image`` does.

    Args:
        path: the file.
        upright: the size after rotation according to its EXIF data.
    """
    try:
        with _opened(path) as image:
            # releases of Pillow differ in the size they report for a TIFF file, which is always read upright, before
            # reading it
            tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
            height, width = (image.height, image.width) if tags is None else (tags[257], tags[256])
            turn = turning(image) if tags is None else tags.get(EXIF_TURN, 1)
            if turn >= 5 and (upright or tags is not None):
                height, width = width, height
    except PICTURE_ERRORS as error:
        reason = getattr(error, "strerror", None) or "it is broken, or not a picture"
        raise UserError(f"cannot read the image {path}: {reason}") from error
    check_pixels(height, width, path)
    return height, width


@contextmanager
def _opened(path: str | Path | FilePart) -> Iterator[Image.Image]:
    """Open a picture file, reading only its header. Raises OSError and whatever else Pillow does."""
    file = io.BytesIO(read_bytes(path)) if isinstance(path, FilePart) else open_regular(Path(path))
    with file, any_size(file) as picture:
        yield picture


@contextmanager
def any_size(file: IO[bytes]) -> Iterator[Image.Image]:
    """Pillow's picture, of any size: before it is decoded the caller must ``check_pixels``. Raises what Pillow does."""
    try:
        picture = Image.open(file)
    except Image.DecompressionBombError:
        with _bombs:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                file.seek(0)
                picture = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture


def save_png(path: str | Path, image: np.ndarray) -> None:
    """Write a picture atomically; its folder is created if necessary.

    Args:
        path: the file.
        image: uint8 (H, W, 3) RGB, (H, W, 4) RGBA, or (H, W) grey.
    """
    assert image.dtype == np.uint8, image.dtype
    order = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    pixels = cv2.cvtColor(image, order) if image.ndim == 3 else image
    done, data = cv2.imencode(".png", pixels)
    assert done
    write_whole(path, data.tobytes())


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by pixel areas: average along an axis that shrinks, interpolate linearly along one that grows.

    Args:
        image: uint8 or float32 (H, W) or (H, W, 3).
        height, width: of the result, pixels.

    Returns:
        A new array of the same type; exactly the same values where the size does not change.
    """
    h, w = image.shape[:2]
    if (height - h) * (width - w) < 0:  # OpenCV's area mode does not average if either axis grows
        return resize(resize(image, height, w), height, width)
    how = cv2.INTER_AREA if height < h or width < w else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how)
