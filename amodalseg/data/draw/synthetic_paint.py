"""Colour for the synthetic world: textures, shading, backgrounds and the layering of objects."""

from __future__ import annotations

import cv2
import numpy as np

from amodalseg.data.draw.cover import Patch, overlap, random_direction
from amodalseg.data.draw.synthetic_shapes import Silhouette

Rng = np.random.Generator
SUPERSAMPLE = 4


def rasterise(silhouette: Silhouette, matrix: np.ndarray) -> np.ndarray:
    """Rasterise a silhouette with anti-aliasing.

    Args:
        silhouette: its parts, see ``synthetic_shapes``.
        matrix: float (2, 2), pixels for each unit.

    Returns:
        float32 (h, w) in [0, 1], cut to the silhouette with a margin of one pixel.
    """
    solid = np.concatenate([ring for rings, value in silhouette if value for ring in rings]) @ matrix.T
    corner = np.floor(solid.min(0)) - 1
    width, height = (np.ceil(solid.max(0)) + 2 - corner).astype(int)
    canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
    for rings, value in silhouette:
        points = [(ring @ matrix.T - corner) * SUPERSAMPLE - 0.5 for ring in rings]  # whole numbers are pixel centres
        cv2.fillPoly(canvas, [np.rint(ring * 16).astype(np.int32) for ring in points], 255 * value, shift=4)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def palette(rng: Rng) -> np.ndarray:
    """Two or three colours that differ in brightness, float32 (3, 3) RGB in [0, 255]."""
    hue, spread = rng.uniform(0, 180), rng.choice([8.0, 40.0])
    hsv = np.stack([hue + rng.normal(0, spread, 3), rng.uniform(20, 235, 3), rng.permutation([70, 150, 225])], 1)
    hsv[:, 2] += rng.uniform(-40, 30, 3)
    hsv[:, 0] %= 180
    return cv2.cvtColor(hsv[None].clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)[0].astype(np.float32)


