"""Quality of a photo after a move: integers from which PSNR, SSIM and the other figures are derived.

Three areas, each a task of its own: the *origin* (the modal mask without the target: was the object removed?), the
*target* (the whole object after the move: was it completed?), and the *rest* (was everything else preserved?).
"""

from __future__ import annotations

import numpy as np

from amodalseg.metrics.appearance import compare_colours

AREAS = ("origin", "target", "rest")
CHANGE = 24
"""Minimum difference in the most different channel, of 255, at which a pixel counts as changed by a move or an edit."""
MOVED_COLUMNS = [
    *(f"moved_{area}_{count}" for area in AREAS for count in ("pixels", "squared", "unlike")),
    *["moved_changes", "moved_stays", "moved_inter", "moved_union"],
]


def compare_moved(
    source: np.ndarray, truth: np.ndarray, modal: np.ndarray, there: np.ndarray,
    moved: np.ndarray | None, moved_mask: np.ndarray | None,
) -> dict[str, int]:  # fmt: skip
    """Compare a move with the true one.

    Args:
        source: uint8 (H, W, 3), the photo before the move. truth: the photo after it.
        modal: bool (H, W), the annotated modal mask before the move.
        there: bool (H, W), the whole object after it.
        moved, moved_mask: a model's photo and mask; None: it made no move.

    Returns:
        Keyed by ``MOVED_COLUMNS``, all 0 without a move: for each area its pixels, the squared error over pixels and
        channels, and the sum of 1 - SSIM in thousandths; ``moved_changes``: pixels of the origin that the true move
        changes, ``moved_stays``: those among them where the model's photo is closer to the source than to the truth;
        ``moved_inter``, ``moved_union``: of the masks.
    """
    if moved is None or moved_mask is None:
        return dict.fromkeys(MOVED_COLUMNS, 0)
    assert moved.dtype == np.uint8 and moved.shape == truth.shape == source.shape, (moved.shape, truth.shape)
    assert moved_mask.dtype == bool and moved_mask.shape == there.shape == modal.shape, moved_mask.shape
    origin = modal & ~there
    found: dict[str, int] = {}
    for area, where in zip(AREAS, (origin, there, ~(origin | there)), strict=True):
        counts = compare_colours(moved, truth, where)
        found |= {f"moved_{area}_{name}": counts[name] for name in ("pixels", "squared", "unlike")}
    found["moved_changes"], found["moved_stays"] = count_stays(source, truth, moved, origin)
    return found | {
        "moved_inter": int((moved_mask & there).sum()),
        "moved_union": int((moved_mask | there).sum()),
    }


def count_stays(source: np.ndarray, truth: np.ndarray, made: np.ndarray, where: np.ndarray) -> tuple[int, int]:
    """Count pixels that should change, and those among them that did not.

    Args:
        source, truth, made: uint8 (H, W, 3): the photo before, the ground truth after, and the model's photo.
        where: bool (H, W).

    Returns:
        Pixels there that the truth changes by ``CHANGE`` or more, and those among them where the model's photo is
        closer to the source than to the truth.
    """
    before, after, now = (picture[where].astype(np.int64) for picture in (source, truth, made))
    changes = np.abs(before - after).max(axis=1, initial=0) >= CHANGE
    stays = ((now - before) ** 2).sum(axis=1) < ((now - after) ** 2).sum(axis=1)
    return int(changes.sum()), int((changes & stays).sum())
