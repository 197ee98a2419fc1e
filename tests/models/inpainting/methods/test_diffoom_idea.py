"""DiffOOM with an exact denoiser: errors of a variant are due to the method, not to the network.

Partly hidden shapes are completed by a text-to-image model of single flat shapes. Figures are the mean IoU of the
hidden parts, in percent, of the most probable shape in the completed picture.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from amodalseg.config.schema import DiffOOMConfig
from amodalseg.masks import convex_hull
from amodalseg.models.inpainting.methods.diffoom import DiffOOM
from tests.models.inpainting.exact_world import COLOURS, FORMS, ExactWorld, cases, hidden_iou

PAPER = DiffOOMConfig(attention="off", guidance=1.0)
"""20 steps, colour fill from T_m = .4, the photo inverted. The world has no attention, and guidance would leave it."""


def completed(config, crops):
    world = ExactWorld()
    done = DiffOOM(config, world).complete(crops, None)
    assert len(world.calls) == done[0].evaluations
    return world, done


@cache
def score(wrong=False, **options):
    crops, wholes = cases()
    if wrong:  # the next form in the list, in the right colour
        names = [crop.category.split() for crop in crops]
        other = [f"{colour} {FORMS[(FORMS.index(form) + 1) % len(FORMS)]}" for colour, form in names]
        crops = [crop._replace(category=name) for crop, name in zip(crops, other, strict=True)]
    world, done = completed(replace(PAPER, **options), crops)
    pictures, prompts = [one.picture for one in done], [f"A photo of {crop.category}" for crop in crops]
    return hidden_iou(world.masks_in(pictures, prompts), crops, wholes)


def test_the_cases_are_partly_hidden_shapes():
    crops, wholes = cases()
    hidden = [1 - crop.modal.sum() / whole.sum() for crop, whole in zip(crops, wholes, strict=True)]
    assert len(crops) == 24 and min(hidden) >= 0.3 and max(hidden) <= 0.5
    assert {crop.category.split()[1] for crop in crops} == set(FORMS)
    assert {crop.category.split()[0] for crop in crops} == set(COLOURS)
    world, prompts = ExactWorld(), [f"A photo of {crop.category}" for crop in crops]
    alone = [
        np.where(whole[..., None], COLOURS[crop.category.split()[0]], 128)
        for crop, whole in zip(crops, wholes, strict=True)
    ]
    assert hidden_iou(world.masks_in([one.astype(np.uint8) for one in alone], prompts), crops, wholes) == 100
    assert hidden_iou([convex_hull(crop.modal) for crop in crops], crops, wholes) < 50


def test_colour_fill_from_a_level_that_shows_the_form_completes():
    assert score() >= 75


def test_noise_from_the_noisiest_level_over_generates():
    """Equation 5: the form is determined before the visible part is seen."""
    assert score(skip=0.0, fill="noise") <= 40


def test_skipping_noisy_levels_is_necessary():
    """A flat colour from the noisiest level is no better than noise."""
    assert score(skip=0.0) <= 40 and score() >= score(skip=0.0) + 35


def test_holding_noised_pixels_differs_from_holding_inverted_ones():
    assert score(hold="noised") <= 50 and score() >= score(hold="noised") + 20


def test_a_wrong_word_lowers_the_score():
    assert score(wrong=True) <= 30


def test_inverting_the_filled_square_is_better_than_inverting_the_photo():
    assert score(invert="filled") >= 95 and score(invert="filled") >= score()


@pytest.mark.parametrize("options", [{}, {"invert": "filled"}])
def test_the_read_off_finds_the_completed_shape(options):
    """Read-off by difference to the fill; its median filter rounds the corners of shapes of about ten pixels."""
    crops, wholes = cases()
    _, done = completed(replace(PAPER, **options), crops)
    found = hidden_iou([one.mask for one in done], crops, wholes)
    assert score(**options) - 8 <= found <= score(**options) + 8
    for one, crop in zip(done, crops, strict=True):
        assert not (crop.modal & ~one.mask).any()
        assert (one.picture[crop.modal] == crop.picture[crop.modal]).all()


def test_a_prediction_does_not_depend_on_the_rest_of_its_batch():
    crops, _ = cases()
    together, alone = completed(PAPER, crops[:3])[1], completed(PAPER, crops[1:2])[1][0]
    assert (together[1].mask == alone.mask).all()
    assert abs(together[1].picture.astype(int) - alone.picture).max() <= 1
