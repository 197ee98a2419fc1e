"""The embedded prior's network and noise schedule, and their folder, which diffusers itself can open."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from amodalseg.atomic import write_whole
from amodalseg.config.load import build, to_dict
from amodalseg.config.schema import PATCHES, InpaintingPriorConfig, ModelOnly
from amodalseg.errors import UserError
from amodalseg.models import CHECKPOINTS
from amodalseg.models.weights import check_finite, load_state, read_checkpoint

UNet2DModel = Any
"""diffusers' class of this name, a ``torch.nn.Module``. The library is loaded only when needed."""
DDIMScheduler = Any
"""Likewise; ``alphas_cumprod`` is its float (1000,) schedule."""
NUM_LEVELS = 1000  # noise levels of the schedule
IN_CHANNELS = 7  # noisy picture, known picture extended into the hole, hole
ABOUT = "prior.json"
FOLDER = "prior"
"""Folder with the best weights inside a run folder."""
SHIPPED = "inpainting_prior"
"""The prior in ``checkpoints/``."""
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
FILES = ("unet/config.json", WEIGHTS, "scheduler/scheduler_config.json", ABOUT)


def find_prior(name: str | Path = SHIPPED) -> Path:
    """The location of a prior, given by its name in ``checkpoints``, a run folder, its own folder, or a ``.ckpt``.

    Raises:
        UserError: there is none.
    """
    if Path(name).suffix == ".ckpt":
        return Path(name)
    places = [Path(name) / FOLDER, Path(name), *(folder / name for folder in CHECKPOINTS)]
    for place in places:
        if (place / ABOUT).is_file():
            return place
    raise UserError(
        f"there is no inpainting prior '{name}': give the folder of one, or train it with "
        "configs/experiment/inpainting_prior_cpu.yaml"
    )


def import_diffusers() -> Any:
    """The library ``diffusers``. Raises UserError, with the extra to install, if it is missing."""
    try:
        import diffusers
    except ImportError as error:
        raise UserError(f"inpainting models need diffusers ({error}): pip install 'amodalseg[inpaint]'") from error
    return diffusers


def build_unet(config: InpaintingPriorConfig) -> UNet2DModel:
    """A network with random weights: (x_t, known, hole) and the noise level -> v, on pictures of any fitting size.

    It works on patches: all values of a square of ``config.patch`` pixels are stored in one position (``evaluate``).
    Most of a network's time is spent at the finest resolution, which contributes least on small pictures.
    """
    deepest = len(config.channels) - 1
    return import_diffusers().UNet2DModel(
        sample_size=config.size // config.patch,
        in_channels=IN_CHANNELS * config.patch**2,
        out_channels=3 * config.patch**2,
        layers_per_block=config.layers,
        block_out_channels=tuple(config.channels),
        down_block_types=("DownBlock2D",) * deepest + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * deepest,
        attention_head_dim=config.head,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift" if config.film else "default",
    )


