"""The text-conditioned prior: its tokens, its files, loading in diffusers, and its backend."""

import json

import pytest
import torch
from safetensors.torch import load_file

from amodalseg.config.load import build, load_config
from amodalseg.config.schema import BackendConfig, ModelOnly, TrainConfig, WordPriorConfig
from amodalseg.data.draw.captions import WORDS
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.word_files import (
    FILES,
    WEIGHTS,
    find_word_prior,
    load_word_prior,
    save_word_prior,
)
from amodalseg.models.inpainting.backends.word_prior import (
    Patches,
    WordPrior,
    build_network,
    build_tokenizer,
    build_word_scheduler,
)
from amodalseg.models.inpainting.methods.opening import check_backend, open_backend
from amodalseg.models.inpainting.steps.guidance import MaskGuidance
from amodalseg.models.inpainting.steps.maps import WatchMaps, word_columns
from amodalseg.models.inpainting.steps.sample import advance, begin
from tests.engine.journeys import ROOT
from tests.models.inpainting.fake_backends import pictures_and_holes

diffusers = pytest.importorskip("diffusers")
SMALL = WordPriorConfig(size=16, channels=[16, 32], head=8, words=16, length=12)
CAPTION = "a red star on a grey ground"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("priors") / "small"
    save_word_prior(path, network, SMALL.length, {"step": 7})
    return path


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the prior, which a test may damage."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_words_of_captions_are_single_tokens_and_others_are_split_into_letters():
    tokenizer = build_tokenizer(24)
    for word in WORDS:
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    text = "A red tree in front of an orange person, on a grey ground"
    assert tokenizer.tokenize(text) == [f"{word}</w>" for word in text.lower().replace(",", " ,").split()]
    assert tokenizer.tokenize("dog") == ["d", "o", "g</w>"]
    assert len(tokenizer) < 200


def test_the_text_encoder_keeps_words_independent_and_treats_unknown_ones_alike(network):
    tokenizer, encoder = build_tokenizer(SMALL.length), network["text_encoder"]

    def states(text):
        return encoder(tokenizer([text], padding="max_length", return_tensors="pt").input_ids)[0][0]

    with torch.no_grad():
        one, other = states("a red star"), states("a blue star")
        assert not torch.allclose(one[2], other[2])
        assert torch.equal(one[[0, 1, *range(3, 12)]], other[[0, 1, *range(3, 12)]])
        assert torch.equal(states("a zzz")[2], states("a qqq")[2])
        assert not torch.allclose(states("a cup")[2], states("a leaf")[2])


def test_the_patch_transform_is_exactly_invertible():
    pictures, patches = torch.randn(2, 3, 8, 12), Patches(2)
    grid = patches.encode(pictures).latent_dist.mode()
    assert grid.shape == (2, 12, 4, 6) and torch.equal(patches.decode(grid)[0], pictures)
    assert torch.equal(grid[:, 3, 1, 2], pictures[:, 0, 3, 5])


def test_the_schedule_does_not_end_at_zero_signal():
    alphas = build_word_scheduler().alphas_cumprod
    assert 0.001 < alphas[-1] < 0.01 and alphas[0] > 0.999


