"""FLUX schnell and fill: tiny random models of the same classes, from folders."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import CLEAN
from amodalseg.models.inpainting.backends.flux import _pack, _unpack
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.guidance import Leakage, MaskGuidance
from amodalseg.models.inpainting.steps.sample import KeepKnown, advance, begin, inpaint
from tests.models.inpainting import tiny_hub
from tests.models.inpainting.tiny_hub import SIDE, save_flux

STEPS = 4
pictures_and_holes = partial(tiny_hub.pictures_and_holes, top=5)  # the hole starts inside a packed cell


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    found = {}
    for kind, fill in (("schnell", False), ("fill", True)):
        found[kind] = open_hub_model(BackendConfig(name=str(save_flux(folder / kind, fill))), "cpu")
        found[kind].abilities = replace(found[kind].abilities, size=SIDE)
    return found


@pytest.fixture(params=("schnell", "fill"))
def backend(backends, request):
    return backends[request.param]


def state(backend, hooks=(), holes=None, pictures=None):
    usual = pictures_and_holes()
    prepared = backend.prepare(usual[0] if pictures is None else pictures, usual[1] if holes is None else holes)
    return advance(begin(backend, prepared, (1, 2), STEPS), hooks)


def test_packing_equals_that_of_diffusers_and_is_invertible(backends):
    grid = torch.randn(2, 3, 6, 4)
    assert torch.equal(_pack(grid), backends["schnell"].pipeline._pack_latents(grid, 2, 3, 6, 4))
    assert torch.equal(_unpack(_pack(grid), 3, 2), grid)


def test_shapes_and_abilities(backends):
    pictures, holes = pictures_and_holes()
    for kind, backend in backends.items():
        assert backend.abilities.sees_hole == (kind == "fill") and backend.abilities.multiple == 8
        prepared = backend.prepare(pictures, holes)
        assert prepared.known.shape == (2, 4, 8, 8) and torch.equal(prepared.hole, holes[:, :, ::4, ::4].float())
        estimate = backend.estimate(prepared.known, backend.levels(STEPS)[1], prepared, backend.abilities.taps)
        assert {tap: values.shape for tap, values in estimate.features.items()} == {
            "transformer_blocks.0": (2, 16, 4, 4), "single_transformer_blocks.0": (2, 16, 4, 4),
        }  # fmt: skip
        assert backend.decode(prepared.known).shape == pictures.shape
        with pytest.raises(UserError, match=r"multiples of 8, not 28x32$"):
            backend.prepare(pictures[..., :28], holes[..., :28])


def test_levels_are_those_of_a_flow_shifted_as_configured(backends):
    plain = backends["schnell"].levels(4)
    assert [level.sigma for level in plain] == [1, 0.75, 0.5, 0.25, 0] and plain[-1] == CLEAN
    assert [level.time for level in plain] == [1000, 750, 500, 250, 0]
    few = backends["fill"].levels(4)
    large = replace(backends["fill"].abilities, size=1024)
    backends["fill"].abilities, small = large, backends["fill"].abilities
    many = backends["fill"].levels(4)
    backends["fill"].abilities = small
    assert all(b.sigma > a.sigma for a, b in zip(few[1:-1], many[1:-1], strict=True))
    assert all(level.alpha == 1 - level.sigma for level in few + many)


@pytest.mark.parametrize("kind", ["schnell", "fill"])
def test_the_trajectory_equals_that_of_the_diffusers_pipeline(backends, kind, monkeypatch):
    backend, pipeline = backends[kind], backends[kind].pipeline
    module = __import__(type(pipeline).__module__, fromlist=["retrieve_latents"])
    monkeypatch.setattr(module, "retrieve_latents", partial(module.retrieve_latents, sample_mode="argmax"))
    pictures, holes = pictures_and_holes()
    ours = state(backend, [KeepKnown()] if kind == "schnell" else [])
    noise = ours.noise if kind == "schnell" else _pack(ours.noise)
    theirs = pipeline(
        prompt=["", ""], image=(pictures + 1) / 2, mask_image=holes.float(), height=SIDE, width=SIDE, strength=1.0,
        num_inference_steps=STEPS, guidance_scale=30.0, latents=noise.clone(), output_type="latent",
        max_sequence_length=256 if kind == "schnell" else 512,
    ).images  # fmt: skip
    torch.testing.assert_close(_pack(ours.x), theirs, atol=2e-4, rtol=2e-4)
    assert (ours.x - ours.prepared.known).abs().max() > 0.1


def test_the_known_part_is_kept_and_full_leakage_is_equivalent(backend):
    done = state(backend, [KeepKnown()])
    outside = (done.prepared.hole == 0).expand_as(done.x)
    assert torch.equal(done.x[outside], done.prepared.known[outside])
    assert not torch.equal(done.x[~outside], done.prepared.known[~outside])
    assert torch.equal(state(backend, [Leakage(1.0)]).x, done.x)
    nothing = state(backend, [KeepKnown()], holes=torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool))
    assert torch.equal(nothing.x, nothing.prepared.known)


def test_without_an_input_for_the_hole_the_unconditional_input_is_the_same(backends):
    pictures, holes = pictures_and_holes()
    prepared = backends["schnell"].prepare(pictures, holes)
    null = backends["schnell"].unconditional(prepared)
    assert all(torch.equal(null.inputs[name], values) for name, values in prepared.inputs.items())
    plain = state(backends["schnell"], [KeepKnown()]).x
    torch.testing.assert_close(state(backends["schnell"], [MaskGuidance(null, 0.75), KeepKnown()]).x, plain)


def test_the_unconditional_input_of_fill_contains_neither_picture_nor_hole(backends):
    backend = backends["fill"]
    pictures, holes = pictures_and_holes()
    null = backend.unconditional(backend.prepare(pictures, holes))
    other = backend.prepare(torch.zeros_like(pictures), torch.ones_like(holes))
    assert all(torch.equal(null.inputs[name], values) for name, values in other.inputs.items())
    assert torch.equal(state(backend, [MaskGuidance(null, 0.0)]).x, state(backend).x)
    alone = advance(begin(backend, null, (1, 2), STEPS)).x
    assert torch.equal(state(backend, [MaskGuidance(null, -1.0)]).x, alone)


def test_pixels_in_the_hole_have_no_influence(backends):
    pictures, holes = pictures_and_holes()
    ways = [state(backends["fill"], pictures=each).x for each in (pictures, torch.where(holes, -pictures, pictures))]
    assert torch.equal(*ways)


def test_pictures_depend_on_the_seed_and_not_on_the_batch(backend):
    pictures, holes = pictures_and_holes(3)
    run = partial(inpaint, backend, pictures, holes, steps=STEPS)
    first = run([1, 2, 3])
    assert torch.equal(first, run([1, 2, 3]))
    torch.testing.assert_close(first, run([1, 2, 3], batch_size=1), atol=1e-4, rtol=0)
    assert (first[2] - run([1, 2, 4])[2]).abs().max() > 1e-3


def test_prompts_change_the_picture(backend):
    pictures, holes = pictures_and_holes()
    none, cat = (backend.prepare(pictures, holes, prompts).inputs for prompts in (None, ("cat", "")))
    for name in ("text", "pooled"):
        assert torch.equal(cat[name][1], none[name][1]) and not torch.equal(cat[name][0], none[name][0])
