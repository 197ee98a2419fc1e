"""Keywords by the entropy of their maps, and KSSA in both readings."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.models.inpainting.backends.attention import Control, Site
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.keywords import Emphasise, best_half, entropy, select, unread_words, words_of
from tests.models.inpainting.tiny_hub import pictures_and_holes, save_stable_diffusion


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    folder = save_stable_diffusion(tmp_path_factory.mktemp("hub") / "sd", in_channels=4)
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


def slow_entropy(values):
    least, most = min(values), max(values)
    counts = Counter(math.floor(255 * (value - least) / (most - least)) for value in values)
    return -sum(count / len(values) * math.log(count / len(values)) for count in counts.values())


def test_entropy_by_hand():
    """Bytes 0, 0, 127 (from 127.5), 255: p = 1/2, 1/4, 1/4."""
    found = entropy(torch.tensor([[0.2, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64))
    quarter = -0.25 * math.log(0.25)
    assert found[0] == pytest.approx(0.5 * math.log(2) + 2 * quarter)
    assert found[1] == pytest.approx(-0.75 * math.log(0.75) + quarter)


def test_entropy_equals_that_of_a_slow_histogram():
    maps = torch.rand(2, 3, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    for one, found in zip(maps.flatten(0, 1), entropy(maps).flatten(), strict=True):
        assert float(found) == pytest.approx(slow_entropy(one.tolist()))
    torch.testing.assert_close(entropy(5 * maps), entropy(maps))
    assert entropy(torch.full((7,), 0.3)) == entropy(torch.zeros(7)) == math.inf


def test_words_with_localised_maps_come_first_and_constant_ones_last():
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(256, generator=generator)
    small, wide = torch.zeros(256), torch.zeros(256)
    small[:4], wide[:100] = 1.0, torch.rand(100, generator=generator)
    maps = torch.stack([torch.ones(256), spread, wide, torch.full((256,), 0.2), small, spread.flip(0)], 1)
    words = [("a", [1]), ("flat", [3]), ("wide", [2]), ("small", [4]), ("flatter", [0]), ("wide", [5])]
    assert select(maps, words) == ["small", "wide", "a", "flat", "flatter"]
    assert select(maps, words, 2) == ["small", "wide"]
    assert select(maps, [], 2) == []
    # a word of two pieces: the mean of their maps, which is constant here
    assert select(torch.stack([small, 1 - small, spread], 1), [("two", [0, 1]), ("one", [2])]) == ["one", "two"]


def test_words_of_a_text(backend):
    assert words_of(backend, "a cat bd") == [("a", [1]), ("cat", [2]), ("bd", [3, 4])]
    assert words_of(backend, "") == []


def test_words_truncated_by_the_token_limit_are_left_out(backend):
    """Twelve tokens, including start and end; only one of the two tokens of "bd" fits."""
    assert unread_words(backend, "a cat " + "b " * 8) == []
    assert unread_words(backend, "a cat " + "b " * 7 + "bd cat e") == ["bd", "cat", "e"]
    assert unread_words(backend, "") == []


def test_the_best_half():
    assert best_half(torch.tensor([1.0, 5, 2, 5, 5])).tolist() == [False, True, False, True, False]
    assert best_half(torch.zeros(4)).tolist() == [True, True, False, False]


class Watch(Control):
    """Stores the attention weights that layers use."""

    def start(self):
        self.kept = []

    def wants_maps(self, site):
        return True

    def maps(self, site, weights):
        self.kept.append((site, weights))
        return weights


def evaluated(backend, *controls, count=2):
    prepared = replace(backend.prepare(*pictures_and_holes(count), ["a cat"] * count), attention=controls)
    x = torch.randn(prepared.known.shape, generator=torch.Generator().manual_seed(0))
    return backend.estimate(x, backend.levels(4)[1], prepared).noise


def test_positions_of_keywords_are_emphasised_in_later_layers(backend):
    """The evaluation's first self-attention layer comes before any attention to words, so it is unchanged."""
    columns = [[2], []]
    plain, watch, emphasise = Watch(), Watch(), Emphasise(columns, 3.0)
    evaluated(backend, plain)
    evaluated(backend, emphasise, watch)
    (first, was), (first_cross, answers) = plain.kept[:2]
    assert not first.cross and first_cross.cross
    assert torch.equal(watch.kept[0][1], was)
    chosen = best_half(answers[0].mean(0)[:, 2])
    second, weights = next((site, weights) for site, weights in watch.kept[1:] if not site.cross)
    before = next(weights for site, weights in plain.kept[1:] if not site.cross)
    assert (second.height, second.width) == (first.height, first.width)
    # its input is unchanged, so the weights can be computed by hand; the second object has no keywords
    raised = before[0] * torch.where(chosen, 3.0, 1.0)
    torch.testing.assert_close(weights[0], raised / raised.sum(-1, keepdim=True))
    assert torch.equal(weights[1], before[1])
    last = dict(emphasise.chosen)
    assert list(last) == [(first.height, first.width)] and last[first.height, first.width].sum(1).tolist() == [8, 0]


def test_the_next_evaluation_starts_with_the_positions_of_the_last_one(backend):
    watch, emphasise = Watch(), Emphasise([[2], [1, 2]], 3.0)
    evaluated(backend, emphasise, watch)
    before = watch.kept[0][1]
    chosen = emphasise.chosen[watch.kept[0][0].height, watch.kept[0][0].width]
    evaluated(backend, emphasise, watch)
    raised = before * torch.where(chosen, 3.0, 1.0)[:, None, None]
    torch.testing.assert_close(watch.kept[0][1], raised / raised.sum(-1, keepdim=True))


def test_both_readings_by_hand():
    """Logits -1 and 2 at selected positions: multiplied weights raise both; multiplied logits lower the first."""
    site = Site("layer", False, 2, 2)
    chosen = torch.tensor([[True, True, False, False]])
    logits, query = torch.tensor([-1.0, 2.0, 0.5, 0.0]), torch.ones(1, 1, 1, 1)
    key = logits[None, None, :, None]
    found = {}
    for reading in ("weights", "logits"):
        control = Emphasise([[1]], 1.5, reading)
        control.chosen[2, 2] = chosen
        changed, value = control.keys_values(site, key, key)
        assert value is key
        bias = control.bias(site)
        raised = (query @ changed.transpose(-1, -2))[0, 0, 0] + (0 if bias is None else bias[0, 0, 0])
        found[reading] = raised - logits
    assert found["weights"].tolist() == pytest.approx([math.log(1.5), math.log(1.5), 0, 0])
    assert found["logits"].tolist() == pytest.approx([-0.5, 1.0, 0, 0])


def test_layers_without_emphasis(backend):
    control = Emphasise([[1]], 1.5)
    key = torch.ones(1, 1, 4, 1)
    for site in (Site("words", True, 2, 2), Site("another grid", False, 4, 1)):
        control.chosen = {(2, 2): torch.ones(1, 4, dtype=torch.bool)}
        assert control.bias(site) is None and control.keys_values(site, key, key)[0] is key
    large = Emphasise([[2], [2]], 3.0, places=15)
    assert torch.equal(evaluated(backend, large), evaluated(backend))
    assert large.chosen == {}
    assert (evaluated(backend, Emphasise([[2], [2]], 3.0, "logits")) - evaluated(backend)).abs().max() > 1e-5
