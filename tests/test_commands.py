"""Every command in the documentation works: all are parsed, and those marked as runnable are run.

A ```bash block after a line ``<!-- runnable -->`` is run, in a folder with the files of ``ready``; the comment is
invisible on the page. NAME, MODEL, GROUP and [key=value ...] are placeholders for the reader's values.
"""

import argparse
import importlib.util
import os
import pkgutil
import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import amodalseg
from amodalseg.cli import main
from amodalseg.config.load import load_config
from amodalseg.config.schema import ModelOnly, TrainConfig
from amodalseg.engine.evaluation.truth import Truth
from amodalseg.models import list_models
from amodalseg.models.weights import read_weights
from amodalseg.models.windowed import SIZES, STEP
from tests.worlds import coco_world, cocoa_world
from tests.worlds.drawing import disc, photo

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "benchmarks", "checkpoints", "examples", "examples/browser",
    "integrations", "integrations/label_studio", "integrations/fiftyone", "integrations/comfyui",
)  # fmt: skip
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         *(ROOT / folder / "README.md" for folder in FOLDERS)]  # fmt: skip
BLOCK = re.compile(r"(<!-- runnable -->\n)?```bash\n(.*?)```", re.DOTALL)
SHELL = {"cat", "docker", "export", "label-studio", "ln", "npm", "python3", "."}
"""Programs of the system and of others, which nothing here can check."""
LAUNCHERS = {"timeout": 1, "torchrun": 2, "srun": 4}
"""Programs that start another one, and the number of their own words."""
STANDS_FOR = {
    "configs/experiment/NAME.yaml": "configs/experiment/photos_tiny.yaml",
    "configs/eval/NAME.yaml": "configs/eval/photos.yaml", " [key=value ...]": "", "MODEL": "conddiff_amo_tiny",
    "GROUP": "table4", "checkpoints/NAME.safetensors": "checkpoints/mine.safetensors",
}  # fmt: skip
WORK = [
    "models.load_model", "data.open.open_source", "engine.training.train.train", "engine.release.release",
    "engine.evaluation.evaluate.run_evaluation", "engine.evaluation.calibrate.calibrate",
    "engine.evaluation.compare_runs.compare",
    "engine.evaluation.average_precision.score_results", "engine.evaluation.trivial.score_trivially",
    "engine.prediction.edit.run_edit", "engine.prediction.predict_coco.merge_coco",
    "data.check.examine.examine", "data.readers.mp3d.convert_pickle",
    "data.readers.labelme.read_labelme",
]  # fmt: skip
"""Where a command stops: its arguments and its configuration are read and checked, and its work begins."""


def commands(text: str, runnable: bool = False) -> list[str]:
    """The commands in the bash blocks of a page, one line each; ``runnable``: of the marked blocks only."""
    for word, meaning in STANDS_FOR.items():
        text = text.replace(word, meaning)
    found = []
    for mark, block in BLOCK.findall(text):
        if mark or not runnable:
            lines = block.replace("\\\n", " ").splitlines()
            found += [" ".join(shlex.quote(word) for word in shlex.split(line, comments=True)) for line in lines]
    return [line.replace("'&&'", "&&").replace("'>'", ">") for line in found if line]


def all_commands(runnable: bool = False) -> list:
    return [
        pytest.param(line, id=f"{page.relative_to(ROOT)}: {line}")
        for page in PAGES
        if page.exists()
        for line in commands(page.read_text("utf-8"), runnable)
    ]


class Reached(BaseException):
    """Raised when a command starts its work. ``given``: its first argument."""

    def __init__(self, given=None):
        self.given = given


