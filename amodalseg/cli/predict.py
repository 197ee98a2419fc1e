"""``amodalseg predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from amodalseg.cli.arguments import count, numbers, shard, whole_number
from amodalseg.errors import UserError


def add_predict_command(commands: Any) -> None:
    """Add the command to the subparsers."""
    parser = commands.add_parser("predict", help="complete objects: pictures, folders of them, or COCO json")
    parser.add_argument("model", metavar="MODEL", help="a name, a run folder, a file (also .onnx), or hf:owner/name")
    parser.add_argument("--image", help="a photo; with --mask and --out, mask files")
    parser.add_argument("--mask", help="its modal mask, a picture or .npy (docs/predict.md says how it is read)")
    parser.add_argument(
        "--point", action="append", type=_point, metavar="X,Y[,0]", help="instead of --mask, may be repeated: a pixel "
        "on the object, or with 0 on something else"
    )  # fmt: skip
    parser.add_argument(
        "--box", type=_box, metavar="X0,Y0,X1,Y1", help="instead of --mask: a box around the visible part"
    )
    parser.add_argument("--text", metavar="WORDS", help="instead of --mask: what to find, as text; --out is a folder")
    parser.add_argument(
        "--select", metavar="MODEL", help="segmenter for points and boxes: grabcut, sam2, a folder, ... (grabcut)"
    )
    parser.add_argument("--detector", metavar="MODEL", help="detector for --text (grounding_dino)")
    parser.add_argument("--images", help="a folder of photos; with --masks and --out, folders of masks")
    parser.add_argument("--masks", help="their modal masks: NAME.png, NAME_*.png or NAME.*.png for NAME.jpg")
    parser.add_argument(
        "--coco", metavar="JSON", help="instances, or a list of results; with --images (--image) and --out"
    )
    parser.add_argument("--coco-images", metavar="JSON", help="a COCO file with the images of a list of results")
    parser.add_argument("--out", required=True, help="a .png file, a folder, or a .json file")
    parser.add_argument(
        "--label", metavar="VALUE", help="which object of a mask file with several: a value, or a colour rrggbb"
    )
    parser.add_argument("--invert", action="store_true", help="in mask files the object is black on white")
    parser.add_argument(
        "--crowd", choices=("skip", "complete"), default="skip", help="annotations with iscrowd=1 (skip)"
    )
    parser.add_argument(
        "--outside", action="store_true", help="allow photo names in the json that lie outside of --images"
    )
    parser.add_argument(
        "--upright", action="store_true", help="rotate photos by their EXIF data: the masks are upright"
    )
    parser.add_argument("--overlay", metavar="DIR", help="also write each photo with its completed objects drawn in")
    parser.add_argument("--shard", type=shard, metavar="I/N", help="only every N-th photo, from the I-th: 1/8 to 8/8")
    parser.add_argument(
        "--cutout", metavar="DIR", help="also write the visible part and the whole object as RGBA pictures"
    )
    parser.add_argument(
        "--paint", metavar="MODEL", help="colours of occluded regions: telea, none, mixed_context, ... (the model's "
        "own, or telea if it has none)"
    )  # fmt: skip
    parser.add_argument("--crop", action="store_true", help="crop cut-outs to the object's box")
    parser.add_argument("--soft", type=_pixels, help="pixels over which outlines of occluded regions fade (0)")
    parser.add_argument("--layers", metavar="NAME.ora", help="also write the photo in layers, for GIMP or Krita")
    parser.add_argument(
        "--threshold", type=_share, help="probability above which a pixel belongs to the object (the model's own)"
    )
    parser.add_argument("--overwrite", action="store_true", help="start again instead of keeping existing outputs")
    parser.add_argument("--seed", type=whole_number, default=0, help="random seed (0)")
    parser.add_argument("--num-samples", type=count, default=1, help="samples per object, averaged (1)")
    parser.add_argument("--steps", type=count, help="sampler steps (the model's own)")
    parser.add_argument("--size", type=count, help="side of the window that the model sees, pixels (the model's own)")
    parser.add_argument(
        "--num-workers", type=whole_number, default=1, help="threads that read photos ahead; 0: none (1)"
    )
    parser.add_argument("--batch-size", type=count, default=16, help="windows per batch (16)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; openvino for an .onnx file (auto)")
    parser.set_defaults(run=_predict)


def _point(text: str) -> tuple[float, ...]:
    return numbers(text, (2, 3), "420,300, or 420,300,0 for a place that is not part of the object")


def _box(text: str) -> tuple[float, ...]:
    return numbers(text, (4,), "120,80,420,300")


def _pixels(text: str) -> float:
    return _number(text, 0, 1000, "a number of pixels from 0")


def _share(text: str) -> float:
    return _number(text, 1e-6, 1 - 1e-6, "a number between 0 and 1")


def _number(text: str, least: float, most: float, what: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return found


def _predict(options: argparse.Namespace) -> int:
    given = {name for name in ("image", "mask", "images", "masks", "coco", "coco_images") if getattr(options, name)}
    prompted = options.point is not None or options.box is not None or options.text is not None
    if prompted and given != {"image"}:
        raise UserError("--point, --box and --text replace --mask: give them only with --image and --out")
    if (options.select or options.detector) and not prompted:
        raise UserError("--select and --detector need --point, --box or --text")
    if options.detector and options.text is None:
        raise UserError("--detector needs --text")
    forms = ({"image", "mask"}, {"images", "masks"}, {"coco", "images"}, {"coco", "image"}, *([{"image"}] * prompted))
    if given - {"coco_images"} not in forms or ("coco_images" in given and not {"coco", "images"} <= given):
        raise UserError(
            "give --image and --mask (or --point, --box, --text), or --images and --masks, or --coco and --images (and "
            "--coco-images)"
        )
    if options.layers and not given <= {"image", "mask"}:
        raise UserError(
            "--layers works on one photo: give it with --image; `amodalseg scene` writes layers of COCO files"
        )
    if options.crop and not options.cutout:
        raise UserError("--crop needs --cutout")
    if (options.paint or options.soft) and not (options.cutout or options.layers):
        raise UserError("--paint and --soft need --cutout or --layers")
    from amodalseg.engine.prediction.complete import Settings
    from amodalseg.engine.prediction.cutout_files import CutoutFiles, open_paint
    from amodalseg.engine.prediction.predict import predict_folder, report_failures
    from amodalseg.engine.prediction.predict_coco import predict_coco
    from amodalseg.engine.prediction.predict_file import predict_file
    from amodalseg.engine.prediction.select import DETECTOR, OFFLINE, Prompt
    from amodalseg.engine.prediction.shards import Shard
    from amodalseg.models import load_model

    model = load_model(options.model, options.device)
    model.batch_size = options.batch_size
    if options.size and not model.override({"window": {"size": options.size}}):
        raise UserError(f"'{model.name}' sees the whole photo, not a window: leave --size out")
    overlay = Path(options.overlay) if options.overlay else None
    if (options.coco or prompted) and (options.label or options.invert):
        raise UserError("--label and --invert need mask files")
    if options.shard and not (options.coco or options.masks):
        raise UserError("--shard splits folders and COCO files, not one photo")
    folder, paint = Path(options.cutout) if options.cutout else None, open_paint(options.paint, options.device)
    cutouts = CutoutFiles(folder, options.crop, options.soft or 0.0, paint)
    layers = Path(options.layers) if options.layers else None
    settings = Settings(
        options.seed, options.num_samples, options.steps, overlay, options.overwrite, options.upright, options.label,
        options.invert, options.crowd, options.outside, Shard(*options.shard) if options.shard else None,
        options.num_workers, options.threshold, cutouts,
    )  # fmt: skip
    out, failures = Path(options.out), []
    if options.coco:
        listing = Path(options.coco_images) if options.coco_images else None
        images, image = (Path(given) if given else None for given in (options.images, options.image))
        failures = predict_coco(model, Path(options.coco), images, out, settings, listing, image)
    elif options.masks:
        failures = predict_folder(model, Path(options.images), Path(options.masks), out, settings)
    elif prompted:
        select, detector = options.select or OFFLINE, options.detector or DETECTOR
        prompt = Prompt(options.point, options.box, options.text, select, detector, options.device)
        predict_file(model, Path(options.image), prompt, out, settings, layers)
    else:
        predict_file(model, Path(options.image), Path(options.mask), out, settings, layers)
    return report_failures(failures)
