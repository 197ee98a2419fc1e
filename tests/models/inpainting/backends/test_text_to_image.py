"""Text-to-image Stable Diffusion: four channels behind the same interface."""

from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.sample import KeepKnown, advance, begin
from tests.models.inpainting.tiny_hub import SIDE, save_stable_diffusion

STEPS, PROMPTS = 5, ["a cat", "cat"]


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    folder = save_stable_diffusion(tmp_path_factory.mktemp("hub") / "text", in_channels=4)
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


def pictures_and_holes():
    pictures = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    holes = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    holes[..., SIDE // 2 :] = True
    return pictures, holes


def test_latents_equal_those_of_the_diffusers_pipeline(backend):
    import diffusers

    parts = backend.pipeline
    scheduler = diffusers.DDIMScheduler.from_config(parts.scheduler.config, set_alpha_to_one=True, clip_sample=False)
    pipeline = diffusers.StableDiffusionPipeline(
        parts.vae, parts.text_encoder, parts.tokenizer, parts.unet, scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    prepared, null = (backend.prepare(*pictures_and_holes(), texts) for texts in (PROMPTS, None))
    ours = advance(begin(backend, prepared, (1, 2), STEPS), [MaskGuidance(null, 6.5)])
    theirs = pipeline(
        prompt=PROMPTS, height=SIDE, width=SIDE, num_inference_steps=STEPS, guidance_scale=7.5,
        latents=ours.noise.clone(), output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(ours.x, theirs, atol=1e-4, rtol=1e-4)
    plain = advance(begin(backend, prepared, (1, 2), STEPS))
    assert (plain.x - theirs).abs().max() > 1e-2  # the texts change the result, so guidance is compared too


def test_the_hole_is_no_input_and_known_pixels_are_blended_in(backend):
    assert backend.abilities.text and backend.abilities.attention and not backend.abilities.sees_hole
    pictures, holes = pictures_and_holes()
    prepared = backend.prepare(pictures, holes, PROMPTS)
    assert prepared.inputs.keys() == {"text"}
    null = backend.unconditional(prepared)
    assert torch.equal(null.inputs["text"], prepared.inputs["text"]) and torch.equal(null.known, prepared.known)
    done = advance(begin(backend, prepared, (1, 2), STEPS), [KeepKnown()])
    outside = (prepared.hole == 0).expand_as(done.x)
    assert torch.equal(done.x[outside], prepared.known[outside])
    assert not torch.equal(done.x[~outside], prepared.known[~outside])
    assert backend.prepare(pictures[..., : SIDE // 2], holes[..., : SIDE // 2]).known.shape == (2, 4, 8, 4)


def test_pictures_are_clamped_only_on_request(backend):
    x = (200 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))).requires_grad_()
    clamped, free = backend.decode(x), backend.decode(x, clamp=False)
    assert torch.equal(clamped, free.clamp(-1, 1)) and free.abs().max() > 1
    outside = (free.detach().abs() > 1).float()
    [gone], [left] = (torch.autograd.grad((p * outside).sum(), x, retain_graph=True) for p in (clamped, free))
    assert not gone.any() and left.abs().max() > 0
    assert not any(weights.requires_grad for network in backend.networks for weights in network.parameters())


def test_gradients_reach_the_text(backend):
    prepared = backend.prepare(*pictures_and_holes(), PROMPTS)
    text = prepared.inputs["text"].clone().requires_grad_()
    level = backend.levels(STEPS)[2]

    def error(text):
        estimate = backend.estimate(prepared.known, level, replace(prepared, inputs={"text": text}))
        return estimate.noise.square().sum()

    error(text).backward()
    step = torch.randn(text.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        slope = (error(text + 1e-2 * step) - error(text - 1e-2 * step)) / 2e-2
    assert float(slope) == pytest.approx(float((text.grad * step).sum()), rel=0.02)


def test_local_guidance_is_equation_10(backend):
    """eps(x) + omega Q (eps(x, c) - eps(x)): conditional on the text inside Q only, and unconditional outside."""
    prepared, null = (backend.prepare(*pictures_and_holes(), texts) for texts in (PROMPTS, None))
    x, level, omega = prepared.known, backend.levels(STEPS)[2], 7.5
    inside = torch.zeros(2, 1, 8, 8)
    inside[0, :, 2:5, 2:5], inside[1, :, :, 4:] = 1, 0.5
    told, free = (backend.estimate(x, level, each) for each in (prepared, null))
    assert (told.noise - free.noise).abs().max() > 1e-3
    sampling = begin(backend, prepared, (1, 2), STEPS)
    sampling.x, sampling.index = x, 2
    guided = MaskGuidance(null, omega - 1, inside).estimate(sampling, told)
    for name in ("clean", "noise"):
        with_text, without = getattr(told, name), getattr(free, name)
        torch.testing.assert_close(getattr(guided, name), without + omega * inside * (with_text - without))
        outside = (inside == 0).expand_as(with_text)
        assert torch.equal(getattr(guided, name)[outside], without[outside])
    everywhere = MaskGuidance(null, omega - 1, torch.ones(1, 1, 8, 8)).estimate(sampling, told)
    assert torch.equal(everywhere.noise, MaskGuidance(null, omega - 1).estimate(sampling, told).noise)


def test_tokens_of_a_text(backend):
    assert backend.tokens("a CAT") == ["<|startoftext|>", "a</w>", "cat</w>", "<|endoftext|>"]
    assert len(backend.tokens("cat " * 30)) == 12
