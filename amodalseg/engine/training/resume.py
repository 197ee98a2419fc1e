"""Which checkpoint a training run starts from: none, its own last one, or another run's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from amodalseg.config.schema import TrainConfig
from amodalseg.errors import UserError
from amodalseg.models.training import TrainingModule
from amodalseg.models.weights import check_state, read_checkpoint, without_download


def is_new(config: TrainConfig) -> bool:
    """Whether the run folder holds no checkpoint yet."""
    return not (Path(config.out) / "last.ckpt").exists()


def checkpoint_of(config: TrainConfig) -> Path:
    """The checkpoint to continue from, if it exists: the run's own, or at first the one of ``continue_from``."""
    if is_new(config) and config.continue_from is not None:
        return Path(config.continue_from) / "last.ckpt"
    return Path(config.out) / "last.ckpt"


def resume_from(config: TrainConfig, module: TrainingModule, world: int) -> tuple[str | None, int]:
    """The checkpoint to continue from and its step, after checking that it fits; (None, 0) for a new run."""
    last = checkpoint_of(config)
    if not last.exists():
        if config.continue_from is not None:
            raise UserError(f"continue_from={config.continue_from} holds no last.ckpt; name the folder of a run")
        return None, 0
    if not config.checkpoint.resume and not is_new(config):
        raise UserError(f"{last.parent} holds a run already and checkpoint.resume is false; choose another out=")
    checkpoint = read_checkpoint(last)
    prefix, state = "network.", checkpoint["state_dict"]
    check_state(module.network, {key.removeprefix(prefix): value for key, value in state.items()}, last)
    saved, now = checkpoint["amodalseg"].get("world"), world
    if saved != now:
        raise UserError(
            f"{last} was saved by {saved} processes and cannot be resumed with {now}, because the batches would "
            f"change; use as many devices, or start a new run from its weights with init={last.parent} and another out="
        )
    then, data = checkpoint["amodalseg"].get("data", ""), module.data_fingerprint
    if have_changed(then, data):
        counts = " and ".join(text.partition("-")[0] for text in (then, data))
        raise UserError(
            f"the training data have changed since {last} was saved ({counts} objects, or other masks or photos): put "
            f"back what was there, or start a new run from its weights with init={last.parent} and another out="
        )
    then, data = checkpoint["amodalseg"].get("val", ""), module.val_fingerprint
    if not is_new(config) and have_changed(then, data):  # a run that continues another one may have its own
        counts = " and ".join(text.partition("-")[0] for text in (then, data))
        raise UserError(
            f"the validation data have changed since {last} was saved ({counts} objects, or other masks or photos), so "
            f"its scores no longer compare: put back what was there, or give continue_from={last.parent} and another "
            "out="
        )
    groups = [len(group["params"]) for group in checkpoint["optimizer_states"][0]["param_groups"]]
    if groups != [len(group["params"]) for group in module.configure_optimizers()["optimizer"].param_groups]:
        raise UserError(
            f"optim.decay_all={str(config.optim.decay_all).lower()} does not fit the optimiser's state in {last}: "
            f"leave it as it was, or start a new run from its weights with init={last.parent}"
        )
    step = checkpoint["global_step"]
    if is_new(config) and step >= module.num_steps:
        raise UserError(f"{last} is of step {step}, and this run ends at {module.num_steps}: raise trainer.max_steps")
    return str(last), step


def have_changed(then: str, now: str) -> bool:
    """Whether two fingerprints are of different data; one that says nothing, or only the number of objects, may fit."""
    return bool(then and now) and then != now and not (then.endswith("-") and now.startswith(then))


def without_fetching(config: TrainConfig) -> TrainConfig:
    """Switch off pretrained weights for a continued run, or one with ``init``, which has its own weights."""
    if config.init is None and not checkpoint_of(config).exists():
        return config
    return dataclasses.replace(config, model=without_download(config.model))
