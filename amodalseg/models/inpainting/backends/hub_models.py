"""Published inpainting models, by name on the Hugging Face hub or from folders with the same layout."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.backend import InpaintingBackend, within_memory
from amodalseg.models.inpainting.backends.flux import Flux
from amodalseg.models.inpainting.backends.hub_files import (
    DAMAGE,
    find_files,
    first_line,
    import_transformers,
    read_kind,
)
from amodalseg.models.inpainting.backends.latent import LatentBackend, StableDiffusion
from amodalseg.models.inpainting.backends.prior import import_diffusers
from amodalseg.models.inpainting.backends.sdxl import StableDiffusionXL

HUB_IDS = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "sd15_text": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2": "sd2-community/stable-diffusion-2-inpainting",
    "sdxl": "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    "flux_schnell": "black-forest-labs/FLUX.1-schnell",
    "flux_fill": "black-forest-labs/FLUX.1-Fill-dev",
}
"""Short names. The first three are copies that still exist; the original repositories are gone."""
INDEX = "model_index.json"
PIPELINE_FILES = (INDEX, "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors")


def check_hub_model(config: BackendConfig) -> None:
    """Detect problems before a model is needed; missing files are downloaded now.

    Raises:
        UserError: as ``open_hub_model``.
    """
    import_diffusers()
    import_transformers()
    if config.eight_bit and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("models in 8 bits need bitsandbytes: pip install bitsandbytes")
    _kind_of(_folder_of(config))


def open_hub_model(config: BackendConfig, device: str | torch.device) -> InpaintingBackend:
    """Open a published inpainting model.

    Args:
        config: ``name`` is a key of ``HUB_IDS``, ``owner/name`` on the hub, or a folder of a diffusers pipeline.
            Half precision is bfloat16 for FLUX and float16 for the others; autoencoders compute in float32.
        device: cpu, cuda, ...

    Raises:
        UserError: it is neither available nor can be downloaded; a library is missing; files are inconsistent; 8 bits
            or offloading without a GPU.
    """
    check_hub_model(config)
    folder, device = _folder_of(config), torch.device(device)
    wrapper, pipeline = _kind_of(folder)
    if (config.eight_bit or config.offload) and device.type != "cuda":
        raise UserError(f"8 bits and offloading need a GPU, and the device is '{device}'; leave them out")
    half = torch.bfloat16 if wrapper is Flux else torch.float16
    dtype = getattr(torch, config.precision, half if device.type == "cuda" else torch.float32)
    loaded = _load(pipeline, folder, dtype, config.eight_bit)
    with within_memory(1):
        if config.offload:
            loaded.enable_model_cpu_offload(device=device)
        else:
            loaded.to(device)
    return wrapper(loaded, device, config.name, dtype)


def _folder_of(config: BackendConfig) -> Path:
    return find_files(config.name, HUB_IDS, PIPELINE_FILES)


def _kind_of(folder: Path) -> tuple[type[LatentBackend], str]:
    """The backend and the diffusers class for a folder, from its own description."""
    kind = read_kind(folder / INDEX, "_class_name")
    if kind.startswith("StableDiffusionXL"):
        return StableDiffusionXL, "StableDiffusionXLInpaintPipeline"
    if kind in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"):
        return StableDiffusion, "StableDiffusionInpaintPipeline"
    if kind in ("FluxPipeline", "FluxInpaintPipeline", "FluxImg2ImgPipeline"):
        return Flux, "FluxInpaintPipeline"
    if kind == "FluxFillPipeline":
        return Flux, kind
    raise UserError(f"{folder} is a {kind}; Stable Diffusion (1.5, 2, XL) and FLUX can be used")


def _load(name: str, folder: Path, dtype: torch.dtype, eight_bit: bool) -> Any:
    """The pipeline of diffusers' class ``name``, on the CPU, from safetensors alone."""
    diffusers = import_diffusers()
    large = ["transformer", "text_encoder_2"] if name.startswith("Flux") else ["unet"]
    options: dict[str, Any] = {}
    if name == "StableDiffusionInpaintPipeline":
        options = {"safety_checker": None, "requires_safety_checker": False}
    if eight_bit:
        options["quantization_config"] = diffusers.PipelineQuantizationConfig(
            quant_backend="bitsandbytes_8bit", quant_kwargs={"load_in_8bit": True}, components_to_quantize=large
        )
    weights = folder / large[0]
    if any(weights.glob("*.fp16*.safetensors")) and not any(weights.glob("diffusion_pytorch_model.safetensors")):
        options["variant"] = "fp16"
    try:
        loaded = getattr(diffusers, name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype={"default": dtype, "vae": torch.float32},
            **options,
        )  # fmt: skip
    except ImportError as error:
        raise UserError(
            f"{folder} needs more libraries ({first_line(error)}): pip install 'amodalseg[inpaint]'"
        ) from error
    except DAMAGE as error:
        raise UserError(f"{folder} cannot be loaded ({first_line(error)}); download or copy all of it again") from error
    for part in (getattr(loaded, large[0]), loaded.vae):
        empty = [weight for weight, values in part.named_parameters() if values.is_meta]  # missing in the file
        if empty:
            raise UserError(f"{folder} lacks {len(empty)} weights of a {type(part).__name__} ({empty[0]}, ...)")
    loaded.set_progress_bar_config(disable=True)
    return loaded
