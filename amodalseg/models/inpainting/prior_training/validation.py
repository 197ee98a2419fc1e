"""Does the prior generate whole objects? A fixed test: completing objects on grey with a random half hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodalseg.data.draw.whole_objects import PriorSample
from amodalseg.models.inpainting.backends.backend import InpaintingBackend
from amodalseg.models.inpainting.parts.read_off import differs_from
from amodalseg.models.inpainting.steps.sample import inpaint
from amodalseg.types import stable_seed

TITLES = ("given", "completed", "read off", "truth", "nothing given")


def to_pictures(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 (H, W, 3) each -> float32 (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pictures: Tensor) -> np.ndarray:
    """float32 (B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3)."""
    scaled = ((pictures.clamp(-1, 1) + 1) * 127.5).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()


def complete_halves(
    backend: InpaintingBackend, cases: Sequence[PriorSample], steps: int, batch_size: int = 16, seed: int = 0
) -> tuple[list[dict[str, Any]], list[list[np.ndarray]]]:
    """Complete cases of ``WholeObjects.half_hidden``, with a read-off of the hidden part by background difference.

    The same holes are also completed in the background alone. That result is independent of the object: a
    prior completes objects only as far as it does better with the visible half than without.

    Args:
        backend: a pixel-space one of the cases' size.
        cases: their background must be known everywhere.
        steps: of the sampler.
        batch_size: objects per evaluation of the network.
        seed: of the noise, combined with each object's key.

    Returns:
        A row for each case, and its pictures, those of ``TITLES``. A row holds ``key`` and the intersections and unions
        with the hidden part: of the read-off (``inter``, ``union``), of the read-off from the background alone
        (``alone_inter``, ``alone_union``), and of the whole hole (``hole_inter``, ``hole_union``).
    """
    pictures, empty = to_pictures([case.picture for case in cases]), to_pictures([case.empty for case in cases])
    holes = torch.from_numpy(np.stack([case.hole for case in cases]) > 0)[:, None]
    seeds = [stable_seed("half", seed, case.key) for case in cases]
    completed = to_images(inpaint(backend, pictures, holes, seeds, steps=steps, batch_size=batch_size))
    alone = to_images(inpaint(backend, empty, holes, seeds, steps=steps, batch_size=batch_size))
    rows, shown = [], []
    for case, full, without in zip(cases, completed, alone, strict=True):
        hole = case.hole > 0
        hidden = (case.mask > 0) & hole
        row: dict[str, Any] = {"key": case.key}
        found = differs_from(full, case.empty) & hole
        for name, mask in (("", found), ("alone_", differs_from(without, case.empty) & hole), ("hole_", hole)):
            row[f"{name}inter"] = int((mask & hidden).sum())
            row[f"{name}union"] = int((mask | hidden).sum())
        rows.append(row)
        given = case.picture.copy()
        given[hole] = (255, 0, 255)
        completion = np.where((found | ((case.mask > 0) & ~hole))[..., None], full, np.uint8(255))
        shown.append([given, full, completion, case.picture, without])
    return rows, shown


def prior_scores(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The scores of a validation.

    Returns:
        ``half_hidden``: the mean IoU with the hidden half, in percent, of the read-off (``iou``), of the read-off from
        the background alone (``alone``), of the whole hole (``hole``), and the gain from the visible half (``gain``,
        iou minus alone). ``denoising``: ``fit``, the share of the variance of v in the holes of random training
        pictures that the network explains, in percent; ``loss``, the mean squared error of v there.
    """

    def mean(values: list[float]) -> float | None:
        return float(np.mean(values)) if values else None

    def iou(name: str) -> float | None:
        found = [row for row in rows if "inter" in row and row["hole_inter"]]
        return mean([100 * row[f"{name}inter"] / row[f"{name}union"] for row in found])

    whole, alone, hole = iou(""), iou("alone_"), iou("hole_")
    errors, variances = ([row[name] for row in rows if name in row] for name in ("error", "variance"))
    fit = 100 * (1 - sum(errors) / max(1e-9, sum(variances))) if errors else None
    gain = None if whole is None or alone is None else whole - alone
    return {
        "half_hidden": {"iou": whole, "alone": alone, "hole": hole, "gain": gain},
        "denoising": {"fit": fit, "loss": mean(errors)},
    }
