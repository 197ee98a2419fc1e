"""The folder of the text-conditioned prior, which diffusers can open as a ``StableDiffusionPipeline``."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from amodalseg.config.load import build, to_dict
from amodalseg.config.schema import ModelOnly
from amodalseg.errors import UserError
from amodalseg.models import CHECKPOINTS
from amodalseg.models.inpainting.backends.hub_files import DAMAGE, first_line, import_transformers
from amodalseg.models.inpainting.backends.prior import import_diffusers, refuse_too_large, whole_folder
from amodalseg.models.inpainting.backends.word_prior import (
    build_network,
    build_tokenizer,
    build_word_scheduler,
    pipeline_of,
)
from amodalseg.models.weights import load_state, read_checkpoint

SHIPPED = FOLDER = "word_prior"
"""Folder of the prior in ``checkpoints/``; in a run folder, that of the best weights."""
ABOUT = "words.json"
PARTS = ("unet", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
FILES = (
    *WEIGHTS, "unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json", "model_index.json", ABOUT,
)  # fmt: skip


def find_word_prior(name: str | Path = SHIPPED) -> Path:
    """The location of a text-conditioned prior: by name in ``checkpoints``, a run folder, its folder, or a ``.ckpt``.

    Raises:
        UserError: there is none.
    """
    if Path(name).suffix == ".ckpt":
        return Path(name)
    for place in [Path(name) / FOLDER, Path(name), *(folder / name for folder in CHECKPOINTS)]:
        if (place / ABOUT).is_file():
            return place
    raise UserError(
        f"there is no text-conditioned prior at '{name}': give the folder of one, or train it with "
        "configs/experiment/word_prior_cpu.yaml"
    )


def save_word_prior(folder: Path, network: Any, length: int, about: dict[str, Any]) -> None:
    """Write the parts of a ``StableDiffusionPipeline`` without autoencoder, in float16, and ``words.json``.

    Everything is written beside the folder and moved into it, the json last: a folder without it is incomplete.

    Args:
        folder: created if missing; an older prior in it is removed.
        network: as from ``build_network``; not changed.
        length: of its texts, tokens.
        about: anything worth keeping; stored as json.

    Raises:
        UserError: the files cannot be written, or a weight is too large for float16.
    """
    refuse_too_large(folder, network.state_dict())
    half: dict[str, Any] = {name: copy.deepcopy(part).cpu().half() for name, part in network.items()}
    # diffusers records where a network was loaded from, which is of no use to readers
    half["unet"].register_to_config(_name_or_path="")
    half["text_encoder"].config._name_or_path = ""
    tokenizer, scheduler = build_tokenizer(length), build_word_scheduler()
    with whole_folder(folder, (*PARTS, "model_index.json"), ABOUT, about) as temporary:
        pipeline_of(half, tokenizer, scheduler).save_config(temporary)  # which parts there are, and their classes
        half["unet"].save_pretrained(temporary / "unet")
        tokenizer.save_pretrained(temporary / "tokenizer")
        scheduler.save_pretrained(temporary / "scheduler")
        (temporary / "text_encoder").mkdir()
        half["text_encoder"].config.architectures = ["CLIPTextModel"]
        half["text_encoder"].config.to_json_file(temporary / "text_encoder/config.json")
        save_file(half["text_encoder"].state_dict(), temporary / WEIGHTS[1], {"format": "pt"})
        for name in WEIGHTS:
            (temporary / name).chmod(0o644)  # safetensors creates files that only their owner can read


def load_word_prior(folder: Path) -> tuple[nn.ModuleDict, Any, Any, dict[str, Any]]:
    """Load a prior of ``save_word_prior``, or the weights of a run's ``last.ckpt``.

    Returns:
        (``unet`` and ``text_encoder`` in float32 on the CPU, in evaluation mode; tokenizer; schedule; metadata).

    Raises:
        UserError: a file is missing or damaged, or is of another kind of model.
    """
    if folder.suffix == ".ckpt":
        return _of_checkpoint(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is not a text-conditioned prior: {missing[0]} is missing; copy it again, or train one"
        )
    diffusers, transformers = import_diffusers(), import_transformers()
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        options = {"local_files_only": True, "output_loading_info": True, "use_safetensors": True}
        unet, unet_report = diffusers.UNet2DConditionModel.from_pretrained(
            folder / "unet", low_cpu_mem_usage=False, torch_dtype=torch.float32, **options
        )
        text_encoder, text_report = transformers.CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, **options
        )
    except DAMAGE as error:
        raise UserError(f"{folder} cannot be loaded ({first_line(error)}); copy it again, or train one") from error
    wrong = [name for report in (unet_report, text_report) for part in ("missing_keys", "unexpected_keys",
             "mismatched_keys") for name in report[part]]  # fmt: skip
    if wrong:
        raise UserError(f"{folder} holds another architecture: {len(wrong)} weights do not fit ({wrong[0]}, ...)")
    network = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).eval()
    return network.requires_grad_(False), tokenizer, scheduler, about


def _of_checkpoint(path: Path) -> tuple[nn.ModuleDict, Any, Any, dict[str, Any]]:
    checkpoint = read_checkpoint(path)
    plain = checkpoint["amodalseg"]["model"]
    if plain.get("name") != "word_prior":
        raise UserError(f"{path} is a checkpoint of {plain.get('name')}, not of a text-conditioned prior")
    config = build(ModelOnly, [(str(path), {"model": plain})]).model
    network = build_network(config)
    state = {key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items()}
    load_state(network, state, path)
    about = {"model": to_dict(config), "step": checkpoint["global_step"]}
    return network.eval().requires_grad_(False), build_tokenizer(config.length), build_word_scheduler(), about
