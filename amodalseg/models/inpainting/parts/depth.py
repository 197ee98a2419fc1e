"""Nearness of the scene: a depth model's output for one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from amodalseg.models.inpainting.backends.backend import within_memory
from amodalseg.models.inpainting.backends.hub_files import find_whole, import_transformers, load_whole

DEPTHS = {
    "depth_anything": "LiheYoung/depth-anything-small-hf",
    "depth_anything_large": "LiheYoung/depth-anything-large-hf",
    "dpt": "Intel/dpt-large",
}
"""Short names of published models."""
SIGNS = {"depth_anything": 1, "dpt": 1, "depth_pro": -1, "glpn": -1, "zoedepth": -1}
"""By ``model_type``: 1 where the output is an inverse depth (larger is nearer), -1 where it is a distance."""


class DepthModel:
    """A depth model of transformers, in float32. sign: as ``SIGNS``."""

    def __init__(self, model: Any, processor: Any, sign: int, device: str) -> None:
        with within_memory(1):
            self.model, self.processor, self.sign, self.device = model.to(device), processor, sign, device

    @torch.no_grad()
    def nearer(self, picture: np.ndarray) -> np.ndarray:
        """Estimate how near the scene is at each pixel.

        Args:
            picture: uint8 (H, W, 3) RGB.

        Returns:
            float32 (H, W), larger where the scene is nearer; without a fixed unit: only the order is meaningful.
        """
        inputs = self.processor(images=[picture], return_tensors="pt").to(self.device)
        with within_memory(1):
            depth = self.model(**inputs).predicted_depth.float()
        full = interpolate(depth[:, None], picture.shape[:2], mode="bilinear", align_corners=False)
        return self.sign * full[0, 0].cpu().numpy()


def find_depth(name: str) -> tuple[Path, str]:
    """The folder of a depth model and which of ``SIGNS`` it is; arguments and errors as ``find_whole``."""
    return find_whole(name, DEPTHS, SIGNS, f"depth models of the types {', '.join(SIGNS)}")


def open_depth(name: str, device: str) -> DepthModel:
    """Open a depth model.

    Args:
        name: a key of ``DEPTHS``, ``owner/name`` on the hub, or a folder laid out as there.
        device: cpu, cuda, ...

    Raises:
        UserError: as ``find_depth``, and for files that are damaged.
    """
    folder, kind = find_depth(name)
    transformers = import_transformers()
    model, processor = load_whole(transformers.AutoModelForDepthEstimation, transformers.AutoImageProcessor, folder)
    metric = getattr(model.config, "depth_estimation_type", "relative") == "metric"
    return DepthModel(model, processor, -1 if metric else SIGNS[kind], device)
