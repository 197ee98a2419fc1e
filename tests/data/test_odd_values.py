"""Invalid values in data sets, through the command line: a clear message, never a traceback."""

import copy
import json
import pickle
import random

import numpy as np
import pytest

from amodalseg.cli import main
from tests.worlds import WORLDS

JUNK = [
    None, True, -1, 10**30, 10**400, float("nan"), float("inf"), 1.5, "x", "", [], {}, [1], [None], [[]], {"a": 1},
    "\x00", "a/b", "n" * 5000, ["x", 1, 2, 3], [1, 2, 3], [1, 2, 3, float("nan")],
    [["1", "2", "30", "4", "30", "30"]], "gone",
]  # fmt: skip
OF_PICKLES = [b"x", (1, 2), {1}, np.arange(4), np.array(3.5), np.int64(3)]
SAMPLES = 20


def leaves(value, path=()):
    """Paths to a file's entries: all keys, and the first and last item of each list."""
    yield path
    if isinstance(value, dict):
        for key in list(value)[:12]:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for place in {0, len(value) - 1} if value else ():
            yield from leaves(value[place], (*path, place))


def put(content, path, value):
    for key in path[:-1]:
        content = content[key]
    if isinstance(value, str) and value == "gone":
        del content[path[-1]]
    else:
        content[path[-1]] = value


def files_of(root):
    return sorted(path for path in root.rglob("*") if path.suffix in (".json", ".pkl"))


@pytest.mark.parametrize("name", sorted(WORLDS.keys() - {"pix2gestalt"}))
def test_no_value_leads_to_a_traceback(name, tmp_path, capsys):
    world, dice = WORLDS[name](tmp_path / "data"), random.Random(name)
    arguments = [world.name, str(world.root), *world.options, "--split", world.test]
    for number in range(SAMPLES):
        path = dice.choice(files_of(world.root))
        binary = path.suffix == ".pkl"
        stored = path.read_bytes()
        content = pickle.loads(stored) if binary else json.loads(stored)
        place = dice.choice([leaf for leaf in leaves(content) if leaf])
        value = copy.deepcopy(dice.choice(JUNK + OF_PICKLES * binary))
        put(content, place, value)
        path.write_bytes(pickle.dumps(content) if binary else json.dumps(content).encode())
        case = f"{path.name} {place} {value!r:.60}"
        assert main(["data", "check", *arguments, "--subset"]) in (0, 1, 2), case
        assert main(["data", "convert", *arguments, "--out", str(tmp_path / f"out{number}")]) in (0, 2), case
        errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
        assert len([line for line in errors if line.startswith("error:")]) == len(errors), (case, errors)
        path.write_bytes(stored)


STORED = [[], [None], "x", {"a": 1}, ["x", 1, 2, 3], [1, 2, 3], [1, 2, 3, float("nan")], [1, 2, 3, 10**400]]


@pytest.mark.parametrize("value", STORED)
@pytest.mark.parametrize("key", ["bbox", "area"])
def test_invalid_stored_quantities_are_reported(tmp_path, capsys, key, value):
    world = WORLDS["coco_amodal"](tmp_path / "data")
    path = world.root / f"annotations/{world.test}_amodal.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry[key] = value
        entry.pop("amodalseg", None)
    path.write_text(json.dumps(content))
    main(["data", "check", world.name, str(world.root), "--split", world.test])
    kind, what = {"bbox": ("boxes", "box"), "area": ("areas", "area")}[key]
    out = capsys.readouterr().out
    assert f"{kind:10s}  stored" in out and f"amodal {what} stored" in out


def test_a_data_set_with_stored_nan_can_be_converted(tmp_path, capsys):
    world = WORLDS["d2sa"](tmp_path / "data")
    path = world.root / "d2s_amodal_annotations_v1/D2S_amodal_validation.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(occlude_rate=float("nan"), area=float("inf"))
    path.write_text(json.dumps(content))
    out = tmp_path / "out"
    assert main(["data", "convert", "d2sa", str(world.root), "--out", str(out)]) == 0
    text = (out / "annotations/val_amodal.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    first = json.loads(text)["annotations"][0]["amodalseg"]
    assert "raw_rate" not in first and first["extra"]["area"] is None


def test_a_path_that_is_too_long_is_refused_in_one_line(tmp_path, capsys):
    long = tmp_path / ("n" * 5000)
    assert main(["data", "stats", "cocoa", str(long)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "nnn" in error


@pytest.mark.parametrize("word", ["no", "off"])
def test_the_value_off_is_accepted(tmp_path, capsys, word):
    world = WORLDS["cocoa"](tmp_path / "data")
    arguments = ["data", "convert", "cocoa", str(world.root), f"check_photos={word}", "--split", world.test]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
