"""The shipped prior in ``checkpoints/``: it matches its model card, and it completes objects."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from amodalseg.config.schema import NoiseFillConfig
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.backends.prior import FILES, SHIPPED, WEIGHTS, find_prior
from amodalseg.models.inpainting.parts.read_off import differs_from
from amodalseg.models.inpainting.prior_training.validation import to_images, to_pictures
from amodalseg.models.inpainting.steps.sample import inpaint

diffusers = pytest.importorskip("diffusers")
CARD = Path(__file__).parents[4] / "checkpoints/README.md"


@pytest.fixture(scope="module")
def prior():
    return EmbeddedPrior()


def test_the_model_card_matches_the_files():
    weights = find_prior(SHIPPED) / WEIGHTS
    assert weights.stat().st_size < 25e6
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in CARD.read_text("utf-8")


def test_the_files_contain_no_local_paths():
    for name in FILES:
        if name.endswith(".json"):
            assert '"/' not in json.dumps(json.loads((find_prior() / name).read_text("utf-8"))), name


def test_the_default_size_of_its_control_equals_that_of_the_prior(prior):
    assert NoiseFillConfig().window.size == prior.abilities.size


def test_it_completes_half_ellipses(prior):
    """Halves of ellipses on grey: more of the hidden half is recovered than is generated there without an ellipse."""
    side, cases = prior.abilities.size, []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mask = np.zeros((side, side), np.uint8)
        axes = tuple(int(length) for length in rng.integers(side // 6, side // 4, 2))
        cv2.ellipse(mask, (side // 2, side // 2), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        grey = np.full((side, side, 3), 128, np.uint8)
        colour = rng.choice([20, 60, 190, 235], 3).astype(np.uint8)
        cases.append((np.where(mask[..., None] > 0, colour, grey), grey, mask > 0))
    hole = np.zeros((side, side), bool)
    hole[:, side // 2 :] = True
    holes, seeds = torch.from_numpy(np.stack([hole] * 8))[:, None], range(8)
    found = []
    for pictures in ([case[0] for case in cases], [case[1] for case in cases]):
        drawn = to_images(inpaint(prior, to_pictures(pictures), holes, seeds, steps=10))
        predictions = [differs_from(picture, case[1]) & hole for picture, case in zip(drawn, cases, strict=True)]
        hidden = [case[2] & hole for case in cases]
        found.append(np.mean([(a & h).sum() / (a | h).sum() for a, h in zip(predictions, hidden, strict=True)]))
    assert found[0] > found[1] + 0.05, found
