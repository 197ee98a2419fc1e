"""The reader of mask files: which pixels of a picture file belong to an object.

The stored values are read, never converted to colours, and interpreted by one rule (``docs/predict.md``, "Mask files").
Anything ambiguous is refused in one line.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from amodalseg.data.images import PICTURE_ERRORS, any_size, check_pixels, is_whole_png, read_bytes, turned, turning
from amodalseg.data.mask_values import VOID, Labels, decide_alpha, decide_colours, decide_grey, decide_indices
from amodalseg.errors import UserError

MODES = ("1", "L", "I", "F", "RGB", "P", "PA", "LA", "RGBA")
"""Pillow's modes that are accepted for masks, besides 16-bit grey."""
SEVERAL = 20
"""Maximum number of labels listed in a message."""


class Stored(NamedTuple):
    """The content of a file.

    values: bool, int or float (H, W); or colours, int (H, W, 3); for a palette the indices. alpha: int (H, W), if it
    has one that varies. palette: int (N, 3), the colours of the indices. lossy: compression has blurred the values.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    palette: np.ndarray | None = None
    lossy: bool = False


def read_mask_file(
    path: Path, label: str | None = None, *, upright: bool = False, invert: bool = False, quiet: bool = False
) -> np.ndarray:
    """Read the mask of one object.

    Args:
        path: a picture, or a NumPy array (``.npy``).
        label: which object, if the picture has several: its value, or its colour as ``rrggbb``.
        upright: rotate the mask according to its own EXIF data.
        invert: swap object and background.
        quiet: do not warn about a mask that looks inverted.

    Returns:
        bool (H, W), possibly empty.

    Raises:
        UserError: the file cannot be read, is not a mask, or has several objects and ``label`` names none of them.
    """
    stored, found = _decided(path, upright)
    if label is not None:
        mask = _labelled(stored, label)
        if mask is None:
            held = found.names if isinstance(found, Labels) else ["one object, without labels"]
            raise UserError(f"{path} holds no label {label}; it holds {_some(held)}")
    elif isinstance(found, Labels):
        raise UserError(
            f"{path} holds several objects, labelled {_some(found.names)}: choose one by --label; in a folder of masks "
            "(predict --masks) each is an object of its own"
        )
    else:
        mask = found
        if not quiet and _has_void(stored, mask):
            warnings.warn(f"{path}: label {VOID} is read as void, not as part of the object", stacklevel=2)
    if invert:
        return ~mask
    if not quiet and looks_inverted(mask):
        warnings.warn(
            f"{path} looks inverted: {100 * mask.mean():.0f} % of it is object, nearly all of its border too; "
            "--invert swaps object and background",
            stacklevel=2,
        )
    return mask


def read_mask_bytes(data: bytes, where: str) -> np.ndarray:
    """The mask of one object in a picture file's bytes, bool (H, W), by the rule of ``read_mask_file``.

    Args:
        data: of the file.
        where: its origin, for messages.

    Raises:
        UserError: it is not a picture, or not a mask of one object.
    """
    try:
        found = _decide(_of_bytes(data, where, upright=False))
    except ValueError as error:
        raise error if isinstance(error, UserError) else UserError(f"{where} is not a mask: {error}") from error
    if isinstance(found, Labels):
        raise UserError(f"{where} holds several objects, labelled {_some(found.names)}: draw one shape for each")
    return found


def mask_labels(path: Path) -> list[str]:
    """The labels of a file's objects if it holds several, else none. Raises UserError as ``read_mask_file``."""
    found = _decided(path, upright=False)[1]
    return found.names if isinstance(found, Labels) else []


def holds_label(path: Path, label: str) -> bool:
    """Whether a file has a pixel of that label. Raises UserError as ``read_mask_file``."""
    return _labelled(read_values(path), label) is not None


def looks_inverted(mask: np.ndarray) -> bool:
    """Whether a mask covers more than half of its picture and nearly all of its border, but not everything."""
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(edge.mean() > 0.9 and 0.5 < mask.mean() < 1)


def _decided(path: Path, upright: bool) -> tuple[Stored, np.ndarray | Labels]:
    stored = read_values(path, upright=upright)
    try:
        return stored, _decide(stored)
    except ValueError as error:
        raise UserError(
            f"{path} is not a mask: {error}; save it as white on black, in a format without loss (PNG)"
        ) from error


def _decide(stored: Stored) -> np.ndarray | Labels:
    values = stored.values
    if values.dtype == bool:
        return values
    if stored.alpha is not None:
        colours = values if stored.palette is None else stored.palette[values]
        return decide_alpha(stored.alpha, colours)
    if stored.palette is not None:
        return decide_indices(values, stored.palette)
    return decide_colours(values, stored.lossy) if values.ndim == 3 else decide_grey(values, stored.lossy)


def _labelled(stored: Stored, label: str) -> np.ndarray | None:
    """The mask of a label, or None if the file does not have it."""
    values, text = stored.values, label.removeprefix("#").lower()
    if values.ndim == 3:
        try:
            wanted = [int(text[i : i + 2], 16) for i in (0, 2, 4)] if len(text) == 6 else None
        except ValueError:
            wanted = None
        mask = np.zeros(values.shape[:2], bool) if wanted is None else (values == wanted).all(axis=2)
    else:
        mask = values == int(text) if text.isdecimal() and len(text) < 10 else np.zeros(values.shape, bool)
    if stored.alpha is not None:
        mask &= stored.alpha > stored.alpha.max() // 2
    return mask if mask.any() else None


