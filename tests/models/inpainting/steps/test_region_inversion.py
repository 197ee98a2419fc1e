"""Null-text inversion by regions, with a backend for which optimal texts exist."""

from dataclasses import replace

import pytest
import torch

from amodalseg.errors import UserError
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.region_inversion import for_pairs, invert_regions
from amodalseg.models.inpainting.steps.regions import Regions, RegionSteps, row_texts
from amodalseg.models.inpainting.steps.sample import advance, begin
from amodalseg.types import Region
from tests.models.inpainting.worded import Worded

STEPS = 5
REGIONS = [
    Region("0.1", "0.1"),
    Region("0.5", "0.5", (0, 0, 0.625, 0.75), feather=0.8),
    Region("-0.4", None, (0.375, 0, 1, 0.75), feather=0.8),
]
OPTIONS = {"updates": 300, "rate": 0.05, "enough": 1e-10, "rounds": 30}


def photo(regions=REGIONS, total=("0.3",), weight=2.0):
    backend = Regions(Worded(), regions, [[region.source] for region in regions], weight=weight, total=total)
    pictures = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return backend, backend.prepare(pictures, torch.ones(1, 1, 8, 8, dtype=torch.bool))


def back(backend, prepared, start, hook):
    sampling = begin(backend, prepared, range(1, len(prepared) + 1), STEPS)
    sampling.x = start
    return advance(sampling, [hook]).x


def miss(found, prepared):
    return float((found - prepared.known).abs().max())


@pytest.mark.parametrize(("total", "joins", "most"), [((), 0.5, 1e-3), (("0.3",), 0.0, 1e-3), (("0.3",), 0.5, 0.2)])
def test_a_photo_is_reconstructed_with_the_null_texts_of_its_regions(total, joins, most):
    """Regions overlap. A total region that becomes active later has separate states, which costs some accuracy."""
    backend, prepared = photo(total=total)
    inverted = invert_regions(backend, prepared, STEPS, total_from=joins, **OPTIONS)
    assert [len(texts) for texts in inverted.nulls] == [STEPS] * (3 + len(total))
    assert miss(back(backend, prepared, inverted.start, RegionSteps(joins, inverted.nulls)), prepared) < most
    assert miss(back(backend, prepared, inverted.start, RegionSteps(joins)), prepared) > 1


def test_the_total_region_is_fitted_only_in_its_active_steps():
    backend, prepared = photo()
    nulls = invert_regions(backend, prepared, STEPS, total_from=0.6, **OPTIONS).nulls[-1]
    empty = prepared.parts[-1].null.inputs["text"]
    assert [torch.equal(text, empty) for text in nulls] == [True] * 3 + [False] * 2


def test_the_start_is_the_fused_noise_of_separately_inverted_regions():
    backend, prepared = photo()
    found = invert_regions(backend, prepared, STEPS, rounds=30, updates=0)
    background, left, right = (invert(backend.inner, part.asked, STEPS, 30)[0] for part in prepared.parts[:3])
    shares = backend.shares(replace(prepared, total=False))
    expected = shares[0] * background
    expected[..., :6, :5] += shares[1, ..., :6, :5] * left
    expected[..., :6, 3:] += shares[2, ..., :6, 3:] * right
    torch.testing.assert_close(found.start, expected)


def test_an_edit_starts_from_the_inversion_of_its_photo():
    """The source is reconstructed, and so are unchanged parts of the target; an added region has the prepared null."""
    backend, prepared = photo(total=())
    inverted = invert_regions(backend, prepared, STEPS, **OPTIONS)
    regions = [*REGIONS, Region(None, "2", (0.25, 0.5, 0.5, 1))]
    pair = Regions(backend.inner, regions, row_texts(regions), weight=2.0)
    both = pair.prepare(prepared.known.expand(2, -1, -1, -1), torch.ones(2, 1, 8, 8, dtype=torch.bool))
    nulls = for_pairs([*inverted.nulls, None], both.parts)
    assert [len(texts[0]) for texts in nulls] == [2, 2, 1, 1]
    assert all(torch.equal(text, both.parts[3].null.inputs["text"]) for text in nulls[3])
    found = back(pair, both, inverted.start.expand(2, -1, -1, -1), RegionSteps(0.5, nulls))
    assert miss(found[:1], prepared) < 1e-3
    assert miss(found[1:, :, :4, :3], replace(prepared, known=prepared.known[..., :4, :3])) < 1e-3
    assert miss(found[1:], prepared) > 0.5


