"""Predictions of ``predict --coco`` so far, on disk, from which a killed run continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from amodalseg.atomic import write_whole
from amodalseg.errors import UserError

KEYS = {"area", "bbox", "segmentation"}
"""Keys of a prediction; a file of notes may provide no other keys of an annotation, except ``SCORE``."""
SCORE = "amodal_score"
"""Key of models with probabilities."""


class Notes:
    """Predictions so far, one json line each with a checksum, after a first line that identifies the command.

    Lines that fail verification (truncated by a kill, changed, from another command) are ignored, and their objects are
    predicted again.

    Attributes:
        path: of the file.
        done: predictions by key.
        advice: what to do if the run is interrupted.
    """

    def __init__(self, out: Path, command: str, inputs: Mapping[str, str], overwrite: bool) -> None:
        """Open, or start.

        Args:
            out: the file that will be written at the end.
            command: fingerprint of the options.
            inputs: fingerprints, by name, of everything else that a prediction depends on.
            overwrite: start again.

        Raises:
            UserError: the file is of a command with other options, or cannot be read or written.
        """
        self.path = notes_path(out)
        self.done: dict[str, dict[str, Any]] = {}
        self.advice = f"run the same command {'without --overwrite' if overwrite else 'again'} to continue"
        self._file: IO[str] | None = None
        self._head = json.dumps({"command": command, "inputs": dict(inputs)}, sort_keys=True)
        lines = [] if overwrite else self._lines()
        if lines:
            self._take(lines, command, inputs)
        if self.done:
            print(f"{len(self.done)} annotations are done; resuming")
        kept = [self._line(key, prediction) for key, prediction in self.done.items()]
        # drop a line truncated by a kill: lines are appended to complete ones only
        write_whole(self.path, "".join(f"{line}\n" for line in [self._head, *kept]))

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text("utf-8", errors="replace").split("\n") if self.path.exists() else []
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); remove it, or give --overwrite") from error

    def _take(self, lines: list[str], command: str, inputs: Mapping[str, str]) -> None:
        """Read the predictions that belong to this command and these inputs."""
        head = _parsed(lines[0])
        if not isinstance(head, dict) or head.keys() != {"command", "inputs"} or not isinstance(head["inputs"], dict):
            print(f"{self.path} is damaged at its beginning: predicting all annotations again")
            return
        if head["command"] != command:
            raise UserError(f"{self.path} was written with other options; use those again, or give --overwrite")
        changed = [name for name in inputs if head["inputs"].get(name) != inputs[name]]
        if changed:
            print(f"since {self.path} was begun {' and '.join(changed)} have changed: predicting all annotations again")
            return
        damaged = 0
        for line in lines[1:]:
            entry = _parsed(line)
            try:
                key, prediction, check = entry["key"], entry["prediction"], entry["check"]
                good = check == self._check(key, prediction) and prediction.keys() - {SCORE} == KEYS
            except (TypeError, KeyError, AttributeError):
                good = False
            if good:
                self.done[key] = prediction
            elif line:
                damaged += 1
        if damaged:
            print(f"{damaged} lines of {self.path} are truncated or damaged: predicting their annotations again")

    def _check(self, key: str, prediction: Any) -> str:
        text = f"{self._head}\n{json.dumps([key, prediction], sort_keys=True)}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _line(self, key: str, prediction: dict[str, Any]) -> str:
        return json.dumps({"key": key, "prediction": prediction, "check": self._check(key, prediction)})

    def __enter__(self) -> None:
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error

    def __exit__(self, kind: Any, *_: object) -> None:
        assert self._file is not None
        try:
            self._file.close()
        except OSError as error:  # the buffered lines do not fit on the disk
            if kind is None:
                raise self._unwritable(error) from error

    def add(self, key: str, prediction: dict[str, Any]) -> None:
        """Record a prediction. Raises UserError if it cannot be written."""
        self.done[key] = prediction
        assert self._file is not None
        try:
            self._file.write(self._line(key, prediction) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {error.strerror or error}; {self.advice}")


def notes_path(out: Path) -> Path:
    """The path of the notes for an unfinished output."""
    return out.with_name(f"{out.name}.partial.jsonl")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
