"""Grounding DINO: boxes of objects that are named by words (paper 001, section 3.4: a grounded segmentation model)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodalseg.models.inpainting.backends.backend import within_memory
from amodalseg.models.inpainting.backends.hub_files import find_whole, import_transformers, load_whole

DETECTORS = {
    "grounding_dino": "IDEA-Research/grounding-dino-tiny",
    "grounding_dino_base": "IDEA-Research/grounding-dino-base",
}
"""Short names of published models."""
KINDS = ("grounding-dino",)
SURE = 0.35  # score of a box that counts, as in paper 001's released code


class Detector:
    """Grounding DINO of transformers, in float32."""

    def __init__(self, model: Any, processor: Any, device: str) -> None:
        with within_memory(1):
            self.model, self.processor, self.device = model.to(device), processor, device

    @torch.no_grad()
    def boxes(self, picture: np.ndarray, words: Sequence[str], sure: float = SURE) -> np.ndarray:
        """Find the objects that words name.

        Args:
            picture: uint8 (H, W, 3) RGB.
            words: what to look for, one after another.
            sure: minimum score of a box.

        Returns:
            int (N, 4): x0, y0, x1, y1 within the picture, ends exclusive, none of them empty.
        """
        text = ". ".join(word.lower() for word in words) + "."
        inputs = self.processor(images=[picture], text=[text], return_tensors="pt").to(self.device)
        with within_memory(1):
            output = self.model(**inputs)
        height, width = picture.shape[:2]
        (found,) = self.processor.post_process_grounded_object_detection(
            output, inputs["input_ids"], threshold=sure, target_sizes=[(height, width)]
        )
        boxes = found["boxes"].cpu().numpy()
        ends = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(int)
        ends = ends.clip(0, [width, height, width, height])
        return ends[(ends[:, 2:] > ends[:, :2]).all(axis=1)]


def find_detector(name: str) -> tuple[Path, str]:
    """The folder of Grounding DINO and which of ``KINDS`` it is; arguments and errors as ``find_whole``."""
    return find_whole(name, DETECTORS, KINDS, "Grounding DINO")


def open_detector(name: str, device: str) -> Detector:
    """Open Grounding DINO.

    Args:
        name: a key of ``DETECTORS``, ``owner/name`` on the hub, or a folder laid out as there.
        device: cpu, cuda, ...

    Raises:
        UserError: as ``find_detector``, and for files that are damaged.
    """
    folder, _ = find_detector(name)
    transformers = import_transformers()
    model, processor = transformers.GroundingDinoForObjectDetection, transformers.GroundingDinoProcessor
    return Detector(*load_whole(model, processor, folder), device)
