"""Attention controls in Stable Diffusion (tiny, random) and in the embedded prior's network."""

from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control, attended, attention_layers
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.attention_controls import Boost, KeepKeys, KeepMaps, KeyMask, PutKeys, PutMaps
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.sample import advance, begin
from tests.models.inpainting.tiny_hub import SIDE, build_prior, save_flux, save_stable_diffusion


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    folder = save_stable_diffusion(tmp_path_factory.mktemp("hub") / "sd")
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


@pytest.fixture(params=["stable", "prior"])
def backend(request, stable):
    return stable if request.param == "stable" else build_prior()


def asked(backend, count=2, seed=0, wide=False):
    """A state halfway through sampling, its level, and the conditional input."""
    generator = torch.Generator().manual_seed(seed)
    side = backend.abilities.size
    shape = (side, 2 * side) if wide else (side, side)
    pictures = torch.rand((count, 3, *shape), generator=generator) * 2 - 1
    holes = torch.rand((count, 1, *shape), generator=generator) < 0.5
    prepared = backend.prepare(pictures, holes, ["cat"] * count)
    level = backend.levels(4)[2]
    noise = torch.randn(prepared.known.shape, generator=generator)
    return backend.add_noise(prepared.known, noise, level), level, prepared


def evaluate(backend, x, level, prepared, *controls):
    return backend.estimate(x, level, replace(prepared, attention=controls)).noise


def gap(one, other):
    return float((one - other).abs().max())


class Written(Control):
    """Requests and stores all attention weights."""

    def start(self):
        self.weights, self.sites = {}, {}

    def wants_maps(self, site):
        return True

    def maps(self, site, weights):
        self.weights[site.name], self.sites[site.name] = weights, site
        return weights


def test_controls_without_effect_leave_the_prediction_unchanged(backend):
    assert backend.abilities.attention
    for wide in (False, True):
        asked_ = asked(backend, wide=wide)
        plain = evaluate(backend, *asked_)
        assert torch.equal(evaluate(backend, *asked_, Control()), plain)
        written = Written()
        assert gap(evaluate(backend, *asked_, Control(), written), plain) <= 1e-5
        assert written.weights.keys() == attention_layers(backend.network).keys()
        for name, weights in written.weights.items():
            site = written.sites[name]
            assert weights.shape[2] == site.places and site.width == (2 if wide else 1) * site.height
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
            assert weights.shape[3] == (12 if site.cross else site.places)
        assert any(site.cross for site in written.sites.values()) == backend.abilities.text


def test_the_networks_attention_processors_are_restored(backend):
    class Breaks(Control):
        calls = 0

        def seen(self, site):
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("in the second layer")

    layers = attention_layers(backend.network)
    assert len(layers) >= 2
    own = {name: layer.processor for name, layer in layers.items()}
    asked_ = asked(backend)
    plain = evaluate(backend, *asked_)
    evaluate(backend, *asked_, Control())
    with pytest.raises(RuntimeError, match="in the second layer"):
        evaluate(backend, *asked_, Breaks())
    assert all(layer.processor is own[name] for name, layer in layers.items())
    with attended(backend.network, [Control()], (4, 4)):
        assert not any(layer.processor is own[name] for name, layer in layers.items())
    assert all(layer.processor is own[name] for name, layer in layers.items())
    assert torch.equal(evaluate(backend, *asked_), plain)


