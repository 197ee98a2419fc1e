"""DiffOOM's de-occlusion branch step by step, on tiny random networks and on a closed-form backend."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg import Query, UserError
from amodalseg.config.load import load_config
from amodalseg.config.schema import (
    BackendConfig,
    DiffOOMConfig,
    LoraConfig,
    ModelOnly,
    ReadOffConfig,
    SquareConfig,
    StepsConfig,
)
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.backends.prior import build_scheduler
from amodalseg.models.inpainting.methods.completion import Crop
from amodalseg.models.inpainting.methods.deocclusion import FAR, deocclusion, flat_fill, visible_places
from amodalseg.models.inpainting.methods.diffoom import DiffOOM
from amodalseg.models.inpainting.steps.inversion import invert
from amodalseg.models.inpainting.steps.sample import Hook, advance
from tests.models.contract import ModelContract
from tests.models.inpainting.exact_world import ExactWorld
from tests.models.inpainting.fake_backends import GaussianBackend
from tests.models.inpainting.methods.test_occlusion_free_bias import scene, tiny_unet
from tests.models.inpainting.tiny_hub import save_stable_diffusion

CONFIGS = Path(__file__).parents[4] / "configs/model/diffoom"
SMALL = DiffOOMConfig(window=SquareConfig(size=16), sampler=StepsConfig(steps=5))
PLAIN = replace(SMALL, attention="off")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Stable Diffusion with four channels, tiny and random."""
    folder = save_stable_diffusion(tmp_path_factory.mktemp("sd"), in_channels=4)
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


def prior():
    return EmbeddedPrior.of_network(tiny_unet().eval().requires_grad_(False), build_scheduler().alphas_cumprod)


def crop_of(side, seed=1, category="cat"):
    query, _ = scene(side)
    return Crop(query.image, query.modal, query.occluder, seed, category)


def begun(config, backend, crop, steps=5):
    with torch.no_grad(), deocclusion(config, backend, [crop], steps) as branch:
        return branch


# ------------------------------------------------------------------------------------------------------ preparation


def test_a_latent_position_is_held_only_if_the_object_fills_it():
    modal = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    modal[0, 0, 3:12, 4:12] = True  # rows 3 to 11: positions (of 4 pixels) 1 and 2 are filled, 0 in part
    modal[1, 0, 5, 6] = True  # smaller than a position
    found = visible_places(modal, (4, 4))
    assert found[0, 0].int().tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found[1, 0].int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(visible_places(modal, (16, 16)), modal)


def test_the_fill_is_one_colour_far_from_those_of_the_object():
    for seed in range(40):
        crop = crop_of(16, seed)
        fill = flat_fill(crop)
        assert (fill == fill[0, 0]).all()
        assert abs(fill[0, 0] - crop.picture[crop.modal].mean(axis=0)).max() >= FAR
    assert (flat_fill(crop_of(16, 3)) == flat_fill(crop_of(16, 3))).all()
    assert (flat_fill(crop_of(16, 3)) != flat_fill(crop_of(16, 4))).any()


# ------------------------------------------------------------------------------------------------- equations 5 and 6


@pytest.mark.parametrize(("skip", "fill"), [(0.4, "colour"), (0.0, "noise"), (0.0, "colour"), (0.4, "noise")])
@pytest.mark.parametrize("hold", ["inverted", "noised", "none"])
def test_start_and_held_states_equal_the_equations(skip, fill, hold):
    backend, crop = GaussianBackend(), crop_of(16)
    config = replace(PLAIN, skip=skip, fill=fill, hold=hold)
    branch = begun(config, backend, crop)
    sampling, visible = branch.sampling, torch.from_numpy(crop.modal)[None, None]
    level = backend.levels(5)[round(5 * skip)]
    assert sampling.level == level and torch.equal(branch.visible, visible)
    photo = torch.from_numpy(crop.picture).permute(2, 0, 1)[None] / 127.5 - 1
    colour = torch.from_numpy(branch.fills[0]).permute(2, 0, 1)[None] / 127.5 - 1
    states = invert(backend, backend.prepare(photo, ~visible), 5)
    around = sampling.noise if fill == "noise" else level.alpha * colour + level.sigma * sampling.noise
    noised = level.alpha * photo + level.sigma * sampling.noise
    inside = noised if hold == "noised" else states[sampling.index]
    torch.testing.assert_close(sampling.x, torch.where(visible, inside, around))
    held = []

    class Look(Hook):
        def step_end(self, at):
            there = visible.expand_as(at.x)
            noised = at.level.alpha * photo + at.level.sigma * at.noise
            kept = {"inverted": states[at.index], "noised": noised, "none": at.x}[hold]
            held.append(torch.allclose(at.x[there], kept[there], atol=1e-6))

    advance(sampling, [*branch.hooks, Look()])
    assert held == [True] * (5 - round(5 * skip))


