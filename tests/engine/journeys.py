"""A run small enough for tests: command-line arguments, and functions to compare the outputs of runs."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SMALL = [
    "model.window.size=32", "model.dn.dim=16", "model.sampler.steps=2", "data.num_objects=12", "data.size=64",
    "val.num_objects=3", "val.size=64", "loader.batch_size=2", "trainer.max_steps=12", "optim.warmup_steps=2",
    "optim.ema=0.9", "checkpoint.every_steps=3", "checkpoint.val_every_steps=6", "log.every_steps=1", "log.pictures=2",
    "trainer.progress=false", "trainer.accelerator=cpu", "trainer.devices=1",
]  # fmt: skip
"""Twelve steps of the tiny model on the procedural world, with an average of the weights."""


def train_arguments(out: Path, *more: str) -> list[str]:
    return ["train", str(ROOT / "configs/experiment/synthetic_tiny.yaml"), f"out={out}", *SMALL, *more]


def run_program(arguments: list[str], **environment: str) -> subprocess.CompletedProcess:
    """The command line in a separate process."""
    script = ROOT / f"{arguments[0]}.py"
    command = [sys.executable, str(script), *arguments[1:]]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=300, env={**os.environ, **environment}
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: weights, their average, and the optimiser's state."""
    found = {}

    def walk(prefix, node):
        if isinstance(node, torch.Tensor):
            found[prefix] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}/{key}", value)

    checkpoint = torch.load(path, weights_only=True)
    for part in ("state_dict", "current_model_state", "optimizer_states"):
        states = checkpoint[part]
        walk(part, dict(enumerate(states)) if isinstance(states, list) else states)
    return found


def assert_same_weights(one: Path, other: Path, tolerance: float = 1e-6) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys() and len(first) > 100
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=tolerance, rtol=0, msg=key)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
