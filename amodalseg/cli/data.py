"""The subcommands of ``amodalseg data``."""

from __future__ import annotations

import argparse
from typing import Any

from amodalseg.cli.arguments import count
from amodalseg.errors import UserError


def add_data_commands(commands: Any) -> None:
    """Add the parsers. Args: commands, the subparsers of ``amodalseg data``."""
    named_set(
        commands, "ceiling", "upper bound set by the window: scores of the true mask after window and back", _ceiling
    )
    text = "check whether a data set on disk is the one that papers used"
    check = named_set(commands, "check", text, _check, "every split whose files exist")
    check.add_argument(
        "--subset",
        action="store_true",
        help="the data set is incomplete on purpose: report counts, but do not judge them",
    )
    check.add_argument("--all", action="store_true", help="open every object instead of a sample")
    check.add_argument("--draw", nargs=2, metavar=("N", "NAME.png"), help="draw N objects: image, modal, amodal")
    text = "convert any data set to two plain COCO files, modal and amodal; also SET=labelme and SET=mp3d-pickle"
    convert = named_set(commands, "convert", text, _convert)
    convert.add_argument("--out", required=True, metavar="FOLDER", help="a new folder (mp3d-pickle: a new json file)")
    convert.add_argument(
        "--copy-photos", action="store_true", help="copy the photos into it; by default they stay where they are"
    )
    stats = named_set(
        commands, "stats", "print occlusion rates, sizes and categories, from the annotations alone", _stats
    )
    stats.add_argument("--to", metavar="NAME.png", help="also save a figure")
    shard = named_set(commands, "shard", "pack a data set into tar files, for random access or streaming", _shard)
    shard.add_argument("--out", required=True, metavar="FOLDER", help="a new folder")
    shard.add_argument("--size", type=count, default=256, metavar="MB", help="size of a tar file (256)")
    shard.add_argument("--no-whole", action="store_true", help="leave out the pictures of whole objects")
    text = "score trivial predictions by every protocol: the given mask, its box, the true mask through a window"
    protocols = named_set(commands, "protocols", text, _protocols)
    protocols.add_argument("--csv", metavar="NAME.csv", help="also write the rows that the scores are computed from")
    draw = named_set(commands, "draw", "draw objects: image, modal mask, occluded region", _draw)
    draw.add_argument("--count", type=count, default=16, help="number of objects (16)")
    draw.add_argument("--to", default="objects.png", help="picture file (objects.png)")


def named_set(
    commands: Any, name: str, text: str, run: Any, part: str = "the data set's usual test split"
) -> argparse.ArgumentParser:
    """Add a command that takes a data set by name and folder, or an evaluation's configuration file."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument(
        "set", metavar="SET", help="name of a data set ('cocoa', ...), or CONFIG.yaml with a data section"
    )
    parser.add_argument(
        "rest", nargs="*", metavar="ROOT key=value", help="its folder or file, and options of the data section"
    )
    parser.add_argument("--split", help=f"which split ({part})")
    parser.set_defaults(run=run)
    return parser


def data_config(options: argparse.Namespace) -> Any:
    """The data configuration given by ``SET ROOT key=value --split S``."""
    from amodalseg.config.load import build, load_config, read_overrides
    from amodalseg.config.schema import DataOnly, EvalConfig

    given = [item for item in options.rest if "=" not in item]
    overrides = [f"data.{item.removeprefix('data.')}" for item in options.rest if "=" in item]
    overrides += [] if options.split is None else [f"data.split={options.split}"]
    if options.set.endswith((".yaml", ".yml")):
        if given:
            raise UserError(f"{options.set} names its own folders; give data.root=... instead of '{given[0]}'")
        return _with_one_set(load_config(EvalConfig, options.set, [*overrides, "out=unused"]), options.set).data
    if len(given) > 1:
        raise UserError(f"one folder or file is expected, not {len(given)}: {', '.join(given)}")
    named = {"data": {"name": options.set, **({"root": given[0]} if given else {})}}
    return build(DataOnly, [("the command line", named), ("the command line", read_overrides(overrides))]).data


def _with_one_set(config: Any, path: str) -> Any:
    if config.data is None:
        raise UserError(f"{path} holds several data sets ({', '.join(config.sets)}); give one, in a data section")
    return config


# each command imports what it needs, so that --help and a misspelt key need not wait for heavy libraries


def _objects(options: argparse.Namespace) -> tuple[str, Any]:
    """A data set's name and its objects."""
    from amodalseg.data.dataset import EvaluationSet
    from amodalseg.data.open import open_source

    config = data_config(options)
    dataset = EvaluationSet(open_source(config), 0)
    if len(dataset) == 0:
        raise UserError(f"the data set '{config.name}' contains no objects")
    return config.name, dataset


