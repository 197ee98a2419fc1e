"""Guidance of regions: each loss by hand, its gradient by finite differences, and its effect."""

import itertools
import math

import pytest
import torch

from amodalseg.models.inpainting.backends.backend import Estimate
from amodalseg.models.inpainting.steps.region_guidance import (
    LossWeights,
    RegionGuidance,
    inherent_mask,
    preservation_loss,
    read,
    region_loss,
    similarity_loss,
)
from amodalseg.models.inpainting.steps.regions import Regions, row_texts
from amodalseg.models.inpainting.steps.sample import advance, begin
from amodalseg.types import Region
from tests.models.inpainting.worded import Worded

REGIONS = [
    Region("0", "0"),
    Region("1", "1", (0, 0, 0.5, 1)),
    Region("2", "3", (0.5, 0, 1, 1)),
    Region(None, "4", (0.25, 0.5, 0.75, 1)),
]
KEYWORDS = [[None, None], ["red", "red"], ["green", "blue"], [None, "red"]]
INHERENT = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
INHERENT[..., :4, :4] = True
NONE = {"region": 0.0, "similarity": 0.0, "preservation": 0.0}


class Linear:
    """Segments each word by logits of three times one channel of the picture."""

    def __init__(self):
        self.asked = []

    def logits(self, pictures, words):
        self.asked.append(list(words))
        channels = [["red", "green", "blue"].index(word) for word in words]
        return 3 * pictures[range(len(words)), channels]


def started(steps=10, index=5, seeds=(1, 2)):
    backend = Regions(Worded(), REGIONS, row_texts(REGIONS), weight=0.0, total=("0", "0"))
    prepared = backend.prepare(torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool))
    sampling = begin(backend, prepared, seeds, steps)
    advance(sampling, until=index)
    sampling.x = sampling.x.double()  # for finite differences
    return sampling


def guidance(reading="probability", **weights):
    sources = weights.pop("sources", True)
    return RegionGuidance(
        Linear(), KEYWORDS, INHERENT, LossWeights(**{**NONE, **weights}), reading=reading, sources=sources
    )


def moved_by(hook, sampling):
    """The change of the clean estimate, and that estimate."""
    plain = sampling.backend.estimate(sampling.x, sampling.level, sampling.prepared)
    with torch.no_grad():
        found = hook.estimate(sampling, plain)
    state = sampling.backend.add_noise(found.clean, found.noise, sampling.level)
    torch.testing.assert_close(state, sampling.x)  # the estimates are consistent with the current state
    return found.clean - plain.clean, plain


def test_the_region_loss_is_the_part_found_outside_the_box():
    found = torch.tensor([[1.0, 2.0], [3.0, 0.5]])
    inside = torch.tensor([[True, False], [False, True]])
    assert region_loss(found, inside) == pytest.approx((4 + 9) / 4)
    assert region_loss(found, torch.ones(2, 2, dtype=torch.bool)) == 0


def test_similarity_by_hand():
    """Cosines of target 1 with sources: 1, 0; of target 2: .6, .8."""
    source = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    target = torch.tensor([[[5.0, 0.0]], [[3.0, 4.0]]])
    one, two = (
        -math.log(math.exp(own / 0.5) / (math.exp(own / 0.5) + math.exp(other / 0.5)))
        for own, other in ((1.0, 0.0), (0.8, 0.6))
    )
    assert float(similarity_loss(source, target, 0.5)) == pytest.approx((one + two) / 2)
    assert similarity_loss(source[:1], target[:1], 0.5) == 0
    assert similarity_loss(source, source, 0.1) < similarity_loss(source, source.flip(0), 0.1)


def test_preservation_by_hand():
    values = torch.zeros(2, 1, 4, 4)
    values[1, 0, 0, 0], values[1, 0, 3, 3] = 2.0, 7.0
    where = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])  # on a coarser grid, without the last quarter
    assert preservation_loss(values, where) == pytest.approx(4 / 16)


def test_readings_of_the_logits():
    logits = torch.tensor([[[1.0, -3.0]], [[0.0, 0.5]]])
    assert torch.equal(read(logits, "plain"), logits)
    assert torch.equal(read(logits, "probability"), logits.sigmoid())
    torch.testing.assert_close(read(logits, "l1"), torch.tensor([[[0.25, -0.75]], [[0.0, 1.0]]]))


