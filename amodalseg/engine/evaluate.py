"""Infer once, count integers, derive every number."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from tqdm import tqdm

from amodalseg import masks
from amodalseg.config.schema import EvalConfig
from amodalseg.data.dataset import EvaluationSet, RecordList, open_source
from amodalseg.data.module import as_list, batches_of_rank
from amodalseg.engine.distributed import gather
from amodalseg.engine.run_folder import check_folder, claim, provenance
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.metrics.counts import count_object, write_rows
from amodalseg.metrics.protocols import score, summarize
from amodalseg.models import load_model
from amodalseg.models.base import AmodalModel
from amodalseg.types import AmodalRecord

Answers = list[tuple[dict[str, Any], Rle]]
"""Row and predicted amodal mask of each object, in the data set's order."""


def evaluate(model: AmodalModel, records: Sequence[AmodalRecord], *, seed: int = 0, batch_size: int = 16) -> dict:
    """Score a model on records.

    Args:
        model: any model.
        records: with amodal masks.
        seed: of the sampling noise; each object's own seed follows from it and the object's key.
        batch_size: objects handed to the model at once.

    Returns:
        ``{"rows": one dict per object, "scores": {protocol: {name: value}}}``.
    """
    dataset = EvaluationSet(RecordList(records), seed)
    rows = [row for row, _ in answers(model, dataset, batch_size)]
    return {"rows": rows, "scores": score(rows)}


