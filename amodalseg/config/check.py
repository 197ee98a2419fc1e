"""Whether the values of a configuration make sense: choices, ranges, and options that depend on each other."""

from __future__ import annotations

import dataclasses
from typing import Any

from amodalseg.config import schema
from amodalseg.errors import UserError

_ELEMENTS: dict[str, type] = {"list[str]": str, "list[int]": int, "list[float]": float}


def check_values(config: Any, prefix: str = "") -> None:
    """Check a complete configuration. Raises UserError with the option's full name, its value and what it may be."""
    for spec in dataclasses.fields(config):
        value, key = getattr(config, spec.name), f"{prefix}{spec.name}"
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, member in [("", value), *((f".{name}", member) for name, member in members)]:
            if dataclasses.is_dataclass(member):
                check_values(member, f"{key}{name}.")
        choices = spec.metadata.get("choices")
        if choices and value not in choices:
            raise _invalid(key, value, f"choose from {', '.join(map(str, choices))}")
        element = _ELEMENTS.get(str(spec.type))
        for item in value if element else [value]:
            if element and type(item) is not element:
                raise _invalid(key, value, f"a plain list is expected, and {item} is not of type {element.__name__}")
            if "range" in spec.metadata and item is not None:
                low, high = spec.metadata["range"]
                if not low <= item <= high:  # in this form it is true for nan too
                    raise _invalid(key, item, f"must be between {_shown(low)} and {_shown(high)}")
                if spec.metadata["odd"] and item % 2 == 0:
                    raise _invalid(key, item, f"must be odd, for instance {item - 1} or {item + 1}")
    _check_together(config, prefix)


def _invalid(key: str, value: Any, reason: str) -> UserError:
    return UserError(f"invalid value for {key}: {value} ({reason})")


def _shown(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _check_together(config: Any, prefix: str) -> None:
    if hasattr(config, "rate_min") and config.rate_min >= config.rate_max:
        raise UserError(f"{prefix}rate_min={config.rate_min} must be below {prefix}rate_max={config.rate_max}")
    for low, high in (("min_area", "max_area"), ("scale_min", "scale_max")):
        if hasattr(config, low) and getattr(config, low) > getattr(config, high):
            raise UserError(
                f"{prefix}{low}={getattr(config, low)} must not be above {prefix}{high}={getattr(config, high)}"
            )
    if isinstance(config, schema.PublishedData) and config.modal_source == "pred" and config.predictions is None:
        raise UserError(f"{prefix}modal_source=pred needs {prefix}predictions, a json file of COCO results")
    if isinstance(config, schema.OptimConfig) and config.min_lr > config.lr:
        raise UserError(f"{prefix}min_lr={config.min_lr} must not be above {prefix}lr={config.lr}")
    if isinstance(config, schema.EvalConfig) and config.data is None and not config.sets:
        raise UserError("no data set is left: keep one of sets")
    if isinstance(config, schema.LossConfig) and config.bce == config.iou == 0:
        raise UserError(f"{prefix}bce=0 and {prefix}iou=0 leave no loss; give one of them a weight")
    if isinstance(config, schema.RegionConfig) and len(config.box) not in (0, 4):
        raise UserError(f"{prefix}box={config.box} must be four numbers, x0, y0, x1 and y1, or [] for everything")
    if isinstance(config, schema.EditConfig):
        if len(config.size) not in (0, 2):
            raise UserError(
                f"{prefix}size={config.size} must be two numbers, width and height, or [] for the model's own"
            )
        if config.size and config.image is not None:
            raise UserError(f"{prefix}size applies to generated pictures only; a photo keeps its size: leave it out")
    if isinstance(config, schema.SquareConfig) and config.size is not None:
        _check_multiple(f"{prefix}size", config.size, 8)
    if isinstance(config, schema.ReadOffConfig) and config.kind == "segmenter" and not config.segmenter:
        raise UserError(f"{prefix}kind=segmenter needs {prefix}segmenter, for instance facebook/sam-vit-base")
    if isinstance(config, (schema.TeleaConfig, schema.NoiseFillConfig)) and config.window.size is None:
        raise UserError(
            f"{prefix}window.size is missing: {config.name} has no inpainting model whose size it could take"
        )
    if isinstance(config, schema.PyramidConfig):
        _check_pyramid(config, prefix)
    if isinstance(config, schema.WindowConfig):
        _check_multiple(f"{prefix}size", config.size, 32)
    if isinstance(config, schema.WordSegmenterConfig):
        _check_multiple(f"{prefix}size", config.size, 4)
    if isinstance(config, (schema.InpaintingPriorConfig, schema.WordPriorConfig)):
        if not config.channels or any(width % 8 for width in config.channels):
            raise UserError(f"{prefix}channels={config.channels} must list multiples of 8, one for each level")
        _check_multiple(f"{prefix}size", config.size, config.patch * 2 ** (len(config.channels) - 1))
    if isinstance(config, schema.WordPriorConfig):
        odd = [width for width in config.channels[-config.attention :] if width % config.head]
        if odd:
            raise UserError(
                f"{prefix}channels: {odd[0]} cannot be split into heads of {prefix}head={config.head} channels"
            )
    if isinstance(config, schema.TrainConfig) and config.init is not None and config.continue_from is not None:
        raise UserError(
            "init starts a new run and continue_from resumes another one: give only one of them (init=null takes back "
            "that of a file)"
        )
    if isinstance(config, schema.TrainConfig) and config.optim.early_size is not None:
        model, step = config.model, 32
        if isinstance(model, (schema.InpaintingPriorConfig, schema.WordPriorConfig)):
            step = model.patch * 2 ** (len(model.channels) - 1)
        elif isinstance(model, schema.WordSegmenterConfig):
            step = 4
        _check_multiple(f"{prefix}optim.early_size", config.optim.early_size, step)


def _check_pyramid(config: schema.PyramidConfig, prefix: str) -> None:
    if config.backbone == "tf_efficientnet_lite0":
        if isinstance(config, schema.PCNConfig) and config.ttc:
            raise UserError(f"{prefix}backbone={config.backbone} takes no time token: set {prefix}ttc=false")
        if config.adapter_init != "zero_conv":
            raise UserError(
                f"{prefix}backbone={config.backbone} has a separate input for the modal mask: "
                f"set {prefix}adapter_init=zero_conv"
            )


def _check_multiple(key: str, size: int, step: int) -> None:
    if size % step or size < step:
        right = max(step, -(-size // step) * step)
        raise UserError(f"{key}={size} must be a multiple of {step}, for instance {right}")
