"""Refined attention maps, Otsu's threshold and words' columns against slow transcriptions."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control, Site
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.maps import (
    WatchMaps,
    object_mask,
    otsu,
    refined,
    visible_seed,
    word_columns,
    word_seed,
)
from tests.models.inpainting.tiny_hub import SIDE, build_prior, save_stable_diffusion


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    folder = save_stable_diffusion(tmp_path_factory.mktemp("hub") / "sd", in_channels=4)
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


class Everything(Control):
    def start(self):
        self.seen_ = []

    def wants_maps(self, site):
        return True

    def maps(self, site, weights):
        self.seen_.append((site, weights))
        return weights


def look(backend, *controls, side=None):
    side = side or backend.abilities.size
    pictures = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(1)) * 2 - 1
    holes = torch.zeros(2, 1, side, side, dtype=torch.bool)
    prepared = replace(backend.prepare(pictures, holes, ["a cat", "cat"]), attention=controls)
    backend.estimate(prepared.known, backend.levels(4)[2], prepared)


def weights_of(site, count=2, keys=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((count, 2, site.places, keys or site.places), generator=generator).softmax(-1)


def test_maps_are_means_over_heads_and_layers_of_the_finest_allowed_grid():
    fine, grid, coarse = ((side, 2 * side) for side in (4, 2, 1))
    layers = [
        (Site("a", False, *fine), None), (Site("b", False, *grid), None), (Site("c", True, *grid), 3),
        (Site("d", False, *coarse), None), (Site("e", True, *grid), 3), (Site("f", False, *grid), None),
    ]  # fmt: skip
    for side, chosen in ((8, ("a",)), (7, ("b", "f")), (4, ("b", "f")), (2, ("d",))):
        watch = WatchMaps(side)
        for _ in range(2):  # evaluations are independent
            watch.start()
            found = {}
            for number, (site, keys) in enumerate(layers):
                weights = weights_of(site, keys=keys, seed=number)
                if watch.wants_maps(site):
                    assert watch.maps(site, weights) is weights
                found[site.name] = weights.mean(1)
        wanted = sum(found[name] for name in chosen) / len(chosen)
        torch.testing.assert_close(watch.self_maps(), wanted)
        if chosen == ("b", "f"):
            torch.testing.assert_close(watch.cross_maps(), (found["c"] + found["e"]) / 2)
        else:
            with pytest.raises(UserError, match="no attention to words on a grid"):
                watch.cross_maps()
    with pytest.raises(UserError, match=r"^the model has no attention between places on a grid of 2 x 2 or coarser$"):
        WatchMaps(2).self_maps()


@pytest.mark.parametrize("kind", ["stable", "prior"])
def test_maps_of_a_network_are_recorded(kind, stable):
    backend = stable if kind == "stable" else build_prior()
    watch, everything = WatchMaps(), Everything()
    look(backend, watch, everything)
    finest = max(site.places for site, _ in everything.seen_)
    assert watch.grid.places == finest
    kept = [w.mean(1) for site, w in everything.seen_ if site.places == finest and not site.cross]
    assert len(kept) > 1
    torch.testing.assert_close(watch.self_maps(), torch.stack(kept).mean(0))
    coarser = WatchMaps(watch.grid.width - 1)  # the tiny networks have only one grid
    look(backend, coarser)
    with pytest.raises(UserError, match="no attention between places"):
        coarser.self_maps()


def test_refinement_equals_equation_3():
    site = Site("a", False, 2, 3)
    watch = WatchMaps()
    watch.maps(site, weights_of(site))
    cross = Site("b", True, 2, 3)
    watch.maps(cross, weights_of(cross, keys=4, seed=1))
    seed = word_seed(watch, [[1, 2], [3]])
    own, other = watch.self_maps().double().numpy(), watch.cross_maps().double().numpy()
    for power in (0, 1, 4):
        for row, columns in enumerate([[1, 2], [3]]):
            wanted = np.linalg.matrix_power(own[row], power) @ other[row][:, columns].mean(1)
            found = refined(watch, seed, power)[row, 0]
            np.testing.assert_allclose(found.numpy(), wanted.reshape(2, 3), rtol=1e-5)


def test_a_map_spreads_from_the_visible_part_over_similar_positions():
    """Two groups of positions that attend within their group: from a part of one, the whole group is found."""
    site = Site("a", False, 4, 4)
    left = torch.arange(16) % 4 < 2
    alike = (left[:, None] == left[None]).float() * 0.9 + 0.1
    watch = WatchMaps()
    watch.maps(site, (alike / alike.sum(-1, keepdim=True)).expand(1, 2, 16, 16))
    visible = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    visible[..., :8, :8] = True  # the upper half of the left group, on a finer grid
    seed = visible_seed(watch, visible)
    assert torch.equal(seed[0], (left & (torch.arange(16) < 8)).float())
    mask = object_mask(refined(watch, seed), visible)
    assert torch.equal(mask[0, 0], (torch.arange(16) < 8).expand(16, 16))
    within = torch.zeros_like(visible)
    within[:, :, 12:] = True
    assert torch.equal(object_mask(refined(watch, seed), visible, within), mask & within | visible)


def slow_otsu(values):
    best, least = -1.0, None
    for threshold in sorted(set(values.tolist()))[1:]:
        low, high = values[values < threshold], values[values >= threshold]
        variance = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if variance > best:
            best, least = variance, threshold
    return values >= least


def test_otsu_equals_an_exhaustive_search_and_opencv():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand((6, 1, 9, 7), generator=generator)
    maps[1] = (maps[1] * 5).floor()  # many equal values
    maps[2, :, :3] += 3
    maps[3] = maps[3] ** 6
    maps[4] *= 1e-6
    found = otsu(maps)
    for one, prediction in zip(maps, found, strict=True):
        assert np.array_equal(prediction.flatten().numpy(), slow_otsu(one.flatten().double().numpy()))
        assert 0 < prediction.sum() < prediction.numel()
    grey = (torch.rand((40, 40), generator=generator) * 100 + 100 * (torch.arange(40) < 13)).to(torch.uint8)
    _, theirs = cv2.threshold(grey.numpy(), 0, 1, cv2.THRESH_OTSU)
    assert np.array_equal(otsu(grey[None, None].float())[0, 0].numpy(), theirs > 0)


def test_a_constant_map_yields_only_the_visible_part():
    noise = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    visible = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    visible[..., :2, :3] = True
    for maps in (torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.3), 1 + 0.009 * noise):
        assert not otsu(maps).any() and torch.equal(object_mask(maps, visible), visible)
    assert otsu(1 + 0.02 * noise).sum() > 16
    dark = torch.where(visible, 0.0, 1.0)  # the visible part always belongs to the object
    assert object_mask(dark, visible).all()


def test_columns_of_words(stable):
    prompt = "a cat of cab cat"
    tokens = stable.tokens(prompt)
    for word, wanted in (
        ("cat", ["cat</w>"] * 2),
        ("Cab", ["ca", "b</w>"]),
        ("of cab", ["o", "f</w>", "ca", "b</w>"]),
        ("a", ["a</w>"]),
    ):
        assert [tokens[column] for column in word_columns(stable, prompt, word)] == wanted
    assert word_columns(stable, prompt, "cat") == [2, 7]
    for word in ("dog", "ca", "", "of cat"):
        with pytest.raises(UserError, match=rf"^'{word}' is not in the text '{prompt}' within"):
            word_columns(stable, prompt, word)
    with pytest.raises(UserError, match="'cat' is not in the text"):  # truncated
        word_columns(stable, "z " * 20 + "cat", "cat")
    with pytest.raises(UserError, match=r"^embedded has no cross-attention to words"):
        word_columns(build_prior(), prompt, "cat")


def test_the_map_of_a_word_is_that_of_its_columns(stable):
    watch = WatchMaps()
    look(stable, watch, side=SIDE)
    columns = [word_columns(stable, prompt, "cat") for prompt in ("a cat", "cat")]
    assert columns == [[2], [1]]
    maps = watch.cross_maps()
    assert torch.equal(word_seed(watch, columns), torch.stack([maps[0, :, 2], maps[1, :, 1]]))
