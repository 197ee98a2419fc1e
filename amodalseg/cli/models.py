"""Commands about the models themselves: the list of models, and their cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from amodalseg.errors import UserError


def list_models(options: argparse.Namespace) -> None:
    """``amodalseg models``."""
    from amodalseg.models.describe import describe_models

    found = describe_models()
    widths = [max(len(item[column]) for item in found) for column in (0, 1)]
    for item in found:
        print(f"{item.name:{widths[0]}}  {item.size:{widths[1]}}  {item.what}")
        for key, text in item.notes.items() if options.verbose else ():
            print(f"{'':{widths[0]}}  {key}: {text}")


def cost(options: argparse.Namespace) -> None:
    """``amodalseg cost``."""
    from amodalseg.config.schema import NETWORKS

    model = _model_options(options.model, options.overrides)
    if getattr(model, "name", "") not in NETWORKS:
        named = getattr(model, "name", options.model)
        raise UserError(f"costs are available for {', '.join(NETWORKS)} only, not for {named}")
    from amodalseg.models.cost import describe_cost

    print(f"{model.name}, {model.window.size} px, one evaluation of one window")
    for part, parameters, gflop in describe_cost(model):
        print(f"  {part:14s} {parameters / 1e6:7.2f} M parameters {gflop:7.2f} GFLOP")


def _model_options(name: str, overrides: list[str]) -> Any:
    """A model's options, from a training configuration or from its file; None for a model without options."""
    from amodalseg.config.load import build, load_config, read_overrides, to_dict
    from amodalseg.config.schema import ModelOnly, TrainConfig
    from amodalseg.config.shipped import find_config

    from_file = Path(name).suffix in (".yaml", ".yml")
    if from_file or (not Path(name).exists() and find_config(TrainConfig, name).is_file()):
        return load_config(TrainConfig, name, overrides).model
    from amodalseg.models import load_model

    config = getattr(load_model(name, "cpu"), "config", None)
    if config is None or not overrides:
        return config
    return build(ModelOnly, [(name, {"model": to_dict(config)}), ("the command line", read_overrides(overrides))]).model
