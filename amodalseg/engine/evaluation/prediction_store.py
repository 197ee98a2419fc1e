"""Predictions on disk: an interrupted evaluation resumes from them, and further models join later."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from amodalseg.atomic import read_regular, write_whole
from amodalseg.data.dataset import EvaluationSet
from amodalseg.data.fingerprint import stamp
from amodalseg.engine.evaluation.collect import CountedPrediction, CountedPredictions, Numbered
from amodalseg.engine.evaluation.truth import Truth
from amodalseg.metrics.counts import COLUMNS
from amodalseg.models.fingerprint import source_fingerprint
from amodalseg.report.thumbnail import Thumbnail
from amodalseg.types import stable_seed

PREDICTIONS_FOLDER = "answers"
PART_SECONDS = 10.0
"""Minimum seconds between two parts: fast models write few files, and slow ones lose little if interrupted."""
Curve = list[tuple[int, float | None, float | None]]
"""(steps, full, occluded) by ``per_object_occluded``."""


HEAD = b'{"check": "' + b"?" * 32 + b'", "content": '
"""The beginning of a file; the question marks stand for a checksum of what follows."""


class PredictionStore:
    """One model's predictions for one data set: in one file when complete, in parts until then.

    A file is valid only for exactly the weights, objects, columns and program version it was made with.
    """

    def __init__(
        self, folder: Path, sources: Mapping[str, str] | None = None, override: dict[str, Any] | None = None
    ) -> None:
        """Prepare.

        Args:
            folder: of the evaluation.
            sources: model's name -> what ``load_model`` opened, where that differs.
            override: options in place of the models' own, which may name other weights.
        """
        self._override = override
        self.folder = folder / PREDICTIONS_FOLDER
        self._sources = dict(sources or {})
        self._weights: dict[str, str] = {}
        self._data: dict[int, tuple[EvaluationSet, str]] = {}  # with the set, so that its id is not reused

    def load(self, model: str, name: str, dataset: EvaluationSet) -> tuple[CountedPredictions, Curve] | None:
        """Load the predictions written by ``save``, or None if there are no valid ones."""
        path = self._path(model, name)
        if not path.is_file():
            return None
        content = _unsealed(path)
        if content is None:
            print(f"{model} on {name}: its stored predictions ({path}) are damaged; predicting again")
            return None
        if content["stamp"] != self._stamp(model, dataset):
            print(f"{model} on {name}: weights, data or program have changed since; predicting again")
            return None
        if (self.folder.parent / "objects.csv").is_file():
            print(f"{model} on {name}: already predicted; using the stored predictions")
        else:
            print(f"{model} on {name}: already predicted when the evaluation was interrupted; resuming after it")
        curve = [(steps, full, occluded) for steps, full, occluded in content["curve"]]
        return [_unpack(packed) for packed in content["answers"]], curve

    def save(self, model: str, name: str, dataset: EvaluationSet, found: CountedPredictions, curve: Curve) -> None:
        """Store all of the model's predictions for a data set, atomically, and remove its parts."""
        content = {"stamp": self._stamp(model, dataset), "curve": curve, "answers": [_pack(a) for a in found]}
        write_whole(self._path(model, name), _sealed(content))
        shutil.rmtree(self._parts(model, name), ignore_errors=True)

    def load_parts(self, model: str, name: str, dataset: EvaluationSet) -> Numbered:
        """Load the parts written by a ``PartWriter``, in any order. Parts of other weights or objects are removed."""
        by_place: dict[int, CountedPrediction] = {}
        damaged = 0
        for path in sorted(self._parts(model, name).glob("*.json")):
            content = _unsealed(path)
            if content is None:
                damaged += 1
                path.unlink(missing_ok=True)
                continue
            if content["stamp"] != self._stamp(model, dataset):
                print(f"{model} on {name}: weights, data or program have changed since; predicting again")
                shutil.rmtree(self._parts(model, name))
                return []
            by_place |= {index: _unpack(packed) for index, packed in content["answers"]}
        if damaged:
            print(f"{model} on {name}: {damaged} parts of its stored predictions are damaged; predicting those again")
        found = list(by_place.items())
        if found:
            print(
                f"{model} on {name}: {len(found)} of {len(dataset)} objects are already predicted; resuming after them"
            )
        return found

    def write_parts(self, model: str, name: str, dataset: EvaluationSet) -> PartWriter:
        """The writer that stores predictions while the model runs."""
        return PartWriter(self._parts(model, name), self._stamp(model, dataset))

    def tidy(self) -> None:
        """Remove incomplete predictions once the results are written. Complete ones are kept for models added later."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix != ".json":
                path.unlink()

    def _path(self, model: str, name: str) -> Path:
        return self.folder / f"{stable_seed(model, name):016x}.json"

    def _parts(self, model: str, name: str) -> Path:
        return self._path(model, name).with_suffix("")

    def _stamp(self, model: str, dataset: EvaluationSet) -> dict[str, Any]:
        """Everything that predictions depend on besides the options: weights, objects, columns, the program."""
        if model not in self._weights:
            # the upper bound (the ground truth) has no weights
            known = self._sources.get(model, model)
            self._weights[model] = known if known == Truth.name else source_fingerprint(known, self._override)
        if id(dataset) not in self._data:
            self._data[id(dataset)] = dataset, stamp(dataset.source)
        return {
            "weights": self._weights[model],
            "data": self._data[id(dataset)][1],
            "columns": COLUMNS,
            "program": _digest_of_program(),
        }


class PartWriter:
    """Stores predictions while a model runs, in atomically written files; every process has its own."""

    def __init__(self, folder: Path, stamp: dict[str, Any]) -> None:
        self.folder, self.stamp = folder, stamp
        self._waiting: Numbered = []
        self._written = time.monotonic()

    def add(self, found: Numbered) -> None:
        """Add a batch's predictions: in memory, and on disk every ``PART_SECONDS``."""
        self._waiting += found
        if time.monotonic() - self._written >= PART_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what is not on disk yet. An object is predicted once, so its index in the data set names the file."""
        if self._waiting:
            content = {"stamp": self.stamp, "answers": [(index, _pack(counted)) for index, counted in self._waiting]}
            write_whole(self.folder / f"{self._waiting[0][0]:09d}.json", _sealed(content))
        self._waiting, self._written = [], time.monotonic()


def _sealed(content: dict[str, Any]) -> str:
    """A file's text: the content, preceded by its checksum."""
    body = json.dumps(content)
    return f'{{"check": "{_checksum(body.encode())}", "content": {body}}}'