def test_masked_keys_have_no_weight(backend):
    asked_ = asked(backend)
    where = torch.zeros(2, 1, 8, 8)
    where[0, :, :, :4], where[1, :, 4:] = 1, 1
    written = Written()
    masked = evaluate(backend, *asked_, KeyMask(where), written)
    checked = 0
    for name, site in written.sites.items():
        if site.cross:
            assert (written.weights[name] > 0).all()
            continue
        weights = written.weights[name].unflatten(-1, (site.height, site.width))
        assert not weights[0, ..., site.width // 2 :].any() and not weights[1, :, :, : site.height // 2].any()
        assert (weights[0, ..., : site.width // 2] > 0).all()
        checked += 1
    assert checked
    assert gap(evaluate(backend, *asked_, KeyMask(where)), masked) <= 1e-5  # the same without materialised weights
    assert gap(evaluate(backend, *asked_), masked) > 1e-4
    assert torch.equal(evaluate(backend, *asked_, KeyMask(torch.ones(2, 1, 8, 8))), evaluate(backend, *asked_))


def test_restricted_queries_affect_only_the_objects_positions(backend):
    where = torch.zeros(2, 1, 8, 8)
    where[..., :4] = 1
    written = Written()
    evaluate(backend, *asked(backend), KeyMask(where, queries="object"), written)
    for name, site in written.sites.items():
        if not site.cross:
            grid = (site.height, site.width)
            weights = written.weights[name].unflatten(-1, grid).unflatten(2, grid)
            half = site.width // 2
            assert not weights[:, :, :, :half, :, half:].any() and (weights[:, :, :, half:] > 0).all()


def test_two_masks_are_intersected_and_an_empty_mask_has_no_effect(backend):
    asked_ = asked(backend)
    left, top = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    left[..., :4], top[:, :, :4] = 1, 1
    both = evaluate(backend, *asked_, KeyMask(left), KeyMask(top))
    assert gap(both, evaluate(backend, *asked_, KeyMask(left * top))) == 0
    plain = evaluate(backend, *asked_)
    for controls in ([KeyMask(torch.zeros(2, 1, 8, 8))], [KeyMask(left), KeyMask(1 - left)]):
        assert gap(evaluate(backend, *asked_, *controls), plain) <= 1e-5
        assert gap(evaluate(backend, *asked_, *controls, Written()), plain) <= 1e-5
    # one row has keys left, the other has none
    mixed = evaluate(backend, *asked_, KeyMask(torch.cat([left[:1], 0 * left[:1]])))
    assert gap(mixed[1:], plain[1:]) <= 1e-5 and gap(mixed[:1], plain[:1]) > 1e-4


def test_injecting_stored_keys_and_maps_reproduces_the_prediction(backend):
    asked_, other = asked(backend), asked(backend, seed=1)
    plain = evaluate(backend, *asked_)
    keys, maps = KeepKeys(), KeepMaps()
    assert torch.equal(evaluate(backend, *asked_, keys), plain)
    assert gap(evaluate(backend, *asked_, PutKeys(keys)), plain) <= 1e-5
    assert gap(evaluate(backend, *other, PutKeys(keys)), evaluate(backend, *other)) > 1e-4
    evaluate(backend, *asked_, maps)
    assert gap(evaluate(backend, *asked_, PutMaps(maps.kept)), plain) <= 1e-5
    assert gap(evaluate(backend, *other, PutMaps(maps.kept)), evaluate(backend, *other)) > 1e-4
    first = {name: pair[0] for name, pair in keys.kept.items()}
    evaluate(backend, *other, keys)
    assert all(not torch.equal(pair[0], first[name]) for name, pair in keys.kept.items())


def test_large_maps_are_not_materialised(backend):
    few = KeepMaps(places=4)
    evaluate(backend, *asked(backend), few)
    assert all(weights.shape[2] <= 4 for weights in few.kept.values())
    assert len(few.kept) < len(attention_layers(backend.network))


def test_weights_of_boosted_keys_are_multiplied_by_the_factor(backend):
    asked_ = asked(backend)
    where = torch.zeros(2, 1, 8, 8)
    where[..., :4] = 1
    first = next(iter(attention_layers(backend.network)))  # its inputs do not differ yet
    before, after = Written(), Written()
    plain = evaluate(backend, *asked_, before)
    boosted = evaluate(backend, *asked_, Boost(1.5, places=where), after)
    site = before.sites[first]
    assert not site.cross
    chosen = (torch.arange(site.places) % site.width) < site.width // 2
    wanted = before.weights[first] * torch.where(chosen, 1.5, 1.0)
    torch.testing.assert_close(after.weights[first], wanted / wanted.sum(-1, keepdim=True))
    assert gap(boosted, evaluate(backend, *asked_, Boost(1.5, places=where))) <= 1e-5
    assert gap(boosted, plain) > 1e-5
    assert torch.equal(evaluate(backend, *asked_, Boost(1.5)), evaluate(backend, *asked_))


def test_weights_of_boosted_words_are_multiplied_by_the_factor(stable):
    tokens = torch.zeros(2, 12, dtype=torch.bool)
    tokens[0, 1] = True
    before, after = Written(), Written()
    asked_ = asked(stable)
    evaluate(stable, *asked_, before)
    evaluate(stable, *asked_, Boost(3.0, tokens=tokens), after)
    name = next(name for name, site in before.sites.items() if site.cross)
    wanted = before.weights[name].clone()
    wanted[0, ..., 1] *= 3
    torch.testing.assert_close(after.weights[name], wanted / wanted.sum(-1, keepdim=True))


def test_a_mask_and_a_boost_can_be_combined(backend):
    where = torch.zeros(2, 1, 8, 8)
    where[..., :4] = 1
    written = Written()
    found = evaluate(backend, *asked(backend), KeyMask(where), Boost(2.0, places=where), written)
    # all remaining keys are boosted, so their weights do not change
    assert gap(found, evaluate(backend, *asked(backend), KeyMask(where))) <= 1e-5
    assert all(
        not weights.unflatten(-1, (-1, written.sites[name].width))[..., written.sites[name].width // 2 :].any()
        for name, weights in written.weights.items()
        if not written.sites[name].cross
    )


def test_a_control_acts_only_on_its_own_input(backend):
    """Guidance: masking the keys of the conditional evaluation leaves the null evaluation unchanged, and vice versa."""
    x, level, prepared = asked(backend)
    half = torch.zeros(2, 1, 8, 8)
    half[..., :4] = 1
    masked = replace(prepared, attention=(KeyMask(half),))
    assert backend.unconditional(masked).attention == () and len(masked.attention) == 1
    null = backend.unconditional(prepared)
    plain = advance(begin(backend, null, (1, 2), 3))
    # with a weight of -1 the prediction is the null evaluation
    sampling = advance(begin(backend, masked, (1, 2), 3), [MaskGuidance(null, -1.0)])
    assert torch.equal(sampling.x, plain.x)
    other = replace(null, attention=(KeyMask(half),))
    sampling = advance(begin(backend, prepared, (1, 2), 3), [MaskGuidance(other, 0.0)])
    assert torch.equal(sampling.x, advance(begin(backend, prepared, (1, 2), 3)).x)
    assert gap(backend.estimate(x, level, other).noise, backend.estimate(x, level, null).noise) > 1e-4


def test_controls_of_one_object_do_not_affect_others(backend):
    x, level, prepared = asked(backend)
    where = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(3)) < 0.4
    both = evaluate(backend, x, level, prepared, KeyMask(where), Boost(2.0, places=~where))
    for row in range(2):
        part = replace(
            prepared, known=prepared.known[row : row + 1], hole=prepared.hole[row : row + 1],
            inputs={name: values[row : row + 1] for name, values in prepared.inputs.items()},
        )  # fmt: skip
        one = where[row : row + 1]
        alone = evaluate(backend, x[row : row + 1], level, part, KeyMask(one), Boost(2.0, places=~one))
        assert gap(alone, both[row : row + 1]) <= 1e-5


def test_half_precision(tmp_path):
    folder = save_stable_diffusion(tmp_path / "sd")
    backend = open_hub_model(BackendConfig(name=str(folder), precision="bfloat16"), "cpu")
    asked_ = asked(backend)
    half = torch.zeros(2, 1, 8, 8)
    half[..., :4] = 1
    assert torch.equal(evaluate(backend, *asked_, Control()), evaluate(backend, *asked_))
    written = Written()
    one = evaluate(backend, *asked_, KeyMask(half), Boost(2.0, places=half, tokens=torch.eye(12)[:2] > 0))
    other = evaluate(backend, *asked_, KeyMask(half), Boost(2.0, places=half, tokens=torch.eye(12)[:2] > 0), written)
    assert all(weights.dtype == torch.float32 for weights in written.weights.values())
    assert gap(one, other) < 0.05 * float(one.abs().max())


def test_networks_without_support_for_controls_are_refused(tmp_path):
    backend = open_hub_model(BackendConfig(name=str(save_flux(tmp_path / "flux"))), "cpu")
    assert not backend.abilities.attention
    pictures = torch.zeros(1, 3, SIDE, SIDE)
    prepared = backend.prepare(pictures, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool))
    backend.estimate(prepared.known, backend.levels(2)[0], prepared)
    with pytest.raises(UserError, match=r"^attention controls do not work with a FluxTransformer2DModel: "):
        backend.estimate(prepared.known, backend.levels(2)[0], replace(prepared, attention=(Control(),)))


def test_layers_with_foreign_processors_are_refused():
    from diffusers.models.attention_processor import AttnProcessor

    backend = build_prior()
    next(iter(attention_layers(backend.unet).values())).set_processor(AttnProcessor())
    with pytest.raises(UserError, match="attention controls do not work with"):
        evaluate(backend, *asked(backend), Control())


def test_gradients_flow_through_controlled_layers(backend):
    x, level, prepared = asked(backend)
    x = x.requires_grad_()
    estimate = backend.estimate(x, level, replace(prepared, attention=(KeyMask(torch.ones(2, 1, 8, 8)), Written())))
    estimate.noise.square().sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and x.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in backend.network.parameters())
