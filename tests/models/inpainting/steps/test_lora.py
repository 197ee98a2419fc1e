"""Low-rank adapters: no effect until trained, fitted to the visible part, and removed completely."""

import sys
from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control, attention_layers
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.lora import PARTS, adapted, tune
from amodalseg.types import stable_seed
from tests.models.inpainting.fake_backends import GaussianBackend
from tests.models.inpainting.tiny_hub import build_prior, save_flux, save_stable_diffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("hub") / "sd", in_channels=4)


def opened(folder, precision="float32"):
    return open_hub_model(BackendConfig(name=str(folder), precision=precision), "cpu")


@pytest.fixture(params=["stable", "prior"])
def backend(request, folder):
    return opened(folder) if request.param == "stable" else build_prior()


def asked(backend):
    side = backend.abilities.size
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand((1, 3, side, side), generator=generator) * 2 - 1
    return backend.prepare(pictures, torch.ones(1, 1, side, side, dtype=torch.bool), ["a cat"])


def half(prepared):
    where = torch.zeros_like(prepared.hole)
    where[..., : where.shape[-1] // 2] = 1
    return where


def prediction(backend, prepared):
    with torch.no_grad():
        return backend.estimate(prepared.known, backend.levels(4)[2], prepared).noise


def test_untrained_disabled_and_removed_adapters_have_no_effect(backend):
    prepared, names = asked(backend), [name for name, _ in backend.network.named_modules()]
    plain = prediction(backend, prepared)
    attributes = set(vars(backend.network))
    with adapted(backend, rank=2, seed=0) as adapter:
        assert len(adapter.layers) == len(PARTS) * len(attention_layers(backend.network))
        assert torch.equal(prediction(backend, prepared), plain)
        tune(backend, adapter, prepared, half(prepared), 0, steps=4, updates=3, rate=1e-2)
        tuned = prediction(backend, prepared)
        assert (tuned - plain).abs().max() > 1e-4
        with adapter.off():
            assert torch.equal(prediction(backend, prepared), plain)
        assert torch.equal(prediction(backend, prepared), tuned)
        # controls work in adapted layers too
        assert torch.equal(prediction(backend, replace(prepared, attention=(Control(),))), tuned)
    assert torch.equal(prediction(backend, prepared), plain)
    assert [name for name, _ in backend.network.named_modules()] == names
    assert set(vars(backend.network)) == attributes
    for module in backend.network.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert not any(weights.requires_grad for weights in backend.network.parameters())
    with pytest.raises(RuntimeError, match="on the way"), adapted(backend, rank=2, seed=0) as adapter:
        with pytest.raises(RuntimeError, match="on the way"), adapter.off():
            raise RuntimeError("on the way")
        assert not any(layer.disable_adapters for layer in adapter.layers)
        raise RuntimeError("on the way")
    assert torch.equal(prediction(backend, prepared), plain)
    assert [name for name, _ in backend.network.named_modules()] == names


def test_the_loss_is_computed_on_the_visible_part_and_falls(backend):
    prepared = asked(backend)
    where = half(prepared)

    def loss(where):
        """The loss over all levels, with other noise."""
        generator, total = torch.Generator().manual_seed(5), 0.0
        with torch.no_grad():
            for level in backend.levels(4)[:-1]:
                noise = torch.randn(prepared.known.shape, generator=generator)
                found = backend.estimate(backend.add_noise(prepared.known, noise, level), level, prepared).noise
                total += float(((found - noise) ** 2)[(where > 0).expand_as(noise)].mean())
        return total

    before = loss(where)
    with adapted(backend, rank=4, seed=0) as adapter:
        losses = tune(backend, adapter, prepared, where, 0, steps=4, updates=40, rate=1e-2)
        assert loss(where) < 0.98 * before and len(losses) == 40
        assert sum(losses[-10:]) < sum(losses[:10])
    with adapted(backend, rank=4, seed=0) as adapter:
        other = tune(backend, adapter, prepared, 1 - where, 0, steps=4, updates=1)
    # the first loss by hand, for each half
    generator = torch.Generator().manual_seed(stable_seed("tune", 0))
    level = backend.levels(4)[int(torch.randint(4, (), generator=generator))]
    noise = torch.randn(prepared.known.shape, generator=generator)
    with torch.no_grad():
        found = backend.estimate(backend.add_noise(prepared.known, noise, level), level, prepared).noise
    columns = noise.shape[-1] // 2
    squares = (found - noise) ** 2
    assert losses[0] == pytest.approx(float(squares[..., :columns].mean()), rel=1e-4)
    assert other[0] == pytest.approx(float(squares[..., columns:].mean()), rel=1e-4)
    assert losses[0] != pytest.approx(other[0], rel=1e-3)


def test_tuning_is_determined_by_the_seed_and_keeps_the_global_generator(backend):
    prepared = asked(backend)

    def learnt(seed):
        with adapted(backend, rank=2, seed=seed) as adapter:
            tune(backend, adapter, prepared, half(prepared), seed, steps=4, updates=2, rate=1e-2)
            return prediction(backend, prepared)

    torch.manual_seed(7)
    first, drawn = learnt(1), torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), drawn)
    torch.manual_seed(8)
    assert torch.equal(learnt(1), first) and not torch.equal(learnt(2), first)


def test_a_network_in_half_precision_has_adapters_in_single_precision(folder):
    for precision, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        backend = opened(folder, precision)
        prepared = asked(backend)
        plain = prediction(backend, prepared)
        with adapted(backend, rank=2, seed=0) as adapter:
            assert {weights.dtype for weights in adapter.parameters} == {torch.float32}
            assert all(layer.base_layer.weight.dtype == dtype for layer in adapter.layers)
            assert torch.equal(prediction(backend, prepared), plain)
            before = [weights.clone() for weights in adapter.parameters]
            tune(backend, adapter, prepared, half(prepared), 0, steps=4, updates=3, rate=1e-2)
            moved = [not torch.equal(one, other) for one, other in zip(adapter.parameters, before, strict=True)]
            assert all(moved) and all(torch.isfinite(weights).all() for weights in adapter.parameters)
            assert not torch.equal(prediction(backend, prepared), plain)
        assert torch.equal(prediction(backend, prepared), plain)


def test_networks_that_cannot_be_adapted_are_refused_in_one_line(folder, tmp_path, monkeypatch):
    flux = open_hub_model(BackendConfig(name=str(save_flux(tmp_path / "flux"))), "cpu")
    with pytest.raises(UserError, match="has no attention layers to adapt: take"), adapted(flux, 2, 0):
        pass
    backend = opened(folder)
    prepared = asked(backend)
    with adapted(backend, 2, 0) as adapter, pytest.raises(UserError, match="no cell of the model's grid"):
        tune(backend, adapter, prepared, torch.zeros_like(prepared.hole), 0)
    with pytest.raises(UserError, match="gaussian has no attention layers"), adapted(GaussianBackend(), 2, 0):
        pass
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"needs peft .*: pip install 'amodalseg\[inpaint\]'$"), adapted(backend, 2, 0):
        pass
