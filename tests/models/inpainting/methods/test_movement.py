"""DiffOOM's movement branch: its equations one by one, and whole moves with tiny random networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodalseg import UserError
from amodalseg.config.load import load_config
from amodalseg.config.schema import DiffOOMConfig, LoraConfig, ModelOnly, SquareConfig, StepsConfig
from amodalseg.models.inpainting.backends.backend import Estimate
from amodalseg.models.inpainting.methods import movement
from amodalseg.models.inpainting.methods.deocclusion import deocclusion
from amodalseg.models.inpainting.methods.diffoom import DiffOOM
from amodalseg.models.inpainting.methods.movement import Box, Pull, l_resize
from amodalseg.models.inpainting.steps.sample import begin
from amodalseg.types import Query
from tests.models.contract import ModelContract
from tests.models.inpainting.fake_backends import GaussianBackend
from tests.models.inpainting.methods.test_diffoom import CONFIGS, SMALL, crop_of, prior, text  # noqa: F401
from tests.models.inpainting.methods.test_occlusion_free_bias import scene

LATENT = replace(SMALL, movement="latent")
PLAIN = replace(SMALL, attention="off")


def asked(side=40, to=(12, 22)):
    query, _ = scene(side)
    return Query(query.image, query.modal, 3, query.occluder, "cat", to)


def pulled(box, **options):
    """The states of a photo and of the object after one step each, and the photo's states before the correction."""
    backend, config = GaussianBackend(), replace(PLAIN, skip=0.0, **options)
    sampling = begin(backend, backend.prepare(torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)), [4], 5)
    with torch.no_grad(), deocclusion(config, backend, [crop_of(16)], 5) as branch:
        whole = torch.zeros(1, 1, 16, 16)
        whole[..., 4:12, :8] = 1
        pull = Pull(branch, config, box, whole)
        pull.estimate(sampling, Estimate(sampling.x, torch.full_like(sampling.x, 0.25), {}))
        pull.after(sampling)
        assert branch.sampling.index == 0, "there is nothing to pull to yet"
        sampling.index, before = 1, sampling.x.clone()
        pull.after(sampling)
    assert branch.sampling.index == 1
    return sampling, branch, before, pull.object.clean


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_latent_optimisation_is_one_step_down_the_gradient_of_equation_8(gamma):
    sampling, branch, before, _ = pulled(Box(3, 5, 8, 8), pull=gamma, resize="latent")
    small = torch.nn.functional.interpolate(branch.sampling.x, (8, 8), mode="bilinear", antialias=True)
    inside = torch.zeros(1, 1, 16, 16)
    inside[..., 3 + 2 : 3 + 6, 5 : 5 + 4] = 1  # the object's half of the square, at half its size
    x = before.clone().requires_grad_()
    ((x[..., 3:11, 5:13] - small).square() * inside[..., 3:11, 5:13]).sum().mul(0.5).backward()
    torch.testing.assert_close(sampling.x, before - gamma * x.grad)


def test_with_pull_on_square_the_surroundings_of_the_object_become_zero():
    sampling, _, before, _ = pulled(Box(3, 5, 8, 8), pull=1.0, resize="latent", pull_on="square")
    assert (sampling.x[..., 3:5, 5:13] == 0).all() and (sampling.x[..., 5:9, 9:13] == 0).all()
    assert (sampling.x[..., 5:9, 5:9] != 0).all()
    assert torch.equal(sampling.x[..., :3, :], before[..., :3, :])


def test_a_target_beyond_the_grid_is_clipped():
    whole, _, _, _ = pulled(Box(3, 5, 8, 8), resize="latent")
    cut, _, before, _ = pulled(Box(3, -3, 8, 8), resize="latent")
    torch.testing.assert_close(cut.x[..., 5:9, :1], whole.x[..., 5:9, 8:9])
    assert torch.equal(cut.x[..., 5:], before[..., 5:])
    gone, _, before, _ = pulled(Box(30, 30, 8, 8), resize="latent")
    assert torch.equal(gone.x, before)


def test_l_resize_of_the_clean_estimate_adds_the_photos_noise():
    sampling, _, _, clean = pulled(Box(0, 0, 16, 16), resize="clean")
    level = sampling.level
    expected = level.alpha * clean + level.sigma * 0.25
    torch.testing.assert_close(sampling.x[..., 4:12, :8], expected[..., 4:12, :8])
    noisy, branch, _, _ = pulled(Box(0, 0, 16, 16), resize="noisy")
    torch.testing.assert_close(noisy.x[..., 4:12, :8], branch.sampling.x[..., 4:12, :8])


