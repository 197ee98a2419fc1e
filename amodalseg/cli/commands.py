"""The command line: ``amodalseg train | eval | predict | ...``. User errors print one line and exit with 2."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import amodalseg
from amodalseg.atomic import NO_SPACE
from amodalseg.cli.arguments import Parser, configured, count, whole_number
from amodalseg.cli.data import add_data_commands, data_config, named_set
from amodalseg.cli.demo import add_demo_command
from amodalseg.cli.merge import add_merge_command
from amodalseg.cli.models import cost, list_models
from amodalseg.cli.move import add_move_command
from amodalseg.cli.predict import add_predict_command
from amodalseg.cli.scene import add_scene_command
from amodalseg.errors import UserError, explain_missing
from amodalseg.ranks import is_first_process

_IN_WORKER = f"{UserError.__module__}.{UserError.__qualname__}: "
"""A UserError raised in a loader worker arrives with the worker's traceback; its message follows this mark."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: command-line arguments without the program's name; default: ``sys.argv[1:]``.

    Returns:
        The exit code: 0 success, 1 some items failed and the others are done, 2 invalid input, 130 interrupted, 141
        nobody reads standard output any more.
    """
    try:
        with _first_process_prints():
            try:
                return _run(arguments)
            finally:
                sys.stdout.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        if (gone and not _stdout_is_closed()) or (not gone and error.errno not in NO_SPACE):
            raise  # a pipe other than standard output, or a fault other than a full disk
        if not gone:
            print(f"error: cannot write to standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter quiet at exit
        return 141 if gone else 2


def _stdout_is_closed() -> bool:
    """Whether nobody reads standard output any more, as after `| head`."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError):  # Windows has no poll and no such pipes; captured output has no file descriptor
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextlib.contextmanager
def _first_process_prints() -> Iterator[None]:
    """Only the first process of a run prints; the others report errors only."""
    if is_first_process():
        yield
        return
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _run(arguments: Sequence[str] | None) -> int:
    warnings.showwarning = _short_warning  # a user needs the sentence, not the line of code that raised it
    options = argparse.Namespace(command="")
    try:
        options = _parse(sys.argv[1:] if arguments is None else list(arguments))
        with _messages_shown():
            return options.run(options) or 0
    except UserError as error:
        message = str(error).rpartition(_IN_WORKER)[2]
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        told = explain_missing(error, f"'amodalseg {options.command}'")
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in NO_SPACE:
            where = "" if error.filename is None else f" {error.filename}"
            print(f"error: cannot write{where}: {error.strerror}", file=sys.stderr)
            return 2
        if error.filename is None:  # not about a file
            raise
        # a folder without permission or a name that is too long: possible wherever a file is looked up
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
        print(f"error: cannot open {name:.300}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("; ".join(["interrupted", *map(str, stop.args)]), file=sys.stderr)  # with what to do, if known
        return 130


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the arguments; ``key=value`` may also follow options, where argparse itself no longer accepts them."""
    parser = _parser()
    options, behind = parser.parse_known_args(arguments)
    values = next((getattr(options, name) for name in ("overrides", "rest") if hasattr(options, name)), None)
    if behind and (values is None or any(item.startswith("-") or "=" not in item for item in behind)):
        parser.error(f"unrecognized arguments: {' '.join(behind)}")
    if values is not None:
        values += behind
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="amodalseg", description="Amodal segmentation: image + modal mask -> amodal mask.")
    parser.add_argument("--version", action="version", version=f"amodalseg {amodalseg.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    configured(commands, "train", "train a model, or resume a run", _train, "photos_tiny")
    configured(commands, "eval", "score models on a data set and write a report", _eval, "photos")
    text = "fit how models' probabilities are calibrated, on a data set"
    configured(commands, "calibrate", text, _calibrate, "calibration")
    configured(
        commands,
        "edit",
        "edit regions of a photo by text prompts, or generate a picture before and after the edit",
        _edit,
        "add",
    )
    text = "count the parameters and operations of one evaluation of a network"
    price = commands.add_parser("cost", help=text, description=text)
    price.add_argument("model", metavar="MODEL", help="a name, a run folder or a file; or a training configuration")
    price.add_argument("overrides", nargs="*", metavar="key=value", help="other options: model.window.size=128")
    price.set_defaults(run=cost)
    models = commands.add_parser("models", help="list the available models: name, size, description")
    models.add_argument("-v", "--verbose", action="store_true", help="also show the metadata of the weights")
    models.set_defaults(run=_models)

    add_predict_command(commands)
    add_merge_command(commands)
    add_move_command(commands)
    add_scene_command(commands)
    add_demo_command(commands)
    release = commands.add_parser("release", help="convert a run's weights into a file for release")
    release.add_argument("model", metavar="RUN", help="a run folder, a .safetensors file or a .ckpt")
    release.add_argument(
        "--out", required=True, metavar="NAME.safetensors", help="output file; for an inpainting prior, a folder"
    )
    release.add_argument(
        "--mean-with", metavar="MODEL", help="a second model with the same options: average the weights of both"
    )
    release.add_argument("--share", type=float, default=0.5, help="weight of the second model in that average (0.5)")
    release.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="key=value",
        help="options of sampling and post-processing, for instance sampler.steps=2",
        dest="options",
    )
    release.add_argument("--about", nargs="*", default=[], metavar="key=value", help="notes to keep in the file")
    release.set_defaults(run=_release)

    export = commands.add_parser("export", help="write a model's whole sampler to one ONNX file, and verify it")
    export.add_argument("model", metavar="MODEL", help="a name, a run folder or a file")
    export.add_argument("--out", required=True, metavar="NAME.onnx")
    export.add_argument("--pt2", metavar="NAME.pt2", help="also write the module for torch.export.load")
    export.add_argument("--steps", type=count, help="sampler steps, fixed in the file (the model's own)")
    export.add_argument("--size", type=count, help="side of the window, fixed in the file, pixels (the model's own)")
    export.add_argument(
        "--graph-only", action="store_true", help="write only the graph; the weights stay in NAME.safetensors beside it"
    )
    export.set_defaults(run=_export)

    _score_options(commands)
    data = commands.add_parser("data", help="inspect, check and convert data sets")
    add_data_commands(data.add_subparsers(dest="data_command", required=True))
    return parser


def _score_options(commands: Any) -> None:
    text = "compare two models object by object, from the results of eval"
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument("a", metavar="A/objects.csv", help="objects.csv of an evaluation, or its folder")
    compare.add_argument("b", metavar="B/objects.csv", nargs="?", help="the same of another evaluation (default: A)")
    compare.add_argument("--model-a", metavar="NAME", help="which model of A (needed if it holds several)")
    compare.add_argument("--model-b", metavar="NAME", help="which model of B")
    compare.add_argument(
        "--out", metavar="FOLDER", help="folder for compare.md and compare.html (default: compare, beside B)"
    )
    compare.add_argument("--pictures", type=whole_number, default=6, help="objects shown per direction (6)")
    compare.set_defaults(run=_compare)

    ap = named_set(commands, "ap", "score a detector's amodal masks by average precision", _ap)
    ap.add_argument("--results", required=True, metavar="JSON", help="a list of COCO results with amodal masks")


def _short_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def _messages_shown() -> Iterator[None]:
    """While a command runs, send the package's messages to standard output, one plain line each."""
    logger, handler = logging.getLogger("amodalseg"), logging.StreamHandler(sys.stdout)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # otherwise a library that configures the root logger would print them twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


# each command imports what it needs, so that --help and a misspelt key need not wait for torch


def _train(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import TrainConfig

    config = load_config(TrainConfig, options.config, options.overrides)
    from amodalseg.engine.training.train import train

    print(f"model: {train(config)}")


def _eval(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import EvalConfig

    config = load_config(EvalConfig, options.config, options.overrides)
    from amodalseg.engine.evaluation.evaluate import run_evaluation

    run_evaluation(config)


def _calibrate(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import EvalConfig

    config = load_config(EvalConfig, options.config, options.overrides)
    from amodalseg.engine.evaluation.calibrate import calibrate

    calibrate(config)


def _edit(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import EditConfig

    config = load_config(EditConfig, options.config, options.overrides)
    from amodalseg.engine.prediction.edit import run_edit

    run_edit(config)


def _compare(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.engine.evaluation.compare_runs import compare

    out = Path(options.out) if options.out else None
    compare(Path(options.a), Path(options.b or options.a), options.model_a, options.model_b, out, options.pictures)


def _ap(options: argparse.Namespace) -> None:
    from pathlib import Path

    config = data_config(options)
    from amodalseg.engine.evaluation.average_precision import score_results
    from amodalseg.report.table import percent

    for protocol, figures in score_results(config, Path(options.results)).items():
        print(f"{config.name}, {protocol}, percent")
        print("\n".join(f"  {name:24s} {percent(value):>6s}" for name, value in figures.items()))


def _release(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.engine.release import release

    release(options.model, Path(options.out), options.about, options.mean_with, options.share, options.options)


def _export(options: argparse.Namespace) -> None:
    from amodalseg.export.write import export_model
    from amodalseg.models import load_model

    given = {"pt2": options.pt2, "steps": options.steps, "size": options.size, "graph_only": options.graph_only}
    for comparison in export_model(load_model(options.model, "cpu"), options.out, **given):
        print(comparison)


def _models(options: argparse.Namespace) -> None:
    list_models(options)


if __name__ == "__main__":
    sys.exit(main())