def _has_void(stored: Stored, mask: np.ndarray) -> bool:
    """Whether a picture with one label also has the void label."""
    values = stored.values
    if values.ndim == 3 or values.dtype.kind not in "ui" or stored.alpha is not None:
        return False
    void = values == VOID
    return bool(void.any() and (values == 0).any() and not mask[void].any())


def _some(names: list[str]) -> str:
    return ", ".join(names[:SEVERAL]) + (f" and {len(names) - SEVERAL} more" if len(names) > SEVERAL else "")


# -------------------------------------------------------------------------------------------------------------- files


def read_values(path: Path, *, upright: bool = False) -> Stored:
    """The stored values of a file. Raises UserError: it cannot be read, or is not a single picture."""
    if path.suffix.lower() == ".npy":
        return Stored(_array(path))
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot read the mask {path}: {error.strerror}") from error
    return _of_bytes(data, str(path), upright)


def _of_bytes(data: bytes, path: str, upright: bool) -> Stored:
    if data.startswith(b"\x89PNG") and not is_whole_png(data):
        raise UserError(f"cannot read the mask {path}: it is broken or cut off, or no picture")
    plain = None if upright else _plain_png(data, path)
    if plain is not None:
        return Stored(plain)
    try:
        with any_size(io.BytesIO(data)) as picture:
            check_pixels(picture.height, picture.width, path)
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise UserError(f"{path} holds {frames} pictures; give one mask file for each")
            if picture.mode not in MODES and not picture.mode.startswith("I;16"):
                raise UserError(
                    f"{path} is a picture in {picture.mode}; save the mask as white on black, as a PNG file"
                )
            stored = _of_picture(picture, data)
            turn = turning(picture) if upright else 1
    except UserError:
        raise
    except PICTURE_ERRORS as error:
        raise UserError(f"cannot read the mask {path}: it is broken or cut off, or no picture") from error
    if turn == 1:
        return stored
    alpha = None if stored.alpha is None else turned(stored.alpha, turn)
    return stored._replace(values=turned(stored.values, turn), alpha=alpha)


def _plain_png(data: bytes, path: str) -> np.ndarray | None:
    """Values of a complete PNG file with one 8-bit channel, as nearly all masks are: in half of Pillow's time."""
    if _png_header(data) != (8, 0) or b"acTL" in data[:4096]:
        return None
    check_pixels(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"), path)
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    return values if values is not None and values.ndim == 2 else None


def _of_picture(picture: Image.Image, data: bytes) -> Stored:
    mode = picture.mode
    depth, colour_type = _png_header(data)
    if depth == 16 and colour_type in (2, 4, 6):  # Pillow keeps only the upper eight bits
        return _of_channels(np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))[..., ::-1])
    lossy = picture.format in ("JPEG", "MPO", "JPEG2000") or (picture.format == "WEBP" and b"VP8L" not in data[:64])
    if mode == "P":
        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette = np.concatenate([palette, np.zeros((256 - len(palette), 3), np.uint8)])
        alpha = np.asarray(picture.convert("RGBA"))[..., 3] if "transparency" in picture.info else None
        return Stored(np.asarray(picture), _varying(alpha), palette)
    if mode in ("LA", "RGBA", "PA"):
        channels = np.asarray(picture.convert("RGBA" if mode != "LA" else "LA"))
        return Stored(_grey_if_one(channels[..., :-1]), _varying(channels[..., -1]), None, lossy)
    values = np.asarray(picture)
    if mode == "L" and depth in (2, 4) and values.max(initial=0) < 255:  # Pillow has stretched them to 0..255
        values = values // (255 // (2**depth - 1))
    return Stored(values, None, None, lossy)


def _of_channels(channels: np.ndarray) -> Stored:
    """Convert 16-bit colours, with alpha first if there are four channels."""
    if channels.shape[2] == 4:
        return Stored(_grey_if_one(channels[..., 1:]), _varying(channels[..., 0]))
    return Stored(_grey_if_one(channels))


def _grey_if_one(channels: np.ndarray) -> np.ndarray:
    """One channel instead of three equal ones."""
    first = channels[..., 0]
    return first if all(np.array_equal(first, channels[..., i]) for i in range(1, channels.shape[2])) else channels


def _varying(alpha: np.ndarray | None) -> np.ndarray | None:
    """The alpha channel if it is informative; None if the whole picture is equally opaque."""
    return None if alpha is None or alpha.min() == alpha.max() else alpha


def _png_header(data: bytes) -> tuple[int, int]:
    """Bit depth and colour type of a PNG file; zeros for others."""
    return (data[24], data[25]) if data.startswith(b"\x89PNG") and len(data) > 25 else (0, 0)


def _array(path: Path) -> np.ndarray:
    try:
        read = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(read, np.ndarray):
            raise ValueError("several arrays")
    except OSError as error:
        raise UserError(f"cannot read the mask {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, SyntaxError, TokenError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"cannot read the mask {path}: it is not a complete array of numbers") from error
    shape = read.shape
    if read.ndim == 3 and 1 in (shape[0], shape[2]):
        read = read.reshape(*(shape[1:] if shape[0] == 1 else shape[:2]))
    if read.dtype.kind not in "buif" or read.ndim not in (2, 3) or (read.ndim == 3 and read.shape[2] != 3):
        raise UserError(f"{path} is an array {read.dtype} {shape}; a mask is bool or numbers (H, W)")
    if 0 in read.shape:
        raise UserError(f"{path} is an empty array {shape}")
    check_pixels(read.shape[0], read.shape[1], path)
    return np.array(read)
