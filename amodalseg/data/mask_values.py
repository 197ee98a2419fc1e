"""Interpretation of the values of a mask file: one object, several labelled ones, or not a mask.

Each ``decide_*`` returns the object's mask, bool (H, W), or ``Labels``, or raises ValueError with the reason why the
values are not a mask.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

VOID = 255
"""The index that label pictures reserve for unlabelled (void) pixels."""
SMALL = 100
"""Maximum value of consecutive labels; 128 together with 255 is more likely a picture of three tones."""
DARK, LIGHT = 32, 223
"""Grey values up to DARK are black altered by lossy compression, from LIGHT on white; between them lie soft edges."""
FEW = 8
"""Maximum number of grey values between black and white that could be labels."""
MOST_LABELS, MOST_COLOURS = 4096, 256
"""Maximum number in one picture; with more it is a photo."""
NEAR = 24
"""Maximum difference in a colour channel caused by a lossy format."""


class Labels(NamedTuple):
    """Several objects in one picture. names: their labels, as accepted by ``--label``."""

    names: list[str]


def decide_grey(values: np.ndarray, lossy: bool = False) -> np.ndarray | Labels:
    """Interpret one channel.

    - Floats are probabilities: the object is above 0.5.
    - One value besides 0 (1, 38, 255, 65535, ...): it marks the object.
    - Black and white with soft edges: the object is the lighter half.
    - Several values that fill areas: labels.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinite values")
        if values.min() >= 0 and values.max() <= 1:
            return np.asarray(values > 0.5)
        if (values != np.round(values)).any() or np.abs(values).max() > 2**31:
            raise ValueError(
                f"its numbers go from {values.min():g} to {values.max():g}, and are neither 0..1 nor integers"
            )
        values = values.astype(np.int64)
    if values.min() < 0:
        raise ValueError("it holds negative numbers")
    if not lossy and values.dtype == np.uint8 and _has_one_value(values):
        return values > 0
    present = _present(values)
    if not lossy and len(present[present > 0]) <= 1:
        return values > 0
    soft = _soft(values, present, lossy)
    if soft is not None:
        return soft
    if lossy:
        raise ValueError("it is compressed with loss, and not white on black")
    return _labels(values, present)


def _has_one_value(values: np.ndarray) -> bool:
    """Whether a uint8 picture has at most one value besides 0; fast, since nearly all masks pass through here."""
    top = np.full(1, max(1, int(values.max())))
    return bool(cv2.countNonZero(values) == cv2.countNonZero(cv2.inRange(values, top, top)))


def _present(values: np.ndarray) -> np.ndarray:
    """The values that occur, in ascending order."""
    top = int(values.max())
    return np.flatnonzero(np.bincount(values.ravel(), minlength=1)) if top < 2**16 else np.unique(values)