def test_the_filled_square_is_inverted_on_request():
    backend, crop = GaussianBackend(), crop_of(16)
    one, other = (begun(replace(PLAIN, invert=what), backend, crop) for what in ("photo", "filled"))
    visible = torch.from_numpy(crop.modal)[None, None].expand_as(one.sampling.x)
    assert torch.equal(one.sampling.x[visible], other.sampling.x[visible]), "pixels of this world are independent"


def test_evaluations_are_counted():
    for config, count in (
        (PLAIN, 6), (replace(PLAIN, skip=0.0), 10), (replace(PLAIN, rounds=2), 12), (replace(PLAIN, skip=1.0), 0)
    ):  # fmt: skip
        backend = GaussianBackend()
        (done,) = DiffOOM(config, backend).complete([crop_of(16)], None)
        assert len(backend.calls) == done.evaluations == count
    world = ExactWorld()
    config = replace(PLAIN, window=SquareConfig(size=32), guidance=3.0)
    (done,) = DiffOOM(config, world).complete([crop_of(32)], None)
    assert len(world.calls) == done.evaluations == 9
    (done,) = DiffOOM(config, world).complete([crop_of(32, category=None)], None)
    assert done.evaluations == 6, "without a category there is nothing to guide by"


# -------------------------------------------------------------------------------------------------------- attention


def test_the_attention_map_of_a_step_masks_the_next_one(text):
    config = replace(SMALL, window=SquareConfig(size=32), guidance=3.0)
    branch = begun(config, text, crop_of(32))
    guide, used, found = branch.attention, [], []
    assert guide.where.all() and guide.mask.where.all()

    class Look(Hook):
        def model_input(self, at, x):
            used.append(guide.mask.where.clone())
            return x

        def step_end(self, at):
            found.append(guide.where.clone())
            assert (guide.where | ~branch.visible).all(), "the visible part is always in it"

    advance(branch.sampling, [*branch.hooks, Look()])
    assert len(used) == 3 and all(torch.equal(one, other) for one, other in zip(used[1:], found[:-1], strict=True))
    assert not used[1].all(), "or there is nothing to see"


def test_maps_are_seeded_by_the_word_or_the_visible_part_without_a_category(text):
    config = replace(SMALL, window=SquareConfig(size=32), guidance=1.0, power=1)
    maps = {}
    for seed, category in (("word", "cat"), ("visible", "cat"), ("word", None), ("visible", None)):
        branch = begun(replace(config, seed=seed), text, crop_of(32, category=category))
        advance(branch.sampling, branch.hooks, until=branch.sampling.index + 1)
        maps[seed, category] = branch.attention.map
    assert not torch.equal(maps["word", "cat"], maps["visible", "cat"])
    assert torch.equal(maps["word", None], maps["visible", None])


# ---------------------------------------------------------------------------------------------------------- options


BASE = replace(SMALL, window=SquareConfig(size=32), answer="attention", power=1)
OPTIONS = {
    "prompt": "cat {}", "invert": "filled", "rounds": 2, "lora": LoraConfig(rank=2, steps=2, rate=0.1), "skip": 0.2,
    "fill": "noise", "hold": "noised", "attention": "off", "power": 0, "seed": "word", "guidance": 1.0,
    "answer": "read_off", "window": SquareConfig(size=32, side=3.0), "sampler": StepsConfig(steps=4),
}  # fmt: skip