def counting(backend, calls):
    """Records the number of rows of each evaluation of the inner backend."""
    evaluate = backend.inner.estimate

    def estimate(x, *given):
        calls.append(len(x))
        return evaluate(x, *given)

    backend.inner.estimate = estimate
    return backend


def test_a_kept_inversion_equals_a_new_one_and_costs_nothing(tmp_path):
    backend, prepared = photo()
    new, calls = invert_regions(backend, prepared, STEPS, **OPTIONS), []
    first = invert_regions(backend, prepared, STEPS, **OPTIONS, folder=str(tmp_path))
    again = invert_regions(counting(backend, calls), prepared, STEPS, **OPTIONS, folder=str(tmp_path))
    assert not calls and len([*tmp_path.iterdir()]) == len(prepared.parts)
    for found in (first, again):
        assert torch.equal(found.start, new.start)
        assert all(torch.equal(a, b) for one, other in zip(found.nulls, new.nulls, strict=True)
                   for a, b in zip(one, other, strict=True))  # fmt: skip


@pytest.mark.parametrize("what", ["picture", "text", "steps", "options", "guidance", "total_from", "network"])
def test_another_photo_text_option_or_network_is_inverted_anew(tmp_path, what):
    backend, prepared = photo()
    invert_regions(backend, prepared, STEPS, updates=2, folder=str(tmp_path))
    steps, options, weight, regions = STEPS, {"updates": 2}, 2.0, list(REGIONS)
    if what == "text":
        regions[0] = Region("0.2", "0.1")
    if what == "guidance":
        weight = 3.0
    backend, prepared = photo(regions, weight=weight)
    if what == "picture":
        prepared.parts[0].asked.known[0, 0, 0, 0] += 1e-3
    if what == "steps":
        steps = STEPS + 1
    if what == "options":
        options = {"updates": 3}
    if what == "total_from":
        options["total_from"] = 0.0
    if what == "network":
        backend.inner.networks = [torch.nn.Linear(2, 3)]
    calls = []
    invert_regions(counting(backend, calls), prepared, steps, **options, folder=str(tmp_path))
    assert calls


def test_targets_do_not_change_a_kept_inversion(tmp_path):
    regions = [REGIONS[0], Region("0.5", "0.5", (0, 0, 0.625, 0.75)), REGIONS[2]]
    other = [Region("0.1", "0.3"), Region("0.5", None, (0, 0, 0.625, 0.75)), REGIONS[2]]
    backend, prepared = photo(regions)
    invert_regions(backend, prepared, STEPS, updates=2, folder=str(tmp_path))
    backend, prepared = photo(other)
    calls = []
    invert_regions(counting(backend, calls), prepared, STEPS, updates=2, folder=str(tmp_path))
    assert not calls


def test_a_damaged_kept_inversion_is_one_line(tmp_path):
    backend, prepared = photo()
    invert_regions(backend, prepared, STEPS, updates=2, folder=str(tmp_path))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"^\S+\.safetensors is damaged .* delete it, and the photo is inverted again$"):
        invert_regions(backend, prepared, STEPS, updates=2, folder=str(tmp_path))


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_inverted(tmp_path):
    place, calls = tmp_path / "file", []
    place.write_text("mine")
    backend, prepared = photo()
    with pytest.raises(UserError, match=r"^inversion\.folder=.* is a file: give a folder$"):
        invert_regions(counting(backend, calls), prepared, STEPS, updates=2, folder=str(place))
    assert not calls and place.read_text() == "mine"
