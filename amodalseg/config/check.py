"""Whether the values of a configuration make sense: choices, ranges, and options that depend on each other."""

from __future__ import annotations

import dataclasses
from typing import Any

from amodalseg.config import schema
from amodalseg.errors import UserError

LIMITS: dict[str, tuple[float, float]] = {
    "rate_min": (0, 1), "rate_max": (0, 1), "unoccluded": (0, 1), "flip": (0, 1), "color": (0, 1), "grayscale": (0, 1),
    "modal_jitter": (0, 1), "drop_path": (0, 0.99), "dropout": (0, 1), "ema": (0, 0.99999), "threshold": (0, 1),
    "eta": (0, 1), "min_area": (0, 1), "max_area": (0, 1), "batch_size": (1, 1e9), "num_workers": (0, 1e4),
    "steps": (1, 10_000), "num_objects": (1, 1e12), "size": (32, 1e5), "dim": (16, 1e5), "max_steps": (1, 1e12),
    "max_time": (1e-4, 1e6), "max_epochs": (1, 1e9), "every_steps": (1, 1e12), "val_every_steps": (1, 1e12),
    "accumulate": (1, 1e9), "num_nodes": (1, 1e6), "lr": (0, 1e3), "min_lr": (0, 1e3), "weight_decay": (0, 1e3),
    "block": (1, 1e5),
    "upsample": (1, 2), "expand": (1e-3, 1e3), "margin": (1e-3, 1e3), "max_side": (32, 1e6), "max_occluders": (1, 100),
    "warmup_steps": (0, 1e12), "clip": (0, 1e9), "seed": (0, 2**32 - 1), "pictures": (0, 1000),
    "steps_objects": (1, 1e12), "steps_curve": (1, 10_000), "bce": (0, 1e3), "iou": (0, 1e3), "beta_a": (1e-3, 1e3),
    "beta_b": (1e-3, 1e3), "kernel": (1, 31), "adapter": (1, 31), "scale_min": (0, 1e3), "scale_max": (0, 1e3),
    "soft_edge": (0, 1e3), "scale": (0, 0.9), "rotate": (0, 180), "modal_jitter_px": (0, 100),
    "gauss.shift": (-50, 50), "augment.shift": (0, 1), "hidden": (0, 1e3), "front": (0, 1), "covered": (0, 1e3),
    "natural": (0, 1e3), "behind": (0, 1e3), "surface": (0, 1e3), "synthetic": (0, 1e3), "refresh_every": (1, 10_000),
    "pair": (0, 1e3), "cache_mb": (1, 1e6),
    "early_share": (0, 1), "early_size": (8, 1e5), "match_iou": (0, 1), "tolerance": (0, 20), "max_rate": (0, 1),
    "model.size": (8, 256), "patch": (1, 8), "layers": (1, 8), "head": (4, 256), "channels": (8, 4096), "known": (0, 1),
    "max_contact": (0, 1),
    "window.size": (8, 1e5), "window.side": (1, 16), "leakage.s": (0, 1), "until": (0, 1), "weight": (0, 100),
    "noise": (0, 1),
    "contact": (1, 1000), "padding": (0, 10), "iterations": (1, 100), "timestep": (0, 1), "clusters": (1, 100),
    "share": (0, 1), "guidance": (0, 100),
    "num_samples": (1, 1e4), "width": (4, 1024), "unknown": (0, 1),
}  # fmt: skip
"""By the last part of an option's name, or by the last two where sections differ."""
_ELEMENTS: dict[str, type] = {"list[str]": str, "list[int]": int}


