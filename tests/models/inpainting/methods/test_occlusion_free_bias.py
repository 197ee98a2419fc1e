"""The method of paper 002: equations against closed forms, and the whole with a model that knows the ground truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg import Query, UserError
from amodalseg.config.load import load_config, own_options
from amodalseg.config.schema import (
    BackendConfig,
    CondDiffAMOConfig,
    InpaintingPriorConfig,
    LeakageConfig,
    MaskGuidanceConfig,
    ModelOnly,
    NeighboursConfig,
    NoiseFillConfig,
    OcclusionFreeBiasConfig,
    ReadOffConfig,
    SquareConfig,
    StepsConfig,
)
from amodalseg.models import load_model
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior, Estimate
from amodalseg.models.inpainting.backends.prior import build_scheduler, build_unet, save_prior
from amodalseg.models.inpainting.methods.completion import Crop
from amodalseg.models.inpainting.methods.controls import NoiseFill
from amodalseg.models.inpainting.methods.occlusion_free_bias import OcclusionFreeBias, noised
from amodalseg.models.inpainting.prior_training.validation import to_pictures
from amodalseg.models.inpainting.steps.guidance import Leakage, MaskGuidance
from amodalseg.models.inpainting.steps.sample import Hook, KeepKnown, advance, begin
from tests.models.contract import ModelContract
from tests.models.contract import query as contract_query
from tests.models.inpainting.fake_backends import GaussianBackend, pictures_and_holes

CONFIGS = Path(__file__).parents[4] / "configs/model"
SMALL = OcclusionFreeBiasConfig(window=SquareConfig(size=16), sampler=StepsConfig(steps=6))
WIDE = replace(SMALL, area="outside", background="white", read_off=ReadOffConfig(kind="difference"))
"""All that is drawn around the object is taken for a part of it, so that the prediction shows it."""


def tiny_unet():
    torch.manual_seed(0)
    return build_unet(InpaintingPriorConfig(size=16, channels=[8, 16], head=8))


def drawn(sampling_hooks, steps=7, strength=1.0, backend=None):
    backend = backend or GaussianBackend()
    sampling = begin(backend, backend.prepare(*pictures_and_holes()), (1, 2, 3), steps, strength)
    return advance(sampling, sampling_hooks).x


def scene(side=48):
    """A red disk on green, its right part occluded by a blue post: query and ground truth."""
    y, x = np.indices((side, side))
    image = np.full((side, side, 3), (40, 140, 60), np.uint8)
    disk, post = (x - 24) ** 2 + (y - 24) ** 2 < 14**2, x >= 30
    image[disk], image[post] = (210, 40, 40), (30, 40, 200)
    return Query(image, disk & ~post, 5, post), disk


def complete(query, config, backend=None):
    model = OcclusionFreeBias(config, backend or GaussianBackend())
    return model.predict_batch([query])[0]


# ---------------------------------------------------------------------------------------------------- equation 7


def test_leakage_with_s_of_one_is_bitwise_equal_to_blended_inpainting():
    for strength in (1.0, 0.5):
        plain = drawn([KeepKnown()], strength=strength)
        assert torch.equal(drawn([Leakage(1.0)], strength=strength), plain)
        assert torch.equal(drawn([Leakage(0.2, until=0.0)], strength=strength), plain)
    assert not torch.equal(drawn([Leakage(0.9)]), drawn([KeepKnown()]))


def test_leakage_with_s_of_zero_gives_the_known_picture():
    assert torch.equal(drawn([Leakage(0.0)]), pictures_and_holes()[0])


def test_leakage_equals_the_equation_in_every_step():
    s, seen = 0.3, []

    class Before(Hook):
        def step_end(self, sampling):
            seen.append(sampling.x.clone())

    class After(Hook):
        def step_end(self, sampling):
            area, known = sampling.prepared.hole, sampling.known_at(sampling.level)
            expected = s * (area * seen[-1] + (1 - area) * known) + (1 - s) * known
            torch.testing.assert_close(sampling.x, expected)
            outside = (area == 0).expand_as(known)
            assert torch.equal(sampling.x[outside], known[outside])

    drawn([Before(), Leakage(s), After()])
    assert len(seen) == 7


@pytest.mark.parametrize("until", [1.0, 0.5])
@pytest.mark.parametrize("s", [0.0, 0.3, 1.0])
def test_with_an_empty_area_the_state_is_bitwise_the_known_one_at_every_step(s, until):
    exact = []

    class Compare(Hook):
        def step_end(self, sampling):
            exact.append(torch.equal(sampling.x, sampling.known_at(sampling.level)))

    backend, pictures = GaussianBackend(), pictures_and_holes()[0]
    prepared = backend.prepare(pictures, torch.zeros(3, 1, 8, 8, dtype=torch.bool))
    done = advance(begin(backend, prepared, (1, 2, 3), 7), [Leakage(s, until), Compare()])
    assert exact == [True] * 7 and torch.equal(done.x, pictures)


def test_leakage_until_one_half_blends_only_the_first_half_of_the_steps():
    changed = []

    class Look(Hook):
        def step_end(self, sampling):
            self.x = sampling.x.clone()

    class Compare(Hook):
        def step_end(self, sampling):
            inside = (sampling.prepared.hole > 0).expand_as(sampling.x)
            changed.append(not torch.equal(look.x[inside], sampling.x[inside]))

    look = Look()
    drawn([look, Leakage(0.3, until=0.5), Compare()], steps=6)
    assert changed == [True, True, True, False, False, False]


def test_with_s_of_one_all_modes_generate_the_same_picture():
    query, _ = scene()
    pictures = [
        complete(query, replace(WIDE, leakage=LeakageConfig(mode=mode, s=1.0))).image
        for mode in ("strength", "blend", "blend_until", "none")
    ]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    other = complete(query, replace(WIDE, leakage=LeakageConfig(mode="blend", s=0.5))).image
    assert not np.array_equal(other, pictures[0])


def test_strength_samples_only_the_last_steps():
    query, _ = scene()
    backend = GaussianBackend()
    prediction = complete(query, OcclusionFreeBiasConfig(window=SquareConfig(size=16)), backend)
    assert len(backend.calls) == prediction.evaluations == 2 * 6  # 0.3 of 20 steps, each with a null evaluation
    assert max(call.sigma for call in backend.calls) < 0.5


# ------------------------------------------------------------------------------------------------ soft inpainting


def drawn_square(mode, backend=None, **options):
    """The object's square: the model's input and output, the area, the mask."""
    query, _ = scene(16)
    crop = Crop(query.image, query.modal, None, 1, None)
    config = replace(SMALL, noise=0.0, background="white", leakage=LeakageConfig(mode=mode), **options)
    model = OcclusionFreeBias(
        config, backend or EmbeddedPrior.of_network(tiny_unet().eval(), build_scheduler().alphas_cumprod)
    )
    ((mask, picture, _),) = model.complete([crop], None)
    return np.where(crop.modal[..., None], crop.picture, np.uint8(255)), picture, model._area(crop), mask


def test_soft_inpainting_changes_pixels_outside_the_area():
    for mode, changes in (("strength", False), ("soft", True)):
        given, picture, area, _ = drawn_square(mode)
        assert (picture[~area] != given[~area]).any() == changes and (picture[area] != given[area]).any()


def test_a_soft_prediction_may_exceed_the_area():
    whole = np.full((16, 16, 3), 255, np.uint8)
    whole[2:15, 2:15] = (210, 40, 40)
    read = ReadOffConfig(kind="difference")
    _, _, area, mask = drawn_square("soft", Knowing(whole), read_off=read)
    assert (mask & ~area).any() and mask[2:15, 2:15].mean() > 0.9
    assert not (drawn_square("strength", Knowing(whole), read_off=read)[3] & ~area).any()


def test_options_of_the_area_of_neighbours():
    query, _ = scene()
    crop = Crop(query.image, query.modal, query.occluder & ~query.modal, 1, None)
    for model in (
        OcclusionFreeBias(replace(SMALL, area="depth"), GaussianBackend()),
        NoiseFill(NoiseFillConfig(area="depth")),
    ):
        areas = []
        for options in (NeighboursConfig(), NeighboursConfig(grown=0), NeighboursConfig(grown=0, visible=True)):
            model.config = replace(model.config, neighbours=options)
            areas.append(model._area(crop) if isinstance(model, OcclusionFreeBias) else model.area(crop))
        assert np.array_equal(areas[1], crop.occluder) and np.array_equal(areas[2], crop.occluder | crop.modal)
        assert areas[0].sum() > areas[1].sum() and not (areas[0] & crop.modal).any()


def test_soft_inpainting_needs_a_model_with_the_area_as_input():
    class Blind(GaussianBackend):
        abilities = replace(GaussianBackend.abilities, sees_hole=False)

    with pytest.raises(UserError, match=r"leakage\.mode=soft is for inpainting models that see the area"):
        drawn_square("soft", Blind())


# --------------------------------------------------------------------------------------------------- equation 11


@pytest.mark.parametrize(("null", "told"), [("all", "as the backend says"), ("none", 0.0)])
def test_both_readings_of_the_null_prediction(null, told):
    seen = []

    class Listening(GaussianBackend):
        def unconditional(self, prepared):
            return replace(prepared, inputs={"nothing": torch.ones(())})

        def estimate(self, x, level, prepared, taps=()):
            seen.append("as the backend says" if "nothing" in prepared.inputs else prepared.hole.mean().item())
            return super().estimate(x, level, prepared, taps)

    drawn_square("none", Listening(), guidance=MaskGuidanceConfig(null_hole=null))
    assert len(seen) == 12 and seen[1::2] == [told] * 6 and 0 < seen[0] < 1


class Two(GaussianBackend):
    """Predicts one colour with the area as input, and another without any input."""

    def unconditional(self, prepared):
        return replace(prepared, inputs={"nothing": torch.ones(())})

    def estimate(self, x, level, prepared, taps=()):
        self.calls.append(level)
        clean = torch.full_like(x, 0.1 if "nothing" in prepared.inputs else 0.3)
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, {})


@pytest.mark.parametrize("weight", [0.75, 1.5, 2.5])
def test_guidance_equals_the_equation(weight):
    backend = Two()
    prepared = backend.prepare(*pictures_and_holes())
    sampling = begin(backend, prepared, (1, 2, 3), 5)
    done = advance(sampling, [MaskGuidance(backend.unconditional(prepared), weight)])
    torch.testing.assert_close(done.x, torch.full_like(done.x, (1 + weight) * 0.3 - weight * 0.1))
    assert len(backend.calls) == 10


def test_a_step_of_the_guided_state_equals_the_equation():
    backend = Two()
    prepared = backend.prepare(*pictures_and_holes())
    null = backend.unconditional(prepared)
    begun = begin(backend, prepared, (1, 2, 3), 5)
    first, free = (advance(begin(backend, which, (1, 2, 3), 5), until=1).x for which in (prepared, null))
    guided = advance(begun, [MaskGuidance(null, 0.75)], until=1).x
    torch.testing.assert_close(guided, 1.75 * first - 0.75 * free)


@pytest.mark.parametrize("off", [MaskGuidanceConfig(weight=0.0), MaskGuidanceConfig(kind="none")])
def test_without_guidance_each_step_has_one_evaluation(off):
    query, _ = scene()
    plain = LeakageConfig(mode="none")
    backend, guided = Two(), Two()
    prediction = complete(query, replace(WIDE, guidance=off, leakage=plain), backend)
    assert prediction.evaluations == len(backend.calls) == 6
    other = complete(query, replace(WIDE, leakage=plain), guided)
    assert other.evaluations == len(guided.calls) == 12 and not np.array_equal(other.image, prediction.image)


def test_a_model_without_the_area_as_input_is_not_guided():
    class Blind(GaussianBackend):
        abilities = replace(GaussianBackend.abilities, sees_hole=False)

    query, _ = scene()
    assert complete(query, replace(SMALL, leakage=LeakageConfig(mode="none")), Blind()).evaluations == 6


# ------------------------------------------------------------------------------------------- equations 8, 9 and 10


def test_noise_is_added_to_the_object():
    picture = np.full((200, 200, 3), 191, np.uint8)  # 0.498 in a range from -1 to 1
    rng = np.random.default_rng(0)
    assert np.array_equal(noised(picture, 0.0, rng), picture)
    values = noised(picture, 0.2, rng) / 127.5 - 1
    assert values.mean() == pytest.approx(0.8 * 0.498, abs=0.01) and values.std() == pytest.approx(0.2, abs=0.01)
    same = np.random.default_rng(1), np.random.default_rng(1)
    assert np.array_equal(noised(picture, 1.0, same[0]), noised(np.zeros_like(picture), 1.0, same[1]))


def test_inputs_of_the_inpainting_model():
    asked = []

    class Listening(GaussianBackend):
        def prepare(self, pictures, holes, prompts=None):
            asked.append((pictures, holes, prompts))
            return super().prepare(pictures, holes, prompts)

    query, _ = scene()
    crop = Crop(query.image[:32, :32], query.modal[:32, :32], None, 1, None)
    OcclusionFreeBias(replace(SMALL, background="white", noise=0.0), Listening()).complete([crop], None)
    pictures, holes, prompts = asked[0]
    expected = np.where(crop.modal[..., None], crop.picture, np.uint8(255))
    torch.testing.assert_close(pictures, to_pictures([expected]))
    hull = holes[0, 0].numpy()
    assert not (crop.modal & ~hull).any() and hull.sum() < 1.2 * crop.modal.sum() and prompts is None
    OcclusionFreeBias(replace(SMALL, known_visible=True), Listening()).complete([crop], None)
    assert np.array_equal(asked[1][1][0, 0].numpy(), hull & ~crop.modal)


def test_an_empty_area_changes_nothing():
    query, _ = scene()
    alone = Query(query.image, query.modal, 5)  # no occluder known
    for area in ("occluders", "depth"):
        prediction = complete(alone, replace(SMALL, area=area))
        assert np.array_equal(prediction.amodal, query.modal) and np.array_equal(prediction.image, query.image)
    crop = Crop(query.image, query.modal, None, 1, None)
    config = replace(SMALL, area="occluders", background="white", noise=0.0)
    ((mask, picture, _),) = OcclusionFreeBias(config, GaussianBackend()).complete([crop], None)
    assert np.array_equal(mask, query.modal)
    assert np.array_equal(picture, np.where(query.modal[..., None], query.image, np.uint8(255)))


# ------------------------------------------------------------------------------------------------ the whole method


class Knowing(GaussianBackend):
    """Generates the given picture for every input."""

    def __init__(self, picture):
        super().__init__()
        self.truth = to_pictures([picture])

    def estimate(self, x, level, prepared, taps=()):
        clean = self.truth.expand_as(x)
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, {})


@pytest.mark.parametrize("kind", ["difference", "grabcut"])
def test_if_the_model_generates_the_whole_object_the_mask_is_whole(kind):
    query, disk = scene(48)
    # use a square that is the photo itself
    picture = np.full_like(query.image, 255)
    picture[disk] = (210, 40, 40)
    config = OcclusionFreeBiasConfig(
        area="outside", background="white", noise=0.0, leakage=LeakageConfig(mode="none"),
        sampler=StepsConfig(steps=3), read_off=ReadOffConfig(kind=kind),
    )  # fmt: skip
    crop = Crop(query.image, query.modal, None, 1, None)
    ((mask, completed, _),) = OcclusionFreeBias(config, Knowing(picture)).complete([crop], None)
    assert np.array_equal(completed, picture)
    assert (mask & disk).sum() / (mask | disk).sum() > 0.95


def test_read_off_auto_uses_a_given_segmenter(monkeypatch):
    query, _ = scene()
    opened = []

    class Everything:
        def segment(self, picture, points):
            return np.ones(picture.shape[:2], bool)

    def open_it(name, device):
        opened.append((name, device))
        return Everything()

    monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.open_segmenter", open_it)
    monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.check_helpers", lambda helpers: None)
    model = OcclusionFreeBias(replace(SMALL, read_off=ReadOffConfig(segmenter="some/sam")), GaussianBackend())
    assert model.predict_batch([query, query])[1].raw[20:28, 20:28].all() and opened == [("some/sam", "cpu")]


def test_the_area_depth_uses_a_depth_model(monkeypatch):
    query, _ = scene()

    class Right:
        def nearer(self, picture):
            return (picture[..., 2] > 150).astype(float)

    monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.open_depth", lambda name, device: Right())
    monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.check_helpers", lambda helpers: None)
    model = OcclusionFreeBias(replace(SMALL, area="depth", depth="some/depth"), GaussianBackend())
    crop = Crop(query.image, query.modal, None, 1, None)
    found = model._area(crop)
    assert found[24, 32] and not (found & query.modal).any() and not found[24, 5]


@pytest.mark.parametrize(
    ("shape", "box"),
    [((16, 16), (4, 4, 12, 10)), ((40, 40), (0, 0, 40, 40)), ((30, 50), (0, 0, 50, 29)), ((16, 16), (0, 0, 16, 16))],
)
def test_small_photos_full_masks_and_objects_at_all_borders(shape, box):
    asked = contract_query(*shape, box)
    prediction = complete(Query(asked.image, asked.modal, 0, ~asked.modal), SMALL)
    assert prediction.image.shape == (*shape, 3) and not (asked.modal & ~prediction.amodal).any()
    assert np.array_equal(prediction.image[~prediction.occluded], asked.image[~prediction.occluded])


def test_seeds_and_several_samples():
    query, _ = scene()
    model = OcclusionFreeBias(WIDE, GaussianBackend(spread=0.9))
    first, same, other = (model.predict(query.image, query.modal, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.image, same.image) and not np.array_equal(first.image, other.image)
    several = model.predict(query.image, query.modal, seed=1, num_samples=3)
    assert np.array_equal(several.samples[0], first.amodal)
    for prediction in (first, several):
        assert np.array_equal(prediction.raw & ~query.modal, prediction.occluded)
    both = several.occluded & first.occluded
    assert both.sum() > 500 and np.array_equal(several.image[both], first.image[both])
    assert several.evaluations == 3 * first.evaluations


class TestContract(ModelContract):
    @classmethod
    def make(cls):
        backend = EmbeddedPrior.of_network(tiny_unet().eval(), build_scheduler().alphas_cumprod)
        config = OcclusionFreeBiasConfig(sampler=StepsConfig(steps=4), leakage=LeakageConfig(mode="none"))
        return OcclusionFreeBias(config, backend)


class TestContractWithoutUnion(ModelContract):
    always_contains_modal = False

    @classmethod
    def make(cls):
        model = OcclusionFreeBias(replace(SMALL, area="outside", background="grey"), GaussianBackend())
        model.override({"post": {"union_visible": False}, "read_off": {"kind": "difference"}})
        return model


# ----------------------------------------------------------------------------------------------------------- options


def test_options_from_a_file_and_overrides(tmp_path):
    save_prior(tmp_path / "prior", tiny_unet(), {})
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"base: {CONFIGS}/occlusion_free_bias/epsilon_0_6.yaml\nmodel: {{backend: {{name: {tmp_path}/prior}}}}\n"
    )
    model = load_model(file, "cpu")
    assert model.config.leakage.s == model.config.noise == 0.6 and model.size == 16
    model.override({"sampler": {"steps": 5, "kind": "ddim"}, "vgpe": {"clamp": False}, "leakage": {"s": 0.4}})
    assert (model.config.sampler.steps, model.config.leakage.s, model.config.noise) == (5, 0.4, 0.6)
    query, _ = scene()
    assert model.predict(query.image, query.modal).evaluations == 2 * 2
    assert model.predict(query.image, query.modal, steps=10).evaluations == 2 * 4
    for wrong, message in (
        ({"sampler": {"stepz": 5}}, "no model has the option 'sampler.stepz'"),
        ({"leakage": {"s": 2.0}}, r"leakage\.s: 2\.0 \(must be between 0 and 1\)"),
        ({"leakage": {"mode": "much"}}, r"leakage\.mode: much \(choose from strength, "),
        ({"backend": {"name": str(tmp_path / "nowhere")}}, "nowhere"),
        ({"name": "inpaint"}, "cannot change the method"),
    ):
        with pytest.raises(UserError, match=message):
            model.override(wrong)


def test_an_override_can_replace_the_inpainting_model(tmp_path):
    for name, size in (("one", 16), ("two", 32)):
        torch.manual_seed(0)
        save_prior(tmp_path / name, build_unet(InpaintingPriorConfig(size=size, channels=[8, 16], head=8)), {})
    model = OcclusionFreeBias(OcclusionFreeBiasConfig(backend=BackendConfig(name=str(tmp_path / "one"))))
    assert model.size == 16
    assert model.override({"backend": {"name": str(tmp_path / "two")}}) == {"backend": {"name": str(tmp_path / "two")}}
    assert model.size == 32


def test_each_model_takes_its_own_options_of_an_override():
    options = {"sampler": {"steps": 3, "kind": "ddim"}, "leakage": {"s": 0.5}, "vgpe": {"clamp": False}}
    own = own_options(CondDiffAMOConfig(), options)
    assert own == {"sampler": {"steps": 3, "kind": "ddim"}, "vgpe": {"clamp": False}}
    assert own_options(OcclusionFreeBiasConfig(), options) == {"sampler": {"steps": 3}, "leakage": {"s": 0.5}}


def test_missing_models_are_reported_on_opening(tmp_path):
    with pytest.raises(UserError, match="nowhere") as caught:
        OcclusionFreeBias(replace(SMALL, backend=BackendConfig(name=str(tmp_path / "nowhere"))))
    assert "\n" not in str(caught.value)
    file = tmp_path / "mine.yaml"
    file.write_text("model: {name: occlusion_free_bias, read_off: {kind: segmenter}}\n")
    with pytest.raises(UserError, match=r"model.read_off.kind=segmenter needs model.read_off.segmenter"):
        load_model(file, "cpu")


def test_every_ablation_is_a_file_that_loads_and_differs_from_the_others():
    files = sorted((CONFIGS / "occlusion_free_bias").glob("*.yaml"))
    found = [load_config(ModelOnly, file).model for file in files]
    assert len(files) > 15 and all(isinstance(config, OcclusionFreeBiasConfig) for config in found)
    assert all(one != other for place, one in enumerate(found) for other in found[:place])
    assert load_config(ModelOnly, CONFIGS / "occlusion_free_bias/full.yaml").model == OcclusionFreeBiasConfig()
    for area in ("hull", "occluders"):
        assert load_config(ModelOnly, CONFIGS / f"noise_fill/{area}.yaml").model.area == area
