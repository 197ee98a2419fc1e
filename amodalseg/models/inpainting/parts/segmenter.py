"""SAM and SAM 2: segmentation of the object at given points of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodalseg.models.inpainting.backends.backend import within_memory
from amodalseg.models.inpainting.backends.hub_files import find_whole, import_transformers, load_whole

SEGMENTERS = {
    "sam": "facebook/sam-vit-huge",
    "sam_base": "facebook/sam-vit-base",
    "sam2": "facebook/sam2.1-hiera-large",
    "sam2_tiny": "facebook/sam2.1-hiera-tiny",
}
"""Short names of published models."""
KINDS = {"sam": "Sam", "sam2": "Sam2", "sam2_video": "Sam2"}
"""Classes of transformers by ``model_type``; the files of SAM 2 are for videos, of which pictures need only a part."""


class SamSegmenter:
    """A promptable segmenter of transformers, in float32: its masks do not depend on the device."""

    side = 1024
    """Longer side of the pictures that the network sees: larger input brings nothing."""

    def __init__(self, model: Any, processor: Any, device: str) -> None:
        with within_memory(1):
            self.model, self.processor, self.device = model.to(device), processor, device

    def segment(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Segment the object at some points, which all lie on it.

        Args:
            picture: uint8 (H, W, 3) RGB.
            points: int (P, 2), x and y, pixels.

        Returns:
            bool (H, W): of the candidate masks, the one with the highest predicted IoU.
        """
        return self.select(picture, points, np.ones(len(points), int), None)

    def segment_box(self, picture: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Find the object in a box, int (4,): x0, y0, x1, y1, pixels; the rest as ``segment``."""
        return self.select(picture, np.zeros((0, 2), int), np.zeros(0, int), box)

    @torch.no_grad()
    def select(self, picture: np.ndarray, points: np.ndarray, labels: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """Segment the object at points of label 1 in a box, without what has label 0: as ``GrabCut.select``."""
        prompts: dict[str, Any] = {} if box is None else {"input_boxes": [[box.astype(float).tolist()]]}
        if len(points):
            prompts["input_points"] = [[points.astype(float).tolist()]]
            prompts["input_labels"] = [[labels.tolist()]]
        inputs = self.processor(images=[picture], return_tensors="pt", **prompts)
        sizes = [inputs.pop("original_sizes")]
        if "reshaped_input_sizes" in inputs:  # SAM pads its square, SAM 2 fills it
            sizes.append(inputs.pop("reshaped_input_sizes"))
        inputs = {name: values.to(self.device) for name, values in inputs.items()}
        inputs |= {name: inputs[name].float() for name in ("input_points", "input_boxes") if name in inputs}
        with within_memory(1):
            output = self.model(**inputs, multimask_output=True)
            masks = self.processor.post_process_masks(output.pred_masks.cpu(), *sizes)
        return masks[0][0][int(output.iou_scores[0, 0].argmax())].numpy().astype(bool)


def find_segmenter(name: str) -> tuple[Path, str]:
    """The folder of SAM or SAM 2 and which of ``KINDS`` it is; arguments and errors as ``find_whole``."""
    return find_whole(name, SEGMENTERS, KINDS, "SAM and SAM 2")


def open_segmenter(name: str, device: str) -> SamSegmenter:
    """Open SAM or SAM 2.

    Args:
        name: a key of ``SEGMENTERS``, ``owner/name`` on the hub, or a folder laid out as there.
        device: cpu, cuda, ...

    Raises:
        UserError: as ``find_segmenter``, and for files that are damaged.
    """
    folder, kind = find_segmenter(name)
    transformers = import_transformers()
    model, processor = (getattr(transformers, f"{KINDS[kind]}{part}") for part in ("Model", "Processor"))
    return SamSegmenter(*load_whole(model, processor, folder), device)
