"""The figures of DiffOOM's paper, with tiny random models: the compared crops, and KID against its definition."""

import numpy as np
import pytest
import torch

import amodalseg
from amodalseg import Query, UserError
from amodalseg.engine.evaluation.likeness import clip_similarity, kid, on_white
from amodalseg.models import moving
from amodalseg.predictions import Prediction
from amodalseg.types import EditRequest, Region
from tests.models.inpainting.tiny_hub import save_clip, save_dino
from tests.worlds.drawing import disc


@pytest.fixture(scope="module")
def likeness(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return amodalseg.Likeness(str(save_dino(folder / "dino")), str(save_clip(folder / "clip")), device="cpu")


def case(to=(70, 33), category="cat"):
    rng = np.random.default_rng(0)
    modal = disc(64, 96, 24, 30, 15, 15)
    modal[30:] = False
    query = Query(rng.integers(0, 256, (64, 96, 3), np.uint8), modal, 0, None, category, to)
    return query, Prediction(modal, disc(64, 96, 24, 30, 15, 15)[None])


def moved(to=(70, 33), category="cat"):
    query, prediction = case(to, category)
    prediction.moved, prediction.moved_mask = moving.move_by_paste(query, prediction)
    return query, prediction


def cosine(embedder, one, other):
    a, b = embedder.pictures([one]), embedder.pictures([other])
    return float((a * b).sum())


def test_the_crops_of_the_paper_are_compared(likeness):
    query, prediction = moved()
    found = likeness.measure(query, prediction)
    rows, columns = np.nonzero(query.modal)
    y0, y1, x0, x1 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    dx, dy = 70 - (x0 + x1) // 2, 33 - (y0 + y1) // 2
    before, after = query.image[y0:y1, x0:x1], prediction.moved[y0:y1, x0:x1]
    there = prediction.moved[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
    assert found["dino_op"] == pytest.approx(cosine(likeness.dino, before, after), abs=1e-5)
    assert found["dino_tp"] == pytest.approx(cosine(likeness.dino, before, there), abs=1e-5)
    assert found["clip_tp"] == pytest.approx(cosine(likeness.clip, before, there), abs=1e-5)
    text = likeness.clip.texts(["A photo of cat"])
    white = likeness.clip.pictures([on_white(query, prediction)])
    assert found["clip_t"] == pytest.approx(float((text * white).sum()), abs=1e-5)
    assert len({round(value, 4) for value in found.values()}) == 4


def test_without_a_move_the_similarity_at_the_origin_is_one(likeness):
    query, prediction = case()
    prediction.moved, prediction.moved_mask = query.image, query.modal
    assert likeness.measure(query, prediction)["dino_op"] == pytest.approx(1, abs=1e-5)


def test_no_clip_t_without_a_category_and_boxes_are_clipped_at_the_border(likeness):
    found = likeness.measure(*moved(to=(0, 0), category=None))
    assert found["clip_t"] is None and -1 <= found["dino_tp"] <= 1


def test_an_edited_region_is_compared_with_its_text(likeness):
    """The region of a removed thing is compared with the text of the background."""
    query, prediction = case()
    left, right = (0.0, 0.25, 0.25, 0.75), (0.5, 0.0, 1.0, 0.5)
    ground, kept = Region("a wall", "a wall"), Region("a cat", "a cat", right)
    prediction.edited = np.random.default_rng(1).integers(0, 256, query.image.shape, np.uint8)
    crops = prediction.edited[16:48, 0:24], prediction.edited[0:32, 48:96]
    added, changed = Region(None, "a dog", left), Region("a cup", "a red cup", left)
    removed = Region("a cup", None, left)
    for last, words in (
        ([changed], ["a red cup"]),
        ([removed], ["a wall"]),
        ([added, removed._replace(box=right)], ["a dog", "a wall"]),
    ):
        query.edit = EditRequest((ground, kept, *last), "before", "after")
        cosines = [
            float((likeness.clip.pictures([crop]) * likeness.clip.texts([text])).sum())
            for crop, text in zip(crops, words, strict=False)
        ]
        assert clip_similarity(query, prediction, likeness.clip) == pytest.approx(np.mean(cosines), abs=1e-5)


def test_the_object_is_cropped_on_white():
    query, prediction = moved()
    white, amodal = on_white(query, prediction), prediction.amodal
    rows, columns = np.nonzero(amodal)
    place = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    assert white.shape[:2] == amodal[place].shape and (white[~amodal[place]] == 255).all()
    seen = query.modal[place]
    assert np.array_equal(white[seen], query.image[place][seen])
    tiny = np.zeros((64, 96), bool)
    tiny[3, 4] = True
    assert on_white(Query(query.image, tiny), Prediction(tiny, tiny[None])).shape == (8, 8, 3)


class MeanColours(torch.nn.Module):
    """Features: mean colours of four quarters, in [0, 1]."""

    def forward(self, pictures):
        return torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1)


def sets():
    rng = np.random.default_rng(1)
    dark, bright = rng.integers(0, 120, (8, 24, 24, 3), np.uint8), rng.integers(90, 256, (9, 24, 24, 3), np.uint8)
    return list(dark), list(bright)


def features(pictures):
    """The same by hand: channel by channel, the mean of each quarter."""
    halves = (slice(0, 12), slice(12, 24))
    return np.array([[one[rows, columns, channel].mean() / 255 for channel in range(3) for rows in halves
                      for columns in halves] for one in pictures])  # fmt: skip


def test_kid_is_the_unbiased_distance_of_a_cubic_kernel():
    """Subsets as large as the sets are permutations, which do not change the result."""
    one, other = sets()
    x, y = features(one), features(other[:8])

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    m = len(x)
    inside = sum((kernel(a, a).sum() - np.trace(kernel(a, a))) / (m * (m - 1)) for a in (x, y))
    expected = inside - 2 * kernel(x, y).mean()
    mean, deviation = kid(one, other[:8], features=MeanColours(), side=24, subset_size=8)
    assert mean == pytest.approx(expected, rel=1e-4) and deviation < 1e-5 and mean > 0.05
    same, _ = kid(one, one, features=MeanColours(), side=24, subset_size=8)
    assert same < 0.01 * mean


def test_kid_depends_only_on_its_seed_and_keeps_the_global_generator():
    one, other = sets()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = kid(one, other, features=MeanColours(), side=24, subset_size=4, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    assert kid(one, other, features=MeanColours(), side=24, subset_size=4, seed=1) == first
    assert kid(one, other, features=MeanColours(), side=24, subset_size=4, seed=2) != first


def test_kid_without_its_package_or_pictures_is_one_line(monkeypatch):
    from torchmetrics.image import kid as module

    one, other = sets()
    with pytest.raises(UserError, match="KID over subsets of 50 needs as many pictures, not 8 and 9"):
        kid(one, other)
    monkeypatch.setattr(module, "_TORCH_FIDELITY_AVAILABLE", False)
    with pytest.raises(UserError, match=r"KID needs torch-fidelity.*pip install torch-fidelity"):
        kid(one, other, subset_size=4)
