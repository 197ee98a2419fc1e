"""Grounding DINO with random weights: boxes lie inside the picture; unusable input gives one line."""

import numpy as np
import pytest

from amodalseg import UserError
from amodalseg.models.inpainting.parts.detector import open_detector
from tests.models.inpainting.tiny_hub import save_depth, save_grounding_dino

pytest.importorskip("transformers")


def test_boxes_of_a_tiny_random_model_lie_in_the_picture(tmp_path):
    detector = open_detector(str(save_grounding_dino(tmp_path / "dino")), "cpu")
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    all_, none = (detector.boxes(picture, ["cat", "Post"], sure) for sure in (0.0, 1.0))
    assert none.shape == (0, 4) and 0 < len(all_) <= 6 and all_.dtype.kind == "i"
    assert (all_[:, :2] >= 0).all() and (all_[:, 2] <= 56).all() and (all_[:, 3] <= 40).all()
    assert (all_[:, 2:] > all_[:, :2]).all()


def test_another_kind_of_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="Grounding DINO can be used"):
        open_detector(str(save_depth(tmp_path / "depth")), "cpu")
