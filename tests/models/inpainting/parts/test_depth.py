"""Depth models: tiny random models of the same classes, from folders."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from amodalseg.errors import UserError
from amodalseg.models.inpainting.parts.depth import open_depth
from tests.models.inpainting.tiny_hub import save_depth, save_sam


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return {"relative": save_depth(folder / "relative"), "metric": save_depth(folder / "metric", metric=True)}


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["relative", "metric"])
@pytest.mark.parametrize("shape", [(48, 48), (37, 50)])
def test_larger_is_nearer(folders, kind, shape):
    model = open_depth(str(folders[kind]), "cpu")
    nearer = model.nearer(picture(*shape))
    assert nearer.dtype == np.float32 and nearer.shape == shape and nearer.std() > 0
    inputs = model.processor(images=[picture(*shape)], return_tensors="pt")
    with torch.no_grad():
        said = model.model(**inputs).predicted_depth[None]
    full = torch.nn.functional.interpolate(said, shape, mode="bilinear")[0, 0].numpy()
    # relative depths are inverse; metric ones grow with the distance
    np.testing.assert_allclose(nearer, full if kind == "relative" else -full, rtol=1e-5)


def test_unusable_models_are_refused_in_one_line(folders, tmp_path):
    with pytest.raises(UserError, match=r"is a 'sam'; depth models of the types depth_anything, dpt, "):
        open_depth(str(save_sam(tmp_path / "sam")), "cpu")
    folder = save_depth(tmp_path / "depth")
    weights = load_file(folder / "model.safetensors")
    del weights["head.conv1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of a .*\(head.conv1.weight, ...\); copy it again$"):
        open_depth(str(folder), "cpu")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"cannot be loaded .*; download or copy all of it again$"):
        open_depth(str(folder), "cpu")
