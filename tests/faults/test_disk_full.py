"""A disk that is full, by a limit of the size of files: one line, the old file whole, nothing left over, and when there
is space the same command ends as if nothing had been."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import Disturbance, differences, half_files, log_of, run

ROOT = Path(__file__).parents[2]
WRITE = """
import resource, signal, sys
from pathlib import Path
import numpy as np, torch
from amodalseg.atomic import write_whole
from amodalseg.config.schema import DirectConfig
from amodalseg.data.images import save_png
from amodalseg.engine.prediction.notes import Notes
from amodalseg.engine.training.callbacks import AtomicCheckpointIO
from amodalseg.errors import UserError
from amodalseg.models.weights import save_weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder = Path(sys.argv[1])
large, rng = {"a": torch.zeros(100_000)}, np.random.default_rng(0)

def note(path):
    with Notes(path, "command", {}, False) as _:
        pass
    notes = Notes(path, "command", {}, False)
    with notes:
        for number in range(1000):
            notes.add(str(number), {"segmentation": {"counts": "x" * 100}, "area": 1, "bbox": []})

WRITERS = {
    "checkpoint": lambda path: AtomicCheckpointIO().save_checkpoint(large, path),
    "weights": lambda path: save_weights(path, large, DirectConfig(), {}),
    "text": lambda path: write_whole(path, "x" * 100_000),
    "picture": lambda path: save_png(path, rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)),
    "notes": note,
}
for kind, write in WRITERS.items():
    try:
        write(folder / kind / "file.json")
    except UserError as error:
        print(kind, error, sep="|")
"""


KINDS = ("checkpoint", "weights", "text", "picture", "notes")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A folder in which each kind of file was written over an old one with no space, and what was said."""
    folder = tmp_path_factory.mktemp("full")
    for kind in KINDS:
        (folder / kind).mkdir()
        (folder / kind / "file.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", WRITE, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder, dict(line.split("|", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_and_the_old_file(full, kind):
    folder, said = full
    assert set(said) == set(KINDS) and said[kind].startswith("cannot write ")
    assert (folder / kind / "file.json").read_text() == "old"
    left = {item.name for item in (folder / kind).iterdir()} - {"file.json"}
    assert left == ({"file.json.partial.jsonl"} if kind == "notes" else set())


@pytest.mark.parametrize(
    ("name", "limit"),
    [("train", 50_000), ("eval", 2_000), ("predict", 700), ("masks", 100), ("convert", 1_500),
     ("shard", 15_000), ("export", 1_000)],
)  # fmt: skip
def test_a_command_is_one_line_and_goes_on_when_there_is_space(undisturbed, tmp_path, name, limit):
    command, whole = undisturbed(name)
    folder = tmp_path / name
    assert run(command(folder), folder, Disturbance(limit=limit)) == 2
    lines = [line for line in log_of(folder).splitlines() if line.startswith(("error: ", "Traceback"))]
    assert len(lines) == 1 and "cannot write" in lines[0], log_of(folder)
    assert not half_files(folder)
    assert run(command(folder), folder) == 0, log_of(folder)
    assert not differences(folder, whole)
