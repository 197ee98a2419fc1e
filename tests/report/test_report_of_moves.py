"""Moves in a report: their selection, captions and strips."""

import numpy as np

from amodalseg.report.moves import SIDE, move_caption, move_strip, ranked_by_error


def row(name, squared, pixels=100, **more):
    return {
        "model": "m", "dataset": "d", "split": "s", "image_id": name, "object_id": "0", "category": "",
        "amodal_area": 10, "occluded_area": 4, "moved_target_pixels": pixels, "moved_target_squared": squared,
        "moved_origin_pixels": pixels, "moved_origin_squared": 3 * pixels * 255**2, "moved_changes": 8,
        "moved_stays": 2,
    } | more  # fmt: skip


def test_moves_are_ranked_by_the_mean_error_at_the_target():
    rows = [row("a", 900), row("b", 100), row("c", 900, pixels=1000), row("d", 5000), row("e", 0, pixels=0)]
    target = "moved_target"
    assert ranked_by_error(rows, 1, target) == {"best": ["d/s/c/0"], "median": ["d/s/b/0"], "worst": ["d/s/d/0"]}
    assert ranked_by_error(rows, 9, target)["worst"] == ["d/s/d/0", "d/s/a/0", "d/s/b/0", "d/s/c/0"], "e was not moved"
    assert ranked_by_error([], 3, target) == {"best": [], "median": [], "worst": []}


def test_a_caption_has_the_figures_of_every_model():
    rows = [row("a", 3 * 100 * 10**2), row("a", 0, model="n"), row("a", 0, pixels=0, model="still")]
    text = move_caption(rows)
    assert text == (
        "d/s/a/0 · occlusion rate 40 % · target dB / origin dB / stays: m 28.1 / 0.0 / 25 %, n 58.9 / 0.0 / 25 %"
    )


def test_a_strip_shows_whole_photos_side_by_side():
    source, truth = np.full((30, 60, 3), 90, np.uint8), np.full((30, 60, 3), 160, np.uint8)
    modal, there = np.zeros((30, 60), bool), np.zeros((30, 60), bool)
    modal[5:20, 5:20], there[5:20, 35:55] = True, True
    strip = move_strip(source, modal, there, {"one": np.full_like(source, 40)}, truth)
    height = SIDE // 2
    body = strip[-height - 6 : -6]
    left = [6 + place * (SIDE + 6) for place in range(3)]
    assert strip.shape[1] == left[2] + SIDE + 6
    assert (body[2, left[1] : left[1] + SIDE] == 40).all() and (body[2, left[2] : left[2] + SIDE] == 160).all()
    before = body[:, left[0] : left[0] + SIDE].astype(int)
    blue, orange = before[..., 2] - before[..., 0] > 60, before[..., 0] - before[..., 2] > 60
    assert blue[:, : SIDE // 2].any() and not blue[:, SIDE // 2 :].any(), "the object, on the left"
    assert orange[:, SIDE // 2 :].any() and not orange[:, : SIDE // 2].any(), "the target, on the right"
