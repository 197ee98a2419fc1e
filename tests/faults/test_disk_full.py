"""A full disk, simulated by a limit on file sizes: one line, the old file intact, no partial file, and once there is
space the same command completes with the usual result."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg.atomic import write_whole
from amodalseg.config.schema import DirectConfig
from amodalseg.data.images import save_png
from amodalseg.engine.prediction.notes import Notes
from amodalseg.engine.training.callbacks import AtomicCheckpointIO
from amodalseg.errors import UserError
from amodalseg.models.weights import save_weights
from benchmarks.faults import Disturbance, differences, forked, half_files, log_of, run


def _write(path: Path, kind: str, said: Path):
    """In a separate process: write a large file of a kind under a limit of 20 kB."""
    large, rng = {"a": torch.zeros(100_000)}, np.random.default_rng(0)

    def note():
        notes = Notes(path, "command", {}, False)
        with notes:
            for number in range(1000):
                notes.add(str(number), {"segmentation": {"counts": "x" * 100}, "area": 1, "bbox": []})

    writers = {
        "checkpoint": lambda: AtomicCheckpointIO().save_checkpoint(large, path),
        "weights": lambda: save_weights(path, large, DirectConfig(), {}),
        "text": lambda: write_whole(path, "x" * 100_000),
        "picture": lambda: save_png(path, rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)),
        "notes": note,
    }
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        writers[kind]()
    except UserError as error:
        said.write_text(str(error))


@pytest.mark.parametrize("kind", ["checkpoint", "weights", "text", "picture", "notes"])
def test_a_failed_write_is_one_line_and_keeps_the_old_file(tmp_path, kind):
    path, said = tmp_path / "place/file.json", tmp_path / "said"
    path.parent.mkdir()
    path.write_text("old")
    process = forked(_write, path, kind, said)
    process.join()
    assert process.exitcode == 0
    assert said.read_text().startswith("cannot write ") and "\n" not in said.read_text()
    assert path.read_text() == "old"
    left = {item.name for item in path.parent.iterdir()} - {"file.json"}
    assert left == ({"file.json.partial.jsonl"} if kind == "notes" else set())


@pytest.mark.parametrize(
    ("name", "limit"),
    [("train", 50_000), ("eval", 2_000), ("predict", 700), ("masks", 100), ("scene", 1_000), ("move", 1_000),
     ("edit", 10_000), ("convert", 1_500), ("shard", 15_000), ("export", 1_000)],
)  # fmt: skip
def test_a_failed_command_is_one_line_and_resumes_when_there_is_space(undisturbed, tmp_path, name, limit):
    command, whole = undisturbed(name)
    folder = tmp_path / name
    assert run(command(folder), folder, Disturbance(limit=limit)) == 2
    lines = [line for line in log_of(folder).splitlines() if line.startswith(("error: ", "Traceback"))]
    assert len(lines) == 1 and "cannot write" in lines[0], log_of(folder)
    assert not half_files(folder)
    assert run(command(folder), folder) == 0, log_of(folder)
    assert not differences(folder, whole)
