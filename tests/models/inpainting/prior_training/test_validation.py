"""The validation of the prior on half-hidden objects, with models whose predictions are known."""

import numpy as np
import pytest
import torch

from amodalseg import masks
from amodalseg.data.draw.whole_objects import WholeObjects
from amodalseg.models.inpainting.backends.backend import Estimate
from amodalseg.models.inpainting.prior_training.validation import complete_halves, prior_scores, to_images, to_pictures
from amodalseg.types import AmodalRecord
from tests.models.inpainting.fake_backends import GaussianBackend


@pytest.fixture(scope="module")
def cases():
    rows, columns = np.mgrid[:90, :120]
    mask = (columns - 60) ** 2 + (rows - 45) ** 2 <= 18**2
    photo = np.full((90, 120, 3), (0, 0, 200), np.uint8)
    photo[mask] = (220, 30, 30)
    objects = WholeObjects([AmodalRecord("world", "train", "0", "0", photo, masks.encode(mask))], 32, seed=0)
    return [objects.half_hidden(place) for place in range(5)]


class Knows(GaussianBackend):
    """Returns the ground truth behind the hole."""

    def estimate(self, x, level, prepared, taps=()):
        return Estimate(prepared.known, (x - level.alpha * prepared.known) / level.sigma, {})


def test_pictures_round_trip():
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), np.uint8)
    pictures = to_pictures(list(images))
    assert pictures.shape == (2, 3, 6, 5) and pictures.dtype == torch.float32 and pictures.abs().max() <= 1
    assert np.array_equal(to_images(pictures), images)


def test_the_ground_truth_scores_high_and_the_background_alone_zero(cases):
    rows, pictures = complete_halves(Knows(), cases, steps=3)
    scores = prior_scores(rows)["half_hidden"]
    assert scores["iou"] > 85 and scores["alone"] == 0 and scores["gain"] == scores["iou"]
    assert 10 < scores["hole"] < 60
    assert len(pictures) == 5 and all(cell.shape == (32, 32, 3) for row in pictures for cell in row)
    given, completed, *_ = pictures[0]
    seen = cases[0].hole == 0
    assert np.array_equal(given[seen], cases[0].picture[seen])
    assert np.array_equal(completed[seen], cases[0].picture[seen])


def test_grey_completes_nothing_and_white_fills_the_hole(cases):
    grey = prior_scores(complete_halves(GaussianBackend(mean=0.0, spread=0.0), cases, steps=3)[0])["half_hidden"]
    assert (grey["iou"], grey["alone"], grey["gain"]) == (0, 0, 0)
    white = prior_scores(complete_halves(GaussianBackend(mean=1.0, spread=0.0), cases, steps=3)[0])["half_hidden"]
    assert abs(white["iou"] - white["hole"]) < 3 and abs(white["gain"]) < 1e-9


def test_predictions_do_not_depend_on_the_batch(cases):
    together = complete_halves(GaussianBackend(), cases, steps=4)[0]
    assert complete_halves(GaussianBackend(), cases, steps=4, batch_size=2)[0] == together
    assert complete_halves(GaussianBackend(), cases[2:3], steps=4)[0] == together[2:3]
    assert complete_halves(GaussianBackend(), cases, steps=4, seed=1)[0] != together


def test_figures_without_rows_have_all_names():
    assert prior_scores([]) == {
        "half_hidden": {"iou": None, "alone": None, "hole": None, "gain": None},
        "denoising": {"fit": None, "loss": None},
    }


def test_fit_is_the_share_of_variance_explained():
    rows = [{"error": 0.2, "variance": 1.0}, {"error": 0.4, "variance": 2.0}]
    assert prior_scores(rows)["denoising"] == {"fit": pytest.approx(80), "loss": pytest.approx(0.3)}
