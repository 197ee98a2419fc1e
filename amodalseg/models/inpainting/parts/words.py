"""Segmentation by text with gradients to the pixels: CLIPSeg, and a small shipped network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.hub_files import find_whole, import_transformers, load_whole
from amodalseg.models.inpainting.parts.small_segmenter import SHIPPED, SmallSegmenter, find_small, load_small

CLIPSEG_IDS = {"clipseg": "CIDAS/clipseg-rd64-refined"}
"""Short names of segmenters on the hub."""


class WordSegmenter(Protocol):
    """Segments by text."""

    def logits(self, pictures: Tensor, words: Sequence[str]) -> Tensor:
        """Logits, positive where the text applies.

        Args:
            pictures: float32 (B, 3, H, W) in [-1, 1]; the gradient flows to them.
            words: B texts.

        Returns:
            float32 (B, H, W).
        """


def find_word_segmenter(name: str) -> tuple[Path, bool]:
    """Find the files of a text-driven segmenter; those of CLIPSeg may be downloaded now, and weights stay unread.

    Args:
        name: as ``open_word_segmenter``.

    Returns:
        Its folder, and whether it is a small one.

    Raises:
        UserError: it cannot be found, or is another model; transformers is missing.
    """
    place = find_small(name)
    if place is not None:
        return place, True
    if name == SHIPPED:
        raise UserError(
            f"there is no word segmenter '{name}': train it with configs/experiment/word_segmenter.yaml and give its "
            "run folder, or take clipseg"
        )
    return find_whole(name, CLIPSEG_IDS, ["clipseg"], f"CLIPSeg ('clipseg') and '{SHIPPED}'")[0], False


def open_word_segmenter(name: str = SHIPPED, device: str | torch.device = "cpu") -> WordSegmenter:
    """Open a text-driven segmenter.

    Args:
        name: ``word_segmenter``, the small shipped one; the run folder or the folder of another such; ``clipseg``;
            or CLIPSeg by its name on the hub or in a folder.
        device: cpu, cuda, ...

    Raises:
        UserError: as ``find_word_segmenter``, or it cannot be loaded.
    """
    folder, small = find_word_segmenter(name)
    return SmallSegmenter(load_small(folder)[0].to(device)) if small else ClipSeg(folder, device)


class ClipSeg:
    """CLIPSeg of transformers with another forward pass, because its own cuts the gradient to the pixels.

    Args:
        folder: with its files, as the hub has them.
        device: cpu, cuda, ...

    Raises:
        UserError: transformers is missing, or it cannot be loaded.
    """

    def __init__(self, folder: Path, device: str | torch.device = "cpu") -> None:
        transformers = import_transformers()
        model, self.processor = load_whole(
            transformers.CLIPSegForImageSegmentation, transformers.CLIPSegProcessor, folder
        )
        self.model = model.to(device).requires_grad_(False)

    def logits(self, pictures: Tensor, words: Sequence[str]) -> Tensor:
        images, device = self.processor.image_processor, self.model.device
        side = self.model.config.vision_config.image_size
        small = interpolate(pictures.to(device), (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, deviation = (
            torch.tensor(values, device=device)[:, None, None] for values in (images.image_mean, images.image_std)
        )
        tokens = self.processor.tokenizer(list(words), padding=True, truncation=True, return_tensors="pt").to(device)
        found = clipseg_logits(self.model, ((small + 1) / 2 - mean) / deviation, **tokens)
        return interpolate(found[:, None], pictures.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def clipseg_logits(model: Any, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Compute ``CLIPSegForImageSegmentation.forward`` without cutting the gradient to ``pixel_values``.

    Args:
        model: the class of that name.
        pixel_values: float (B, 3, S, S), normalised.
        input_ids, attention_mask: int (B, L), of the words.

    Returns:
        float (B, S, S).
    """
    states = model.clip.vision_model(
        pixel_values=pixel_values, interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states
    with torch.no_grad():
        text = model.clip.get_text_features(input_ids, attention_mask=attention_mask).pooler_output
    # the first state is that of the embeddings
    logits: Tensor = model.decoder([states[layer + 1] for layer in model.extract_layers], text).logits
    return logits.reshape(len(pixel_values), *logits.shape[-2:])
