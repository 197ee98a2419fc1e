"""Train one configuration, or go on with it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from amodalseg.config.load import to_dict
from amodalseg.config.schema import TrainConfig
from amodalseg.data.module import AmodalDataModule
from amodalseg.engine.callbacks import AtomicCheckpointIO, LastCheckpoint, ProgressBar, Validation, WeightAverage
from amodalseg.engine.run_folder import claim
from amodalseg.errors import UserError
from amodalseg.metrics.protocols import PROTOCOLS
from amodalseg.models import load_model
from amodalseg.models.conddiff_amo.model import CondDiffAMO
from amodalseg.models.conddiff_amo.module import CondDiffAMOModule
from amodalseg.models.weights import load_state, read_checkpoint


def train(config: TrainConfig) -> Path:
    """Run a training configuration to its end.

    The run folder receives ``config.yaml``, ``last.ckpt`` (to resume), ``model.safetensors`` (the best weights, to
    use), ``metrics`` (CSV) and ``pictures``. A folder that holds ``last.ckpt`` of the same configuration is continued
    as if nothing had happened.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        UserError: whatever is wrong with the configuration, the data or the run folder.
    """
    _check(config)
    folder = Path(config.out)
    last = folder / "last.ckpt"
    L.seed_everything(config.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # tips and echoes of our own settings
    data = AmodalDataModule(config)
    data.train_set, data.val_set  # noqa: B018 (bad data is refused before the folder is touched)
    resume = _resume_from(config, last)
    claim(folder, config)

    validation = Validation(config, folder)
    trainer = _trainer(config, folder, [validation, LastCheckpoint(last, config.checkpoint.every_steps)], data)
    num_steps = data.num_steps(trainer.world_size)
    module = CondDiffAMOModule(config, num_steps)
    if config.init and resume is None:
        _start_from(module, config.init)
    with warnings.catch_warnings():
        # the sampler itself goes on from the saved step, which Lightning cannot know
        warnings.filterwarnings("ignore", ".*dataloader is not resumable.*")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*isinstance.treespec.*")
        warnings.filterwarnings("ignore", ".*You have overridden `transfer_batch_to_device`.*")
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return folder / "model.safetensors"


def _check(config: TrainConfig) -> None:
    protocol, _, region = config.checkpoint.monitor.partition(".")
    if protocol not in PROTOCOLS or region not in ("full", "occluded"):
        names = ", ".join(PROTOCOLS)
        raise UserError(
            f"checkpoint.monitor={config.checkpoint.monitor} must be PROTOCOL.full or PROTOCOL.occluded, "
            f"with a protocol of: {names}"
        )
    if config.data.name == "coco" or config.val.name == "coco":
        raise UserError("data.name=coco has modal masks only, which cannot be trained on; use coco_occlude")


def _resume_from(config: TrainConfig, last: Path) -> str | None:
    if not last.is_file():
        return None
    if not config.checkpoint.resume:
        raise UserError(f"{last.parent} holds a run already and checkpoint.resume is false; choose another out=")
    read_checkpoint(last)  # a damaged file is refused with one clear line
    return str(last)


def _start_from(module: CondDiffAMOModule, name: str) -> None:
    model = load_model(name, "cpu")
    if not isinstance(model, CondDiffAMO):
        raise UserError(f"init={name} has no weights to start from")
    load_state(module.network, model.network.state_dict(), Path(name))


def _trainer(config: TrainConfig, folder: Path, callbacks: list[Any], data: AmodalDataModule) -> L.Trainer:
    options = config.trainer
    if config.optim.ema:
        # between the two: validation sees the average, the checkpoint holds both sets of weights
        callbacks.insert(1, WeightAverage(config.optim.ema))
    if options.progress:
        callbacks.append(ProgressBar(config.trainer.max_steps or 10_000))
    trainer = L.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        precision=_precision(options.precision),  # type: ignore[arg-type]
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
        val_check_interval=1,  # set below, when the number of devices is known
        num_sanity_val_steps=0,
        enable_checkpointing=True,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.val_check_interval = validation_interval(
        data.num_steps(trainer.world_size), config.checkpoint.val_every_steps, options.accumulate
    )
    return trainer


def validation_interval(num_steps: int, every: int, accumulate: int) -> int:
    """Batches between validations: about ``every`` steps, spaced evenly so that the last one stands at the end."""
    times = max(1, round(num_steps / every))
    return max(1, num_steps // times) * accumulate


def _precision(name: str) -> str:
    if name != "auto":
        return name
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def _loggers(config: TrainConfig, folder: Path) -> list[Any]:
    loggers: list[Any] = [CSVLogger(folder, name="metrics", flush_logs_every_n_steps=config.log.every_steps)]
    if config.log.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name="tensorboard"))
        except ModuleNotFoundError as error:
            raise UserError("log.tensorboard=true needs tensorboard: pip install 'amodalseg[track]'") from error
    if config.log.wandb != "off":
        loggers.append(
            WandbLogger(
                project=config.log.project, name=folder.name, save_dir=folder, offline=config.log.wandb == "offline",
                config=to_dict(config),
            )
        )  # fmt: skip
    return loggers
