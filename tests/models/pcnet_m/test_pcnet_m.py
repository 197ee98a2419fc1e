"""PCNet-M: its inputs in training and prediction, and their effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodalseg import Query
from amodalseg.config.schema import EraserConfig, PCNetMConfig, WindowConfig
from amodalseg.models.cost import describe_cost
from amodalseg.models.pcnet_m.eraser import SHIFT, moved, training_case
from amodalseg.models.pcnet_m.model import PCNetM
from amodalseg.models.pcnet_m.network import PCNetMNetwork

CASE_1 = EraserConfig(front=1.0, unknown=0.0)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def masks(batch=3, side=32):
    """Squares of different sizes and positions, right half behind a bar. Returns: modal, amodal, occluder."""
    amodal, occluder = torch.zeros(2, batch, 1, side, side)
    for index in range(batch):
        amodal[index, :, 4 + index : 20 + 2 * index, 6 : 22 + index] = 1
        occluder[index, :, :, 14:26] = 1
    return amodal * (1 - occluder), amodal, occluder


@pytest.mark.parametrize(("rgb", "channels"), [(False, 2), (True, 5)])
def test_inputs_are_two_masks_and_optionally_the_image(rgb, channels):
    network = PCNetMNetwork(PCNetMConfig(width=4, rgb=rgb)).eval()
    assert network.down[0][0].in_channels == channels
    modal, _, occluder = masks(side=48)
    image = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        logits = network(modal, occluder, image)
        assert logits.shape == (3, 1, 48, 48)
        assert torch.equal(logits, network(modal, occluder, -image)) != rgb
        assert not torch.equal(logits, network(modal, 0 * occluder, image))
        assert not torch.equal(logits, network(occluder, modal, image)), "the two channels are not the same"


@pytest.mark.parametrize(("width", "millions"), [(32, 3.35), (64, 13.39)])
def test_the_number_of_parameters_is_that_of_the_plain_u_net(width, millions):
    with torch.device("meta"):
        network = PCNetMNetwork(PCNetMConfig(width=width))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    # by hand: pairs of 3x3 convolutions with two numbers for each channel's norm, and the 1x1 one with its bias
    pairs = [(2, 1), (1, 2), (2, 4), (4, 8), (8, 8), (16, 4), (8, 2), (4, 1), (2, 1)]
    total = sum(
        9 * (2 if i == 0 else a * width) * b * width + 9 * (b * width) ** 2 + 4 * b * width
        for i, (a, b) in enumerate(pairs)
    )
    assert sum(p.numel() for p in network.parameters()) == total + width + 1


def test_the_cost_is_that_of_its_convolutions():
    width, size = 8, 64
    rows = describe_cost(PCNetMConfig(window=WindowConfig(size=size), width=width))
    assert [row[0] for row in rows] == ["down", "up", "answer", "total"]
    down = [(2, width, 0), (width, 2 * width, 1), (2 * width, 4 * width, 2), (4 * width, 8 * width, 3),
            (8 * width, 8 * width, 4)]  # fmt: skip
    up = [(16 * width, 4 * width, 3), (8 * width, 2 * width, 2), (4 * width, width, 1), (2 * width, width, 0)]
    for row, levels in zip(rows, (down, up), strict=False):
        work = sum(9 * (a * b + b * b) * (size >> level) ** 2 for a, b, level in levels)
        assert row[2] == pytest.approx(2 * work / 1e9, rel=1e-6)
    with torch.device("meta"):
        network = PCNetMNetwork(PCNetMConfig(width=width))
    assert rows[-1][1] == sum(p.numel() for p in network.parameters())


def test_every_level_and_every_skip_connection_is_used():
    network = PCNetMNetwork(PCNetMConfig(width=4)).train()
    modal, _, occluder = masks()
    logits = network(modal, occluder)
    (logits * torch.randn_like(logits)).mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_case_1_the_occluder_is_the_eraser_and_the_amodal_mask_the_target():
    modal, amodal, occluder = masks()
    eraser, target = training_case(modal, amodal, occluder, CASE_1)
    assert torch.equal(eraser, occluder) and torch.equal(target, amodal)
    overlapping = (modal + occluder).clamp(max=1)  # as with a jittered modal mask
    assert torch.equal(training_case(modal, amodal, overlapping, CASE_1)[0], occluder * (1 - modal))


def test_the_eraser_of_an_unoccluded_object_is_empty():
    _, amodal, occluder = masks()
    eraser, target = training_case(amodal, amodal, 0 * occluder, CASE_1)
    assert not eraser.any() and torch.equal(target, amodal)


def test_an_unknown_eraser_is_everything_except_the_object():
    modal, amodal, occluder = masks()
    eraser, target = training_case(modal, amodal, occluder, replace(CASE_1, unknown=1.0))
    assert torch.equal(eraser, 1 - modal) and torch.equal(target, amodal)
    # the occluder of the second object is not annotated
    occluder[1] = 0
    eraser, target = training_case(modal, amodal, occluder, CASE_1)
    assert torch.equal(eraser[1], 1 - modal[1]) and torch.equal(eraser[::2], occluder[::2])
    assert torch.equal(target, amodal)


def test_case_2_another_object_is_behind_and_the_target_is_the_modal_mask():
    modal, amodal, occluder = masks()
    for seed in range(5):
        torch.manual_seed(seed)
        eraser, target = training_case(modal, amodal, occluder, EraserConfig(front=0.0, unknown=1.0))
        assert torch.equal(target, modal) and eraser.any() and not (eraser * modal).any()
        # part of another object of the batch, at a random position
        assert (eraser.sum((1, 2, 3)) <= amodal.roll(1, dims=0).sum((1, 2, 3))).all()
    alone = [mask[:1] for mask in (modal, amodal, occluder)]
    eraser, target = training_case(*alone, EraserConfig(front=0.0, unknown=0.0))
    assert torch.equal(eraser, alone[2]) and torch.equal(target, alone[1]), "there is no other object"


def test_cases_occur_with_their_shares():
    modal, amodal, occluder = (mask.repeat(200, 1, 1, 1) for mask in masks(5))
    eraser, target = training_case(modal, amodal, occluder, EraserConfig(front=0.8, unknown=0.25))
    kept = (target == modal).flatten(1).all(1)
    silent = (eraser == 1 - modal).flatten(1).all(1)
    told = (eraser == occluder).flatten(1).all(1)
    assert kept.float().mean() == pytest.approx(0.2, abs=0.05)
    assert (silent & ~kept).float().mean() == pytest.approx(0.8 * 0.25, abs=0.05)
    assert (told & ~kept).float().mean() == pytest.approx(0.8 * 0.75, abs=0.05)


def test_shifted_masks_do_not_wrap_around():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :4, :4] = 1
    places = set()
    for seed in range(40):
        torch.manual_seed(seed)
        found = moved(mask)[0, 0].nonzero()
        assert len(found) <= 16
        if len(found):
            assert found.max() < 4 + SHIFT * 32, "what leaves on one side does not come in on the other"
            places.add(tuple(found.max(0).values.tolist()))
    assert len(places) > 5


def asked(occluder=True):
    rng = np.random.default_rng(0)
    amodal = np.zeros((60, 80), bool)
    amodal[10:50, 20:60] = True
    cover = np.zeros_like(amodal)
    cover[:, 40:66] = True
    return Query(rng.integers(0, 256, (60, 80, 3), np.uint8), amodal & ~cover, 0, cover if occluder else None)


class Echo(torch.nn.Module):
    """Predicts the eraser."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, modal, eraser, image):
        return 20 * eraser - 10


