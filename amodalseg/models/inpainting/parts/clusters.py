"""Segment an object in a picture that is still noisy, by clustering the network's features (paper 001, section 3.5)."""

from __future__ import annotations

import numpy as np

ROUNDS = 30  # of Lloyd's algorithm, at most


def cluster(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Lloyd's k-means, started by k-means++.

    Args:
        points: float (N, C).
        count: of clusters, from 1.
        rng: source of the initial centres.

    Returns:
        int (N,) in [0, count). Some numbers do not occur if there are fewer distinct points than clusters.
    """
    points = np.asarray(points, np.float64)
    centres = points[[int(rng.integers(len(points)))]]
    while len(centres) < count:
        distance = _squares(points, centres).min(axis=1)
        if distance.sum() == 0:
            break  # every point is a centre already
        chosen = np.searchsorted(np.cumsum(distance), rng.random() * distance.sum(), side="right")
        centres = np.concatenate([centres, points[[min(int(chosen), len(points) - 1)]]])
    labels = _squares(points, centres).argmin(axis=1)
    for _ in range(ROUNDS):
        for label in range(len(centres)):
            if (labels == label).any():
                centres[label] = points[labels == label].mean(axis=0)
        before, labels = labels, _squares(points, centres).argmin(axis=1)
        if (labels == before).all():
            break
    return labels


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances, (N, C) and (K, C) -> (N, K)."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return squares.clip(min=0) if len(centres) > 1 else ((points - centres) ** 2).sum(axis=1, keepdims=True)


def cut_out(
    features: np.ndarray,
    modal: np.ndarray,
    hole: np.ndarray,
    count: int,
    share: float,
    rng: np.random.Generator,
    choice: str = "all",
) -> np.ndarray:
    """Find an object by the clusters of its visible region.

    Args:
        features: float (C, h, w), at any resolution.
        modal: bool (S, S), not empty.
        hole: bool (S, S), where more of the object may lie.
        count: of clusters.
        share: of ``modal`` that a cluster must cover more than to count as the object's; for ``all``.
        rng: source of the initial cluster centres.
        choice: ``all`` (the clusters above ``share`` together, as the paper's released code), or ``best_overlap`` (the
            one that covers most of ``modal``, as its text has it).

    Returns:
        bool (S, S): the visible region, and positions of the hole in one of its clusters.
    """
    channels, height, width = features.shape
    labels = cluster(features.reshape(channels, -1).T, count, rng).reshape(height, width)
    rows = np.arange(modal.shape[0]) * height // modal.shape[0]
    columns = np.arange(modal.shape[1]) * width // modal.shape[1]
    labels = labels[rows][:, columns]  # nearest position, so that each pixel has a label
    shares = np.bincount(labels[modal], minlength=count) / modal.sum()
    chosen = [int(shares.argmax())] if choice == "best_overlap" else np.flatnonzero(shares > share)
    return modal | (np.isin(labels, chosen) & hole)
