"""``amodalseg compare``, from two finished runs to the page."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from amodalseg.cli import main
from amodalseg.metrics.counts import read_rows, row_key, write_rows
from amodalseg.metrics.protocols import score
from tests.worlds import WORLDS


class Page(HTMLParser):
    """Text, pictures and headings of a page, in which every element must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.text, self.links = [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.images += [value for name, value in attrs if tag == "img" and name == "alt"]
        self.links += [value for name, value in attrs if name in ("src", "href") and not value.startswith("data:")]
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on COCOA and KINS: one with two models, and one with one."""
    folder = tmp_path_factory.mktemp("runs")
    cocoa, kins = WORLDS["cocoa"](folder / "cocoa"), WORLDS["kins"](folder / "kins")
    options = ", ".join(option.replace("=", ": ") for option in kins.options)
    config = folder / "two.yaml"
    config.write_text(
        f"sets:\n  cocoa: {{name: cocoa, root: {cocoa.root}, split: val}}\n"
        f"  kins: {{name: kins, root: {kins.root}, split: test, {options}}}\n"
        "trainer: {progress: false}\nreport: {html: false}\n"
    )
    for name, models in (("one", "[modal, box]"), ("two", "[convex_hull]")):
        assert main(["eval", str(config), f"out={folder / name}", f"models={models}"]) == 0
    return folder


def compare(*arguments):
    return main(["compare", *map(str, arguments)])


def test_two_runs_end_to_end(runs, tmp_path, capsys):
    out = tmp_path / "out"
    first, second = runs / "one" / "objects.csv", runs / "two" / "objects.csv"
    assert compare(first, second, "--model-a", "box", "--out", out, "--pictures", "2") == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["compare.html", "compare.md"]
    page, text = Page((out / "compare.html").read_text()), (out / "compare.md").read_text()
    assert page.links == []
    rows = {side: [r for r in read_rows(path) if r["model"] == model] for side, path, model in
            (("A", first, "box"), ("B", second, "convex_hull"))}  # fmt: skip
    for part in ("cocoa / val", "kins / test"):
        assert part in page.text and f"## {part}" in text and part in printed
        a, b = (score([r for r in own if part == f"{r['dataset']} / {r['split']}"]) for own in rows.values())
        for protocol, figure in (("per_object_occluded", "occluded"), ("pooled", "full")):
            values = a[protocol][figure], b[protocol][figure]
            cells = [*(f"{100 * value:.1f}" for value in values), f"{100 * (values[1] - values[0]):+.1f}"]
            line = rf"\| {protocol} · {figure} \| {cells[0]} \| {cells[1]} \| {re.escape(cells[2])} \[.* to .*\] \|"
            assert re.search(line, text), (part, protocol)
    assert "fewer than 20 images" in text and "There are no pictures" not in printed
    # the largest changes in both directions, at most two each and of each data set
    assert 2 <= len(page.images) <= 8
    both = [(a, b) for a, b in zip(rows["A"], rows["B"], strict=True) if a["occluded_area"] and a["dataset"] == "cocoa"]
    changes = {row_key(a): b["occ_inter"] / b["occ_union"] - a["occ_inter"] / a["occ_union"] for a, b in both}
    worst = min(changes, key=lambda key: (changes[key], key))
    shown = [caption.split(" · ")[0] for caption in page.images]
    assert worst in shown and f"- {worst} · " in text
    assert shown.index(worst) == min(shown.index(key) for key in shown if changes.get(key, 1) < 0)


def test_two_models_of_one_run_given_as_folder(runs, capsys):
    assert compare(runs / "one", runs / "one", "--model-a", "modal", "--model-b", "box") == 0
    assert (runs / "one" / "compare" / "compare.md").is_file()
    assert "B is higher" in capsys.readouterr().out
    shutil.rmtree(runs / "one" / "compare")


def test_objects_of_only_one_run_are_counted(runs, tmp_path, capsys):
    rows = [row for row in read_rows(runs / "two/objects.csv") if row["dataset"] == "cocoa"]
    write_rows(tmp_path / "objects.csv", rows[2:])
    assert compare(runs / "one", tmp_path, "--model-a", "modal", "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "2 objects are in A only" in printed and "No object is in both files here" in printed
    assert "There are no pictures: cannot read" in printed and "predictions.json" in printed
    page = Page((tmp_path / "out/compare.html").read_text())
    assert page.images == [] and "There are no pictures" in page.text and "occluded IoU: A" in page.text


def test_a_missing_data_set_is_given_as_the_reason_for_no_pictures(runs, tmp_path, capsys):
    for name in ("one", "two"):
        shutil.copytree(runs / name, tmp_path / name)
        config = tmp_path / name / "config.yaml"
        config.write_text(config.read_text().replace(str(runs), str(tmp_path / "elsewhere")))
    assert compare(tmp_path / "one", tmp_path / "two", "--model-a", "box") == 0
    printed = capsys.readouterr().out
    assert "There are no pictures: " in printed and "sets." in printed and "elsewhere" in printed


def test_predicted_modal_masks_in_one_run_are_reported(runs, tmp_path, capsys):
    rows = [row | {"modal_source": "pred:found"} for row in read_rows(runs / "two/objects.csv")]
    write_rows(tmp_path / "objects.csv", rows)
    assert compare(runs / "one", tmp_path, "--model-a", "box", "--out", tmp_path / "out", "--pictures", "0") == 0
    assert "A was given gt and B was given pred:found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["one", "two"], ["several models", "--model-a", "modal, box"]),
        (["one", "two", "--model-a", "boxes"], ["holds no model 'boxes'", "modal, box"]),
        (["one", "one", "--model-a", "box", "--model-b", "box"], ["A and B are both 'box'"]),
        (["one", "absent", "--model-a", "box"], ["absent", "no such file"]),
        (["two/predictions.json", "two"], ["missing columns"]),
    ],
)
def test_mistakes(runs, tmp_path, capsys, arguments, parts):
    places = [runs / item if place < 2 else item for place, item in enumerate(arguments)]
    assert compare(*places, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(part in error for part in parts), error
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_compared(runs, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert compare(runs / "one", runs / "one", "--model-a", "modal", "--model-b", "box", "--out", tmp_path / "out") == 2
    told = capsys.readouterr()
    assert "out is a file; name a folder" in told.err and not told.out


def test_different_ground_truths_are_refused(runs, tmp_path, capsys):
    rows = read_rows(runs / "two/objects.csv")
    rows[3]["amodal_area"] += 1
    write_rows(tmp_path / "objects.csv", rows)
    assert compare(runs / "one", tmp_path, "--model-a", "box") == 2
    assert f"{row_key(rows[3])} was scored against different ground truths" in capsys.readouterr().err