def _ceiling(options: argparse.Namespace) -> None:
    from dataclasses import replace
    from pathlib import Path

    from amodalseg.config.schema import WindowConfig
    from amodalseg.data.window import geometry_ceiling

    name, dataset = _objects(options)
    # the window needs masks only; the pixels of a whole data set would not fit into memory
    records = [
        replace(dataset[i][0], image=Path("-"), whole_rgb=None, move=None, edit=None) for i in range(len(dataset))
    ]
    print(f"{name}: {len(records)} objects, true mask through the window and back, per_object means")
    for kind in ("square", "c2f"):
        for size in (96, 128, 256, 512):
            found = geometry_ceiling(records, WindowConfig(size=size, kind=kind))
            full = [row["full"] for row in found]
            hidden = [row["occluded"] for row in found if row["occluded"] is not None]
            text = f"occluded {100 * sum(hidden) / len(hidden):.1f}" if hidden else "no occluded object"
            print(f"  {kind:6s} {size:4d} px: full {100 * sum(full) / len(full):.1f}, {text}")


def _check(options: argparse.Namespace) -> int:
    from pathlib import Path

    from amodalseg.data.check.examine import describe, examine

    number, picture = 0, None
    if options.draw:
        try:
            number, picture = count(options.draw[0]), Path(options.draw[1])
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--draw takes a number of objects and a picture file: {error}") from error
        if picture.suffix.lower() != ".png" or picture.is_dir():
            raise UserError(f"--draw '{picture}' is not a picture file; give a name that ends in .png")
    config = data_config(options)
    named = options.split is not None or any(item.startswith(("split=", "data.split=")) for item in options.rest)
    found = examine(config, [config.split] if named else None, subset=options.subset, every=options.all, draw=number)
    print(f"{config.name} in {config.root}\n{describe(found.findings)}")
    records = [record for part in found.pictures.values() for record in part][:number]
    if picture and records:
        from amodalseg.data.images import save_png
        from amodalseg.report.pictures import record_grid

        save_png(picture, record_grid(records))
        print(f"{len(records)} objects: {picture}")
    elif picture:
        print(f"there is no object to draw; {picture} was not written")
    return int(any(item.severity == "fault" for item in found.findings))


