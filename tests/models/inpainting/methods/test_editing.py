"""Edits by regions on tiny random networks: algorithm 1 of MRGD as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodalseg import UserError
from amodalseg.config.schema import BackendConfig, LossesConfig, SharesConfig
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.methods import editing, mrgd
from amodalseg.models.inpainting.methods.edit_paste import paste_edit
from amodalseg.models.inpainting.methods.edit_request import check_request, request_of
from amodalseg.models.inpainting.methods.editing import draw_edits
from amodalseg.models.inpainting.methods.mrgd import MRGD
from amodalseg.models.inpainting.steps.region_guidance import RegionGuidance
from amodalseg.types import Region
from tests.models.inpainting.fake_backends import GaussianBackend
from tests.models.inpainting.tiny_hub import save_sdxl, save_stable_diffusion
from tests.models.inpainting.tiny_words import Brightness, quick, small_words

GROUND = Region("a grey ground", "a grey ground")
STAR = Region("a red star", "a red star", (0, 0, 0.5, 1))
ADDED = Region(None, "a blue fish", (0.5, 0.25, 1, 1))
REMOVED = Region("a blue fish", None, (0.5, 0.25, 1, 1))
CHANGED = Region("a blue fish", "a green fish", (0.5, 0.25, 1, 1))
LONG = "a red star in front of a blue fish on a black ground and a star heart moon"
TWO = [
    Region("a red fish on a grey ground", "a red star", (0.5, 0, 1, 0.5)),
    Region("a blue fish on a grey ground", "a blue cup", (0.5, 0.5, 1, 1)),
]
OFF = LossesConfig(0, 0, 0, 0)


@pytest.fixture(scope="module")
def words():
    return small_words(8)


def drawn(words, *regions, seeds=(1,), requests=None, photo=False, size=8, **options):
    requests = requests or [request_of([GROUND, STAR, *regions])] * len(seeds)
    pictures = torch.rand(len(seeds), 3, size, size, generator=torch.Generator().manual_seed(7)) * 2 - 1
    config = quick(**options)
    return draw_edits(
        config, words, Brightness(), requests, pictures, seeds, photo=photo, steps=config.sampler.steps
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "photo"), [("four", True), ("four, v", False), ("nine", False), ("xl", False), ("xl", True)]
)
def test_edits_with_every_class_of_stable_diffusion(kind, photo, tmp_path):
    if kind == "xl":
        save_sdxl(tmp_path)
    else:
        prediction = "v_prediction" if kind == "four, v" else "epsilon"
        save_stable_diffusion(tmp_path, prediction, in_channels=9 if kind == "nine" else 4)
    inner = open_hub_model(BackendConfig(name=str(tmp_path)), "cpu")
    processors = [layer.processor for layer in inner.network.modules() if hasattr(layer, "processor")]
    request = request_of([
        Region("a", "a"), Region("b cat", "c cat", (0, 0, 0.625, 1)), Region(None, "b", (0.625, 0.25, 1, 1)),
    ])  # fmt: skip
    calls = []
    hook = inner.network.register_forward_hook(lambda *_: calls.append(1))
    found = drawn(inner, requests=[request], photo=photo, size=32)
    hook.remove()
    assert found.targets.shape == (1, 3, 32, 32) and found.targets.isfinite().all()
    assert not torch.equal(found.sources, found.targets) and found.evaluations == len(calls)
    assert [layer.processor for layer in inner.network.modules() if hasattr(layer, "processor")] == processors
    assert not found.targets.requires_grad and all(not one.requires_grad for one in inner.network.parameters())


def test_order_of_hooks_and_controls(words, monkeypatch):
    """Maps are edited before they are emphasised and recorded; keywords are selected before guidance uses them."""
    seen = {}

    def look(sampling, hooks):
        seen["hooks"] = [type(hook).__name__ for hook in hooks]
        seen["controls"] = [[type(one).__name__ for one in part.asked.attention] for part in sampling.prepared.parts]
        seen["null"] = [part.null.attention for part in sampling.prepared.parts]
        return advance(sampling, hooks)

    advance = editing.advance
    monkeypatch.setattr(editing, "advance", look)
    drawn(words, ADDED)
    assert seen["hooks"] == ["RegionSteps", "EditSteps", "SelectKeywords", "RegionGuidance"]
    assert seen["controls"] == [["EditMaps"], ["EditMaps"], [], ["EditMaps", "Emphasise", "WatchMaps"]]
    assert seen["null"] == [()] * 4
    drawn(words, ADDED, total=False)
    assert seen["controls"] == [["EditMaps", "WatchMaps"], ["EditMaps", "WatchMaps"], ["WatchMaps"]]
    drawn(words, ADDED, attention=False, emphasis="off", losses=replace(OFF, preservation=1.0))
    assert seen["hooks"] == ["RegionSteps", "EditSteps", "RegionGuidance"] and seen["controls"] == [[]] * 4


def test_the_source_does_not_depend_on_added_regions(words):
    with_it, without = drawn(words, ADDED), drawn(words, requests=[request_of([GROUND, STAR], target="a star")])
    assert torch.equal(with_it.sources, without.sources)
    assert not torch.equal(with_it.targets, without.targets)


def test_an_edit_is_determined_by_its_seed(words):
    both, again = drawn(words, CHANGED, seeds=(1, 2)), drawn(words, CHANGED, seeds=(1, 2))
    assert torch.equal(both.sources, again.sources) and torch.equal(both.targets, again.targets)
    for row, seed in enumerate((1, 2)):
        alone = drawn(words, CHANGED, seeds=(seed,))
        torch.testing.assert_close(both.targets[row : row + 1], alone.targets, atol=1e-4, rtol=0)
    assert (both.sources[0] - both.sources[1]).abs().max() > 0.1


def test_a_photo_does_not_depend_on_its_batch_or_a_seed(words):
    both = drawn(words, REMOVED, seeds=(1, 2), photo=True)
    alone = drawn(words, REMOVED, seeds=(5,), photo=True)
    torch.testing.assert_close(both.targets[:1], alone.targets, atol=1e-3, rtol=0)
    assert both.evaluations >= alone.evaluations


def test_keywords_are_given_or_selected_from_the_total_region(words):
    found = drawn(words, CHANGED, keywords=2)
    chosen = [word for region in found.keywords[0] for word in region]
    assert 1 <= len(set(chosen)) <= 2
    for region, text in zip(found.keywords[0], ("a grey ground", "a red star", "a green fish"), strict=True):
        assert set(region) <= set(text.split())
    given = CHANGED._replace(keywords=("fish",))
    assert drawn(words, given, keywords=1).keywords[0][2] == ("fish",)
    assert all(len(region) == 1 for region in drawn(words, CHANGED, keywords=1, total=False).keywords[0])
    assert drawn(words, REMOVED).keywords[0][2] == ("a", "blue", "fish")


SHARES = SharesConfig()
OPTIONS = [
    {"guidance": 2.0}, {"regions": False}, {"blend": "average"}, {"total": False}, {"total_from_edited": 0.0},
    {"attention": False}, {"decay": False}, {"keywords": 1}, {"emphasis": "logits"}, {"emphasis": "off"},
    {"factor": 9.0}, {"shares": replace(SHARES, background_cross=0.0)}, {"shares": replace(SHARES, total_cross=1.0)},
    {"losses": replace(quick().losses, region=0.0)}, {"losses": replace(quick().losses, similarity=0.0)},
    {"losses": replace(quick().losses, preservation=0.0)}, {"losses": replace(quick().losses, reading="l1")},
]  # fmt: skip


def test_no_option_is_dead(words):
    base = drawn(words, ADDED).targets
    for option in OPTIONS:
        assert not torch.equal(drawn(words, ADDED, **option).targets, base), option
    found = [
        drawn(words, CHANGED, **option).targets
        for option in ({}, {"total_from": 0.0}, {"shares": replace(SHARES, changed_cross=0.0)})
    ]
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    calls = [drawn(words, ADDED, total_from_edited=1.0, every=every).evaluations for every in (1, 2)]
    assert calls == [12 + 2, 12 + 1]  # three guided regions in two steps; in addition the total one, for keywords only


def test_options_of_the_inversion_are_passed_on(words):
    base = drawn(words, REMOVED, photo=True, emphasis="off").targets
    for option in ({"rounds": 1}, {"updates": 0}, {"rate": 0.1}, {"enough": 1e3}):
        inversion = replace(quick().inversion, **option)
        other = drawn(words, REMOVED, photo=True, emphasis="off", inversion=inversion).targets
        assert not torch.equal(other, base), option
    plain = drawn(words, REMOVED, photo=True, guidance=1.0)
    assert plain.targets.isfinite().all()  # no null text to fit


def test_a_photo_has_its_own_preservation_weight_and_its_source_is_not_guided(words, monkeypatch):
    found = []
    monkeypatch.setattr(editing, "RegionGuidance", lambda *given, **named: found.append((given, named)) or Held())
    drawn(words, REMOVED, photo=True, losses=LossesConfig(preservation_photo=7.0))
    drawn(words, REMOVED, losses=LossesConfig(preservation=9.0))
    assert [given[3].preservation for given, _ in found] == [7.0, 9.0]
    assert [named["sources"] for _, named in found] == [False, True]


class Held(RegionGuidance):
    """Region guidance without effect."""

    def __init__(self):
        pass

    def estimate(self, sampling, estimate):
        return estimate


# -------------------------------------------------------------------------------------------------------- the model


def test_outside_edited_boxes_a_photo_is_bitwise_unchanged(words):
    photo = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    request = request_of([GROUND, STAR, REMOVED])
    model = MRGD(quick(losses=OFF, guidance=1.0), words, Brightness())
    found = model.edit(request, photo)
    inside = np.zeros((30, 41), bool)
    inside[round(0.25 * 30) :, round(0.5 * 41) :] = True
    assert (found.source == photo).all() and found.target.shape == photo.shape
    assert (found.target[~inside] == photo[~inside]).all() and (found.target[inside] != photo[inside]).any()
    model.config.paste = False
    assert (model.edit(request, photo).target[~inside] != photo[~inside]).mean() > 0.5
    assert model.edit(request, size=(8, 12)).target.shape == (8, 12, 3)


def test_a_photo_is_replaced_by_the_target_where_the_target_differs_from_the_source():
    photo = np.full((40, 40, 3), 90, np.uint8)
    source, target = np.full((10, 10, 3), 100, np.uint8), np.full((10, 10, 3), 103, np.uint8)
    target[5:8, 5:8] = 200
    request = request_of([GROUND, REMOVED._replace(box=(0.5, 0.5, 1, 1), feather=0.0)])
    found = paste_edit(photo, source, target, request)
    assert (found[:20] == 90).all() and (found[:, :20] == 90).all()
    assert (found[24:28, 24:28] == 200).all(), "what was drawn, not the photo and a difference"
    assert (found[39:, 39:] == 90).all(), "a difference that is not seen changes nothing"
    assert 90 < found[20, 26, 0] < found[22, 26, 0] < 200, "the box fades in"


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([GROUND, CHANGED, ADDED._replace(box=(0, 0, 0.6, 0.5))], "overlap and both are edited"),
        ([GROUND, STAR._replace(target=None, box=(0.5, 0, 0.5, 1))], "is empty or leaves the picture"),
        ([GROUND, STAR._replace(target=None, box=(0.5, 0, 0.6, 0.1))], "is empty on a grid of 4 x 4"),
        ([GROUND, STAR._replace(target=None, box=(0.5, 0, 1.5, 1))], "is empty or leaves the picture"),
        ([GROUND, STAR._replace(target=None, box=(0.5, 0, 1))], "a box is four numbers"),
        ([GROUND, STAR._replace(target=None, feather=2.0)], "feather must be from 0 to 1"),
        ([GROUND, STAR], "nothing would change"),
        ([GROUND, STAR._replace(source=None, target=None)], "has no text"),
        ([GROUND, STAR._replace(source="")], "the text of a region is empty"),
        ([], "there is no region"),
        ([ADDED], "no text describes the picture before"),
        ([STAR, ADDED], "do not cover the picture"),
        ([GROUND, STAR._replace(target="a red zebra")], "'zebra' in 'a red zebra' is unknown to word_prior"),
        ([GROUND, CHANGED._replace(keywords=("fish", "tree"))], "the keyword 'tree' occurs in none"),
        ([GROUND, CHANGED._replace(target=LONG)], r"long for word_prior, which reads 18 tokens: '.*moon' is cut off"),
        ([GROUND, *TWO], "the text of the whole picture before the edit is too long"),
    ],
)  # fmt: skip
def test_invalid_requests_are_refused_in_one_line(words, regions, message):
    with pytest.raises(UserError, match=message) as caught:
        MRGD(quick(), words, Brightness()).edit(request_of(regions))
    assert "\n" not in str(caught.value)


def test_a_model_without_text_or_segmenter_is_refused_in_one_line(words, tmp_path):
    with pytest.raises(UserError, match=r"gaussian.* reads no text, so it cannot edit"):
        check_request(request_of([GROUND, ADDED]), GaussianBackend(), 8, 8)
    with pytest.raises(UserError, match=r"it is not a complete model folder"):
        MRGD(quick(words=str(tmp_path)), words)


def test_running_out_of_memory_is_one_line(words, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(mrgd, "draw_edits", full)
    with pytest.raises(UserError, match=r"^out of memory with 2 objects at once: take a smaller batch or smaller pic"):
        MRGD(quick(), words, Brightness()).edit(request_of([GROUND, ADDED]))
