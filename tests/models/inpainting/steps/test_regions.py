"""Regions as a backend around another one: tiny random networks of every class, and an exact one."""

from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.attention_controls import KeyMask
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.region_weights import GridBox, alpha, on_grid, weights
from amodalseg.models.inpainting.steps.regions import Regions, RegionSteps, row_texts
from amodalseg.models.inpainting.steps.sample import advance, begin
from amodalseg.types import Region
from tests.models.inpainting.tiny_hub import build_prior, pictures_and_holes, save_sdxl, save_stable_diffusion
from tests.models.inpainting.worded import Worded

BACKGROUND = Region("a", "a")
LEFT, RIGHT = Region("cat", "cat", (0, 0, 0.625, 1)), Region("b cat", "c", (0.375, 0, 1, 1), feather=0.5)
ADDED, REMOVED = Region(None, "cat", (0.25, 0.25, 0.75, 1)), Region("cat", None, (0.25, 0.25, 0.75, 1))


@pytest.fixture(scope="module", params=["four", "nine", "xl"])
def inner(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "model"
    if request.param == "xl":
        save_sdxl(folder)
    else:
        save_stable_diffusion(folder, in_channels={"four": 4, "nine": 9}[request.param])
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


def walked(backend, seeds=(1, 1), steps=3, hooks=(), size=None):
    """Final states of one picture, repeated once per seed."""
    pictures, holes = pictures_and_holes(1) if size is None else (torch.zeros(1, 3, size, size), None)
    pictures = pictures.expand(len(seeds), -1, -1, -1)
    holes = (
        torch.ones_like(pictures[:, :1], dtype=torch.bool) if holes is None else holes.expand(len(seeds), -1, -1, -1)
    )
    return advance(begin(backend, backend.prepare(pictures, holes), seeds, steps), hooks).x


def test_one_region_equals_the_inner_backend_with_guidance(inner):
    pictures, holes = pictures_and_holes(2)
    texts = ["cat", "a b"]
    regions = Regions(inner, [BACKGROUND], [texts], weight=3.0)
    asked, null = inner.prepare(pictures, holes, texts), inner.prepare(pictures, holes)
    guided = advance(begin(inner, asked, (1, 2), 3), [MaskGuidance(null, 3.0)]).x
    found = advance(begin(regions, regions.prepare(pictures, holes), (1, 2), 3)).x
    torch.testing.assert_close(found, guided, atol=1e-6, rtol=0)
    plain = advance(begin(inner, asked, (1, 2), 3)).x
    assert (found - plain).abs().max() > 1e-3
    unguided = Regions(inner, [BACKGROUND], [texts], weight=0.0)
    found = advance(begin(unguided, unguided.prepare(pictures, holes), (1, 2), 3)).x
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("blend", ["layers", "average"])
def test_fusing_estimates_equals_fusing_stepped_states(inner, blend):
    """As in the paper: every region takes its own step from its crop, and the states are fused."""
    regions = [BACKGROUND, LEFT, RIGHT, ADDED]
    backend = Regions(inner, regions, row_texts(regions), weight=2.0, total=("cat a", "cat b"), blend=blend)
    pictures, holes = (values.expand(2, -1, -1, -1) for values in pictures_and_holes(1))
    prepared = backend.prepare(pictures, holes)
    sampling = begin(backend, prepared, (1, 1), 4)
    for index in range(4):
        level, then, fused = sampling.levels[index], sampling.levels[index + 1], torch.zeros_like(sampling.x)
        for part, share in zip(prepared.parts, backend.shares(prepared), strict=True):
            rows, box = list(part.rows), part.box
            crop = sampling.x[rows][..., box.top : box.bottom, box.left : box.right]
            own = inner.estimate(crop, level, part.asked)
            stepped = inner.add_noise(own.clean, own.noise, then)
            free = inner.estimate(crop, level, part.null)
            stepped = 3 * stepped - 2 * inner.add_noise(free.clean, free.noise, then)
            fused[rows, :, box.top : box.bottom, box.left : box.right] += (
                share[rows][..., box.top : box.bottom, box.left : box.right] * stepped
            )
        x = advance(sampling, until=index + 1).x
        torch.testing.assert_close(x, fused, atol=1e-6 * float(fused.abs().max().clamp(min=1)), rtol=0)


def test_added_regions_do_not_affect_sources_nor_removed_ones_targets(inner):
    def states(*regions):
        backend = Regions(inner, regions, row_texts(regions), weight=2.0, total=("cat", "cat"))
        return walked(backend, hooks=[RegionSteps(0.3)])

    kept = [BACKGROUND, LEFT, RIGHT]
    source, target = states(*kept)
    added = states(*kept, ADDED)
    assert torch.equal(added[0], source) and (added[1] - target).abs().max() > 1e-3
    removed = states(*kept, REMOVED)
    assert torch.equal(removed[1], target) and (removed[0] - source).abs().max() > 1e-3


def test_each_region_is_evaluated_with_its_own_texts_and_rows():
    """Where only one region has weight, the picture converges to its number; a row without it to the background's."""
    regions = [Region("2", "2"), Region(None, "5", (0.5, 0, 1, 1), feather=0.0)]
    inner = Worded(mean=0.0, spread=0.0)
    source, target = walked(Regions(inner, regions, row_texts(regions), weight=0.0), size=8)
    torch.testing.assert_close(source, torch.full_like(source, 2.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(target[..., :4], torch.full((3, 8, 4), 2.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(target[..., 4:], torch.full((3, 8, 4), 5.0), atol=1e-5, rtol=0)
    assert len(inner.calls) == 3 * 2
    guided = walked(Regions(inner, regions, row_texts(regions), weight=1.0, null="-1"), size=8)
    torch.testing.assert_close(guided[1, :, 0, 7], torch.full((3,), 2 * 5.0 + 1.0), atol=1e-4, rtol=0)


def test_the_total_region_is_active_from_its_step():
    regions = [Region("2", "2")]
    inner = Worded(mean=0.0, spread=0.0)
    backend = Regions(inner, regions, row_texts(regions), weight=0.0, total=("4", "8"))
    prepared = backend.prepare(torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool))
    sampling, counted = begin(backend, prepared, (1, 1), 10), []
    for index in range(10):
        before = len(inner.calls)
        advance(sampling, [RegionSteps(0.3)], until=index + 1)
        counted.append(len(inner.calls) - before)
    assert counted == [1] * 3 + [2] * 7
    torch.testing.assert_close(sampling.x.mean((1, 2, 3)), torch.tensor([3.0, 5.0]), atol=1e-4, rtol=0)
    without = Regions(inner, regions, row_texts(regions), weight=0.0)
    assert walked(without, size=8, hooks=[RegionSteps(0.0)]).mean() == pytest.approx(2.0, abs=1e-4)


def test_null_texts_of_each_region_at_each_step():
    regions = [Region("0", "0"), Region("0", "0", (0, 0, 0.5, 1), feather=0.0)]
    backend = Regions(Worded(mean=0.0, spread=0.0), regions, row_texts(regions), weight=1.0)
    last = [[torch.full((2, 1, 1), value * step) for step in range(3)] for value in (1.0, -2.0)]
    found = walked(backend, size=8, hooks=[RegionSteps(nulls=last)])
    torch.testing.assert_close(found[..., :4], torch.full((2, 3, 8, 4), 4.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[..., 4:], torch.full((2, 3, 8, 4), -2.0), atol=1e-4, rtol=0)


def test_regions_can_be_inverted():
    regions = [Region("1", "1"), Region("2", "-2", (0, 0, 0.625, 1)), Region("3", "3", (0.375, 0, 1, 1), feather=0.5)]
    backend = Regions(Worded(), regions, row_texts(regions), weight=1.0)
    pictures = pictures_and_holes(1)[0].expand(2, -1, -1, -1)[..., :8, :8]
    prepared = backend.prepare(pictures, torch.ones(2, 1, 8, 8, dtype=torch.bool))
    states = invert(backend, prepared, 6, rounds=30)
    sampling = begin(backend, prepared, (1, 1), 6)
    sampling.x = states[0]
    torch.testing.assert_close(advance(sampling).x, prepared.known, atol=1e-4, rtol=0)


def test_the_unconditional_input_has_no_guidance_and_no_controls(inner):
    backend = Regions(inner, [BACKGROUND, LEFT], [["cat"], ["a"]], weight=2.0)
    pictures, holes = pictures_and_holes(1)
    prepared = backend.prepare(pictures, holes)
    mask = KeyMask(torch.ones(1, 1, 8, 8))
    prepared.parts = tuple(replace(part, asked=replace(part.asked, attention=(mask,))) for part in prepared.parts)
    nothing = backend.unconditional(prepared)
    assert all(part.null is None and part.asked.attention == () for part in nothing.parts)
    assert all(part.null is not None and part.asked.attention == (mask,) for part in prepared.parts)


def test_a_control_acts_in_its_region_only(inner):
    backend = Regions(inner, [BACKGROUND, LEFT], [["cat"], ["a"]], weight=0.0)
    prepared = backend.prepare(*pictures_and_holes(1))
    x, level = torch.randn(prepared.known.shape, generator=torch.Generator().manual_seed(0)), backend.levels(4)[1]
    plain = backend.estimate(x, level, prepared).noise
    seen = torch.zeros(1, 1, 8, 8)
    seen[..., :4, :4] = 1
    part = prepared.parts[1]
    asked = replace(part.asked, attention=(KeyMask(seen),))
    masked = backend.estimate(x, level, replace(prepared, parts=(prepared.parts[0], replace(part, asked=asked)))).noise
    changed = (masked - plain).abs().amax((0, 1)) > 0
    assert changed[:, :5].any() and not changed[:, 5:].any()


@pytest.mark.parametrize("blend", ["layers", "average"])
def test_weights_sum_to_one(blend):
    regions = [BACKGROUND, LEFT, RIGHT, ADDED]
    maps = torch.stack([alpha(region, on_grid(region, 16, 24), 16, 24) for region in regions])
    alphas = maps[:, None, None].repeat(1, 2, 1, 1, 1)
    alphas[3, 0] = 0
    found = weights(alphas, [True, False, False, False], blend)
    torch.testing.assert_close(found.sum(0), torch.ones(2, 1, 16, 24))
    assert (found >= 0).all() and (found[3, 0] == 0).all() and (found[3, 1] > 0).any()


def test_weights_by_hand():
    """Two regions in front of the background: together they get the larger alpha, shared in proportion."""
    alphas = torch.tensor([1.0, 0.2, 0.6, 1.0])[:, None, None, None, None]
    behind = [True, False, False, True]
    assert weights(alphas, behind).flatten().tolist() == pytest.approx([0.2, 0.15, 0.45, 0.2])
    assert weights(alphas, behind, "average").flatten().tolist() == pytest.approx(
        [1 / 2.8, 0.2 / 2.8, 0.6 / 2.8, 1 / 2.8]
    )
    nothing_behind = weights(alphas[1:3], [False, False]).flatten()
    assert nothing_behind.tolist() == pytest.approx([0.25, 0.75])


def test_a_feather_is_a_squared_ramp_from_the_border():
    region = Region("a", "a", (0.25, 0, 1, 1), feather=0.5)
    box = on_grid(region, 8, 16)
    assert box == GridBox(0, 4, 8, 16)
    found = alpha(region, box, 8, 16)
    expected = torch.tensor([0.0] * 4 + [1 / 9, 4 / 9] + [1.0] * 10)
    torch.testing.assert_close(found, expected.expand(8, 16))  # three sides are on the picture's border
    assert torch.equal(alpha(region._replace(feather=0), box, 8, 16), (torch.arange(16) >= 4).float().expand(8, 16))


def test_boxes_are_rounded_to_multiples_of_the_step():
    region = Region("a", "a", (0.1, 0.2, 0.55, 0.9))
    assert on_grid(region, 10, 20) == GridBox(2, 2, 9, 11)
    assert on_grid(region, 12, 20, 4) == GridBox(4, 0, 12, 12)


def test_kinds_of_regions():
    assert [region.kind for region in (BACKGROUND, LEFT, RIGHT, ADDED, REMOVED, Region("a", "b"))] == [
        "background", "kept", "changed", "added", "removed", "changed",
    ]  # fmt: skip


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.4), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, 0, 0.01, 1)])
def test_invalid_boxes_are_refused(box):
    with pytest.raises(UserError, match=r"^the box \[.*\] is empty "):
        on_grid(Region("a", "a", box), 8, 8)


def test_mistakes_are_one_line():
    inner = Worded()
    with pytest.raises(UserError, match=r"^embedded reads no text, so its regions cannot differ"):
        Regions(build_prior(), [BACKGROUND], [["a"]])
    with pytest.raises(UserError, match=r"^a region has no text"):
        Regions(inner, [Region(None, None)], row_texts([Region(None, None)]))
    pictures, holes = torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    for regions, total in (([LEFT], ()), ([LEFT], ("1", "1")), ([Region(None, "1")], ())):
        texts = [[text and "1" for text in one] for one in row_texts(regions)]
        with pytest.raises(UserError, match=r"^the regions do not cover the picture"):
            Regions(inner, regions, texts, total=total).prepare(pictures, holes)
    with pytest.raises(UserError, match=r"^feather must be from 0 to 1, not 2"):
        Regions(inner, [BACKGROUND._replace(feather=2)], [["1", "1"]]).prepare(pictures, holes)