def test_l_resize_decodes_resizes_and_encodes(text):  # noqa: F811
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        picture = torch.nn.functional.interpolate(text.decode(x), (20, 12), mode="bilinear", antialias=True)
        torch.testing.assert_close(l_resize(text, x, Box(0, 0, 5, 3)), text.encode(picture))


@pytest.mark.parametrize("backend", ["prior", "text"])
def test_start_and_keys_of_the_photos_branch(backend, text, monkeypatch):  # noqa: F811
    """Equation 7: noise where the object was, its inverted states elsewhere; only keys from elsewhere are used."""
    started, masks = [], []
    keys, advance = movement.Keys, movement.advance

    def look(sampling, hooks, until):
        if sampling.index == 0 and not started:
            started.append(sampling.x.clone())
            states, control = hooks[0].states, hooks[0].controls[1]
            gone = ~control.where[0, 0]
            assert torch.equal(sampling.x[..., gone], sampling.noise[..., gone])
            assert torch.equal(sampling.x[..., ~gone], states[0][..., ~gone]) and gone.any() and not gone.all()
        return advance(sampling, hooks, until)

    monkeypatch.setattr(movement, "advance", look)
    monkeypatch.setattr(movement, "Keys", lambda *given: masks.append(given[2]) or keys(*given))
    used = prior() if backend == "prior" else text
    config = replace(LATENT, window=SquareConfig(size=used.abilities.size))
    DiffOOM(config, used).predict_batch([asked()])
    assert len(started) == 1 and masks[0] is not None
    DiffOOM(replace(config, attention="off"), used).predict_batch([asked()])
    assert masks[1] is None, "table 4: without attention guidance no key is masked"


OPTIONS = {
    "movement": "paste", "pull": 0.2, "pull_on": "square", "resize": "latent", "local_guidance": 0.0, "rounds": 1,
    "skip": 0.2, "attention": "off", "prompt": "cat {}",
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_no_dead_option(option, text):  # noqa: F811
    base = replace(LATENT, window=SquareConfig(size=32), local_guidance=3.0, pull=0.5)
    one, again, other = (
        DiffOOM(config, text).predict_batch([asked()])[0].moved
        for config in (base, base, replace(base, **{option: OPTIONS[option]}))
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_only_origin_and_target_change_and_evaluations_are_counted(text):  # noqa: F811
    query = asked(80, (20, 60))
    config = replace(LATENT, window=SquareConfig(size=32, side=1.5), lora=LoraConfig(rank=2, steps=2))
    still = Query(query.image, query.modal, 3, query.occluder, "cat")
    moving, resting = DiffOOM(config, text).predict_batch([query, still])
    assert np.array_equal(moving.amodal, resting.amodal) and resting.moved is None
    changed = (moving.moved != query.image).any(axis=2)
    assert not changed[:, 75:].any() and changed[query.modal].any() and changed[55:65, 15:25].any()
    # inversion, keys, prediction and its null: 4 in each of 5 steps; the object's branch costs the same again
    assert moving.evaluations == resting.evaluations * 2 + 5 * 4


def test_without_attention_layers_one_line_names_alternatives():
    with pytest.raises(UserError, match=r"movement=latent needs attention layers .*: use movement=paste"):
        DiffOOM(replace(PLAIN, movement="latent"), GaussianBackend()).predict_batch([asked()])


def test_rows_of_table_4_on_the_movement_branch_have_files():
    published = load_config(ModelOnly, CONFIGS / "sd15_text.yaml").model
    assert isinstance(published, DiffOOMConfig) and published.movement == "latent" and published.resize == "noisy"
    for name, expected in (
        ("no_latent_resize", replace(published, resize="latent")),
        ("no_local_text_guidance", replace(published, local_guidance=0.0)),
        ("paste", replace(published, movement="paste")),
    ):
        assert load_config(ModelOnly, CONFIGS / f"{name}.yaml").model == expected != published


class TestContractOfMovesInLatents(ModelContract):
    @classmethod
    def make(cls):
        return DiffOOM(replace(LATENT, window=SquareConfig(), sampler=StepsConfig(steps=3)), prior())
