"""Large things that others stand on or in front of: ground, walls, tables, plates, furniture. Shape and place only."""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


def random_surface(rng: Rng, height: int, width: int) -> tuple[str, np.ndarray]:
    """Draw the silhouette of a large thing in a picture; most are cut off by its border.

    Returns:
        Its family, and its coverage, float32 (height, width) in [0, 1], soft by half a pixel at the edge.
    """
    family = FAMILIES[rng.integers(len(FAMILIES))]
    scale = 4  # corners in quarters of a pixel, on a canvas of twice the size, so that slanted edges are smooth
    canvas = np.zeros((height * 2, width * 2), np.uint8)
    for ring in family(rng):
        points = np.rint(ring * (2 * width * scale, 2 * height * scale)).astype(np.int32)
        cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, shift=2)
    return family.__name__, cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _turned(ring: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return (ring - 0.5) @ np.array([[c, s], [-s, c]]) + 0.5


def side(rng: Rng) -> list[np.ndarray]:
    """Everything on one side of a wavy line: ground, water, hills, sky, a wall."""
    x = np.linspace(-0.6, 1.6, 60)
    line = np.full_like(x, rng.uniform(0.15, 0.75))
    for _ in range(rng.integers(0, 4)):
        line += rng.uniform(0, 0.08) * np.sin(x * rng.uniform(2, 20) + rng.uniform(0, 6.3))
    ring = np.concatenate([np.stack([x, line], 1), [[1.6, 2.0], [-0.6, 2.0]]])
    turn = rng.choice([0, 0, 0, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.12)
    return [_turned(ring, float(turn))]


def board(rng: Rng) -> list[np.ndarray]:
    """A rectangle seen from aslant: a table top, a tray, a carpet, a bed, a screen."""
    top, left, right = rng.uniform(0.05, 0.5), rng.uniform(-0.1, 0.4), rng.uniform(0.6, 1.1)
    bottom, slant, lean = rng.uniform(0.6, 1.1), rng.uniform(0, 0.4) * (right - left), rng.uniform(-0.2, 0.2)
    ring = np.array([[left + slant + lean, top], [right - slant + lean, top], [right, bottom], [left, bottom]])
    return [_turned(ring, rng.normal(0, 0.25))]


def disc(rng: Rng) -> list[np.ndarray]:
    """An ellipse or a rounded box: a plate, a pond, a round table, a cushion."""
    t, power = np.linspace(0, 2 * np.pi, 80, endpoint=False), 2 / rng.uniform(2, 6)
    ring = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(t), np.sin(t))], 1)
    ring = 0.5 + 0.5 * ring * rng.uniform(0.3, 0.95, 2) + rng.uniform(-0.25, 0.25, 2)
    return [_turned(ring, rng.normal(0, 0.4))]


def furniture(rng: Rng) -> list[np.ndarray]:
    """A box with a back, arms or legs: a sofa, a bench, a table, a cupboard, a vehicle."""
    left, right = rng.uniform(0, 0.25), rng.uniform(0.7, 1.0)
    top, bottom = rng.uniform(0.3, 0.55), rng.uniform(0.65, 0.9)
    rings = [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]
    if rng.random() < 0.6:  # the back
        inset, up = rng.uniform(0, 0.15, 2), rng.uniform(0.1, 0.3)
        rings.append(
            np.array([[left + inset[0], top - up], [right - inset[1], top - up], [right, bottom], [left, bottom]])
        )
    if rng.random() < 0.7:  # the legs
        wide, down, lean = rng.uniform(0.02, 0.08), rng.uniform(0.05, 0.35), rng.uniform(-0.03, 0.06)
        for x, way in ((left, -1), (right - wide, 1)):
            foot, head, end = x + way * lean, bottom - 0.05, bottom + down
            rings.append(np.array([[x, head], [x + wide, head], [foot + wide, end], [foot, end]]))
    turn, move = rng.normal(0, 0.08), rng.uniform(-0.15, 0.15, 2)
    return [_turned(ring + move, turn) for ring in rings]


def blob(rng: Rng) -> list[np.ndarray]:
    """A round, irregular outline: a bush, a rock, a cloud, a heap."""
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = np.ones_like(t)
    for k in range(2, 9):
        radius += rng.normal(0, 0.35 / k) * np.cos(k * t + rng.uniform(0, 6.3))
    ring = np.stack([np.cos(t), np.sin(t)], 1) * radius.clip(0.2)[:, None]
    return [0.5 + ring * rng.uniform(0.2, 0.5, 2) + rng.uniform(-0.3, 0.3, 2)]


FAMILIES = (side, side, board, disc, furniture, blob)
