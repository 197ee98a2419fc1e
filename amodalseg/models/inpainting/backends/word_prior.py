"""The text-conditioned prior: a small version of Stable Diffusion's parts, on patches of pixels instead of latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from amodalseg.config.schema import WordPriorConfig
from amodalseg.data.draw.captions import WORDS
from amodalseg.models.inpainting.backends.hub_files import import_transformers
from amodalseg.models.inpainting.backends.latent import StableDiffusion
from amodalseg.models.inpainting.backends.prior import NUM_LEVELS, import_diffusers

LETTERS = "abcdefghijklmnopqrstuvwxyz,"
END = "</w>"
"""Marks the last token of a word in CLIP's vocabulary."""
KNOWN = {*(word + END for word in WORDS), "," + END}
"""Known tokens; the embeddings of all others are zero."""
POSITION = 0.005  # standard deviation of the initial embeddings of positions; that of words is four times as much


class Patches(nn.Module):
    """Replaces the autoencoder: the pixels of a ``patch`` x ``patch`` square are stored in one grid position."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch, self.dtype = patch, torch.float32
        halvings = (0,) * (1 + int(math.log2(patch)))
        self.config = SimpleNamespace(
            latent_channels=3 * patch**2, scaling_factor=1.0, shift_factor=0.0, block_out_channels=halvings
        )

    def encode(self, pictures: Tensor) -> SimpleNamespace:
        """(B, 3, H, W) -> the output type of a diffusers autoencoder, with (B, 3 patch^2, H / patch, ...)."""
        grid = pixel_unshuffle(pictures, self.patch)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: grid))

    def decode(self, grid: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """The exact inverse."""
        return (pixel_shuffle(grid, self.patch),)


def build_tokenizer(length: int) -> Any:
    """A ``CLIPTokenizer`` with one token per word of the captions, which splits any other word into letters.

    CLIP's own vocabulary has 49,408 entries, whose embeddings would be most of the model.

    Args:
        length: of a text in tokens, including the start and end tokens.
    """
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = _pieces(word, merges)
        while len(pieces) > 1:  # earlier merges take precedence and are unchanged, so earlier words stay whole
            merges.append((pieces[0], pieces[1]))
            pieces = _pieces(word, merges)
    tokens = [*LETTERS, *(letter + END for letter in LETTERS), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return import_transformers().CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def _pieces(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """Split a word by byte pair encoding: the earliest applicable merge is done first."""
    pieces = [*word[:-1], word[-1] + END]
    for pair in merges:
        place = 0
        while place < len(pieces) - 1:
            if (pieces[place], pieces[place + 1]) == pair:
                pieces[place : place + 2] = ["".join(pair)]
            place += 1
    return pieces


def build_text_encoder(config: WordPriorConfig, tokenizer: Any) -> Any:
    """A ``CLIPTextModel`` without layers: embeddings of tokens and positions, normalised.

    A layer would mix the words of a caption, and a word's attention map would no longer belong to that word alone.
    Tokens that are not caption words have zero embeddings and carry no information.
    """
    transformers, size = import_transformers(), len(tokenizer)
    encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=size, hidden_size=config.words, intermediate_size=config.words, projection_dim=config.words,
            num_hidden_layers=0, num_attention_heads=1, max_position_embeddings=config.length,
            bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
        )
    )  # fmt: skip
    known = {*KNOWN, tokenizer.bos_token, tokenizer.eos_token}
    embeddings = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, weight in embeddings.items():
            if name.endswith("token_embedding.weight"):
                nn.init.normal_(weight, std=4 * POSITION)
                weight[[number for token, number in tokenizer.get_vocab().items() if token not in known]] = 0
            elif name.endswith("position_embedding.weight"):
                nn.init.normal_(weight, std=POSITION)
    return encoder


def build_network(config: WordPriorConfig) -> nn.ModuleDict:
    """``unet`` and ``text_encoder`` with random weights."""
    attention = [place >= len(config.channels) - config.attention for place in range(len(config.channels))]
    unet = import_diffusers().UNet2DConditionModel(
        sample_size=config.size // config.patch,
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        layers_per_block=config.layers,
        block_out_channels=tuple(config.channels),
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in attention[::-1]),
        cross_attention_dim=config.words,
        attention_head_dim=config.head,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift" if config.film else "default",
    )
    return nn.ModuleDict({"unet": unet, "text_encoder": build_text_encoder(config, build_tokenizer(config.length))})


def build_word_scheduler() -> Any:
    """v-prediction on Stable Diffusion's schedule.

    It ends at a signal of 0.07 rather than zero, so that a picture can be inverted to noise.
    """
    return import_diffusers().DDIMScheduler(
        num_train_timesteps=NUM_LEVELS, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False,
        steps_offset=1,  # has no effect here; any other value makes diffusers warn
    )  # fmt: skip


def pipeline_of(network: Any, tokenizer: Any, scheduler: Any) -> Any:
    """Diffusers' ``StableDiffusionPipeline`` of these parts, without an autoencoder.

    Args:
        network: as from ``build_network``.
    """
    return import_diffusers().StableDiffusionPipeline(
        vae=None, text_encoder=network["text_encoder"], tokenizer=tokenizer, unet=network["unet"], scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


class WordPrior(StableDiffusion):
    """The text-conditioned prior, as a backend: a text-to-image network whose latents are patches of pixels.

    Args:
        prior: anything that ``find_word_prior`` accepts; default: ``checkpoints/word_prior``.
        device: cpu, cuda, ...

    Raises:
        UserError: diffusers or transformers is missing, or the folder holds no usable prior.
    """

    def __init__(self, prior: str | Path | None = None, device: str | torch.device = "cpu") -> None:
        from amodalseg.models.inpainting.backends.word_files import SHIPPED, find_word_prior, load_word_prior

        network, tokenizer, scheduler, about = load_word_prior(find_word_prior(prior or SHIPPED))
        self._set(network.to(device), tokenizer, scheduler, about)

    @classmethod
    def of_network(cls, network: Any, tokenizer: Any) -> WordPrior:
        """Wrap existing networks, as from ``build_network``, for instance in training."""
        backend = cls.__new__(cls)
        backend._set(network, tokenizer, build_word_scheduler(), {})
        return backend

    def _set(self, network: Any, tokenizer: Any, scheduler: Any, about: dict[str, Any]) -> None:
        self.about = about
        pipeline = pipeline_of(network, tokenizer, scheduler)
        pipeline.vae = Patches(math.isqrt(network["unet"].config.in_channels // 3))
        super().__init__(pipeline, network["unet"].device, "word_prior", torch.float32)

    def unknown(self, prompt: str) -> list[str]:
        return [word for word in prompt.split() if not KNOWN.issuperset(self.tokens(word)[1:-1])]
