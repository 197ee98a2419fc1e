"""Stable Diffusion 1.5, 2 and XL for inpainting: tiny random models of the same classes, from folders."""

from functools import partial

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import CLEAN
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.guidance import Leakage, MaskGuidance
from amodalseg.models.inpainting.steps.sample import Hook, KeepKnown, advance, begin, inpaint
from tests.models.inpainting.tiny_hub import SIDE, pictures_and_holes, save_sdxl, save_stable_diffusion

KINDS = ("epsilon", "v_prediction", "xl")
STEPS = 4


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    folders = {
        "epsilon": save_stable_diffusion(folder / "epsilon"),
        "v_prediction": save_stable_diffusion(folder / "v", prediction="v_prediction"),
        "xl": save_sdxl(folder / "xl"),
    }
    return {kind: open_hub_model(BackendConfig(name=str(path)), "cpu") for kind, path in folders.items()}


@pytest.fixture(params=KINDS)
def backend(backends, request):
    return backends[request.param]


def state(backend, hooks=(), seeds=(1, 2), strength=1.0, holes=None, steps=STEPS):
    pictures, usual = pictures_and_holes()
    prepared = backend.prepare(pictures, usual if holes is None else holes)
    return advance(begin(backend, prepared, seeds, steps, strength), hooks)


def test_pictures_masks_and_latents_have_their_shapes(backend):
    pictures, holes = pictures_and_holes()
    assert backend.abilities.size == SIDE and backend.abilities.sees_hole and backend.abilities.text
    prepared = backend.prepare(pictures, holes)
    grid = SIDE // backend.abilities.factor
    assert prepared.known.shape == (2, 4, grid, grid) and prepared.known.dtype == torch.float32
    assert torch.equal(prepared.hole, holes[:, :, :: backend.abilities.factor, :: backend.abilities.factor].float())
    taps = backend.abilities.taps
    estimate = backend.estimate(prepared.known, backend.levels(STEPS)[1], prepared, taps)
    assert estimate.clean.shape == estimate.noise.shape == prepared.known.shape
    assert {tap: values.shape[1:] for tap, values in estimate.features.items()} == {
        "up_blocks.0": (16, grid, grid), "up_blocks.1": (8, grid, grid), "mid_block": (16, grid // 2, grid // 2),
    }  # fmt: skip
    back = backend.decode(prepared.known)
    assert back.shape == pictures.shape and back.dtype == torch.float32 and back.abs().max() <= 1
    assert not any(module._forward_hooks for module in backend.network.modules())


def test_estimates_of_picture_and_noise_are_consistent_with_the_state(backend):
    pictures, holes = pictures_and_holes()
    prepared = backend.prepare(pictures, holes)
    for level in backend.levels(STEPS)[:-1]:
        estimate = backend.estimate(prepared.known, level, prepared)
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1)
        torch.testing.assert_close(
            level.alpha * estimate.clean + level.sigma * estimate.noise, prepared.known, atol=1e-4, rtol=1e-4
        )
    assert backend.levels(STEPS)[-1] == CLEAN


