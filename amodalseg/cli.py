"""The command line: ``amodalseg train | eval | predict | ...``. Every mistake: one clear line, exit code 2."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from amodalseg.errors import UserError

_IN_WORKER = f"{UserError.__module__}.{UserError.__qualname__}: "
"""A mistake met in a loader worker arrives with the worker's traceback as its text, the sentence behind this mark."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line, without the program's name; default: ``sys.argv[1:]``.

    Returns:
        The exit code: 0 done, 1 some items failed and the rest is done, 2 something given was wrong, 130 interrupted.
    """
    warnings.showwarning = _short_warning  # a user wants the sentence, not the line of code it came from
    try:
        options = _parser().parse_args(sys.argv[1:] if arguments is None else list(arguments))
        return options.run(options) or 0
    except UserError as error:
        message = str(error).rpartition(_IN_WORKER)[2]
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; '{self.prog} --help' shows what can be given")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="amodalseg", description="Amodal segmentation: image + visible mask -> whole mask.")
    commands = parser.add_subparsers(dest="command", required=True)
    _configured(commands, "train", "train a model, or go on with a run", _train)
    _configured(commands, "eval", "score models on a data set and write a report", _eval)
    _configured(commands, "cost", "parameters and operations of a training configuration's network", _cost)
    commands.add_parser("models", help="list the models at hand").set_defaults(run=_models)

    _predict_options(commands.add_parser("predict", help="complete objects: pictures, folders of them, or COCO json"))
    release = commands.add_parser("release", help="turn a run's weights into a file to ship")
    release.add_argument("model", metavar="RUN", help="a run folder, a .safetensors file or a .ckpt")
    release.add_argument("--out", required=True, metavar="NAME.safetensors")
    release.add_argument("--about", nargs="*", default=[], metavar="key=value", help="notes to keep in the file")
    release.set_defaults(run=_release)

    export = commands.add_parser("export", help="write a model's whole sampler to one ONNX file, and check it")
    export.add_argument("model", metavar="MODEL", help="a name, a run folder or a file")
    export.add_argument("--out", required=True, metavar="NAME.onnx")
    export.add_argument("--pt2", metavar="NAME.pt2", help="also write the module for torch.export.load")
    export.add_argument("--steps", type=_count, help="of the sampler, fixed in the file (the model's own)")
    export.set_defaults(run=_export)

    data = commands.add_parser("data", help="look at data").add_subparsers(dest="data_command", required=True)
    _configured(data, "ceiling", "what the window alone costs: the true mask through it and back", _ceiling)
    draw = _configured(data, "draw", "draw objects: image, modal mask, hidden part", _draw)
    draw.add_argument("--count", type=_count, default=16, help="number of objects (16)")
    draw.add_argument("--to", default="objects.png", help="picture file (objects.png)")
    return parser


def _configured(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("config", metavar="CONFIG.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options that win over the file's")
    parser.set_defaults(run=run)
    return parser


def _predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a name, a run folder, a file, or hf:owner/name")
    parser.add_argument("--image", help="a photo; with --mask and --out, mask files")
    parser.add_argument("--mask", help="its modal mask, white on black")
    parser.add_argument("--images", help="a folder of photos; with --masks and --out, folders of masks")
    parser.add_argument("--masks", help="their modal masks: NAME.png, NAME_*.png or NAME.*.png for NAME.jpg")
    parser.add_argument("--coco", metavar="JSON", help="instances, or a list of results; with --images and --out")
    parser.add_argument("--coco-images", metavar="JSON", help="a COCO file with the images of a list of results")
    parser.add_argument("--out", required=True, help="a .png file, a folder, or a .json file")
    parser.add_argument("--overlay", metavar="DIR", help="also draw each photo with its completed objects")
    parser.add_argument("--overwrite", action="store_true", help="begin anew instead of keeping what is there")
    parser.add_argument("--seed", type=_whole, default=0, help="of every random draw (0)")
    parser.add_argument("--num-samples", type=_count, default=1, help="draws of each object, averaged (1)")
    parser.add_argument("--steps", type=_count, help="of the sampler (the model's own)")
    parser.add_argument("--batch-size", type=_count, default=16, help="draws in one run of the network (16)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (auto)")
    parser.set_defaults(run=_predict)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)


def _short_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


# each command imports what it needs: --help and a misspelt key must not wait for torch


def _train(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import TrainConfig

    config = load_config(TrainConfig, options.config, options.overrides)
    from amodalseg.engine.train import train

    print(f"model: {train(config)}")


def _eval(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import EvalConfig

    config = load_config(EvalConfig, options.config, options.overrides)
    from amodalseg.engine.evaluate import run_evaluation

    run_evaluation(config)


def _cost(options: argparse.Namespace) -> None:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import TrainConfig

    model = load_config(TrainConfig, options.config, options.overrides).model
    from amodalseg.models.conddiff_amo.cost import describe_cost

    print(f"{model.pcn.backbone}, width {model.dn.dim}, {model.window.size} px, one evaluation of one window")
    for part, parameters, gflop in describe_cost(model):
        print(f"  {part:14s} {parameters / 1e6:7.2f} M parameters {gflop:7.2f} GFLOP")


def _predict(options: argparse.Namespace) -> int:
    from pathlib import Path

    given = {name for name in ("image", "mask", "images", "masks", "coco", "coco_images") if getattr(options, name)}
    if given - {"coco_images"} not in ({"image", "mask"}, {"images", "masks"}, {"coco", "images"}) or (
        "coco_images" in given and "coco" not in given
    ):
        raise UserError("give --image and --mask, or --images and --masks, or --coco and --images (and --coco-images)")
    from amodalseg.engine.predict import Settings, predict_file, predict_folder, report_failures
    from amodalseg.engine.predict_coco import predict_coco
    from amodalseg.models import load_model

    model = load_model(options.model, options.device)
    model.batch_size = options.batch_size
    overlay = Path(options.overlay) if options.overlay else None
    settings = Settings(options.seed, options.num_samples, options.steps, overlay, options.overwrite)
    out, failures = Path(options.out), []
    if options.coco:
        listing = Path(options.coco_images) if options.coco_images else None
        failures = predict_coco(model, Path(options.coco), Path(options.images), out, settings, listing)
    elif options.masks:
        failures = predict_folder(model, Path(options.images), Path(options.masks), out, settings)
    else:
        predict_file(model, Path(options.image), Path(options.mask), out, settings)
    return report_failures(failures)


def _release(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.engine.release import release

    release(options.model, Path(options.out), options.about)


def _export(options: argparse.Namespace) -> None:
    from amodalseg.export.write import export_model
    from amodalseg.models import load_model

    for comparison in export_model(load_model(options.model, "cpu"), options.out, pt2=options.pt2, steps=options.steps):
        print(comparison)


def _models(options: argparse.Namespace) -> None:
    from amodalseg.models import list_models

    print("\n".join(list_models()))


def _source(options: argparse.Namespace) -> tuple[Any, Any]:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import EvalConfig
    from amodalseg.data.dataset import EvaluationSet, open_source

    config = load_config(EvalConfig, options.config, [*options.overrides, "out=unused"])
    dataset = EvaluationSet(open_source(config.data), config.seed)
    if len(dataset) == 0:
        raise UserError(f"the data set '{config.data.name}' holds no object")
    return config, dataset


def _ceiling(options: argparse.Namespace) -> None:
    from dataclasses import replace
    from pathlib import Path

    from amodalseg.config.schema import WindowConfig
    from amodalseg.data.window import geometry_ceiling

    config, dataset = _source(options)
    # the window needs masks only; the pixels of a whole data set would not fit into memory
    records = [replace(dataset[i][0], image=Path("-"), whole_rgb=None) for i in range(len(dataset))]
    print(f"{config.data.name}: {len(records)} objects, true mask through the window and back, per_object means")
    for kind in ("square", "c2f"):
        for size in (96, 128, 256, 512):
            found = geometry_ceiling(records, WindowConfig(size=size, kind=kind))
            full = [row["full"] for row in found]
            hidden = [row["occluded"] for row in found if row["occluded"] is not None]
            text = f"occluded {100 * sum(hidden) / len(hidden):.1f}" if hidden else "no occluded object"
            print(f"  {kind:6s} {size:4d} px: full {100 * sum(full) / len(full):.1f}, {text}")


def _draw(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.data.images import save_png
    from amodalseg.report.pictures import record_grid

    target = Path(options.to)
    if target.suffix.lower() != ".png" or target.is_dir():
        raise UserError(f"--to '{options.to}' is no picture file; give a name that ends in .png")
    _, dataset = _source(options)
    records = [dataset[i][0] for i in range(min(options.count, len(dataset)))]
    save_png(target, record_grid(records))
    print(f"{len(records)} objects: {target}")


if __name__ == "__main__":
    sys.exit(main())
