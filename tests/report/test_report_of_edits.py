"""Edits in a report: captions and strips."""

import numpy as np

from amodalseg.report.edits import edit_caption, edit_strip
from amodalseg.report.moves import SIDE
from amodalseg.types import EditRequest, Region

REQUEST = EditRequest(
    (
        Region("a wall", "a wall"),
        Region("a red cup", "a red cup", (0.0, 0.25, 0.25, 0.75)),
        Region("a jug", None, (0.5, 0.25, 1.0, 1.0)),
    ),
    "a red cup and a jug",
    "a red cup",
)


def row(squared, pixels=100, model="m"):
    return {
        "model": model, "dataset": "d", "split": "s", "image_id": "a", "object_id": "0",
        "edited_region_pixels": pixels, "edited_region_squared": squared, "edited_kept_pixels": 50,
        "edited_kept_unlike": 5000, "edited_rest_pixels": 0, "edited_rest_unlike": 0, "edited_changes": 8,
        "edited_stays": 2,
    }  # fmt: skip


def test_a_caption_has_the_texts_and_the_figures_of_every_model():
    text = edit_caption([row(3 * 100 * 10**2), row(0, model="n"), row(0, pixels=0, model="still")], REQUEST)
    assert text == (
        "d/s/a/0 · “a red cup and a jug” → “a red cup” · region dB / kept SSIM / rest SSIM / stays: "
        "m 28.1 / 0.900 / – / 25 %, n 58.9 / 0.900 / – / 25 %"
    )


def test_a_strip_shows_the_boxes_and_whole_photos_side_by_side():
    source, truth = np.full((30, 60, 3), 90, np.uint8), np.full((30, 60, 3), 160, np.uint8)
    strip = edit_strip(source, REQUEST, {"one": np.full_like(source, 40)}, truth)
    body = strip[-SIDE // 2 - 6 : -6]
    left = [6 + place * (SIDE + 6) for place in range(3)]
    assert strip.shape[1] == left[2] + SIDE + 6
    assert (body[2, left[1] : left[1] + SIDE] == 40).all() and (body[2, left[2] : left[2] + SIDE] == 160).all()
    before = body[:, left[0] : left[0] + SIDE].astype(int)
    blue, orange = before[..., 2] - before[..., 0] > 60, before[..., 0] - before[..., 2] > 60
    assert blue[:, : SIDE // 2].any() and not blue[:, SIDE // 2 :].any(), "what is kept, on the left"
    assert orange[:, SIDE // 2 :].any() and not orange[:, : SIDE // 2 - 2].any(), "what is removed, on the right"
