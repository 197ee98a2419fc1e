"""The notebooks in ``examples`` run completely, with small settings and without a Jupyter kernel.

``make notebooks`` runs them in a kernel, unchanged.
"""

import ast
import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.test_light import run as run_light

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def run(name: str, **settings: int) -> list:
    """Run all cells in the current folder; ``settings`` replaces the values of the cell tagged ``settings``.

    Returns:
        The values that a notebook would display below its cells.
    """
    space, shown, settled = {"__name__": "__main__"}, [], not settings
    for number, cell in enumerate(json.loads((EXAMPLES / name).read_text("utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]), f"{name}, cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{name}, cell {number}", "exec"), space)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), f"{name}, cell {number}", "eval"), space))
        if "settings" in cell["metadata"].get("tags", []):
            assert settings.keys() <= space.keys()
            space.update(settings)
            settled = True
    assert settled, "no cell has the tag 'settings'"
    return shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_well_formed_and_without_outputs(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)
        for target in re.findall(r"\]\(([^)#\s]+)", "".join(cell["source"])):
            assert (path.parent / target).exists(), target


def test_complete_objects_without_pytorch():
    done = run_light(
        "from tests.test_notebooks import Image, run\n"
        "shown = run('complete_objects.ipynb')\n"
        "print('pictures:', sum(bool(value._repr_png_()) for value in shown if isinstance(value, Image.Image)))"
    )
    assert done.stdout.endswith("pictures: 5\n"), done.stderr
    iou = re.search(r"IoU of the hidden part: (\d\.\d\d)", done.stdout)
    assert float(iou[1]) > 0.4


def test_train_on_your_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = run("train_on_your_own.ipynb", photos=8, steps=1, batch_size=2, objects=4)
    assert [value for value in shown if not isinstance(value, Image.Image)] == [0] * 3
    assert len(shown) == 5 and (tmp_path / "own_run/model.safetensors").is_file()
    assert "B: own_run in own_eval" in capsys.readouterr().out
    assert (tmp_path / "own_eval/compare/compare.html").is_file()


def test_read_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = run("read_a_report.ipynb", objects=4)
    with (tmp_path / "two_models/objects.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    assert shown[0] == 0 and 0 <= shown[2][1] <= shown[2][0] <= 1
    printed = capsys.readouterr().out
    assert re.search(r"conddiff_amo_lite +occluded +\d+\.\d % \[\d", printed) and "## synthetic / test" in printed
