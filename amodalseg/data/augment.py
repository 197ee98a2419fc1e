"""One random transform for image and masks, then changes to one of them: the only importer of albumentations."""

from __future__ import annotations

import os
import random

import cv2
import numpy as np

from amodalseg.config.schema import AugmentConfig


class Augment:
    """Random changes of a training sample; each call is a pure function of its inputs and of ``rng``."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise the import checks online for a newer version
        import albumentations as A  # takes seconds, so only training imports it

        turn = (-config.rotate, config.rotate)
        self._map = A.Compose(
            [
                A.HorizontalFlip(p=config.flip),
                A.Rotate(turn, p=float(config.rotate > 0), border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=0),
                A.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.05, 0.05), p=config.color),
                A.ToGray(p=config.grayscale),
            ],
            mask_interpolation=cv2.INTER_NEAREST,
        )

    def window_jitter(self, rng: np.random.Generator) -> tuple[float, tuple[float, float]]:
        """Sample the ``scale`` and ``shift`` arguments of ``object_window``."""
        scale = 1 + self.config.scale * rng.uniform(-1, 1)
        right, down = self.config.shift * rng.uniform(-1, 1, 2)
        return float(scale), (float(right), float(down))

    def __call__(
        self,
        image: np.ndarray,
        modal: np.ndarray,
        amodal: np.ndarray,
        rng: np.random.Generator,
        occluder: np.ndarray | None = None,
        unknown: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Change one sample.

        A transform that loses the modal mask (a sliver one pixel wide, or rotated out of the window) is not applied:
        the image and masks are then unchanged.

        Args:
            image: uint8 (S, S, 3) RGB.
            modal, amodal: bool (S, S). Modal pixels inside amodal stay inside it, up to ``modal_jitter``.
            rng: source of all random numbers.
            occluder: bool (S, S), the occluder's mask; default: none known.
            unknown: bool (S, S), where it is unknown whether the object continues; default: nowhere.

        Returns:
            New image, modal, amodal, unknown and occluder of the same shapes and types.
        """
        # One picture of bits instead of four masks, so that the transform is the same for all of them.
        bits = amodal.view(np.uint8) << 1
        bits |= modal.view(np.uint8)
        if occluder is not None:
            bits |= occluder.view(np.uint8) << 2
        if unknown is not None:
            bits |= unknown.view(np.uint8) << 3
        # ``set_random_seed`` would give every transform the same seed, so that flips and colours always coincided.
        self._map.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        mapped = self._map(image=image, mask=bits)
        if (mapped["mask"] & 1).any():
            image, bits = mapped["image"], mapped["mask"]
        modal, amodal, occluder, unknown = ((bits & bit).astype(bool) for bit in (1, 2, 4, 8))
        if rng.random() < self.config.modal_jitter:
            front = (amodal | occluder) & ~modal
            modal = jitter_modal(modal, front, self.config.modal_jitter_px, rng)
        return image, modal, amodal, unknown, occluder


def jitter_modal(modal: np.ndarray, front: np.ndarray, max_px: int, rng: np.random.Generator) -> np.ndarray:
    """Make a modal mask as imperfect as a predicted one: dilate it, erode it, or open a gap at the occluder.

    Args:
        modal: bool (S, S), not empty.
        front: bool (S, S), the occluder; if empty, no gap is opened.
        max_px: reach in pixels, sampled from 1 to this.
        rng: source of all random numbers.

    Returns:
        bool (S, S); the mask unchanged if nothing would be left of it. It is not eroded at the window's border, because
        the object may continue beyond it.
    """
    reach = int(rng.integers(1, max_px + 1))
    change = rng.choice(["dilate", "erode", "gap"] if front.any() else ["dilate", "erode"])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    if change == "gap":
        changed = modal & ~cv2.dilate(front.astype(np.uint8), kernel).astype(bool)
    else:
        changed = (cv2.dilate if change == "dilate" else cv2.erode)(modal.astype(np.uint8), kernel).astype(bool)
    return changed if changed.any() else modal
