"""A node for ComfyUI: photos and visible masks -> whole objects. Link this folder into ComfyUI's ``custom_nodes``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

import amodalseg
from amodalseg import UserError
from amodalseg.models import DEFAULT

open_model = lru_cache(maxsize=1)(amodalseg.load_model)


class CompleteObjects:
    """The node. ComfyUI reads its inputs and outputs from the attributes, and calls ``complete``."""

    CATEGORY, FUNCTION = "mask", "complete"
    DESCRIPTION = "Completes objects: from the mask of what is visible to the mask of the whole, hidden part included."
    RETURN_TYPES, RETURN_NAMES = ("MASK", "MASK", "IMAGE"), ("amodal", "occluded", "cutout")
    OUTPUT_TOOLTIPS = ("whole objects", "their hidden parts", "whole objects alone, RGBA, of the photo's size")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs by name; ``seed`` is kept from run to run."""
        name = {"default": DEFAULT, "tooltip": "what amodalseg.load_model takes: a name, or a file of weights"}
        threshold = {"default": 0.0, "min": 0.0, "max": 0.99, "step": 0.01, "tooltip": "0: the model's own"}
        seed = {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": False}
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "one photo, or one for each mask"}),
                "modal": ("MASK", {"tooltip": "what is visible of each object: above 0.5"}),
                "model": ("STRING", name),
                "threshold": ("FLOAT", threshold),
                "seed": ("INT", seed),
            }
        }

    def complete(
        self, image: torch.Tensor, modal: torch.Tensor, model: str, threshold: float, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Complete N objects.

        Args:
            image: float (1, H, W, C) or (N, H, W, C) in [0, 1]; C is 3, or 4 with alpha, which is ignored.
            modal: float (N, H, W) or (H, W) in [0, 1]. Several masks of one photo are its objects; else one
                photo per mask.
            model: anything that ``load_model`` accepts; the last one stays loaded.
            threshold: of the probability; 0: the model's own.
            seed: of each object.

        Returns:
            amodal, occluded: float (N, H, W), 0 or 1. cutout: float (N, H, W, 4) in [0, 1], colours not multiplied by
            alpha; of an object that extends beyond the photo, the part inside.

        Raises:
            UserError: numbers or sizes do not match, a mask is empty, or the model cannot be opened.
        """
        photos, masks = pixels(image), modal.cpu().float().reshape(-1, *modal.shape[-2:]).numpy() > 0.5
        empty = [number for number, mask in enumerate(masks, 1) if not mask.any()]
        if empty:
            which = f"mask {empty[0]} of {len(masks)}" if len(masks) > 1 else "the mask"
            raise UserError(f"{which} is empty: mark what is visible (Load Image reads alpha; without it all is empty)")
        if len(photos) not in (1, len(masks)):
            raise UserError(f"{len(photos)} photos and {len(masks)} masks: give masks of one photo, or one for each")
        complete = open_model(model or DEFAULT).predict
        options: dict[str, Any] = {"seed": seed, "threshold": threshold or None}
        if len(photos) == 1:  # predicted in batches
            found = list(complete(photos[0], masks, **options))
        else:
            found = [complete(photo, mask, **options) for photo, mask in zip(photos, masks, strict=True)]
        photos = np.broadcast_to(photos, (len(found), *photos.shape[1:]))
        cutouts = np.stack([alone(photo, one) for photo, one in zip(photos, found, strict=True)])
        amodal, occluded = (np.stack([getattr(one, name) for one in found]) for name in self.RETURN_NAMES[:2])
        return torch.from_numpy(amodal).float(), torch.from_numpy(occluded).float(), torch.from_numpy(cutouts) / 255


def pixels(image: torch.Tensor) -> np.ndarray:
    """Photos, uint8 (B, H, W, 3). Args: float (B, H, W, C) in [0, 1]. Raises UserError: a value is NaN or infinite."""
    values = image.cpu().float().numpy()[..., :3]
    if not np.isfinite(values).all():
        raise UserError("the image has values that are NaN or infinite: look at the node that made it")
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def alone(photo: np.ndarray, prediction: amodalseg.Prediction) -> np.ndarray:
    """The whole object alone, uint8 (H, W, 4). Args: photo, uint8 (H, W, 3)."""
    piece = amodalseg.cutout(photo, prediction, crop=False)
    return piece.picture[-piece.top :, -piece.left :][: photo.shape[0], : photo.shape[1]]


NODE_CLASS_MAPPINGS = {"AmodalsegComplete": CompleteObjects}
NODE_DISPLAY_NAME_MAPPINGS = {"AmodalsegComplete": "Complete Objects (amodalseg)"}
