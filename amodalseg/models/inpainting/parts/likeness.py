"""Similarity of two pictures (DINOv2, CLIP), or of a picture and a text (CLIP): cosine of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from amodalseg.models.inpainting.backends.backend import within_memory
from amodalseg.models.inpainting.backends.hub_files import find_whole, import_transformers, load_whole

EMBEDDERS = {
    "dinov2": "facebook/dinov2-base",
    "dinov2_large": "facebook/dinov2-large",
    "clip": "openai/clip-vit-base-patch32",
    "clip_large": "openai/clip-vit-large-patch14",
}
"""Short names of published models. The paper does not say which sizes it used."""
DINO, CLIP = "dinov2", "clip"
"""Their ``model_type``."""


class Embedder:
    """DINOv2 or CLIP of transformers, in float32. kind: its ``model_type``."""

    def __init__(self, model: Any, processor: Any, kind: str, device: str, tokenizer: Any = None) -> None:
        with within_memory(1):
            self.model = model.to(device)
        self.processor, self.kind, self.device, self.tokenizer = processor, kind, device, tokenizer

    @torch.no_grad()
    def pictures(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """uint8 (H, W, 3) RGB of any sizes -> float32 (N, D) of length 1: the class token, or CLIP's projection."""
        inputs = self.processor(images=list(pictures), return_tensors="pt").to(self.device)
        with within_memory(len(pictures)):
            if self.kind == CLIP:
                vision = self.model.vision_model(pixel_values=inputs["pixel_values"])
                found = self.model.visual_projection(vision.pooler_output)
            else:
                found = self.model(**inputs).last_hidden_state[:, 0]
        return normalize(found.float(), dim=1).cpu()

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """float32 (N, D) of length 1; CLIP only."""
        assert self.kind == CLIP
        inputs = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        text = self.model.text_model(**inputs)
        return normalize(self.model.text_projection(text.pooler_output).float(), dim=1).cpu()


def find_embedder(name: str, kind: str) -> Path:
    """The folder of a model, without loading its weights.

    Args:
        name: a key of ``EMBEDDERS``, ``owner/name`` on the hub, or a folder laid out as there; files that are missing
            are downloaded now.
        kind: ``DINO`` or ``CLIP``, what it must be.

    Raises:
        UserError: transformers is missing; the files cannot be found (the message says what to download and where to
            put it), or are of another kind of model.
    """
    return find_whole(name, EMBEDDERS, [kind], f"models of the type {kind}, for instance {EMBEDDERS[kind]},")[0]


def open_embedder(name: str, kind: str, device: str) -> Embedder:
    """Open a model; arguments as ``find_embedder``. Raises UserError as that, and for files that are damaged."""
    folder = find_embedder(name, kind)
    transformers = import_transformers()
    if kind == DINO:
        model, processor = load_whole(transformers.Dinov2Model, transformers.AutoImageProcessor, folder)
        return Embedder(model, processor, kind, device)
    model, processor = load_whole(transformers.CLIPModel, transformers.AutoImageProcessor, folder)
    _, tokenizer = load_whole(transformers.CLIPModel, transformers.AutoTokenizer, folder)
    return Embedder(model, processor, kind, device, tokenizer)