def test_weights_are_stored_in_half_precision(folder, network):
    loaded, tokenizer, _, about = load_word_prior(folder)
    assert about == {"step": 7} and not loaded.training and tokenizer.model_max_length == SMALL.length
    assert {value.dtype for name in WEIGHTS for value in load_file(folder / name).values()} == {torch.float16}
    for (name, old), (other, new) in zip(network.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other and torch.equal(old.half().float(), new), name
    assert not [path for path in folder.parent.iterdir() if path != folder]
    assert all((folder / name).stat().st_mode & 0o044 for name in FILES)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(FILES)
    for path in folder.rglob("*.json"):
        assert str(folder.parent) not in path.read_text(), path


def test_the_diffusers_pipeline_opens_the_folder_and_generates_the_same_picture(folder):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folder, vae=None, dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    backend = WordPrior(folder)
    blank, holes = torch.zeros(2, 3, 16, 16), torch.ones(2, 1, 16, 16) > 0
    told, null = (backend.prepare(blank, holes, [text] * 2) for text in (CAPTION, ""))
    sampling = begin(backend, told, [0, 1], steps=4)
    noise = sampling.x.clone()
    drawn = advance(sampling, [MaskGuidance(null, 2.0)]).x
    theirs = pipeline(
        CAPTION, latents=noise, num_images_per_prompt=2, num_inference_steps=4, guidance_scale=3.0, output_type="latent"
    )
    torch.testing.assert_close(theirs.images, drawn, atol=1e-4, rtol=1e-4)
    assert torch.equal(torch.nn.functional.pixel_shuffle(drawn, 2).clamp(-1, 1), backend.decode(drawn))


def test_abilities_and_estimates_of_the_backend(folder):
    backend = WordPrior(folder)
    abilities = backend.abilities
    assert (abilities.size, abilities.factor, abilities.text, abilities.sees_hole) == (16, 2, True, False)
    assert abilities.attention and backend.tokens("a red star")[2] == "red</w>"
    assert word_columns(backend, CAPTION, "grey ground") == [6, 7]
    pictures, holes = pictures_and_holes(2, side=16)
    prepared, level = backend.prepare(pictures, holes, ["a red star", ""]), backend.levels(5)[1]
    estimate = backend.estimate(4 * prepared.known, level, prepared, ["mid_block"])
    assert estimate.features["mid_block"].shape == (2, 32, 4, 4)
    # nothing is clamped: the two estimates are consistent with the state
    torch.testing.assert_close(
        level.alpha * estimate.clean + level.sigma * estimate.noise, 4 * prepared.known, atol=1e-4, rtol=0
    )
    assert estimate.clean.abs().max() > 1
    assert torch.equal(backend.decode(prepared.known), pictures)
    assert backend.num_parameters() == sum(value.numel() for value in load_word_prior(folder)[0].parameters())


def test_words_change_the_estimate_and_recording_maps_does_not(folder):
    backend = WordPrior(folder)
    pictures, holes = pictures_and_holes(1, side=16)
    level, watch = backend.levels(4)[2], WatchMaps(8)
    with torch.no_grad():
        found = {text: backend.estimate(backend.prepare(pictures, holes, [text]).known, level,
                                        backend.prepare(pictures, holes, [text])).clean
                 for text in (CAPTION, "a blue star on a grey ground")}  # fmt: skip
        prepared = backend.prepare(pictures, holes, [CAPTION])
        prepared.attention = (watch,)
        watched = backend.estimate(prepared.known, level, prepared).clean
    assert not torch.allclose(*found.values(), atol=1e-4)
    torch.testing.assert_close(watched, found[CAPTION], atol=1e-4, rtol=0)
    assert watch.cross_maps().shape == (1, 64, SMALL.length)


def test_a_size_other_than_that_of_training(folder):
    backend = WordPrior(folder)
    pictures, holes = torch.zeros(1, 3, 12, 20), torch.ones(1, 1, 12, 20) > 0
    drawn = backend.decode(advance(begin(backend, backend.prepare(pictures, holes, [CAPTION]), [0], 2)).x)
    assert drawn.shape == (1, 3, 12, 20)
    with pytest.raises(UserError, match="multiples of 2"):
        backend.prepare(torch.zeros(1, 3, 13, 20), holes[..., :13, :], [CAPTION])


def test_methods_open_the_prior_by_its_folder(folder):
    check_backend(BackendConfig(name=str(folder)))
    assert isinstance(open_backend(BackendConfig(name=str(folder)), "cpu"), WordPrior)


@pytest.mark.parametrize("name", ["word_prior", "word_prior_cpu"])
def test_the_configurations_fit_into_16_mb(name):
    config = load_config(TrainConfig, ROOT / f"configs/experiment/{name}.yaml").model
    with torch.device("meta"):
        network = build_network(config)
    assert 1e6 < sum(value.numel() for value in network.state_dict().values()) < 8e6


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 32), ("patch", 4), ("channels", [16, 40]), ("attention", 1), ("layers", 2), ("head", 4), ("film", True),
     ("words", 32), ("length", 16)],
)  # fmt: skip
def test_every_option_changes_the_network(network, option, value):
    torch.manual_seed(0)
    other = build_network(WordPriorConfig(**{**vars(SMALL), option: value}))
    shapes = [{name: tuple(weight.shape) for name, weight in one.state_dict().items()} for one in (network, other)]
    configs = [dict(one["unet"].config) for one in (network, other)]
    assert shapes[0] != shapes[1] or configs[0] != configs[1]


def breaking(how, folder):
    if how == "missing":
        (folder / WEIGHTS[1]).unlink()
    elif how == "truncated":
        (folder / WEIGHTS[0]).write_bytes((folder / WEIGHTS[0]).read_bytes()[:5000])
    elif how == "no json":
        (folder / "words.json").write_text("{")
    elif how == "other shapes":
        path = folder / "unet/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "block_out_channels": [16, 48]}))
    elif how == "other architecture":
        path = folder / "text_encoder/config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 1}))


@pytest.mark.parametrize(
    ("how", "part"),
    [("missing", f"{WEIGHTS[1]} is missing"), ("truncated", "cannot be loaded"), ("no json", "cannot be loaded"),
     ("other shapes", "cannot be loaded"), ("other architecture", "holds another architecture")],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(copy, how, part):
    breaking(how, copy)
    with pytest.raises(UserError) as caught:
        load_word_prior(copy)
    assert part in str(caught.value) and str(copy) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_prior_is_refused(tmp_path, folder):
    with pytest.raises(UserError, match="no text-conditioned prior at"):
        find_word_prior(tmp_path)
    (tmp_path / "word_prior").symlink_to(folder)
    assert find_word_prior(tmp_path) == tmp_path / "word_prior" and find_word_prior(folder) == folder


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    network = build_network(SMALL)
    with torch.no_grad():
        network["unet"].conv_out.bias[0] = 1e6
    with pytest.raises(UserError, match="does not fit into float16"):
        save_word_prior(tmp_path / "a", network, SMALL.length, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "part"),
    [({"channels": [16, 36]}, "multiples of 8"), ({"channels": [16, 40], "head": 16}, "cannot be split into heads"),
     ({"size": 30}, "must be a multiple of 4")],
)  # fmt: skip
def test_inconsistent_options_are_refused(options, part):
    with pytest.raises(UserError, match=part):
        build(ModelOnly, [("here", {"model": {"name": "word_prior", **options}})])
