"""Null-text optimisation with a tiny network, and with a backend whose optimal text is known."""

from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import Estimate
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.null_text import NullTexts, null_text
from amodalseg.models.inpainting.steps.sample import advance, begin
from tests.models.inpainting.fake_backends import GaussianBackend, pictures_and_holes
from tests.models.inpainting.tiny_hub import SIDE, build_prior, save_stable_diffusion

STEPS = 4


class Worded(GaussianBackend):
    """The mean of a row's text embedding is added to every pixel's clean value."""

    name = "worded"

    def prepare(self, pictures, holes, prompts=None):
        prepared = super().prepare(pictures, holes)
        texts = [[float(prompt or 0)] for prompt in prompts or [""] * len(pictures)]
        return replace(prepared, inputs={"text": torch.tensor(texts)[:, None]})

    def estimate(self, x, level, prepared, taps=()):
        clean, _, features = super().estimate(x, level, prepared, taps)
        clean = clean + prepared.inputs["text"].mean(dim=(1, 2))[:, None, None, None]
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, features)


def worded(count=3):
    """States of unguided sampling with the text 0.4, and its conditional input."""
    backend = Worded()
    prepared = backend.prepare(*pictures_and_holes(count), ["0.4"] * count)
    sampling = begin(backend, prepared, range(1, count + 1), STEPS)
    states = [sampling.x]
    while sampling.index < STEPS:
        states.append(advance(sampling, until=sampling.index + 1).x)
    return backend, prepared, backend.prepare(*pictures_and_holes(count), ["0"] * count), states


def walk(backend, prepared, hook, start, index=0):
    sampling = begin(backend, prepared, range(1, len(prepared) + 1), STEPS)
    sampling.x, sampling.index = start, index
    return advance(sampling, [hook])


def test_the_known_optimal_text_is_found():
    """The optimal null text is the conditional text: guidance then changes nothing."""
    backend, prepared, null, states = worded()
    guidance = MaskGuidance(null, 2.0)
    texts = null_text(backend, prepared, guidance, states, updates=300, rate=0.05, enough=1e-9)
    assert len(texts) == STEPS
    for text in texts:
        torch.testing.assert_close(text, torch.full((3, 1, 1), 0.4), atol=2e-3, rtol=0)
    again = walk(backend, prepared, NullTexts(guidance, texts), states[0])
    torch.testing.assert_close(again.x, states[-1], atol=5e-3, rtol=0)
    assert (walk(backend, prepared, guidance, states[0]).x - states[-1]).abs().max() > 0.5
    assert torch.equal(null.inputs["text"], torch.zeros(3, 1, 1))  # the given input is not modified


def test_a_text_within_the_tolerance_is_not_changed():
    backend, prepared, null, states = worded()
    good = replace(null, inputs={"text": torch.full((3, 1, 1), 0.4)})
    before = len(backend.calls)
    texts = null_text(backend, prepared, MaskGuidance(good, 2.0), states, updates=7)
    assert all(torch.equal(text, good.inputs["text"]) for text in texts)
    assert len(backend.calls) - before == 2 * STEPS
    texts = null_text(backend, prepared, MaskGuidance(null, 2.0), states, updates=0)
    assert all(torch.equal(text, null.inputs["text"]) for text in texts)


def test_null_texts_of_an_object_do_not_depend_on_the_batch():
    backend, prepared, null, states = worded()
    mixed = replace(null, inputs={"text": torch.tensor([0.4, 0.0, -3.0])[:, None, None]})
    options = {"updates": 12, "rate": 0.05}
    together = null_text(backend, prepared, MaskGuidance(mixed, 2.0), states, **options)
    assert torch.equal(together[0][0], mixed.inputs["text"][0])
    for row in range(3):
        part = slice(row, row + 1)
        one, other = (
            replace(each, known=each.known[part], hole=each.hole[part], inputs={"text": each.inputs["text"][part]})
            for each in (prepared, mixed)
        )
        alone = null_text(backend, one, MaskGuidance(other, 2.0), [state[part] for state in states], **options)
        for text, wanted in zip(alone, together, strict=True):
            torch.testing.assert_close(text, wanted[part], atol=1e-6, rtol=0)


def test_optimisation_from_a_later_step():
    backend, prepared, null, states = worded()
    guidance = MaskGuidance(null, 2.0)
    texts = null_text(backend, prepared, guidance, states, first=2, updates=300, rate=0.05, enough=1e-9)
    assert len(texts) == STEPS and all(torch.equal(text, null.inputs["text"]) for text in texts[:2])
    again = walk(backend, prepared, NullTexts(guidance, texts), states[2], index=2)
    torch.testing.assert_close(again.x, states[-1], atol=5e-3, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_optimisation_brings_a_guided_network_closer_to_the_given_states(tmp_path, precision):
    folder = save_stable_diffusion(tmp_path / "sd", in_channels=4)
    backend = open_hub_model(BackendConfig(name=str(folder), precision=precision), "cpu")
    pictures = torch.rand((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) * 2 - 1
    holes = torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool)
    prepared, null = (backend.prepare(pictures, holes, texts) for texts in (["a cat", "cat"], None))
    sampling = begin(backend, prepared, (1, 2), STEPS)
    states = [sampling.x]
    while sampling.index < STEPS:
        states.append(advance(sampling, until=sampling.index + 1).x)
    guidance = MaskGuidance(null, 6.5)
    texts = null_text(backend, prepared, guidance, states, updates=30, rate=0.05, enough=0.0)
    assert {text.dtype for text in texts} == {torch.float32}
    plain, fitted = (walk(backend, prepared, hook, states[0]).x for hook in (guidance, NullTexts(guidance, texts)))
    errors = [float((x - states[-1]).square().mean()) for x in (plain, fitted)]
    assert errors[1] < 0.5 * errors[0]


def test_a_backend_without_text_is_refused():
    backend = build_prior()
    side = backend.abilities.size
    prepared = backend.prepare(torch.zeros(1, 3, side, side), torch.ones(1, 1, side, side, dtype=torch.bool))
    with pytest.raises(UserError, match=r"^embedded reads no text, so there is no null text to fit"):
        null_text(backend, prepared, MaskGuidance(backend.unconditional(prepared), 1.0), [prepared.known] * 3)
