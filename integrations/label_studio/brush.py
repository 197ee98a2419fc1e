"""Conversion of masks to and from the run lengths of Label Studio's brush, a list of bytes.

The bytes are a bit stream as in https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack. The header holds
the number of values (32 bits), the bits per value minus 1 (5 bits), and four widths minus 1 (4 bits each). Blocks
follow: one bit, two bits that select a width, and the block's length minus 1 in that width; then, if the bit is 1, one
value, which is repeated, and if it is 0, that many values. The values are those of the picture, row by row, four per
pixel (red, green, blue, alpha); the mask is the alpha channel.
"""

from __future__ import annotations

import numpy as np

WIDTHS = 3, 4, 8, 16
"""Bit widths of block lengths that are written here; masks that are read state their own."""
OPAQUE = 128
"""Minimum alpha of pixels that belong to the mask: brushes have soft edges."""


def encode(mask: np.ndarray) -> list[int]:
    """Args: mask, bool (H, W). Returns: the bytes, each 0 to 255."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in WIDTHS)]
    for start, length in zip(starts, 4 * np.diff(starts, append=flat.size), strict=True):
        value = "1" * 8 if flat[start] else "0" * 8
        while length > 0:
            part = min(int(length), 1 << WIDTHS[-1])
            choice = next(number for number, width in enumerate(WIDTHS) if part <= 1 << width)
            bits.append(f"1{choice:02b}{part - 1:0{WIDTHS[choice]}b}{value}")
            length -= part
    stream = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    return np.packbits(stream).tolist()


def decode(rle: list[int], height: int, width: int) -> np.ndarray:
    """Read a mask.

    Args:
        rle: the bytes, each 0 to 255.
        height, width: of the picture, in pixels.

    Returns:
        bool (H, W).

    Raises:
        ValueError: the list does not hold bytes, has another size, or is truncated.
    """
    if not isinstance(rle, list) or not all(type(byte) is int and 0 <= byte <= 255 for byte in rle):
        raise ValueError("the run lengths of a brush are a list of bytes")
    stream = np.unpackbits(np.array(rle, np.uint8))
    place = 0

    def read(width: int, count: int = 1) -> np.ndarray:
        """``count`` numbers of ``width`` bits."""
        nonlocal place
        found = stream[place : place + width * count]
        if len(found) < width * count:
            raise ValueError("the run lengths of a brush are cut off")
        place += width * count
        return found.reshape(count, width) @ (1 << np.arange(width, dtype=np.int64)[::-1])

    count = int(read(32)[0])
    if count != 4 * height * width:
        raise ValueError(f"the run lengths of a brush have {count} values, not 4 x {height} x {width}")
    word = int(read(5)[0]) + 1
    widths = read(4, 4) + 1
    values = np.empty(count, np.int64 if word > 8 else np.uint8)
    done = 0
    while done < count:
        repeated, choice = read(1)[0], read(2)[0]
        end = done + int(read(int(widths[choice]))[0]) + 1
        if end > count:
            raise ValueError("the run lengths of a brush have more values than they state")
        values[done:end] = read(word, 1 if repeated else end - done)
        done = end
    return values.reshape(height, width, 4)[..., 3] >= OPAQUE
