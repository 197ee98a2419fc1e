"""The functions that compute the page's results, without the page."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import amodalseg
from amodalseg import masks
from amodalseg.cli import main
from amodalseg.data.mask_files import read_mask_file
from amodalseg.demo.answer import answer
from amodalseg.demo.examples import draw_examples
from amodalseg.errors import UserError
from amodalseg.models import load_model
from tests.worlds.drawing import disc, photo, write_photo

LITE = str(Path(__file__).parents[2] / "checkpoints/conddiff_amo_lite.onnx")
PHOTO = photo(np.random.default_rng(1), 60, 80)
NEAR = disc(60, 80, 30, 30, 14, 14)
FAR = disc(60, 80, 48, 30, 16, 12) & ~NEAR


@pytest.fixture(scope="module")
def lite():
    return load_model(LITE, "cpu")


def test_the_mask_equals_that_of_predict(lite, tmp_path, capsys):
    write_photo(tmp_path / "photo.png", PHOTO)
    told = []
    found = answer(PHOTO, [masks.encode(FAR)], lite, tmp_path, seed=3, num_samples=2, steps=1, progress=told.append)
    assert [path.name for path in found.files] == ["amodal.png", "modal.png", "cutout.png", "uncertainty.png"]
    command = f"predict {LITE} --image {tmp_path}/photo.png --mask {tmp_path}/modal.png --upright --seed 3"
    assert main([*command.split(), "--num-samples", "2", "--steps", "1", "--out", f"{tmp_path}/same.png"]) == 0
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "amodal.png").read_bytes()
    amodal = read_mask_file(tmp_path / "amodal.png")
    alone = cv2.imread(str(tmp_path / "cutout.png"), cv2.IMREAD_UNCHANGED)
    assert (alone[..., 3] > 0).sum() == amodal.sum() and np.array_equal(read_mask_file(tmp_path / "modal.png"), FAR)
    bits = cv2.imread(str(tmp_path / "uncertainty.png"), cv2.IMREAD_UNCHANGED)
    assert bits.shape == (60, 80) and bits.max() > 0 and not bits[FAR].any()
    assert [title for _, title in found.pictures] == ["Mask", "Cut-out", "Uncertainty"] and told == [0]
    assert f"{FAR.sum():,} pixels visible, {(amodal & ~FAR).sum():,} hidden" in found.text[0]
    assert (found.before != found.after).any(axis=2)[FAR].all()


def test_several_objects_are_layered_in_the_order_of_the_library(tmp_path):
    model = load_model("convex_hull")
    found = answer(PHOTO, [masks.encode(FAR), masks.encode(NEAR)], model, tmp_path, num_samples=2)
    order = amodalseg.order(PHOTO, np.stack([FAR, NEAR]), model=model).order
    assert found.text[0] == "'convex_hull' is deterministic: steps and samples have no effect"
    assert f"Objects from far to near: {', '.join(str(place + 1) for place in order.far_to_near)}" in found.text
    assert "Object 2 hides 1" in found.text and found.pictures[0][1] == "Order"
    assert {path.name for path in found.files} == {
        f"{n}_{k}.png" for n in ("amodal", "modal", "cutout") for k in (1, 2)
    }


@pytest.mark.parametrize(
    ("count", "options", "said"),
    [
        (0, {}, "mark an object first"), (9, {}, "completes 8 objects"), (1, {"steps": 1000}, "100 steps"),
        (1, {"num_samples": 17}, "16 samples"), (1, {"seed": -1}, "seed must be"), (1, {"seed": 0.5}, "seed must be"),
        (1, {"steps": None}, "steps must be"), (1, {"seed": "x"}, "seed must be"),
    ],
)  # fmt: skip
def test_inputs_beyond_the_limits_are_refused(tmp_path, count, options, said):
    with pytest.raises(UserError, match=said):
        answer(PHOTO, [masks.encode(FAR)] * count, load_model("modal"), tmp_path, **options)


def test_many_large_masks_are_refused_before_any_prediction(tmp_path):
    with pytest.raises(UserError, match="3 objects of this photo are 120 megapixels; the demo takes 100"):
        answer(np.broadcast_to(PHOTO[:1, :1], (5000, 8000, 3)), [{}] * 3, None, tmp_path)


def test_examples_are_drawn(tmp_path):
    paths = draw_examples(tmp_path)
    assert len({path.read_bytes() for path in paths}) == len(paths) == 3
    assert all(cv2.imread(str(path)).shape == (320, 320, 3) for path in paths)
