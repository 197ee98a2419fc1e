"""Training of one configuration, from the start or resumed."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from amodalseg.config.load import to_dict
from amodalseg.config.schema import TrainConfig
from amodalseg.data.data_module import AmodalDataModule
from amodalseg.data.draw.scenes import Scenes
from amodalseg.data.fingerprint import fingerprint
from amodalseg.engine.distributed import accelerator_of, check_processes, peers_watched
from amodalseg.engine.run_folder import check_folder, claim
from amodalseg.engine.training.callbacks import (
    AtomicCheckpointIO,
    LastCheckpoint,
    Metrics,
    ProgressBar,
    Validation,
    WeightAverage,
)
from amodalseg.engine.training.ending import (
    already_finished,
    goes_on,
    keep_wandb_id,
    out_of_memory,
    score_line,
    wandb_id,
)
from amodalseg.engine.training.requeue import requeued_by_slurm
from amodalseg.engine.training.resume import is_new, resume_from, without_fetching
from amodalseg.engine.training.tasks import Task, task_of
from amodalseg.engine.training.time_limit import TimeLimit
from amodalseg.errors import UserError
from amodalseg.lock import NAME as LOCK
from amodalseg.lock import locked
from amodalseg.models.memory import keep_freed_memory
from amodalseg.ranks import is_first_process


def train(config: TrainConfig) -> Path:
    """Run a training configuration to its end.

    The run folder receives ``config.yaml``, ``last.ckpt`` (to resume), ``model.safetensors`` (the best weights, to
    use; for an inpainting prior the folder ``prior``), ``metrics`` (CSV) and ``pictures``. A folder with a
    ``last.ckpt`` of the same configuration is resumed as if there had been no interruption; for a finished run nothing
    is opened or changed.

    Returns:
        The path of the best weights.

    Raises:
        UserError: something is wrong with the configuration, the data or the run folder.
    """
    _check(config)
    folder = Path(config.out)
    check_folder(folder, config)
    task = task_of(config)
    finished = already_finished(config, folder)
    if finished:
        if (folder / LOCK).exists():  # left by a process killed while releasing it
            with locked(folder, "out=", hold=is_first_process()):
                pass
        print(finished, flush=True)
        return folder / task.weights
    with locked(folder, "out=", hold=is_first_process()):
        return _train(config, folder, task)


def _train(config: TrainConfig, folder: Path, task: Task) -> Path:
    L.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # tips and echoes of our own settings
    warnings.filterwarnings("ignore", "|".join(NOISE))

    # every possible mistake is detected before the folder is touched
    data = task.data(config)
    data.train_set, data.val_set  # noqa: B018
    validation = Validation(config, folder, anew=is_new(config))
    trainer = _trainer(config, folder, validation)
    num_steps = data.num_steps(trainer.world_size)
    trainer.val_check_interval = validation_interval(
        num_steps, config.checkpoint.val_every_steps, config.trainer.accumulate
    )
    module = task.module(without_fetching(config), num_steps)
    module.data_fingerprint, module.val_fingerprint = _fingerprint(data.train_set), _fingerprint(data.val_set)
    if config.loader.batch_size == 1 and not (config.trainer.sync_batchnorm and trainer.world_size > 1):
        module.check_single(min(data.full_size, config.optim.early_size or data.full_size))
    module.goes_beyond = is_new(config)
    resume, step = resume_from(config, module, trainer.world_size)
    if config.init and resume is None:
        module.start_from(config.init)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
        if "OMP_NUM_THREADS" not in os.environ:
            # threads that share a core with a loader worker mostly wait for each other
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // trainer.num_devices - config.loader.num_workers))
    claim(folder, config)
    if trainer.is_global_zero:
        _announce(config, trainer, data, num_steps, step)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                keep_wandb_id(folder, str(logger.version))

    try:
        watched = peers_watched(trainer.strategy.launcher, lambda: goes_on(folder), lambda: trainer.interrupted)
        with requeued_by_slurm(), watched:
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit
            raise KeyboardInterrupt(goes_on(folder)) from None
        raise
    except (MemoryError, RuntimeError) as error:
        text = out_of_memory(error, config, folder, trainer.global_step)
        if text is None:
            raise
        raise UserError(text) from error
    if trainer.is_global_zero and module.elapsed_share >= 1:
        print(f"{config.out}: the time limit was reached after {trainer.global_step} of {num_steps} steps", flush=True)
    weights = folder / task.weights
    if trainer.is_global_zero and not weights.exists():
        validation.save(module, trainer.global_step, {})  # a finished run whose weights file was removed
    if trainer.is_global_zero:
        print(score_line(config, trainer.global_step, validation.best, validation.best_step), flush=True)
    return weights


NOISE = [
    # the sampler itself resumes from the saved step, which Lightning cannot know
    ".*dataloader is not resumable.*",
    ".*does not have many workers.*",
    ".*isinstance.treespec.*",
    ".*You have overridden `transfer_batch_to_device`.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*This DataLoader will create.*",
    ".*anonymous setting has no effect.*",
    ".*sync_dist=True.*",  # every process has the rows of all
    # a run that continues another one may have other options
    ".*callbacks used to create the checkpoint.*",
    ".*not created with WeightAveraging.*",
    ".*persistent_workers=True.*",
    ".*GPU available but not used.*",
    ".*resume.* will be ignored since W&B syncing is set to .*offline.*",
]
"""Warnings about intended behaviour."""


def _fingerprint(dataset: Any) -> str:
    """Of the data behind training or validation samples; empty for those that come from no files."""
    source = getattr(dataset, "source", None)
    return getattr(dataset, "fingerprint", "") if source is None else fingerprint(source)


def _announce(config: TrainConfig, trainer: L.Trainer, data: AmodalDataModule, num_steps: int, step: int) -> None:
    samples = config.loader.batch_size * trainer.world_size * config.trainer.accumulate
    begun = f", resuming from step {step}" if step else ""
    limit = "" if config.trainer.max_time is None else f", at most {config.trainer.max_time:g} minutes,"
    device = f"{trainer.world_size} x {trainer.strategy.root_device.type}, {trainer.precision}"
    print(
        f"{config.out}: {len(data.train_set)} objects to train on, {len(data.val_set)} to validate; "
        f"{num_steps} steps of {samples}{limit} on {device}{begun}",
        flush=True,
    )
    source = getattr(data.train_set, "source", None)
    if isinstance(source, Scenes):
        print(source.describe(), flush=True)


def _check(config: TrainConfig) -> None:
    scores = task_of(config).score([])
    figures = [f"{protocol}.{name}" for protocol, found in scores.items() for name in found if "num_" not in name]
    if config.checkpoint.monitor not in figures:
        raise UserError(
            f"invalid value for checkpoint.monitor: {config.checkpoint.monitor} (choose from {', '.join(figures)})"
        )
    check_processes(config.trainer)
    if config.trainer.precision == "16-mixed" and not torch.cuda.is_available():
        raise UserError("trainer.precision=16-mixed needs a GPU; auto takes bf16 if the hardware has it")
    if config.data.name == "coco" or config.val.name == "coco":
        raise UserError("data.name=coco has modal masks only, which cannot be trained on; use coco_occlude")


def _trainer(config: TrainConfig, folder: Path, validation: Validation) -> L.Trainer:
    # in this order validation sees the weight average, and the checkpoint holds both sets of weights
    callbacks: list[Any] = [validation]
    if config.trainer.max_time is not None:
        callbacks.append(TimeLimit(config.trainer.max_time, anew=is_new(config)))
    if config.optim.ema:
        callbacks.append(WeightAverage(config.optim.ema))
    callbacks.append(LastCheckpoint(folder / "last.ckpt", config.checkpoint.every_steps))
    if config.trainer.progress:
        callbacks.append(ProgressBar())
    try:
        return _lightning_trainer(config, folder, callbacks)
    except (TypeError, ValueError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        raise UserError(f"Lightning refuses the trainer.* options: {str(error)[:300]}") from error


def _lightning_trainer(config: TrainConfig, folder: Path, callbacks: list[Any]) -> L.Trainer:
    options = config.trainer
    return L.Trainer(
        accelerator=accelerator_of(options),
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        precision=_precision(options.precision, options.accelerator),  # type: ignore[arg-type]
        max_epochs=1,  # one long "epoch": the sampler counts the passes over the data
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=config.optim.clip or None,
        sync_batchnorm=options.sync_batchnorm,
        logger=_loggers(config, folder),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        log_every_n_steps=config.log.every_steps,
        check_val_every_n_epoch=None,
        val_check_interval=1,  # set as soon as the number of devices is known
        num_sanity_val_steps=0,
        enable_checkpointing=True,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def validation_interval(num_steps: int, every: int, accumulate: int) -> int:
    """Batches between validations: about ``every`` steps, spaced evenly so that the last one is at the end."""
    times = max(1, round(num_steps / every))
    return max(1, num_steps // times) * accumulate


def _precision(name: str, accelerator: str) -> str:
    if name != "auto":
        return name
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    # cards before Ampere only emulate it, slower than float32
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _loggers(config: TrainConfig, folder: Path) -> list[Any]:
    loggers: list[Any] = [Metrics(folder, name="metrics", flush_logs_every_n_steps=config.log.every_steps)]
    if config.log.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name="tensorboard"))
        except ModuleNotFoundError as error:
            raise UserError("log.tensorboard=true needs tensorboard: pip install 'amodalseg[track]'") from error
    if config.log.wandb != "off":
        loggers.append(
            WandbLogger(
                project=config.log.project, name=folder.name, save_dir=folder, offline=config.log.wandb == "offline",
                config=to_dict(config), version=wandb_id(folder),
            )
        )  # fmt: skip
    return loggers
