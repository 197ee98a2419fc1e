"""Text-driven segmenters: CLIPSeg against its own forward pass, and the small one."""

import json

import pytest
import torch

from amodalseg.data.draw.captions import WORDS
from amodalseg.errors import UserError
from amodalseg.models.inpainting.methods.opening import Helpers, check_helpers
from amodalseg.models.inpainting.parts.small_segmenter import (
    SmallNetwork,
    SmallSegmenter,
    load_small,
    numbers_of,
    save_small,
)
from amodalseg.models.inpainting.parts.words import ClipSeg, clipseg_logits, open_word_segmenter
from tests.models.inpainting.tiny_hub import build_clip_tokenizer

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory):
    """A tiny CLIPSeg with random weights, in the hub's layout."""
    torch.manual_seed(0)
    tokenizer, folder = build_clip_tokenizer(), tmp_path_factory.mktemp("hub") / "clipseg"
    size = len(tokenizer)
    text = {"vocab_size": size, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 12, "bos_token_id": size - 2,
            "eos_token_id": size - 1, "pad_token_id": size - 1}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    config = transformers.CLIPSegConfig(
        text_config=text, vision_config=vision, projection_dim=16, reduce_dim=8, decoder_num_attention_heads=2,
        decoder_intermediate_size=16, extract_layers=[0, 1, 2],
    )  # fmt: skip
    transformers.CLIPSegForImageSegmentation(config).save_pretrained(folder)
    processor = transformers.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    transformers.CLIPSegProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def small(tmp_path):
    torch.manual_seed(0)
    save_small(tmp_path / "run/word_segmenter", SmallNetwork(8), {"step": 3})
    return tmp_path / "run"


def test_clipseg_equals_its_forward_pass_and_is_differentiable(clipseg):
    segmenter = ClipSeg(clipseg)
    model = segmenter.model
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tokens = segmenter.processor.tokenizer(["cat", "ab c"], padding=True, return_tensors="pt")
    theirs = model(pixel_values=pixels, **tokens).logits
    ours = clipseg_logits(model, pixels, tokens.input_ids, tokens.attention_mask)
    assert (ours - theirs).abs().max() <= 1e-6 and ours.shape == (2, 32, 32)
    assert not theirs.requires_grad  # the reason for assembling it from its parts
    ours.mean().backward()
    assert pixels.grad is not None and (pixels.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(weight.grad is None for weight in model.parameters())


def test_clipseg_prepares_pictures_of_any_size_like_its_processor(clipseg):
    segmenter = ClipSeg(clipseg)
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images = ((pictures + 1) * 127.5).round().to(torch.uint8)
    inputs = segmenter.processor(text=["cat", "b"], images=list(images), padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = segmenter.model(**inputs).logits
        ours = segmenter.logits(images.float() / 127.5 - 1, ["cat", "b"])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    wide = torch.zeros(1, 3, 20, 48, requires_grad=True)
    found = segmenter.logits(wide, ["cat"])
    assert found.shape == (1, 20, 48)
    found.sum().backward()
    assert wide.grad.abs().max() > 0


def test_the_gradient_of_the_small_segmenter_equals_finite_differences():
    torch.manual_seed(0)
    segmenter = SmallSegmenter(SmallNetwork(8).double())
    pictures = torch.randn(1, 3, 8, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda values: segmenter.logits(values, ["a red star"]).square().sum(), (pictures,), fast_mode=True
    )
    assert not any(weight.requires_grad for weight in segmenter.network.parameters())


def test_the_small_segmenter_does_not_depend_on_the_order_of_words_or_the_batch():
    torch.manual_seed(0)
    segmenter = SmallSegmenter(SmallNetwork(8))
    pictures = torch.randn(2, 3, 16, 20)
    with torch.no_grad():
        both = segmenter.logits(pictures, ["red star", "a blue cup on a grey ground"])
        alone = segmenter.logits(pictures[:1], ["A red star."])
        assert both.shape == (2, 16, 20)
        torch.testing.assert_close(segmenter.logits(pictures[:1], ["star, red"])[0], both[0])
        torch.testing.assert_close(segmenter.logits(pictures[:1], ["red star"])[0], both[0])
        assert not torch.allclose(alone[0], both[0])
        assert not torch.allclose(segmenter.logits(pictures[:1], ["blue star"])[0], both[0])


def test_words_are_encoded_as_numbers():
    numbers, counts = numbers_of(["a red star", "cup"])
    assert counts.tolist() == [3, 1] and [WORDS[i] for i in numbers[0]] == ["a", "red", "star"]
    assert WORDS[numbers[1, 0]] == "cup"


@pytest.mark.parametrize(("text", "part"), [("a red dog", "'dog' is not in its vocabulary"), ("", "it has no word")])
def test_unknown_words_are_refused(text, part):
    with pytest.raises(UserError, match=part):
        numbers_of(["red star", text])


def test_the_small_segmenter_round_trips_through_its_files(small):
    network, about = load_small(small / "word_segmenter")
    assert about["step"] == 3 and network.width == 8
    torch.manual_seed(0)
    for (name, old), new in zip(SmallNetwork(8).state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(old.half().float(), new), name
    for place in (small, small / "word_segmenter"):
        assert isinstance(open_word_segmenter(str(place)), SmallSegmenter)
    assert sum(value.numel() for value in SmallNetwork(16).state_dict().values()) * 2 < 500_000


@pytest.mark.parametrize("how", ["words", "truncated", "width"])
def test_damaged_files_are_refused_in_one_line(small, how):
    about = small / "word_segmenter/words.json"
    told = json.loads(about.read_text())
    if how == "truncated":
        (small / "word_segmenter/model.safetensors").write_bytes(b"x")
    else:
        about.write_text(json.dumps({**told, how: ["red"] if how == "words" else 12}))
    with pytest.raises(UserError) as caught:
        open_word_segmenter(str(small))
    assert "\n" not in str(caught.value) and "train" in str(caught.value)


def test_another_model_is_refused(clipseg, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is a 'sam'; CLIPSeg"):
        open_word_segmenter(str(tmp_path))
    assert isinstance(open_word_segmenter(str(clipseg)), ClipSeg)


def test_missing_segmenters_are_found_before_the_first_object(clipseg, small):
    for name in (str(clipseg), str(small)):
        check_helpers(Helpers(words=name))
    with pytest.raises(UserError, match=r"is not a folder"):
        check_helpers(Helpers(words="nothing"))