def _unsealed(path: Path) -> dict[str, Any] | None:
    """The content of a file made by ``_sealed``; None if any byte has changed."""
    try:
        data = read_regular(path)
    except OSError:
        return None
    head, body = data[: len(HEAD)], data[len(HEAD) : -1]
    if head != HEAD.replace(b"?" * 32, _checksum(body).encode()) or data[-1:] != b"}":
        return None
    found: dict[str, Any] = json.loads(body)
    return found


def _checksum(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _pack(counted: CountedPrediction) -> list[Any]:
    """A prediction in json-compatible form."""
    pictures = []
    for thumbnail in (counted.thumbnail, counted.moved, counted.edited):
        if thumbnail is not None:
            *box, file = thumbnail
        pictures.append(None if thumbnail is None else [*box, base64.b64encode(file).decode()])
    rle = [list(counted.rle["size"]), counted.rle["counts"].decode()]
    return [[counted.row[name] for name in COLUMNS], rle, counted.score, *pictures]


def _unpack(packed: list[Any]) -> CountedPrediction:
    row, (size, counts), score, *pictures = packed
    found = []
    for one in pictures:
        x0, y0, x1, y1, file = one or (0, 0, 0, 0, "")
        found.append(None if one is None else Thumbnail(x0, y0, x1, y1, base64.b64decode(file)))
    return CountedPrediction(
        dict(zip(COLUMNS, row, strict=True)), {"size": size, "counts": counts.encode()}, score, *found
    )


@cache
def _digest_of_program() -> str:
    """Digest of the package's code, which also works without a version."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[2]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
