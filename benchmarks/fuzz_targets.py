"""Every kind of readable input: intact files in a folder, and the call that reads them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from benchmarks.faults import make_inputs, write_graph, write_model


class Target(NamedTuple):
    """A kind. folder: of intact files. files: those to damage. read: is called with a copy of the folder."""

    folder: Path
    files: list[str]
    read: Callable[[Path], object]


def targets(folder: Path) -> dict[str, Target]:
    """Create intact files of every kind in a new folder."""
    made = {
        "yaml": _yaml, "run_yaml": _run_yaml, "coco": _coco, "coco_train": _coco_train, "labelme": _labelme,
        "photos": _photos, "masks": _masks, "model": _model, "checkpoint": _checkpoint, "onnx": _onnx,
        "pickle": _pickle, "shards": _shards, "packing": _packing, "answers": _answers, "notes": _notes,
        "predictions": _predictions, "rows": _rows, "results": _results,
    }  # fmt: skip
    found = {}
    for name, make in made.items():
        place = folder / name
        place.mkdir(parents=True)
        files, read = make(place)
        found[name] = Target(place, files, read)
    return found | _published(folder)


def _published(folder: Path) -> dict[str, Target]:
    """Every published data set, drawn as in the tests."""
    from tests.worlds import WORLDS

    found = {}
    for name, make in WORLDS.items():
        place = folder / name
        place.mkdir()
        if name == "pix2gestalt":
            from tests.worlds import World, pix2gestalt_world

            world = World("pix2gestalt", pix2gestalt_world(place, 4), "train", "train")
        else:
            world = make(place)
        files = [str(path.relative_to(place)) for path in sorted(place.rglob("*")) if path.is_file()]
        inner = world.root.relative_to(place)
        found[name] = Target(place, files, partial(_open_set, world.name, inner, world.test, world.options))
    return found


def _open_set(name: str, root: Path, split: str, options: tuple[str, ...], folder: Path) -> None:
    from amodalseg.cli.data import data_config

    rest = [str(folder / root), *options]
    _all_objects(data_config(SimpleNamespace(set=name, rest=rest, split=split)))  # type: ignore[arg-type]


def _all_objects(config: Any) -> None:
    from amodalseg.data.open import open_source
    from amodalseg.data.record_pictures import record_image, record_whole

    source = open_source(config)
    for index in range(min(len(source), 6)):
        record = source.get(index)
        record.modal.any() and record_image(record).any()
        if record.amodal_rle is not None:
            record.amodal.any()
        record_whole(record)


def _yaml(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    (folder / "a.yaml").write_text("base: b.yaml\nmodels: [box]\nout: x\ndata: {name: synthetic, num_objects: 3}\n")
    (folder / "b.yaml").write_text("seed: 3\nloader: {batch_size: 4}\nreport: {html: false}\n")

    def read(work: Path) -> None:
        from amodalseg.config.load import load_config
        from amodalseg.config.schema import EvalConfig

        load_config(EvalConfig, work / "a.yaml", [])

    return ["a.yaml", "b.yaml"], read


def _run_yaml(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    from amodalseg.config.load import to_yaml

    (folder / "config.yaml").write_text(to_yaml(_eval_config(folder)))
    (folder / "objects.csv").touch()

    def read(work: Path) -> None:
        from amodalseg.engine.run_folder import check_folder

        check_folder(work, _eval_config(work))

    return ["config.yaml"], read


def _eval_config(folder: Path) -> Any:
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import EvalConfig

    options = [f"out={folder}", "models=[modal]", "data.num_objects=3", "data.size=64"]
    return load_config(EvalConfig, "synthetic", options)


def _coco(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    make_inputs(folder)

    def read(work: Path) -> None:
        from amodalseg.engine.prediction.complete import Settings
        from amodalseg.engine.prediction.predict_coco import predict_coco
        from amodalseg.models import load_model

        predict_coco(load_model("modal"), work / "coco.json", work / "photos", work / "out.json", Settings())

    return ["coco.json", "coco.json", "coco.json", "photos/0.png"], read


def _coco_train(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    make_inputs(folder)

    def read(work: Path) -> None:
        from amodalseg.config.schema import CocoData

        given = CocoData(annotations=[str(work / "coco.json")], images=[str(work / "photos")])
        given.skip_broken = len((work / "coco.json").read_bytes()) % 2 == 0
        _all_objects(given)

    return ["coco.json"], read


def _labelme(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    from tests.worlds.labelme import labelme_world

    labelme_world(folder / "desk")

    def read(work: Path) -> None:
        from amodalseg.data.readers.labelme import read_labelme

        for record in read_labelme(work / "desk", "train"):
            record.modal.any()

    return sorted(f"desk/{path.name}" for path in (folder / "desk").glob("*.json")), read


def _photos(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    for ending in ("png", "jpg", "bmp", "webp", "tif"):
        picture.save(folder / f"a.{ending}", **({"exif": exif} if ending in ("png", "jpg", "webp") else {}))
    names = sorted(path.name for path in folder.iterdir())

    def read(work: Path) -> None:
        from amodalseg.data.images import image_size, image_turning, load_turned
        from amodalseg.errors import UserError

        for name in names:
            for call in (load_turned, partial(load_turned, upright=True, grey=True), image_size, image_turning):
                with suppress(UserError):
                    call(work / name)

    return names, read


def _masks(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:20], mask[10:28, 22:38] = 1, 2
    one = (mask == 1).astype(np.uint8) * 255
    palette = Image.fromarray(mask, "P")
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [0] * 759)
    palette.save(folder / "palette.png")
    palette.save(folder / "palette.gif")
    cv2.imwrite(str(folder / "grey.png"), one)
    cv2.imwrite(str(folder / "labels.png"), mask)
    cv2.imwrite(str(folder / "deep.png"), one.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([one, one, one, one]))
    Image.fromarray(one > 0).save(folder / "bit.png")
    Image.fromarray(one).save(folder / "grey.tif")
    Image.fromarray(one).save(folder / "grey.webp", lossless=True)
    Image.fromarray(one).save(folder / "grey.jpg")
    np.save(folder / "mask.npy", one > 0)
    names = sorted(path.name for path in folder.iterdir())

    def read(work: Path) -> None:
        from amodalseg.data.mask_files import holds_label, mask_labels, read_mask_file
        from amodalseg.errors import UserError

        for name in names:
            for call in (
                read_mask_file,
                mask_labels,
                partial(read_mask_file, invert=True),
                partial(holds_label, label="1"),
            ):
                with suppress(UserError):
                    call(work / name)  # type: ignore[operator]

    return names, read


def _model(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    write_model(folder / "model.safetensors")

    def read(work: Path) -> None:
        from amodalseg.models import load_model

        load_model(work, "cpu")

    return ["model.safetensors"], read


def _checkpoint(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    import torch

    from amodalseg.config.load import to_dict
    from amodalseg.models.weights import read_weights

    write_model(folder / "model.safetensors")
    state, config, _ = read_weights(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    content = {
        "state_dict": {f"network.{key}": value for key, value in state.items()}, "global_step": 3,
        "pytorch-lightning_version": "2.6", "amodalseg": {"model": to_dict(config), "world": 1, "num_steps": 6},
    }  # fmt: skip
    torch.save(content, folder / "last.ckpt")

    def read(work: Path) -> None:
        from amodalseg.models import load_model

        load_model(work / "last.ckpt", "cpu")

    return ["last.ckpt"], read


def _onnx(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    write_graph(folder / "model.onnx")
    photo, mask = np.zeros((40, 48, 3), np.uint8), np.zeros((40, 48), bool)
    mask[8:20, 8:20] = True

    def read(work: Path) -> None:
        from amodalseg.export.runtime import OnnxPredictor

        OnnxPredictor(work / "model.onnx", num_threads=1).predict(photo, mask, seed=0)

    return ["model.onnx"], read


def _pickle(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    content = [{"a": np.arange(6).reshape(2, 3), "b": "text", "c": [1, 2.5, None, (True, b"x")]}] * 3
    for protocol in (0, 2, 5):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(content, protocol))
    (folder / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    names = sorted(path.name for path in folder.iterdir())

    def read(work: Path) -> None:
        from amodalseg.data.readers.safe_pickle import load_pickle
        from amodalseg.errors import UserError

        for name in names:
            with suppress(UserError):
                load_pickle(work / name)

    return names, read


def _packed(folder: Path) -> list[str]:
    from amodalseg.config.schema import SyntheticData
    from amodalseg.data.open import open_source
    from amodalseg.data.pack.shard_writer import write_shards

    write_shards(open_source(SyntheticData(num_objects=3, size=64)), folder, about={}, size=9000)
    return sorted(path.name for path in folder.iterdir())


def _shards(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    def read(work: Path) -> None:
        from amodalseg.config.schema import ShardsData

        _all_objects(ShardsData(root=str(work)))

    return _packed(folder), read


def _packing(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    """A set whose packing was interrupted."""
    from amodalseg.config.schema import SyntheticData
    from amodalseg.data.open import open_source
    from amodalseg.data.pack.progress import Progress

    def write(work: Path) -> None:
        from amodalseg.data.pack.shard_writer import write_shards

        write_shards(open_source(SyntheticData(num_objects=3, size=64)), work, about={}, size=9000)

    clear, Progress.clear = Progress.clear, lambda *_, **__: None  # type: ignore[method-assign]
    try:
        write(folder)
    finally:
        Progress.clear = clear  # type: ignore[method-assign]
    (folder / "shards.json").unlink()
    return sorted(path.name for path in folder.glob("shard-*.json")), write


def _answers(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    from amodalseg.data.dataset import EvaluationSet
    from amodalseg.engine.evaluation.collect import collect_predictions
    from amodalseg.engine.evaluation.prediction_store import PredictionStore
    from amodalseg.models import load_model

    def dataset() -> EvaluationSet:
        from amodalseg.config.schema import SyntheticData
        from amodalseg.data.open import open_source

        return EvaluationSet(open_source(SyntheticData(num_objects=3, size=64)), 0)

    store = PredictionStore(folder)
    found = collect_predictions(load_model("modal"), dataset(), 2)
    store.save("modal", "synthetic", dataset(), found, [(1, 0.5, None)])
    parts = store.write_parts("modal", "parts", dataset())
    parts.add(list(enumerate(found)))
    parts.write()

    def read(work: Path) -> None:
        again = PredictionStore(work)
        again.load("modal", "synthetic", dataset())
        again.load_parts("modal", "parts", dataset())

    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json")), read


def _notes(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    from amodalseg.engine.prediction.notes import Notes

    notes = Notes(folder / "out.json", "command", {"the weights": "1"}, False)
    with notes:
        for key in ("1", "2", '"a"'):
            notes.add(key, {"segmentation": {"size": [4, 4], "counts": "@"}, "area": 1, "bbox": [0, 0, 1, 1]})

    def read(work: Path) -> None:
        again = Notes(work / "out.json", "command", {"the weights": "1"}, False)
        assert set(again.done) <= {"1", "2", '"a"'}, "a line of somebody else"

    return [notes.path.name], read


def _predictions(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    kept = {"modal": {"a": {"segmentation": {"size": [4, 4], "counts": "@@"}, "score": 1.0}}}
    kept["modal"]["a"]["segmentation"] = {"size": [4, 4], "counts": "4<"}
    (folder / "predictions.json").write_text(json.dumps(kept))

    def read(work: Path) -> None:
        from amodalseg.engine.evaluation.collect import read_predictions

        read_predictions(work / "predictions.json", [("modal", "a")])

    return ["predictions.json"], read


def _rows(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    from amodalseg.config.schema import SyntheticData
    from amodalseg.data.open import open_source
    from amodalseg.engine.evaluation.evaluate import evaluate
    from amodalseg.metrics.counts import write_rows
    from amodalseg.models import load_model

    source = open_source(SyntheticData(num_objects=3, size=64))
    write_rows(folder / "objects.csv", evaluate(load_model("modal"), [source.get(i) for i in range(3)])["rows"])

    def read(work: Path) -> None:
        from amodalseg.metrics.counts import read_rows
        from amodalseg.metrics.protocols import summarize

        summarize(read_rows(work / "objects.csv"))

    return ["objects.csv"], read


def _results(folder: Path) -> tuple[list[str], Callable[[Path], object]]:
    """A detector's results for a data set, as read by ``amodalseg ap``."""
    from tests.worlds import coco_amodal_world

    root = coco_amodal_world(folder / "set", split="val")
    inner = root.relative_to(folder)
    content = json.loads(next(root.rglob("val_amodal.json")).read_text())
    kept = [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "segmentation": one["segmentation"],
            "score": 0.5,
        }
        for one in content["annotations"]
    ]
    (folder / "results.json").write_text(json.dumps(kept))

    def read(work: Path) -> None:
        from amodalseg.cli.data import data_config
        from amodalseg.engine.evaluation.average_precision import score_results

        options: Any = SimpleNamespace(set="coco_amodal", rest=[str(work / inner)], split="val")
        score_results(data_config(options), work / "results.json")

    return ["results.json"], read