def test_the_eraser_is_the_occluder_of_the_query():
    model = PCNetM(PCNetMConfig(window=WindowConfig(size=96, kind="c2f")), Echo())
    told, silent = asked(), asked(occluder=False)
    predictions = [model.predict_batch([query])[0] for query in (told, silent)]
    together = model.predict_batch([told, silent])
    window = predictions[1].raw | told.modal  # the pixels shown in the window
    inner = np.zeros_like(window)
    inner[12:48, 22:48] = True
    assert np.array_equal(predictions[0].raw & inner, told.occluder & inner)
    assert np.array_equal(predictions[1].raw & inner, ~told.modal & inner) and window[12:48, 22:48].all()
    for one, other in zip(predictions, together, strict=True):
        assert np.array_equal(one.raw, other.raw)
    model.override({"eraser": {"source": "unknown"}})
    assert np.array_equal(model.predict_batch([told])[0].raw, predictions[1].raw)


def test_the_eraser_changes_the_prediction():
    model = PCNetM(PCNetMConfig(window=WindowConfig(size=64), width=4))
    told, silent = (model.predict_batch([asked(known)])[0].probability for known in (True, False))
    nothing = model.predict_batch([replace(asked(), occluder=np.zeros((60, 80), bool))])[0].probability
    assert not np.allclose(told, silent) and not np.allclose(told, nothing) and not np.allclose(silent, nothing)