def answers(
    model: AmodalModel, dataset: EvaluationSet, batch_size: int, *, num_workers: int = 0, rank: int = 0,
    world: int = 1, progress: bool = False, limit: int | None = None,
) -> Answers:  # fmt: skip
    """Ask the model about every object, this rank's share of them, and collect all ranks' answers.

    Args:
        model, dataset: who is asked, and what.
        batch_size, num_workers: of the loader.
        rank, world: this process and the number of processes.
        progress: show a bar (on rank 0).
        limit: only the first objects.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    batches = batches_of_rank(count, batch_size, rank, world)
    loader: DataLoader = DataLoader(
        dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=as_list  # type: ignore[arg-type]
    )  # fmt: skip
    found: list[tuple[int, dict[str, Any], Rle]] = []
    bar = tqdm(total=count, desc=model.name, unit="object", disable=not progress or rank > 0)
    for batch, indices in zip(loader, batches, strict=True):
        predictions = model.predict_batch([query for _, query in batch])
        for index, (record, _), prediction in zip(indices, batch, predictions, strict=True):
            found.append((index, count_object(record, prediction, model.name), masks.encode(prediction.amodal)))
        bar.update(len(batch) * world)
    bar.close()
    everywhere = sorted(gather(found), key=lambda item: item[0])
    assert [index for index, _, _ in everywhere] == list(range(count)), "each object is answered exactly once"
    return [(row, rle) for _, row, rle in everywhere]


def run_evaluation(config: EvalConfig) -> Path:
    """Evaluate several models on one data set and write the report.

    Writes ``objects.csv``, ``metrics.json``, ``report.md`` and ``report.html`` to ``config.out``.

    Returns:
        The folder.

    Raises:
        UserError: whatever is wrong with the configuration, a model, the data or the folder.
    """
    if not config.models:
        raise UserError("models is empty; give some, for instance models=[modal,convex_hull,outputs/run]")
    if len(set(config.models)) != len(config.models):
        raise UserError(f"models names one model twice: {', '.join(config.models)}")
    # all that can be wrong is found before the first object is predicted
    device = {"auto": "auto", "gpu": "cuda"}.get(config.trainer.accelerator, config.trainer.accelerator)
    models = [_open_model(name, config) for name in config.models]
    dataset = EvaluationSet(open_source(config.data), config.seed)
    _check_data(config, dataset)
    folder = Path(config.out)
    check_folder(folder, config)
    rank, world, place, finish = _processes(config, device)
    claim(folder, config)

    every: dict[str, Answers] = {}
    curves: dict[str, list[tuple[int, float | None, float | None]]] = {}
    for model in models:
        place(model)
        options: dict[str, Any] = {
            "num_workers": config.loader.num_workers, "rank": rank, "world": world,
            "progress": config.trainer.progress,
        }  # fmt: skip
        every[model.name] = answers(model, dataset, config.loader.batch_size, **options)
        if config.report.html and config.report.steps_curve and hasattr(model, "override"):
            curves[model.name] = _steps_curve(model, dataset, config, options, every[model.name])
        if hasattr(model, "to"):
            model.to("cpu")  # room for the next one
    if rank == 0:
        _write(config, folder, dataset, every, curves)
    finish()
    return folder


def _open_model(name: str, config: EvalConfig) -> AmodalModel:
    model = load_model(name, "cpu")
    model.name = name
    if config.override:
        if hasattr(model, "override"):
            model.override(config.override)
        else:
            warnings.warn(f"override has no effect on '{name}', which does not sample", stacklevel=2)
    return model


def _check_data(config: EvalConfig, dataset: EvaluationSet) -> None:
    if config.data.name == "coco":
        raise UserError(
            "data.name=coco has modal masks only, so there is nothing to score against; use coco_occlude to make "
            "amodal truth from whole objects"
        )
    if len(dataset) == 0:
        raise UserError(f"the data set '{config.data.name}' holds no object to evaluate")
    if dataset.num_unprompted:
        print(f"{dataset.num_unprompted} objects have no visible pixel: they cannot be asked for and are left out")


def _processes(config: EvalConfig, device: str) -> tuple[int, int, Callable[[AmodalModel], None], Callable[[], None]]:
    """(rank, number of processes, how to put a model on this process's device, what to call at the end)."""

    def mover(target: str) -> Callable[[AmodalModel], None]:
        def place(model: AmodalModel) -> None:
            if hasattr(model, "to"):
                model.to(target)

        return place

    options = config.trainer
    launched = "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ  # by torchrun or srun
    if options.devices in ("auto", 1, "1") and options.num_nodes == 1 and not launched:
        from amodalseg.models import pick_device

        return 0, 1, mover(pick_device(device)), lambda: None
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    strategy = "ddp" if options.strategy == "auto" else options.strategy
    try:
        fabric = Fabric(
            accelerator=options.accelerator, devices=options.devices, num_nodes=options.num_nodes, strategy=strategy
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"Lightning refuses the trainer.* options: {str(error)[:300]}") from error
    fabric.launch()
    return fabric.global_rank, fabric.world_size, mover(str(fabric.device)), fabric.barrier


def _steps_curve(
    model: Any, dataset: EvaluationSet, config: EvalConfig, options: dict[str, Any], known: Answers
) -> list[tuple[int, float | None, float | None]]:
    """(steps, full, occluded) by ``per_object_occluded`` on the first objects; ``known`` are those at usual steps."""
    usual, limit, points = model.config.sampler.steps, config.report.steps_objects, []
    for steps in config.report.steps_curve:
        if steps == usual:
            found = known[:limit]
        else:
            model.override({"sampler": {"steps": steps}})
            found = answers(model, dataset, config.loader.batch_size, **{**options, "progress": False}, limit=limit)
        scores = score([row for row, _ in found])["per_object_occluded"]
        points.append((steps, scores["full"], scores["occluded"]))
    model.override({"sampler": {"steps": usual}})
    return points


def _write(
    config: EvalConfig, folder: Path, dataset: EvaluationSet, every: dict[str, Answers], curves: dict[str, list]
) -> None:
    # the report's drawing libraries are needed by one process, at the end
    from amodalseg.report.build import build_report
    from amodalseg.report.table import plain_table, write_metrics

    rows = [row for found in every.values() for row, _ in found]
    results = summarize(rows)
    write_rows(folder / "objects.csv", rows)
    write_metrics(folder / "metrics.json", results)
    print(plain_table(results))
    about = {"command": shlex.join(sys.argv), "num_unprompted": dataset.num_unprompted}
    report = build_report(config, folder, dataset, every, results, curves, {**about, **provenance()})
    print(f"report: {report}")
