"""Predict once, count pixels, derive every number."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amodalseg.config.schema import EvalConfig
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.source import RecordList
from amodalseg.engine.distributed import accelerator_of, check_processes, device_of, gather, peers_watched
from amodalseg.engine.evaluation.average_precision import add_detection
from amodalseg.engine.evaluation.collect import (
    PREDICTIONS_FILE,
    CountedPredictions,
    collect_predictions,
    write_predictions,
)
from amodalseg.engine.evaluation.prediction_store import Curve, PredictionStore
from amodalseg.engine.evaluation.sets import JoinedSources, OpenSet, open_sets
from amodalseg.engine.evaluation.truth import Truth
from amodalseg.engine.run_folder import check_folder, claim, flat, provenance
from amodalseg.errors import UserError
from amodalseg.lock import locked
from amodalseg.metrics.calibration import calibration
from amodalseg.metrics.counts import Row, write_rows
from amodalseg.metrics.protocols import score, summarize
from amodalseg.models import load_model
from amodalseg.models.base import AmodalModel
from amodalseg.models.fingerprint import YAML
from amodalseg.models.windowed import WindowModel
from amodalseg.ranks import is_first_process
from amodalseg.report.table import result_key, rows_by_result
from amodalseg.types import AmodalRecord

IF_INTERRUPTED = "run the same command again to continue after the objects that are predicted"


def evaluate(
    model: str | Path | AmodalModel, records: Sequence[AmodalRecord], *, seed: int = 0, batch_size: int = 16,
    num_samples: int = 1,
) -> dict:  # fmt: skip
    """Score a model on records.

    Args:
        model: any model, or anything that ``load_model`` accepts.
        records: with amodal masks.
        seed: of the sampling noise; each object's own seed is derived from it and the object's key.
        batch_size: objects given to the model at once.
        num_samples: samples per object, for models that sample.

    Returns:
        ``{"rows": one dict per object, "scores": {protocol: {name: value}}}``.
    """
    model = model if isinstance(model, AmodalModel) else load_model(model)
    dataset = EvaluationSet(RecordList(records), seed)
    rows = [counted.row for counted in collect_predictions(model, dataset, batch_size, num_samples=num_samples)]
    return {"rows": rows, "scores": score(rows)}


def run_evaluation(config: EvalConfig) -> Path:
    """Evaluate several models on one data set, or on several in turn, and write the report.

    Writes ``objects.csv``, ``metrics.json``, ``predictions.json``, ``report.md`` and ``report.html`` to ``config.out``.
    Predictions for each data set are stored there, in ``answers``: a killed evaluation continues from them when it is
    repeated, and an evaluation with additional ``models`` runs only the new ones.

    Returns:
        The folder.

    Raises:
        UserError: something is wrong with the configuration, a model, the data or the folder.
    """
    if not config.models:
        raise UserError("models is empty; give some, for instance models=[modal,convex_hull,outputs/run]")
    if len(set(config.models)) != len(config.models):
        raise UserError(f"models lists one model twice: {', '.join(config.models)}")
    # every possible mistake is detected before the first object is predicted
    device = device_of(config.trainer.accelerator)
    sources = _names(config.models)
    models = [_open_model(source, name, config) for name, source in sources.items()]
    sets = open_sets(config)
    folder = Path(config.out)
    check_folder(folder, config)
    check_processes(config.trainer)
    with locked(folder, "out=", hold=is_first_process()):
        rank, world, device, finish, launcher = _processes(config, device)
        with peers_watched(launcher, lambda: IF_INTERRUPTED):
            _run(config, folder, sources, models, sets, rank, world, device)
            finish()
    return folder


def _run(
    config: EvalConfig,
    folder: Path,
    sources: dict[str, str],
    models: list[AmodalModel],
    sets: list[OpenSet],
    rank: int,
    world: int,
    device: str,
) -> None:
    claim(folder, config)

    store = PredictionStore(folder, sources, config.override)
    every: dict[str, CountedPredictions] = {model.name: [] for model in models}
    curves: dict[str, Curve] = {}
    options: dict[str, Any] = {
        "num_workers": config.loader.num_workers, "rank": rank, "world": world, "progress": config.trainer.progress,
        "num_samples": config.num_samples,
    }  # fmt: skip
    for opened in sets:
        for model in models:
            kept = store.load(model.name, opened.name, opened.dataset) if rank == 0 else None
            if not gather([True] if kept else []):  # all processes follow the first one's answer
                done = gather(store.load_parts(model.name, opened.name, opened.dataset) if rank == 0 else [])
                parts = store.write_parts(model.name, opened.name, opened.dataset)
                model.to(device)
                title = f"{model.name} on {opened.name}" if config.sets else model.name
                try:
                    found = collect_predictions(
                        model, opened.dataset, config.loader.batch_size, title=title, done=done, keep=parts.add,
                        **options,
                    )  # fmt: skip
                except BaseException as error:
                    parts.write()
                    if isinstance(error, KeyboardInterrupt):
                        raise KeyboardInterrupt(IF_INTERRUPTED) from None
                    raise
                kept = found, _steps_curve(model, opened, config, options, found) if opened is sets[0] else []
                model.to("cpu")  # frees memory for the next model
                if rank == 0:
                    store.save(model.name, opened.name, opened.dataset, *kept)
            if kept:
                every[model.name] += kept[0]
                curves |= {model.name: kept[1]} if kept[1] else {}
    if rank == 0:
        _write(config, folder, sets, models, every, curves)
        store.tidy()


def _add_calibration(results: list[dict], rows: Sequence[Row]) -> None:
    """``calibration`` of models with probabilities: ``error`` (ECE), and pixels, true pixels and mean of each bin."""
    behind = rows_by_result(rows)
    for result in results:
        found = calibration(row["calibration"] for row in behind[result_key(result)])
        if found is not None:
            means = [None if np.isnan(value) else round(float(value), 6) for value in found.mean]
            result["calibration"] = {
                "error": found.error, "missed": found.missed, "pixels": found.pixels.tolist(),
                "true": found.true.tolist(), "mean": means,
            }  # fmt: skip


def _names(entries: Sequence[str]) -> dict[str, str]:
    """Map each model's name in reports to what ``load_model`` opens.

    A file that describes a model is called by its stem; if another model has that name, by its folder and stem.
    """
    stems = [Path(entry).stem if entry.endswith(YAML) else entry for entry in entries]
    sources: dict[str, str] = {}
    for entry, name in zip(entries, stems, strict=True):
        if stems.count(name) > 1 and entry.endswith(YAML):
            name = f"{Path(os.path.abspath(entry)).parent.name}_{name}"
        if name in sources:
            raise UserError(f"models {sources[name]} and {entry} would both be called '{name}'; rename a file")
        sources[name] = entry
    return sources


def _open_model(source: str, name: str, config: EvalConfig) -> AmodalModel:
    model = Truth() if source == Truth.name else load_model(source, "cpu", config.override)
    model.name = name
    model.warn_if_unused(config.num_samples, None)
    if config.override and not flat(model.override(config.override)):
        warnings.warn(f"override has no effect on '{name}', which has none of these options", stacklevel=2)
    return model


def _processes(config: EvalConfig, device: str) -> tuple[int, int, str, Callable[[], object], Any]:
    """(rank, number of processes, this process's device, what to call at the end, Lightning's launcher)."""
    options = config.trainer
    launched = "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ  # by torchrun or srun
    if options.devices in ("auto", 1, "1") and options.num_nodes == 1 and not launched:
        from amodalseg.models import pick_device

        return 0, 1, pick_device(device), lambda: None, None
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    strategy = "ddp" if options.strategy == "auto" else options.strategy
    try:
        fabric = Fabric(
            accelerator=accelerator_of(options), devices=options.devices, num_nodes=options.num_nodes, strategy=strategy
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"Lightning refuses the trainer.* options: {str(error)[:300]}") from error
    fabric.launch()
    return fabric.global_rank, fabric.world_size, str(fabric.device), fabric.barrier, fabric.strategy.launcher


def _steps_curve(
    model: AmodalModel, opened: OpenSet, config: EvalConfig, options: dict[str, Any], known: CountedPredictions
) -> Curve:
    """(steps, full, occluded) by ``per_object_occluded`` on the first objects; ``known`` are those at usual steps."""
    sampler = getattr(model.config, "sampler", None)
    fixed = isinstance(model, WindowModel) and "sampler" not in model.sections  # an exported file's steps
    if fixed or not (config.report.html and config.report.steps_curve and sampler):
        return []
    usual, limit, points = sampler.steps, config.report.steps_objects, []
    for steps in config.report.steps_curve:
        if steps == usual:
            found = known[:limit]
        else:
            model.override({"sampler": {"steps": steps}})
            more = {**options, "progress": False, "limit": limit}
            found = collect_predictions(model, opened.dataset, config.loader.batch_size, **more)
        scores = score([counted.row for counted in found])["per_object_occluded"]
        points.append((steps, scores["full"], scores["occluded"]))
    model.override({"sampler": {"steps": usual}})
    return points


def _write(
    config: EvalConfig,
    folder: Path,
    sets: list[OpenSet],
    models: list[AmodalModel],
    every: dict[str, CountedPredictions],
    curves: dict[str, Curve],
) -> None:
    # only one process needs the report's plotting libraries, at the end
    from amodalseg.report.build import build_report
    from amodalseg.report.table import plain_table, write_metrics

    rows = [counted.row for found in every.values() for counted in found]
    results = summarize(rows)
    add_detection(results, sets, every)
    _add_calibration(results, rows)
    write_predictions(folder / PREDICTIONS_FILE, every)
    write_metrics(folder / "metrics.json", results)
    write_rows(folder / "objects.csv", rows)
    print(plain_table(results))
    adapted = {model.name: f"an adaptation of {model.adaptation}" for model in models if model.adaptation}
    print("".join(f"{name}: {what}\n" for name, what in adapted.items()), end="")
    unprompted = {opened.name: opened.dataset.num_unprompted for opened in sets}
    about = {"command": shlex.join(sys.argv), "num_unprompted": unprompted, **provenance()}
    about |= {"adaptations": adapted} if adapted else {}
    joined = EvaluationSet(JoinedSources([opened.dataset.source for opened in sets]), config.seed)
    report = build_report(config, folder, joined, every, results, curves, about)
    print(f"report: {report}")
