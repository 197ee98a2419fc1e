"""Read an object's mask off a completed picture."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from amodalseg.masks import convex_hull

KINDS = ("difference", "grabcut", "segmenter")
POINTS = 9  # of the visible region, given to a segmenter
ROUNDS = 5  # of GrabCut
FINER, COARSE = 3, 96  # smaller pictures are enlarged for GrabCut, which knows too little about colours in a few pixels
LEAST = 24  # of 255, in the channel that differs most


class Segmenter(Protocol):
    """Finds the object at some points of a picture."""

    def segment(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        """uint8 (S, S, 3) and int (P, 2), x and y -> bool (S, S)."""


def read_off(
    kind: str,
    picture: np.ndarray,
    modal: np.ndarray,
    area: np.ndarray,
    background: np.ndarray,
    segmenter: Segmenter | None = None,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Find the completed object.

    Args:
        kind: ``difference`` (to the background it stands on, within the area), ``grabcut`` (colours of object and
            surroundings; the visible part is certain, its hull likely, nothing beyond area and hull possible), or
            ``segmenter`` (at nine points sampled uniformly from the visible part; its mask is not cut to the area).
        picture: uint8 (S, S, 3), completed.
        modal: bool (S, S), not empty: the visible part.
        area: bool (S, S), what was completed.
        background: uint8 (S, S, 3), the background behind the object.
        segmenter: for the kind ``segmenter``.
        rng: source of its points.

    Returns:
        bool (S, S). The first two contain the visible part outside the area, or all of it.
    """
    assert kind in KINDS and modal.any(), kind
    if kind == "segmenter":
        assert segmenter is not None and rng is not None
        rows, columns = np.nonzero(modal)
        chosen = rng.integers(len(rows), size=POINTS)
        return segmenter.segment(picture, np.stack([columns[chosen], rows[chosen]], axis=1))
    if kind == "difference":
        return differs_from(picture, background) & area | modal & ~area
    return _cut_by_colour(picture, modal, area)


def _cut_by_colour(picture: np.ndarray, modal: np.ndarray, area: np.ndarray) -> np.ndarray:
    likely = convex_hull(modal)
    labels = np.full(modal.shape, cv2.GC_BGD, np.uint8)
    labels[area] = cv2.GC_PR_BGD
    labels[likely & area] = cv2.GC_PR_FGD
    labels[modal] = cv2.GC_FGD
    if not area.any() or np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).all():
        return modal | area  # nothing to decide, or nothing to compare with
    cv2.setRNGSeed(0)  # its clusters start from OpenCV's own generator: the result must not depend on earlier calls
    models, side = (np.zeros((1, 65)), np.zeros((1, 65))), len(picture)
    if side < COARSE:
        wide = FINER * side, FINER * side
        picture = cv2.resize(picture, wide, interpolation=cv2.INTER_CUBIC)
        labels = np.kron(labels, np.ones((FINER, FINER), np.uint8))
    cv2.grabCut(np.ascontiguousarray(picture), labels, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore
    share = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    found: np.ndarray = cv2.resize(share, (side, side), interpolation=cv2.INTER_AREA) > 0.5
    return found


def whole(mask: np.ndarray, modal: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The object's part of a mask that was read off: parts in the hole or the visible region that touch the latter.

    Args:
        mask, modal, hole: bool (S, S).

    Returns:
        bool (S, S).
    """
    _, labels = cv2.connectedComponents((mask & (hole | modal) | modal).astype(np.uint8), connectivity=8)
    return np.isin(labels, np.unique(labels[modal])) & mask


def differs_from(picture: np.ndarray, background: np.ndarray, least: int = LEAST) -> np.ndarray:
    """Where a picture differs from the background on which the object was placed.

    Args:
        picture: uint8 (H, W, 3), completed.
        background: uint8 (H, W, 3).
        least: the difference that counts, in the channel that differs most; from 1 to 255.

    Returns:
        bool (H, W), without isolated pixels.
    """
    difference = cv2.absdiff(picture, background).max(axis=2)
    return cv2.medianBlur((difference >= least).astype(np.uint8), 3).astype(bool)