def check_values(config: Any, prefix: str = "") -> None:
    """Check a complete configuration. Raises UserError with the option's full name, its value and what it may be."""
    for spec in dataclasses.fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        members = value.items() if isinstance(value, dict) else ()
        for name, member in [("", value), *((f".{name}", member) for name, member in members)]:
            if dataclasses.is_dataclass(member):
                check_values(member, f"{key}{name}.")
        choices = spec.metadata.get("choices")
        if choices and value not in choices:
            if value != "False" or "no" not in choices:  # what yaml makes of the word
                raise UserError(f"{key}={value} is no choice; choose one of: {', '.join(choices)}")
            setattr(config, spec.name, "no")
        element = _ELEMENTS.get(str(spec.type))
        for item in value if element else [value]:
            if element and type(item) is not element:
                raise UserError(f"{key}={value} must be a plain list; {item} is no {element.__name__}")
            _check_range(key, item)
    _check_together(config, prefix)


def _check_range(key: str, value: Any) -> None:
    limits = LIMITS.get(".".join(key.split(".")[-2:])) or LIMITS.get(key.rpartition(".")[2])
    if limits is None or not isinstance(value, (int, float)):
        return
    low, high = limits
    if not low <= value <= high:  # so written, nan is refused too
        shown = [f"{bound:g}" if isinstance(bound, float) else str(bound) for bound in limits]
        raise UserError(f"{key}={value} is out of range: it must be between {shown[0]} and {shown[1]}")
    if key.endswith(("kernel", "adapter")) and value % 2 == 0:
        raise UserError(f"{key}={value} must be odd, for instance {value - 1} or {value + 1}")


def _check_together(config: Any, prefix: str) -> None:
    if hasattr(config, "rate_min") and config.rate_min >= config.rate_max:
        raise UserError(f"{prefix}rate_min={config.rate_min} must be below {prefix}rate_max={config.rate_max}")
    if isinstance(config, schema.PublishedData) and config.modal_source == "pred" and config.predictions is None:
        raise UserError(f"{prefix}modal_source=pred needs {prefix}predictions, a json file of COCO results")
    if isinstance(config, schema.OptimConfig) and config.min_lr > config.lr:
        raise UserError(f"{prefix}min_lr={config.min_lr} must not be above {prefix}lr={config.lr}")
    if isinstance(config, schema.EvalConfig) and config.data is None and not config.sets:
        raise UserError("no data set is left: keep one of sets")
    if isinstance(config, schema.LossConfig) and config.bce == config.iou == 0:
        raise UserError(f"{prefix}bce=0 and {prefix}iou=0 leave nothing to learn from; give one of them a weight")
    if isinstance(config, schema.SquareConfig) and config.size is not None:
        _check_multiple(f"{prefix}size", config.size, 8)
    if isinstance(config, schema.ReadOffConfig) and config.kind == "segmenter" and not config.segmenter:
        raise UserError(f"{prefix}kind=segmenter needs {prefix}segmenter, for instance facebook/sam-vit-base")
    if isinstance(config, (schema.TeleaConfig, schema.NoiseFillConfig)) and config.window.size is None:
        raise UserError(
            f"{prefix}window.size is missing: {config.name} has no inpainting model whose size it could take"
        )
    if isinstance(config, schema.WindowConfig):
        _check_multiple(f"{prefix}size", config.size, 32)
    if isinstance(config, schema.InpaintingPriorConfig):
        if not config.channels or any(width % 8 for width in config.channels):
            raise UserError(f"{prefix}channels={config.channels} must list multiples of 8, one for each level")
        if config.patch not in schema.PATCHES:
            choices = ", ".join(map(str, schema.PATCHES))
            raise UserError(f"{prefix}patch={config.patch} is no choice; choose one of: {choices}")
        _check_multiple(f"{prefix}size", config.size, config.patch * 2 ** (len(config.channels) - 1))
    if isinstance(config, schema.TrainConfig) and config.optim.early_size is not None:
        prior = isinstance(config.model, schema.InpaintingPriorConfig)
        step = config.model.patch * 2 ** (len(config.model.channels) - 1) if prior else 32
        _check_multiple(f"{prefix}optim.early_size", config.optim.early_size, step)


def _check_multiple(key: str, size: int, step: int) -> None:
    if size % step or size < step:
        right = max(step, -(-size // step) * step)
        raise UserError(f"{key}={size} must be a multiple of {step}, for instance {right}")