def _soft(values: np.ndarray, present: np.ndarray, lossy: bool) -> np.ndarray | None:
    """The object of a white-on-black picture with soft edges; None for any other picture."""
    full = 255 if present[-1] <= 255 else 65535
    if lossy:  # the object's own grey, spread by lossy compression
        counts = np.bincount(values.ravel(), minlength=256)
        counts[: DARK + 16] = 0
        full = int(counts.argmax()) or full
    grey = np.minimum(values.astype(np.float32) * (255 / full), 255)
    light, middle = grey >= LIGHT, (grey > DARK) & (grey < LIGHT)
    core = np.abs(values.astype(np.int64) - full) <= DARK * full / 255
    # photos are spread over all greys; most of a mask is black or the object's grey
    if core.sum() < (0.75 if lossy else 0.4) * (grey > 127).sum() or (values > full + DARK).mean() > 0.01:
        return None
    if not light.any() or 4 * light.sum() < middle.sum():
        return None
    wide = max(15, round(0.04 * min(values.shape)) | 1)
    if cv2.erode(middle.astype(np.uint8), np.ones((wide, wide), np.uint8)).any():
        return None  # no edge is so wide: a photo
    between = present[(present * (255 / full) > DARK) & (present * (255 / full) < LIGHT)]
    if not lossy:
        dim = present[(present > 0) & (present * (255 / full) <= DARK)]
        if len(dim) and not len(between) and present[-1] == full and present[-2] in dim:
            return None  # a few small numbers and 255: labels and void
        if len(between) <= FEW:
            beside = cv2.dilate(light.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
            if (middle & ~beside).sum() > 0.05 * middle.sum():
                return None
        if _flat(values, middle).sum() > 0.02 * (light | middle).sum():
            return None
    return np.asarray(grey > 127)


def _flat(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Pixels of ``where`` whose eight neighbours have the same value: areas, not soft edges."""
    numbers = values.astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    return where & (cv2.erode(numbers, square) == cv2.dilate(numbers, square))


def _labels(values: np.ndarray, present: np.ndarray) -> np.ndarray | Labels:
    """Labels, without 0; 255 beside small ones is void."""
    labels = present[present > 0]
    share = _flat(values, np.ones(values.shape, bool)).mean()
    if len(labels) > MOST_LABELS or (len(labels) > 64 and share < 0.2):
        raise ValueError(f"it holds {len(present)} different values, like a photo")
    rest = labels[labels != VOID]  # void is reported by ``mask_files``
    objects = rest if present[0] == 0 and len(rest) and rest[-1] <= SMALL else labels
    if len(objects) > 1:
        return Labels([str(label) for label in objects])
    return np.asarray(values == objects[0])


def decide_indices(values: np.ndarray, palette: np.ndarray) -> np.ndarray | Labels:
    """Interpret palette indices: labels, 0 is the background.

    The palette's colours count only if it merely stores a black-and-white, grey or two-coloured picture.
    """
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    colours = palette[used]
    grey = bool((colours == colours[:, :1]).all())
    if grey and ({0, 255} == set(colours[:, 0].tolist()) or len(used) > 2 * FEW):
        return decide_grey(palette[:, 0][values])
    if len(used) == 2 and (colours[0] != colours[1]).any():
        chosen = _of_two([tuple(map(int, colour)) for colour in colours], palette[values])
        if chosen is not None:
            return np.asarray((palette[values] == chosen).all(axis=2))
    return _labels(values, used) if used.any() else values > 0


def decide_alpha(alpha: np.ndarray, colours: np.ndarray) -> np.ndarray | Labels:
    """Interpret an alpha channel that varies: opaque pixels are the object, unless their colours separate several."""
    if alpha.min() > 0.2 * alpha.max():
        raise ValueError("it has an alpha channel, but nothing in it is transparent")
    mask = decide_grey(alpha)
    if isinstance(mask, Labels):
        raise ValueError(f"its alpha channel has the levels {', '.join(mask.names[:5])}, and none marks the object")
    codes = _codes(colours)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    kinds, counts = np.unique(codes[inner if inner.any() else mask], return_counts=True)
    large = kinds[counts > 0.01 * counts.sum()]
    if len(kinds) > 256 or len(large) < 2 or counts[np.isin(kinds, large)].sum() < 0.9 * counts.sum():
        return mask  # a cut-out photo, or one colour
    if set(large.tolist()) == {0, _code((255, 255, 255))} or colours.ndim == 2:
        raise ValueError("its alpha channel and its black-and-white colours contradict each other")
    return Labels([f"{int(kind):06x}" for kind in large])


def decide_colours(values: np.ndarray, lossy: bool = False) -> np.ndarray | Labels:
    """Interpret three channels: one colour on black or white is the object, several are labels."""
    spread = int((values.max(axis=2).astype(np.int64) - values.min(axis=2)).max())
    if spread <= (NEAR if lossy else 0):
        return decide_grey(values[..., 1], lossy)
    if values.max() > 255:
        values = values >> 8
    codes = _codes(values)
    kinds, counts = np.unique(codes, return_counts=True)
    if len(kinds) == 2 and not lossy:
        chosen = _of_two([_colour(kind) for kind in kinds], values)
        if chosen is not None:
            return codes == _code(chosen)
    painted = _painted(values, kinds, counts, lossy)
    if painted is not None:
        return painted
    flat = _flat(codes, np.ones(codes.shape, bool)).mean()
    if lossy or len(kinds) > MOST_COLOURS or (len(kinds) > 64 and flat < 0.2) or flat < 0.02:
        raise ValueError(f"it holds {len(kinds)} colours, like a photo; paint the object on black, not on the photo")
    base = 0 if 0 in kinds else _code((255, 255, 255))
    objects = kinds[kinds != base]
    return Labels([f"{int(kind):06x}" for kind in objects])


def _of_two(colours: list[tuple[int, ...]], values: np.ndarray) -> tuple[int, ...] | None:
    """Which of two colours is the object's: the one that is not black, or not the surrounding white."""
    black, white = (0, 0, 0), (255, 255, 255)
    for base in (black, white):
        if base in colours:
            other = colours[1 - colours.index(base)]
            if base == black or _border_is(values, base):
                return other
    return None


def _border_is(values: np.ndarray, colour: tuple[int, ...], near: int = 0) -> bool:
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]).astype(int)
    return bool((np.abs(edge - np.array(colour)).max(axis=1) <= near).mean() > 0.5)


def _painted(values: np.ndarray, kinds: np.ndarray, counts: np.ndarray, lossy: bool) -> np.ndarray | None:
    """An object of one colour on black or white, with soft edges between them."""
    base = next(
        (np.array(c) for c in ((0, 0, 0), (255, 255, 255)) if _border_is(values, c, NEAR if lossy else 0)), None
    )
    if base is None:
        return None
    colours = np.stack([kinds >> 16, (kinds >> 8) & 255, kinds & 255], axis=1)
    far = np.abs(colours - base).max(axis=1) > 96
    if not far.any():
        return None
    paint = colours[far][counts[far].argmax()] - base
    away = values.astype(np.float32) - base
    share = away @ paint.astype(np.float32) / float(paint @ paint)
    rest = np.abs(away - share[..., None] * paint).max(axis=2)
    if (rest > (2 * NEAR if lossy else 8)).mean() > (0.01 if lossy else 0):
        return None
    grey = np.clip(np.round(share * 255), 0, 255).astype(np.uint8)
    if not lossy and (share > 1.05).any():
        return None
    return _soft(grey, _present(grey), lossy)


def _codes(values: np.ndarray) -> np.ndarray:
    """Each colour as one number, (H, W); grey values are unchanged."""
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    wide = values.astype(np.int64) >> (8 if values.max() > 255 else 0)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _code(colour: tuple[int, ...]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _colour(code: int) -> tuple[int, ...]:
    return int(code) >> 16, (int(code) >> 8) & 255, int(code) & 255
