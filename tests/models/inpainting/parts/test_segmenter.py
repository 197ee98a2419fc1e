"""SAM and SAM 2: tiny random models of the same classes, from folders."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from amodalseg.errors import UserError
from amodalseg.models.inpainting.parts.segmenter import SamSegmenter, open_segmenter
from tests.models.inpainting.tiny_hub import change_json, save_depth, save_sam, save_sam2

SIDE = 48


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return {"sam": save_sam(folder / "sam"), "sam2": save_sam2(folder / "sam2")}


def question(seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), generator.integers(0, SIDE, (9, 2))


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_the_prediction_is_the_mask_of_highest_score(folders, kind):
    segmenter = open_segmenter(str(folders[kind]), "cpu")
    picture, points = question()
    mask = segmenter.segment(picture, points)
    assert mask.dtype == bool and mask.shape == (SIDE, SIDE) and 0 < mask.mean() < 1
    assert np.array_equal(mask, segmenter.segment(picture, points))
    # by hand: on a square, pictures and points are scaled alike in every version
    values = segmenter.processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
    scaled = torch.from_numpy(points)[None, None].float() * (64 / SIDE)
    with torch.no_grad():
        output = segmenter.model(
            pixel_values=values, input_points=scaled, input_labels=torch.ones(1, 1, 9, dtype=torch.long)
        )
    best = output.iou_scores[0, 0].argmax()
    assert output.iou_scores.shape[-1] == 3
    # both enlarge the mask linearly, SAM in two steps
    full = torch.nn.functional.interpolate(output.pred_masks[0, 0, best][None, None], (SIDE, SIDE), mode="bilinear")
    assert (mask == (full[0, 0] > 0).numpy()).mean() > 0.95


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_points_are_scaled_to_the_models_input(folders, kind):
    segmenter = open_segmenter(str(folders[kind]), "cpu")
    seen = {}

    def output(**inputs):
        seen.update(inputs)
        masks = torch.full((1, 1, 3, 16, 16), -1.0)
        masks[0, 0, 1, 4:8, 8:12] = 1.0  # the second one has the highest score
        return SimpleNamespace(pred_masks=masks, iou_scores=torch.tensor([[[0.1, 0.9, 0.2]]]))

    picture, points = question()
    told = SamSegmenter(segmenter.model, segmenter.processor, "cpu")
    told.model = output
    mask = told.segment(picture, points)
    torch.testing.assert_close(seen["input_points"][0, 0], torch.from_numpy(points).float() * 64 / SIDE)
    assert seen["input_labels"].shape == (1, 1, 9) and (seen["input_labels"] == 1).all()
    assert seen["multimask_output"] is True and seen["pixel_values"].shape == (1, 3, 64, 64)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[12:24, 24:36] = True
    assert (mask ^ inside).sum() <= 48 and mask[18, 30]


def test_sam2_video_files_are_usable_for_pictures(tmp_path):
    folder = save_sam2(tmp_path / "sam2")
    before = open_segmenter(str(folder), "cpu").segment(*question())
    change_json(folder / "config.json", model_type="sam2_video")
    assert np.array_equal(open_segmenter(str(folder), "cpu").segment(*question()), before)


def test_unusable_models_are_refused_in_one_line(folders, tmp_path):
    with pytest.raises(UserError, match=r"is a 'depth_anything'; SAM and SAM 2 can be used"):
        open_segmenter(str(save_depth(tmp_path / "depth")), "cpu")
    with pytest.raises(UserError, match=r"holds no config\.json"):
        open_segmenter(str(tmp_path), "cpu")
    with pytest.raises(UserError, match=r"not one of sam, sam_base, sam2, sam2_tiny, and not owner/name on the hub$"):
        open_segmenter("sam3_gigantic", "cpu")