@pytest.mark.parametrize("kind", KINDS)
def test_the_trajectory_equals_that_of_the_diffusers_pipeline(backends, kind, monkeypatch):
    import diffusers

    backend, pipeline = backends[kind], backends[kind].pipeline
    module = __import__(type(pipeline).__module__, fromlist=["retrieve_latents"])
    monkeypatch.setattr(module, "retrieve_latents", partial(module.retrieve_latents, sample_mode="argmax"))
    if kind != "xl":  # PNDM uses earlier steps, and the last DDIM step of SD does not reach the clean picture
        scheduler = diffusers.DDIMScheduler.from_config(
            pipeline.scheduler.config, set_alpha_to_one=True, clip_sample=False
        )
        monkeypatch.setattr(pipeline, "scheduler", scheduler)
    pictures, holes = pictures_and_holes()
    ours = state(backend)
    theirs = pipeline(
        prompt=["", ""], image=(pictures + 1) / 2, mask_image=holes.float(), height=SIDE, width=SIDE, strength=1.0,
        num_inference_steps=STEPS, guidance_scale=1.0, latents=ours.noise.clone(), output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(ours.x, theirs, atol=2e-4, rtol=2e-4)
    assert (ours.x - ours.prepared.known).abs().max() > 0.1


def test_hooks_are_called_in_order(backend):
    calls = []

    class Recorder(Hook):
        taps = ("mid_block",)

        def model_input(self, sampling, x):
            calls.append(f"input {sampling.index}")
            return x

        def features(self, sampling, features):
            calls.append(f"features {sampling.index} {sorted(features)}")

        def estimate(self, sampling, estimate):
            calls.append(f"estimate {sampling.index}")
            return estimate

        def step_end(self, sampling):
            calls.append(f"end {sampling.index}")

    state(backend, [Recorder()], steps=2)
    one = ["input 0", "features 0 ['mid_block']", "estimate 0", "end 1"]
    assert calls == [*one, "input 1", "features 1 ['mid_block']", "estimate 1", "end 2"]


def test_guidance_of_weight_zero_is_conditional_and_of_minus_one_unconditional(backend):
    pictures, holes = pictures_and_holes()
    null = backend.unconditional(backend.prepare(pictures, holes))
    assert torch.equal(state(backend, [MaskGuidance(null, 0.0)]).x, state(backend).x)
    alone = advance(begin(backend, null, (1, 2), STEPS))
    assert torch.equal(state(backend, [MaskGuidance(null, -1.0)]).x, alone.x)
    assert not torch.equal(state(backend, [MaskGuidance(null, 0.75)]).x, state(backend).x)


def test_the_unconditional_input_contains_neither_picture_nor_hole(backend):
    first, second = pictures_and_holes(seed=0), pictures_and_holes(seed=1)
    nulls = [
        backend.unconditional(backend.prepare(first[0], first[1])),
        backend.unconditional(backend.prepare(second[0], ~second[1])),
        backend.prepare(torch.zeros_like(first[0]), torch.ones_like(first[1])),
    ]
    for null in nulls[1:]:
        assert null.inputs.keys() == nulls[0].inputs.keys()
        assert all(torch.equal(null.inputs[name], values) for name, values in nulls[0].inputs.items())


def test_full_leakage_is_blended_inpainting_and_an_empty_area_changes_nothing(backend):
    assert torch.equal(state(backend, [Leakage(1.0)]).x, state(backend, [KeepKnown()]).x)
    assert not torch.equal(state(backend, [Leakage(0.3)]).x, state(backend, [KeepKnown()]).x)
    nothing = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    for hook in (KeepKnown(), Leakage(0.0), Leakage(0.3), Leakage(1.0)):
        done = state(backend, [hook], holes=nothing)
        assert torch.equal(done.x, done.prepared.known)


def test_pictures_depend_on_the_seed_and_not_on_the_batch(backend):
    pictures, holes = pictures_and_holes(3)
    run = partial(inpaint, backend, pictures, holes, steps=STEPS)
    first = run([1, 2, 3])
    assert torch.equal(first, run([1, 2, 3]))
    torch.testing.assert_close(first, run([1, 2, 3], batch_size=1), atol=1e-4, rtol=0)
    other = run([1, 2, 4])
    torch.testing.assert_close(first[:2], other[:2], atol=1e-4, rtol=0)
    assert (first[2] - other[2]).abs().max() > 1e-3


def test_at_full_strength_pixels_in_the_hole_have_no_influence(backend):
    pictures, holes = pictures_and_holes()
    changed = torch.where(holes, -pictures, pictures)
    ways = [advance(begin(backend, backend.prepare(each, holes), (1, 2), STEPS)) for each in (pictures, changed)]
    assert torch.equal(ways[0].x, ways[1].x)
    assert not torch.equal(ways[0].prepared.known, ways[1].prepared.known)


def test_prompts_change_the_picture(backend):
    pictures, holes = pictures_and_holes()
    prepared = [backend.prepare(pictures, holes, prompts) for prompts in (None, ("", ""), ("cat", ""), ("cat", "cat"))]
    for name in ("text", "pooled"):
        if name in prepared[0].inputs:
            none, empty, mixed, cats = (each.inputs[name] for each in prepared)
            assert torch.equal(none, empty) and torch.equal(cats[0], cats[1])
            torch.testing.assert_close(mixed, torch.stack([cats[0], none[1]]), atol=1e-5, rtol=1e-5)
            assert (mixed[0] - mixed[1]).abs().max() > 1e-2


def test_unusable_models_and_sizes_are_refused_in_one_line(backends, tmp_path, monkeypatch):
    backend = backends["epsilon"]
    pictures, holes = pictures_and_holes()
    with pytest.raises(UserError, match=r"multiples of 4, not 30x32$"):
        backend.prepare(pictures[..., :30], holes[..., :30])
    with pytest.raises(UserError, match=r"1000 noise levels, so it cannot take 1001 steps$"):
        backend.levels(1001)
    assert len(backend.levels(1000)) == 1001
    with pytest.raises(UserError, match=r"has 8 input channels, not 9 \(inpainting\) or 4 \(text to image\)"):
        open_hub_model(BackendConfig(name=str(save_stable_diffusion(tmp_path / "eight", in_channels=8))), "cpu")

    def explode(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nand more")

    prepared = backend.prepare(pictures, holes)
    monkeypatch.setattr(backend.network, "forward", explode)
    with pytest.raises(
        UserError, match=r"^out of memory with 2 objects at once: take a smaller batch or smaller pictures$"
    ):
        backend.estimate(prepared.known, backend.levels(STEPS)[0], prepared)