def noise(rng: Rng, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise with blobs of about ``cell`` pixels, float32 (height, width) in [0, 1]."""
    coarse = rng.random((max(2, round(height / cell)), max(2, round(width / cell))), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def texture(rng: Rng, height: int, width: int, busy: bool = True) -> np.ndarray:
    """A random surface: plain, gradient, stripes, dots, checks or noise in a random palette.

    Args:
        rng: source of every choice.
        height, width: pixels.
        busy: draw patterns; off: only plain, gradient and noise.

    Returns:
        float32 (height, width, 3) RGB in [0, 255].
    """
    kind = rng.choice(["plain", "gradient", "noise", "stripes", "dots", "checks"][: 6 if busy else 3])
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    c, s = random_direction(rng).astype(np.float32)
    u, v = c * x + s * y, c * y - s * x
    period = np.float32(2 * np.pi / rng.uniform(4, 18))
    if kind == "plain":
        field: np.ndarray = np.full((height, width), 0.5, np.float32)
    elif kind == "gradient":
        field = (u - u.min()) / max(1.0, float(np.ptp(u)))
    elif kind == "noise":
        field = 0.6 * noise(rng, height, width, rng.uniform(6, 24)) + 0.4 * noise(rng, height, width, rng.uniform(2, 6))
    elif kind == "stripes":
        field = 0.5 + np.clip(rng.uniform(0.6, 4) * np.sin(u * period), -1, 1) / 2
    elif kind == "dots":
        field = np.clip(3 * (np.cos(u * period) + np.cos(v * period)) - rng.uniform(0, 3), 0, 1)
    else:
        field = 0.5 + np.clip(4 * np.sin(u * period) * np.sin(v * period), -1, 1) / 2
    low, middle, high = palette(rng)
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    colours = low + (high - low) * ramp + (4 * ramp * (1 - ramp)) * (middle - (low + high) / 2) * (kind == "gradient")
    rgb = np.take(colours, (field * 255).clip(0, 255).astype(np.uint8), axis=0)
    return rgb + rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(0, 7))


def shade(rng: Rng, rgb: np.ndarray, alpha: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Light an object: brighter where it faces the light, darker at its rim and on the far side.

    Args:
        rng: source of every choice.
        rgb, alpha: float32 (h, w, 3) in [0, 255] and (h, w) in [0, 1].
        light: float32 (2,), unit vector of the light's travel.

    Returns:
        float32 (h, w, 3) in [0, 255].
    """
    radius = max(1.0, rng.uniform(0.02, 0.08) * max(alpha.shape))
    round_ = cv2.GaussianBlur(alpha, (0, 0), radius, borderType=cv2.BORDER_CONSTANT)
    slope = (cv2.Sobel(round_, cv2.CV_32F, dx, 1 - dx, scale=radius / 8) for dx in (1, 0))
    relief = sum(part * float(axis) for part, axis in zip(slope, light, strict=True))
    side = np.linspace(-1, 1, alpha.shape[1], dtype=np.float32) * light[0]
    side = side + np.linspace(-1, 1, alpha.shape[0], dtype=np.float32)[:, None] * light[1]
    gain = 1 - rng.uniform(0.0, 0.2) * side + rng.uniform(0.0, 1.2) * relief
    gain -= rng.uniform(0, 0.5) * np.clip(1 - round_, 0, 1)
    return np.clip(rgb * gain[..., None], 0, 255, dtype=np.float32)


def background(rng: Rng, size: int) -> np.ndarray:
    """A textured ground, at times with a horizon, strewn with clutter. Returns: float32 (size, size, 3) in [0, 255]."""
    canvas = texture(rng, size, size, busy=rng.random() < 0.5)
    if rng.random() < 0.4:
        horizon = int(size * rng.uniform(0.3, 0.8))
        canvas[horizon:] = texture(rng, size - horizon, size, busy=False)
    for _ in range(rng.integers(3, 16)):
        colour = tuple(rng.uniform(20, 235, 3))
        (x0, y0, x1, y1), thick = (int(v) for v in rng.integers(0, size, 4)), int(rng.integers(1, 2 + size // 24))
        kind = rng.integers(4)
        if kind == 0:
            cv2.line(canvas, (x0, y0), (x1, y1), colour, thick)
        elif kind == 1:
            cv2.circle(canvas, (x0, y0), int(rng.integers(2, size // 8)), colour, -1 if thick > 3 else thick)
        elif kind == 2:
            cv2.rectangle(canvas, (x0, y0), (x0 + x1 // 4, y0 + y1 // 4), colour, -1 if thick > 2 else thick)
        else:
            axes = int(rng.integers(2, size // 4)), int(rng.integers(2, size // 8))
            cv2.ellipse(canvas, (x0, y0), axes, x1, 0, 360, colour, -1 if thick > 2 else thick)
    if rng.random() < 0.6:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, size / 48))
    return canvas


def cast_shadow(canvas: np.ndarray, sprite: Patch, offset: np.ndarray, softness: float, strength: float) -> None:
    """Darken the canvas under a sprite's soft shadow, in place.

    Args:
        canvas: float32 (H, W, 3).
        sprite: the object that casts the shadow.
        offset: (2,) x and y of the shadow relative to the sprite, pixels.
        softness: standard deviation of the shadow's edge, pixels.
        strength: in [0, 1], share of the light lost at its centre.
    """
    pad = int(3 * softness) + 1
    alpha = cv2.copyMakeBorder(sprite.alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    alpha = cv2.GaussianBlur(alpha, (0, 0), softness)
    x, y = np.rint(offset).astype(int)
    here, there = overlap(canvas.shape, alpha.shape, sprite.x - pad + int(x), sprite.y - pad + int(y))
    canvas[here] *= 1 - strength * alpha[there][..., None]


def lay(canvas: np.ndarray, sprite: Patch) -> None:
    """Blend a sprite over the canvas, float32 (H, W, 3), in place."""
    here, there = overlap(canvas.shape, sprite.alpha.shape, sprite.x, sprite.y)
    canvas[here] += (sprite.rgb[there] - canvas[here]) * sprite.alpha[there][..., None]