def _protocols(options: argparse.Namespace) -> None:
    from dataclasses import replace
    from pathlib import Path

    from amodalseg.engine.evaluation.trivial import TRIVIAL, score_trivially
    from amodalseg.metrics.counts import write_rows
    from amodalseg.metrics.protocols import summarize
    from amodalseg.report.table import PLAIN_NOTE, all_figures, to_plain

    named = dict.fromkeys(item for item in options.rest if "=" not in item)
    rest = [item for item in options.rest if "=" in item]
    parts = [argparse.Namespace(**{**vars(options), "rest": [item, *rest]}) for item in named] or [options]
    rows, unprompted = score_trivially([data_config(part) for part in parts])
    results = summarize(rows)
    for name, text in TRIVIAL.items():
        print(f"{name:18s} {text}")
    for result in results[:: len(TRIVIAL)]:
        counts = f"{result['num_objects']} objects, {result['num_occluded']} with occlusion"
        print(f"{result['dataset']} / {result['split']}: {counts}")
    if unprompted:
        print(f"{unprompted} objects with no visible pixels are excluded")
    for table in all_figures(results):
        # no best value is marked: two of the columns use the ground truth
        lines = [[replace(cell, best=False) for cell in line] for line in table.lines]
        print(f"\n{to_plain(replace(table, lines=lines))}", end="")
    print(f"\nPercent, and numbers of objects or bins (num_). {PLAIN_NOTE}")
    if options.csv:
        write_rows(Path(options.csv), rows)
        print(f"\nrows: {options.csv}")


def _draw(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.data.images import save_png
    from amodalseg.report.pictures import record_grid

    target = Path(options.to)
    if target.suffix.lower() != ".png" or target.is_dir():
        raise UserError(f"--to '{options.to}' is not a picture file; give a name that ends in .png")
    _, dataset = _objects(options)
    records = [dataset[i][0] for i in range(min(options.count, len(dataset)))]
    save_png(target, record_grid(records))
    print(f"{len(records)} objects: {target}")


def _convert(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.data.open import open_source
    from amodalseg.data.pack.convert import write_coco_amodal
    from amodalseg.data.source import RecordList, Source

    out = Path(options.out)
    if options.set in ("labelme", "mp3d-pickle"):
        if len(options.rest) != 1 or "=" in options.rest[0]:
            raise UserError(f"{options.set} takes one argument, its folder or file, and no key=value options")
        place = Path(options.rest[0])
        if options.set == "mp3d-pickle":
            from amodalseg.data.readers.mp3d import convert_pickle

            print(f"{convert_pickle(place, out)} annotations: {out}")
            return
        from amodalseg.data.readers.labelme import read_labelme

        source: Source = RecordList(read_labelme(place, options.split or "train"))
    else:
        config = data_config(options)
        source = open_source(config)
        if getattr(config, "fresh", False):
            print("data.fresh is ignored: the objects are written as in the first epoch")
    images, objects = write_coco_amodal(source, out, copy_photos=options.copy_photos)
    print(f"{objects} objects in {images} photos: {out}")


def _stats(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.data.check.stats import describe, measure
    from amodalseg.data.open import open_source

    target = Path(options.to) if options.to else None
    if target and (target.suffix.lower() != ".png" or target.is_dir()):
        raise UserError(f"--to '{options.to}' is not a picture file; give a name that ends in .png")
    splits = options.split.split(",") if options.split else [None]
    configs = [data_config(argparse.Namespace(**{**vars(options), "split": split})) for split in splits]
    found = [measure(open_source(config, photos=False)) for config in configs]
    print(describe(found))
    if target:
        from amodalseg.atomic import write_whole
        from amodalseg.report.stats_figure import stats_figure

        write_whole(target, stats_figure(found))
        print(f"figure: {target}")


def _shard(options: argparse.Namespace) -> None:
    from pathlib import Path

    from amodalseg.config.load import to_dict
    from amodalseg.data.open import open_source
    from amodalseg.data.pack.shard_writer import MB, write_shards

    config, folder = data_config(options), Path(options.out)
    summary = write_shards(
        open_source(config), folder, about=to_dict(config), size=options.size * MB, whole=not options.no_whole,
        skip_broken=getattr(config, "skip_broken", False),
    )  # fmt: skip
    if getattr(config, "fresh", False):
        print("data.fresh is ignored: the objects are packed as in the first epoch")
    size = sum(shard["bytes"] for shard in summary["shards"]) / MB
    counts = f"{summary['objects']} objects in {summary['samples']} photos, {len(summary['shards'])} shards"
    print(f"{counts}, {size:.1f} MB: {folder}")