@pytest.fixture
def stops(monkeypatch):
    """Stop every command when its work starts, and every benchmark after parsing its arguments."""

    # modules imported later would keep the patched functions
    for module in pkgutil.walk_packages(amodalseg.__path__, "amodalseg."):
        if not module.name.startswith(("amodalseg.integrations.", "amodalseg.demo", "amodalseg.__main__")):
            importlib.import_module(module.name)

    def stop(*arguments, **_):
        raise Reached(arguments[0] if arguments else None)

    for name in WORK:
        module, _, function = f"amodalseg.{name}".rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), function, stop)
    inside = []

    def parsing(original):
        def parse(self, *arguments, **options):
            inside.append(self)
            try:
                found = original(self, *arguments, **options)
            finally:
                inside.pop()
            if inside or not self.prog.endswith("benchmark"):
                return found
            raise Reached(found)

        return parse

    for name in ("parse_args", "parse_known_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, parsing(getattr(argparse.ArgumentParser, name)))


def check(line: str, capsys, monkeypatch) -> None:
    """Fail if a command of the documentation is invalid."""
    for part in re.split(r" && ", line):
        words = shlex.split(part)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            monkeypatch.setenv(*words.pop(0).split("="))
        words = words[1 + LAUNCHERS[words[0]] :] if words[0] in LAUNCHERS else words
        for path in re.findall(r"(?:configs|benchmarks|integrations|tests)/[\w./-]+\.(?:yaml|py)", part):
            assert (ROOT / path).is_file(), f"{line}: there is no {path}"
        words = words[words.index("amodalseg") :] if words[:2] == ["docker", "run"] else words  # after the image's name
        words = words[1:] if words[0] == "python" else words
        program, arguments = words[0], words[1:]
        if program in ("train.py", "eval.py"):
            program, arguments = "amodalseg", [Path(program).stem, *arguments]
        if program == "amodalseg":
            check_own(line, arguments, capsys)
        elif program.startswith(("benchmarks/", "integrations/")):
            check_script(line, ROOT / program, arguments, monkeypatch)
        elif program == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(arguments) <= set(targets), line
        elif program == "pip":
            check_pip(line, arguments)
        else:
            assert program in SHELL, f"{line}: unknown program {program}"


def check_own(line: str, arguments: list[str], capsys) -> None:
    try:
        code = main(arguments)
    except Reached as reached:
        model = reached.given
    else:
        pytest.fail(f"{line}: exit code {code}, {capsys.readouterr().err or 'nothing was begun'}")
    if arguments[0] in ("predict", "export"):
        assert_model(line, model)
    if "--size" in arguments and arguments[0] in ("predict", "export"):
        assert_size(line, model, int(arguments[arguments.index("--size") + 1]))
    for name in getattr(model, "models", []) if arguments[0] in ("eval", "calibrate") else []:
        assert_model(line, name)


def assert_size(line: str, name: str, size: int) -> None:
    """Check the size of a window against that of shipped weights."""
    _, config, _ = read_weights(ROOT / f"checkpoints/{name}.safetensors")
    least, most = (share * config.window.size for share in SIZES)
    assert least <= size <= most and size % STEP == 0, f"{line}: {name} has windows of {config.window.size} px"


def assert_model(line: str, name: str) -> None:
    """Check a model given by name, by a valid file of options, or as the reader's own run."""
    if str(name).endswith(".yaml"):
        load_config(ModelOnly, ROOT / name)
    else:
        known = [*list_models(), Truth.name]
        assert str(name).startswith("outputs/") or name in known, f"{line}: there is no model {name}"


def check_script(line: str, path: Path, arguments: list[str], monkeypatch) -> None:
    if path.stem == "train":  # it has no parser
        load_config(TrainConfig, arguments[0], [*arguments[1:], "out=unused"])
        return
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    monkeypatch.syspath_prepend(str(path.parent))
    if path.parent.name == "fiftyone":
        pytest.importorskip("fiftyone", reason="the script needs fiftyone")
    spec = importlib.util.spec_from_file_location(f"command_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    try:
        module.main()
    except Reached as reached:
        options, rest = reached.given if isinstance(reached.given, tuple) else (reached.given, [])
    except SystemExit:
        pytest.fail(f"{line}: its parser refuses it")
    else:
        pytest.fail(f"{line}: nothing was parsed")
    load_config(TrainConfig, "configs/experiment/photos_tiny.yaml", [*rest, *getattr(options, "overrides", [])])


def check_pip(line: str, arguments: list[str]) -> None:
    extras_there = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert arguments[:4] == ["install", "-c", "constraints.txt", "-e"] and (ROOT / "constraints.txt").is_file(), line
    extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", arguments[4])
    assert extras and set(filter(None, (extras[1] or "").split(","))) <= set(extras_there), line


@pytest.mark.parametrize("line", all_commands())
def test_commands_of_the_documentation_are_parsed(line, stops, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("AMODALSEG_DATA", raising=False)
    check(line, capsys, monkeypatch)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder with the files of all runnable commands: photos, masks, instances and a small COCOA."""
    folder, rng = tmp_path_factory.mktemp("ready"), np.random.default_rng(0)
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    mask = disc(60, 80, 40, 30, 22, 18) & ~disc(60, 80, 52, 30, 8, 40)
    for place in ("photo.jpg", "photos/one.jpg"):
        cv2.imwrite(str(folder / place), photo(rng, 60, 80))
    for place in ("mask.png", "masks/one.png"):
        cv2.imwrite(str(folder / place), mask.astype(np.uint8) * 255)
    source, photos = coco_world(folder / "coco", 1)
    (folder / "instances.json").write_text(source.read_text())
    for path in photos.iterdir():
        (folder / "photos" / path.name).write_bytes(path.read_bytes())
    extra = [path for path in (folder / "photos").iterdir() if path.stem != "one"]
    for path in extra:
        size = cv2.imread(str(path)).shape[:2]
        cv2.imwrite(str(folder / f"masks/{path.stem}.png"), disc(*size, 50, 40, 20, 20).astype(np.uint8) * 255)
    for split in ("train", "val"):
        cocoa_world(folder / "data/cocoa", split=split)
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


@pytest.mark.parametrize("line", all_commands(runnable=True))
def test_runnable_commands_run(line, ready, monkeypatch):
    monkeypatch.chdir(ready)
    before = {path for path in ready.rglob("*") if path.is_file()}
    program, *arguments = shlex.split(line)
    assert program == "amodalseg", f"{line}: only amodalseg's own commands can be marked as runnable"
    assert main(arguments) == 0, line
    options = dict(pairwise(arguments))
    out = Path(options.get("--out") or options["--to"])
    assert out.exists() and {path for path in ready.rglob("*") if path.is_file()} - before, line


def test_some_commands_are_found_and_some_are_run():
    assert len(all_commands()) > 50 and len(all_commands(runnable=True)) >= 3


@pytest.mark.parametrize(
    "line",
    [
        "amodalseg predict conddiff_amo_tiny --image photo.jpg --mask mask.png --output result.png",
        "amodalseg predict conddiff_amo_tinny --image photo.jpg --mask mask.png --out result.png",
        "amodalseg predict conddiff_amo_tiny --image photo.jpg --out result.png",
        "amodalseg data chek kins data/kins",
        "python train.py configs/experiment/photos_tiny.yaml optim.lrr=1",
        "python train.py configs/experiment/photo_tiny.yaml",
        "python eval.py configs/eval/cocoa.yaml models=[modal,convexhull] out=outputs/eval",
        "python eval.py configs/eval/cocoa.yaml models=[configs/model/direct.yaml] out=outputs/eval",
        "python benchmarks/sampler.py conddiff_amo_tiny --thread 2 --tiny",
        "python benchmarks/experiments.py controls --steps 1000 --set photoz",
        "python benchmarks/nothing.py",
        "make tests",
        "pip install -c constraints.txt -e .[inpainting]",
        "amodalsegment models",
    ],
)
def test_invalid_commands_are_detected(line, stops, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(line, capsys, monkeypatch)


def test_environment_variables_of_a_command_are_set(stops, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    check("AMODALSEG_DATA=photos python train.py configs/experiment/photos_small.yaml", capsys, monkeypatch)
    assert os.environ["AMODALSEG_DATA"] == "photos"
