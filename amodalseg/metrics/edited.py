"""Quality of an edited photo: integers from which PSNR, SSIM and the other figures are derived.

Three areas: *kept* (the visible pixels of the object that must not change: was it preserved?), the *region* (what the
true edit changes: was it edited as requested?), and the *rest* (everything else).
"""

from __future__ import annotations

import numpy as np

from amodalseg.metrics.appearance import compare_colours
from amodalseg.metrics.moved import count_stays

EDIT_AREAS = ("kept", "region", "rest")
EDITED_COLUMNS = [
    *(f"edited_{area}_{count}" for area in EDIT_AREAS for count in ("pixels", "squared", "unlike")),
    *["edited_changes", "edited_stays"],
]


def compare_edited(
    source: np.ndarray, truth: np.ndarray, kept: np.ndarray, edited: np.ndarray | None
) -> dict[str, int]:
    """Compare an edit with the true one.

    Args:
        source: uint8 (H, W, 3), the photo before the edit. truth: the photo after it.
        kept: bool (H, W), the pixels of the preserved object that are visible before and after the edit. Pixels in
            which source and truth differ (soft outlines of what is edited) belong to the region.
        edited: a model's photo; None: it made no edit.

    Returns:
        Keyed by ``EDITED_COLUMNS``, all 0 without an edit: for each area its pixels, the squared error over pixels and
        channels, and the sum of 1 - SSIM in thousandths; ``edited_changes``: pixels of the region that the true edit
        changes by ``moved.CHANGE`` levels or more, ``edited_stays``: those among them where the model's photo is closer
        to the source than to the truth.
    """
    if edited is None:
        return dict.fromkeys(EDITED_COLUMNS, 0)
    assert edited.dtype == np.uint8 and edited.shape == truth.shape == source.shape, (edited.shape, truth.shape)
    assert kept.dtype == bool and kept.shape == source.shape[:2], (kept.dtype, kept.shape)
    region = (source != truth).any(axis=-1)
    found: dict[str, int] = {}
    for area, where in zip(EDIT_AREAS, (kept & ~region, region, ~(kept | region)), strict=True):
        counts = compare_colours(edited, truth, where)
        found |= {f"edited_{area}_{name}": counts[name] for name in ("pixels", "squared", "unlike")}
    changes, stays = count_stays(source, truth, edited, region)
    return found | {"edited_changes": changes, "edited_stays": stays}
