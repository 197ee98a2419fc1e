"""The embedded prior: its files and its backend."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amodalseg.config.load import load_config
from amodalseg.config.schema import InpaintingPriorConfig, TrainConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior
from amodalseg.models.inpainting.backends.prior import (
    FILES,
    WEIGHTS,
    build_scheduler,
    build_unet,
    find_prior,
    load_prior,
    save_prior,
    seen_by,
)
from amodalseg.models.inpainting.steps.sample import advance, begin, inpaint
from tests.models.inpainting.fake_backends import pictures_and_holes

diffusers = pytest.importorskip("diffusers")
ROOT = Path(__file__).parents[4]
SMALL = InpaintingPriorConfig(size=16, channels=[8, 16], head=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("priors") / "small"
    save_prior(path, build_unet(SMALL), {"step": 7})
    return path


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the prior, which a test may damage."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_diffusers_opens_the_folder(folder):
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet", local_files_only=True)
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    assert next(unet.parameters()).dtype == torch.float32 and unet.config.in_channels == 7
    assert scheduler.alphas_cumprod[-1] == 0  # the last level is pure noise
    assert {value.dtype for value in load_file(folder / WEIGHTS).values()} == {torch.float16}
    assert not [path for path in folder.parent.iterdir() if path != folder]
    assert all((folder / name).stat().st_mode & 0o044 for name in FILES)


def test_weights_are_stored_in_half_precision(folder):
    torch.manual_seed(0)
    unet = build_unet(SMALL)
    loaded, _, about = load_prior(folder)
    assert about == {"step": 7} and not loaded.training
    for (name, old), (_, new) in zip(unet.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(old.half().float(), new), name
    assert next(unet.parameters()).dtype == torch.float32


def test_saving_again_replaces_all_files(tmp_path):
    save_prior(tmp_path / "a", build_unet(SMALL), {"step": 1})
    (tmp_path / "a/unet/stray.txt").write_text("x")
    save_prior(tmp_path / "a", build_unet(SMALL), {"step": 2})
    assert load_prior(tmp_path / "a")[2] == {"step": 2} and not (tmp_path / "a/unet/stray.txt").exists()


def test_a_released_prior_contains_no_path(folder, tmp_path):
    save_prior(tmp_path / "a", load_prior(folder)[0], {})
    for path in (tmp_path / "a").rglob("*.json"):
        assert str(folder) not in path.read_text(), path.name


def test_the_option_film_is_stored_in_the_file(tmp_path):
    config = InpaintingPriorConfig(size=16, channels=[8, 16], head=8, film=True)
    save_prior(tmp_path / "a", build_unet(config), {})
    unet = load_prior(tmp_path / "a")[0]
    assert unet.config.resnet_time_scale_shift == "scale_shift"
    plain = sum(value.numel() for value in build_unet(SMALL).state_dict().values())
    assert sum(value.numel() for value in unet.state_dict().values()) > plain


def test_a_network_on_patches_equals_one_on_rearranged_pixels(tmp_path):
    """A network on patches, written out: all values of a patch at one position, channel by channel, then row by row."""
    config = InpaintingPriorConfig(size=32, patch=4, channels=[8, 16], head=8)
    save_prior(tmp_path / "a", build_unet(config), {})
    backend = EmbeddedPrior(tmp_path / "a")
    assert (backend.abilities.size, backend.abilities.multiple) == (32, 8)
    assert (backend.unet.config.sample_size, backend.unet.config.in_channels) == (8, 7 * 16)
    pictures, holes = pictures_and_holes(2, side=32)
    prepared, level = backend.prepare(pictures, holes), backend.levels(4)[1]
    seven = torch.cat([pictures, seen_by(pictures, holes.float())], dim=1)
    places = torch.stack(
        [seven[:, channel, row::4, column::4] for channel in range(7) for row in range(4) for column in range(4)], dim=1
    )
    with torch.no_grad():
        out = backend.unet(places, level.time).sample
    v = torch.empty_like(pictures)
    for channel in range(3):
        for row in range(4):
            for column in range(4):
                v[:, channel, row::4, column::4] = out[:, 16 * channel + 4 * row + column]
    clean = (level.alpha * pictures - level.sigma * v).clamp(-1, 1)
    torch.testing.assert_close(backend.estimate(pictures, level, prepared).clean, clean)


@pytest.mark.parametrize("name", ["inpainting_prior", "inpainting_prior_cpu"])
def test_the_configurations_fit_into_25_mb(name):
    config = load_config(TrainConfig, ROOT / f"configs/experiment/{name}.yaml").model
    with torch.device("meta"):
        unet = build_unet(config)
    assert 2 * sum(value.numel() for value in unet.state_dict().values()) < 25e6
    assert max(config.channels) > 100


def breaking(name):
    def missing(folder):
        (folder / WEIGHTS).unlink()

    def truncated(folder):
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5000])

    def no_json(folder):
        (folder / "prior.json").write_text("{")

    def other_channels(folder):
        edit(folder / "unet/config.json", in_channels=4)

    def other_architecture(folder):
        edit(folder / "unet/config.json", add_attention=False)

    def other_shapes(folder):
        edit(folder / "unet/config.json", block_out_channels=[8, 24])

    def other_prediction(folder):
        edit(folder / "scheduler/scheduler_config.json", prediction_type="epsilon")

    return locals()[name]


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ("missing", f"{WEIGHTS} is missing"),
        ("truncated", "cannot be loaded"),
        ("no_json", "cannot be read"),
        ("other_channels", "7 input and 3 output channels"),
        ("other_architecture", "holds another architecture"),
        ("other_shapes", "unet cannot be loaded"),
        ("other_prediction", "needs (v_prediction, trailing)"),
    ],
)
def test_damaged_files_are_refused_in_one_line(copy, how, part):
    breaking(how)(copy)
    with pytest.raises(UserError) as caught:
        load_prior(copy)
    assert part in str(caught.value) and str(copy) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_prior_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no inpainting prior 'nothing'"):
        EmbeddedPrior("nothing")
    with pytest.raises(UserError, match=r"unet/config\.json is missing"):
        load_prior(tmp_path)


def test_a_run_folder_is_accepted_as_its_prior(folder, tmp_path):
    (tmp_path / "prior").symlink_to(folder)
    assert find_prior(tmp_path) == tmp_path / "prior" and find_prior(folder) == folder


def test_without_diffusers_the_message_names_the_extra(monkeypatch, folder):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "diffusers":
            raise ImportError("No module named 'diffusers'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'amodalseg\[inpaint\]'"):
        load_prior(folder)


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    unet = build_unet(SMALL)
    torch.nn.init.constant_(unet.conv_in.weight, 1e6)
    with pytest.raises(UserError, match=r"conv_in\.weight does not fit into float16"):
        save_prior(tmp_path / "a", unet, {})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_levels_equal_those_of_the_scheduler(folder, steps):
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    levels = EmbeddedPrior(folder).levels(steps)
    assert [level.time for level in levels[:-1]] == scheduler.timesteps.tolist()
    np.testing.assert_allclose([level.alpha**2 + level.sigma**2 for level in levels], 1, rtol=1e-12)
    assert (levels[0].alpha, levels[0].sigma) == (0, 1) and (levels[-1].alpha, levels[-1].sigma) == (1, 0)


def test_a_trajectory_equals_that_of_diffusers(folder):
    """The same network, noise and steps with diffusers' own scheduler, which also clips x_0."""
    backend, steps = EmbeddedPrior(folder), 5
    pictures, holes = pictures_and_holes(2, side=16)
    sampling = begin(backend, backend.prepare(pictures, holes), (1, 2), steps)
    scheduler = diffusers.DDIMScheduler.from_config(build_scheduler().config, clip_sample=True)
    scheduler.set_timesteps(steps)
    x = sampling.noise
    seen = seen_by(pictures, holes.float())
    with torch.no_grad():
        for time in scheduler.timesteps:
            v = backend.unet(torch.cat([x, seen], dim=1), time).sample
            x = scheduler.step(v, time, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(advance(sampling).x, x, atol=1e-4, rtol=0)


def test_the_hole_is_filled_with_surrounding_colours():
    """Known pixels are unchanged; the hole gets their mean, weighted by proximity; grey if nothing is known."""
    pictures = torch.full((1, 3, 48, 48), 0.5)
    pictures[..., 24:] = -0.5
    holes = torch.zeros(1, 1, 48, 48)
    holes[..., 10:38, 4:44] = 1
    seen = seen_by(torch.where(holes > 0, 9.0, pictures), holes)
    assert torch.equal(seen[:, 3:], holes)
    outside = holes.expand_as(pictures) == 0
    torch.testing.assert_close(seen[:, :3][outside], pictures[outside])
    inside = seen[0, 0, 10:38, 4:44]
    assert inside.min() >= -0.5 - 1e-6 and inside.max() <= 0.5 + 1e-6
    left, right = inside[:, :4].mean(), inside[:, -4:].mean()
    assert left > 0.3 and right < -0.3 and abs(float(inside.mean())) < 0.1
    assert inside[14].diff().max() < 0.05, "it falls from left to right"
    flat = seen_by(torch.full((1, 3, 20, 33), 0.25), (torch.rand(1, 1, 20, 33) > 0.3).float())
    torch.testing.assert_close(flat[:, :3], torch.full((1, 3, 20, 33), 0.25))
    assert not seen_by(pictures, torch.ones_like(holes))[:, :3].any()


def test_pixels_in_the_hole_have_no_influence(folder):
    backend = EmbeddedPrior(folder)
    pictures, holes = pictures_and_holes(2, side=16)
    prediction = inpaint(backend, pictures, holes, (1, 2), steps=3)
    scribbled = torch.where(holes, -pictures, pictures)
    assert torch.equal(inpaint(backend, scribbled, holes, (1, 2), steps=3), prediction)
    outside = ~holes.expand_as(pictures)
    assert torch.equal(prediction[outside], pictures[outside]) and prediction.abs().max() <= 1


def test_pictures_do_not_depend_on_their_batch(folder):
    backend = EmbeddedPrior(folder)
    pictures, holes = pictures_and_holes(3, side=16)
    together = inpaint(backend, pictures, holes, (1, 2, 3), steps=3)
    apart = inpaint(backend, pictures, holes, (1, 2, 3), steps=3, batch_size=1)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_the_unconditional_input_does_not_contain_the_picture(folder):
    backend = EmbeddedPrior(folder)
    pictures, holes = pictures_and_holes(2, side=16)
    null = backend.unconditional(backend.prepare(pictures, holes))
    full = backend.prepare(-pictures, torch.ones_like(holes))
    assert torch.equal(null.inputs["seen"], full.inputs["seen"]) and torch.equal(null.known, pictures)


def test_features_are_returned_and_hooks_removed(folder):
    backend = EmbeddedPrior(folder)
    prepared = backend.prepare(*pictures_and_holes(2, side=16))
    level = backend.levels(4)[1]
    estimate = backend.estimate(prepared.known, level, prepared, ["up_blocks.1", "mid_block"])
    assert estimate.features["up_blocks.1"].shape == (2, 8, 16, 16)
    assert estimate.features["mid_block"].shape == (2, 16, 8, 8)
    assert not any(module._forward_hooks for module in backend.unet.modules())
    rebuilt = level.alpha * estimate.clean + level.sigma * estimate.noise
    torch.testing.assert_close(rebuilt, prepared.known, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [2, 17])
def test_an_unsupported_size_is_refused(folder, side):
    with pytest.raises(UserError, match="multiples of 2"):
        EmbeddedPrior(folder).prepare(*pictures_and_holes(1, side=side))