def patch_of(unet: UNet2DModel) -> int:
    """Pixels on a side of the patches that a network of ``build_unet`` works on."""
    return math.isqrt(unet.config.in_channels // IN_CHANNELS)


def evaluate(unet: UNet2DModel, x: Tensor, seen: Tensor, times: Tensor | float) -> Tensor:
    """One evaluation of the network.

    Args:
        unet: as from ``build_unet``.
        x: float (B, 3, H, W), noisy pictures.
        seen: float (B, 4, H, W), from ``seen_by``.
        times: (B,) or one for all, in [0, ``NUM_LEVELS``).

    Returns:
        v, as ``x``.
    """
    patch = patch_of(unet)
    v: Tensor = unet(pixel_unshuffle(torch.cat([x, seen], dim=1), patch), times).sample
    return pixel_shuffle(v, patch)


def seen_by(pictures: Tensor, holes: Tensor) -> Tensor:
    """The network's inputs besides x_t: the known picture, with its colours extended into the hole, and the hole.

    The hole is filled with a mean of the known surroundings, weighted by proximity (pull-push over a pyramid), so that
    the network need not infer the background from afar. Where nothing is known it is 0, which is grey.

    Args:
        pictures: float (B, 3, H, W) in [-1, 1]; the content of the hole has no effect.
        holes: float (B, 1, H, W) in {0, 1}.

    Returns:
        float (B, 4, H, W).
    """
    return torch.cat([_spread(pictures * (1 - holes), 1 - holes).clamp(-1, 1), holes], dim=1)


def _spread(sums: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of colours and their weights in [0, 1] -> colours everywhere, coarser where weights are low."""
    means = sums / weights.clamp(min=1e-6)
    if max(weights.shape[-2:]) == 1:
        return means * (weights > 0)
    coarse = [avg_pool2d(one, 2, ceil_mode=True) for one in (sums, weights)]
    wide = interpolate(_spread(*coarse), size=weights.shape[-2:], mode="bilinear", align_corners=False)
    return weights * means + (1 - weights) * wide


def build_scheduler() -> DDIMScheduler:
    """v-prediction on a cosine schedule, rescaled so that its last level is pure noise; trailing time steps."""
    return import_diffusers().DDIMScheduler(
        num_train_timesteps=NUM_LEVELS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
    )


def refuse_too_large(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Raises UserError: a weight is too large for float16."""
    huge = [name for name, weight in state.items() if not torch.isfinite(weight.half()).all()]
    if huge:
        raise UserError(f"{folder} was not written: {huge[0]} does not fit into float16; train with a lower optim.lr")


@contextmanager
def whole_folder(folder: Path, parts: Sequence[str], about_file: str, about: dict[str, Any]) -> Iterator[Path]:
    """A temporary folder for the parts of a folder; on exit they are moved there, and the json is written last.

    Args:
        folder: created if missing; older parts in it are removed. Without the json it is incomplete.
        parts: folders and files to write, in the order in which they are moved.
        about_file, about: name and content of the json.

    Raises:
        UserError: something cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        yield temporary
        folder.mkdir(parents=True, exist_ok=True)
        (folder / about_file).unlink(missing_ok=True)
        for part in parts:
            if (temporary / part).is_dir():
                shutil.rmtree(folder / part, ignore_errors=True)
            (temporary / part).replace(folder / part)
        write_whole(folder / about_file, json.dumps(about, indent=1))
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_prior(folder: Path, unet: UNet2DModel, about: dict[str, Any]) -> None:
    """Write ``unet/`` (float16), ``scheduler/`` and ``prior.json``.

    Everything is written beside the folder and moved into it, the json last: a folder without it is incomplete.

    Args:
        folder: created if missing; an older prior in it is removed.
        unet: its weights are not changed.
        about: anything worth keeping; stored as json.

    Raises:
        UserError: the files cannot be written, or a weight is too large for float16.
    """
    refuse_too_large(folder, unet.state_dict())
    # diffusers records in the configuration where a network was loaded from, which is of no use to readers
    half = type(unet).from_config({key: value for key, value in unet.config.items() if key != "_name_or_path"}).half()
    half.load_state_dict(unet.state_dict())
    with whole_folder(folder, ("unet", "scheduler"), ABOUT, about) as temporary:
        half.save_pretrained(temporary / "unet", safe_serialization=True)
        (temporary / WEIGHTS).chmod(0o644)  # safetensors creates files that only their owner can read
        build_scheduler().save_pretrained(temporary / "scheduler")


def load_prior(folder: Path) -> tuple[UNet2DModel, DDIMScheduler, dict[str, Any]]:
    """Load a prior of ``save_prior``, another network of the same kind, or the weights of a run's ``last.ckpt``.

    Returns:
        (network in float32 on the CPU, in evaluation mode; schedule; metadata).

    Raises:
        UserError: a file is missing or damaged, or the network is not an inpainting prior on pixels.
    """
    if folder.suffix == ".ckpt":
        return _of_checkpoint(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} is not an inpainting prior: {missing[0]} is missing; copy it again, or train one")
    diffusers = import_diffusers()
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        config = json.loads((folder / FILES[0]).read_text("utf-8"))
        scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} holds a json file that cannot be read ({_line(error)}); copy it again") from error
    ends = (config.get("in_channels"), config.get("out_channels")) if isinstance(config, dict) else ()
    if ends not in [(IN_CHANNELS * patch**2, 3 * patch**2) for patch in PATCHES]:
        raise UserError(
            f"{folder}/unet is another network: a prior has {IN_CHANNELS} input and 3 output channels per pixel"
        )
    kind, spacing = scheduler.config.prediction_type, scheduler.config.timestep_spacing
    if (kind, spacing) != ("v_prediction", "trailing"):
        raise UserError(f"{folder}/scheduler is ({kind}, {spacing}); a prior needs (v_prediction, trailing)")
    try:
        unet, report = diffusers.UNet2DModel.from_pretrained(
            folder / "unet", local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True,
            torch_dtype=torch.float32, use_safetensors=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"{folder}/unet cannot be loaded ({_line(error)}); copy it again, or train one") from error
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise UserError(f"{folder}/unet holds another architecture: {len(wrong)} weights do not fit ({wrong[0]}, ...)")
    check_finite(unet.state_dict(), folder / WEIGHTS)
    return unet.eval(), scheduler, about


def _of_checkpoint(path: Path) -> tuple[UNet2DModel, DDIMScheduler, dict[str, Any]]:
    checkpoint = read_checkpoint(path)
    plain = checkpoint["amodalseg"]["model"]
    if plain.get("name") != "inpainting_prior":
        raise UserError(f"{path} is a checkpoint of {plain.get('name')}, not of an inpainting prior")
    config = build(ModelOnly, [(str(path), {"model": plain})]).model
    unet = build_unet(config)
    load_state(unet, {key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items()}, path)
    about = {"model": to_dict(config), "step": checkpoint["global_step"]}
    return unet.eval(), build_scheduler(), about


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
