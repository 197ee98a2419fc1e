"""DINOv2 and CLIP: tiny random models of the same classes, from folders."""

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from amodalseg.errors import UserError
from amodalseg.models.inpainting.parts.likeness import CLIP, DINO, find_embedder, open_embedder
from tests.models.inpainting.tiny_hub import save_clip, save_dino


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return {DINO: str(save_dino(folder / "dino")), CLIP: str(save_clip(folder / "clip"))}


def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in ((40, 40), (31, 50), (64, 20))]


def cosines(values):
    values = values / values.norm(dim=1, keepdim=True)
    return values @ values.T


def test_dino_embeds_by_the_class_token_of_its_last_layer(folders):
    from transformers import AutoImageProcessor, AutoModel

    found = open_embedder(folders[DINO], DINO, "cpu").pictures(pictures())
    processor, model = AutoImageProcessor.from_pretrained(folders[DINO]), AutoModel.from_pretrained(folders[DINO])
    with torch.no_grad():
        tokens = [model(**processor(one, return_tensors="pt")).pooler_output[0] for one in pictures()]
    torch.testing.assert_close(found @ found.T, cosines(torch.stack(tokens)))
    assert found.shape == (3, 12) and len(set(np.round((found @ found.T).flatten().tolist(), 5))) == 4


def test_clip_embeddings_give_the_models_own_similarity(folders):
    from transformers import CLIPModel, CLIPProcessor

    embedder, texts = open_embedder(folders[CLIP], CLIP, "cpu"), ["a cat", "cat a cat cat"]
    found = embedder.pictures(pictures()) @ embedder.texts(texts).T
    processor, model = CLIPProcessor.from_pretrained(folders[CLIP]), CLIPModel.from_pretrained(folders[CLIP])
    inputs = processor(text=texts, images=pictures(), return_tensors="pt", padding=True)
    with torch.no_grad():
        prediction = model(**inputs)
    torch.testing.assert_close(found, prediction.logits_per_image / model.logit_scale.exp(), atol=1e-5, rtol=1e-4)
    assert found.std() > 0


def test_unusable_models_are_refused_in_one_line(folders, tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"is a 'clip'; models of the type dinov2, for instance facebook/dinov2-base, can be used$"
    ):
        find_embedder(folders[CLIP], DINO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name, real in (("dinov2", "facebook/dinov2-base"), ("clip_large", "openai/clip-vit-large-patch14")):
        with pytest.raises(UserError, match=f"hf download {real} --local-dir FOLDER") as caught:
            find_embedder(name, DINO)
        assert "give that folder here instead of the name" in str(caught.value) and "\n" not in str(caught.value)