@pytest.mark.parametrize(
    ("loss", "reading"),
    [
        *itertools.product(("region", "similarity"), ("probability", "plain", "l1")),
        ("preservation", "plain"),
    ],
)
def test_the_step_equals_the_gradient_by_finite_differences(loss, reading):
    """clean' = clean - sigma^2 / alpha * slope."""
    sampling, hook = started(), guidance(reading, **{loss: 7.0})
    change, plain = moved_by(hook, sampling)
    assert change.abs().max() > 1e-8
    number = ["region", "similarity", "preservation"].index(loss)

    def loss_at(clean):
        with torch.no_grad():
            hook.estimate(sampling, Estimate(clean, plain.noise, {}))
        return hook.losses[number]

    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(plain.clean.shape, generator=generator)
    if loss != "region":
        direction[0] = 0  # the source is not moved towards its target, although the loss depends on it
    small = 1e-4
    slope = (loss_at(plain.clean + small * direction) - loss_at(plain.clean - small * direction)) / (2 * small)
    _, alpha, sigma = sampling.level
    assert float((change * direction).sum()) == pytest.approx(-7 * sigma**2 / alpha * slope, rel=1e-5)


@pytest.mark.parametrize("loss", ["region", "similarity", "preservation"])
def test_the_loss_falls(loss):
    sampling, hook = started(), guidance(**{loss: 0.1})
    number, losses = ["region", "similarity", "preservation"].index(loss), []
    estimate = sampling.backend.estimate(sampling.x, sampling.level, sampling.prepared)
    for _ in range(6):
        estimate = hook.estimate(sampling, estimate)
        losses.append(hook.losses[number])
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert [value > 0 for value in hook.losses] == [place == number for place in range(3)]


def test_rows_and_pixels_moved_by_each_loss():
    change, _ = moved_by(guidance(region=1.0), started())
    assert change[0].abs().max() > 0 and change[1].abs().max() > 0
    assert change[0, 0, :, :4].abs().max() == 0  # inside the box of red
    assert change[0, 2].abs().max() == 0  # blue is not in the source's text
    change, _ = moved_by(guidance(region=1.0, sources=False), started())
    assert change[0].abs().max() == 0 and change[1].abs().max() > 1e-6
    for loss in ("similarity", "preservation"):
        change, _ = moved_by(guidance(**{loss: 1.0}), started())
        assert change[0].abs().max() == 0 and change[1].abs().max() > 1e-6
    assert change[1, :, 4:].abs().max() == 0 and change[1, :, :, 4:].abs().max() == 0  # not in the preserved part


def test_the_schedule():
    hook = guidance(region=1.0, similarity=1.0, preservation=1.0)
    counted = []
    for index in range(10):
        moved_by(hook, started(index=index))
        counted.append(tuple(loss > 0 for loss in hook.losses))
    assert counted == [(True, False, False)] * 2 + [(True, False, True)] + [(True, True, True)] * 7
    assert LossWeights().at(1.0) == (1000, 2000, 300)


def test_without_losses_the_segmenter_is_not_called():
    sampling, hook = started(), guidance()
    plain = sampling.backend.estimate(sampling.x, sampling.level, sampling.prepared)
    assert hook.estimate(sampling, plain) is plain and hook.segmenter.asked == []
    hook = guidance(preservation=1.0)
    moved_by(hook, sampling)
    assert hook.segmenter.asked == []
    hook = guidance(region=1.0)
    moved_by(hook, sampling)
    assert hook.segmenter.asked == [["red", "red", "green", "blue", "red"]]


def test_objects_of_a_batch_are_independent():
    """Two pairs in one batch change like each alone."""
    backend = Regions(Worded(), REGIONS[:3], row_texts(REGIONS[:3], 2), weight=0.0)
    keywords = [[None] * 4, ["red"] * 4, ["green", "green", "blue", "blue"]]
    weights = LossWeights(1.0, 1.0, 0.0)
    pictures, holes = torch.zeros(4, 3, 8, 8), torch.ones(4, 1, 8, 8, dtype=torch.bool)
    sampling = advance(begin(backend, backend.prepare(pictures, holes), (1, 2, 3, 4), 10), until=5)
    both, _ = moved_by(RegionGuidance(Linear(), keywords, INHERENT, weights), sampling)
    for pair in (0, 1):
        single = Regions(Worded(), REGIONS[:3], row_texts(REGIONS[:3]), weight=0.0)
        alone = begin(single, single.prepare(pictures[:2], holes[:2]), (1 + pair, 3 + pair), 10)
        advance(alone, until=5)
        hook = RegionGuidance(Linear(), [rows[::2] for rows in keywords], INHERENT, weights)
        torch.testing.assert_close(moved_by(hook, alone)[0], both[[pair, pair + 2]], atol=1e-6, rtol=1e-4)


def test_the_mask_of_preserved_pixels():
    parts = started().prepared.parts[:-1]
    found = inherent_mask(parts, [region.kind for region in REGIONS], 8, 8)
    expected = torch.ones(8, 8, dtype=torch.bool)
    expected[:, 4:], expected[4:, 2:6] = False, False
    assert torch.equal(found[0, 0], expected)