def predicted(config, backend):
    query, _ = scene(40)
    query.category = "cat"
    found = DiffOOM(config, backend).predict_batch([query])[0]
    return found.probability.tobytes(), found.picture.tobytes()


@pytest.mark.parametrize("option", OPTIONS)
def test_no_dead_option(option, text):
    assert predicted(BASE, text) == predicted(BASE, text)
    assert predicted(replace(BASE, **{option: OPTIONS[option]}), text) != predicted(BASE, text)


@pytest.mark.parametrize(
    "option",
    [
        {"lora": LoraConfig(3, 2, 0.1)}, {"lora": LoraConfig(2, 4, 0.1)}, {"lora": LoraConfig(2, 2, 0.3)},
        {"hold": "none"}, {"attention": "object"},
    ],
)  # fmt: skip
def test_no_dead_value(option, text):
    base = replace(BASE, lora=LoraConfig(rank=2, steps=2, rate=0.1)) if "lora" in option else BASE
    if option.get("hold"):
        base = replace(base, hold="noised")
    assert predicted(replace(base, **option), text) != predicted(base, text)


def test_low_rank_adapters_are_removed_afterwards_and_not_shared_between_objects():
    backend = prior()
    before = {name: value.clone() for name, value in backend.network.state_dict().items()}
    query, _ = scene(40)
    other = Query(query.image[::-1].copy(), query.modal[::-1].copy(), 3)
    config = replace(SMALL, lora=LoraConfig(rank=2, steps=3, rate=0.1))
    model = DiffOOM(config, backend)
    together = model.predict_batch([query, other])
    after = backend.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(together[1].picture, model.predict_batch([other])[0].picture)
    assert not np.array_equal(together[0].picture, DiffOOM(SMALL, backend).predict_batch([query])[0].picture)


@pytest.mark.parametrize(
    ("config", "backend", "message"),
    [
        (SMALL, GaussianBackend, r"attention=all reads attention layers, but gaussian has none .*: use attention=off"),
        (replace(PLAIN, answer="attention"), GaussianBackend, r"answer=attention .*: use answer=read_off"),
        (replace(SMALL, seed="word"), prior, r"seed=word needs a model that reads text.*: take seed=visible"),
        (replace(PLAIN, lora=LoraConfig(rank=2)), GaussianBackend, "no attention layers to adapt"),
    ],
)
def test_unsupported_options_are_refused_in_one_line(config, backend, message):
    with pytest.raises(UserError, match=message) as caught:
        DiffOOM(config, backend()).complete([crop_of(16)], None)
    assert "\n" not in str(caught.value)


def test_each_row_of_table_4_has_a_file():
    published = load_config(ModelOnly, CONFIGS / "sd15_text.yaml").model
    rows = {
        "no_colour_fill": replace(published, fill="noise"),
        "no_colour_fill_from_t": replace(published, fill="noise", skip=0.0),
        "no_attention_guidance": replace(published, attention="off"),
        "no_lora": replace(published, lora=LoraConfig(rank=0)),
    }  # fmt: skip
    for name, expected in rows.items():
        assert load_config(ModelOnly, CONFIGS / f"{name}.yaml").model == expected != published
    assert published.backend.name == "sd15_text" and published.lora.rank and published.seed == "word"


class TestContract(ModelContract):
    @classmethod
    def make(cls):
        return DiffOOM(replace(SMALL, window=SquareConfig()), prior())


class TestContractOfWhatAttentionShowsWithoutUnion(ModelContract):
    always_contains_modal = False

    @classmethod
    def make(cls):
        config = replace(SMALL, answer="attention", attention="object", read_off=ReadOffConfig(kind="grabcut"))
        model = DiffOOM(config, prior())
        model.override({"post": {"union_visible": False}})
        return model
