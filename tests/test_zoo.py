"""The model zoo matches what ships: every file of weights, and the tables of README and card."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from amodalseg.engine.release import folders_named
from amodalseg.models.describe import ZOO, describe_models
from benchmarks.zoo import MARK, PAGES, SETS, TABLES, main, sha256, take_scores, with_tables

ROOT = Path(__file__).parents[1]


@pytest.fixture
def zoo():
    return json.loads(ZOO.read_text("utf-8"))


def test_every_file_of_weights_is_listed_with_its_size_and_sha256(zoo):
    files = [path for ending in ("safetensors", "onnx") for path in (ROOT / "checkpoints").rglob(f"*.{ending}")]
    said = {}
    for entry in zoo["weights"].values():
        said |= {entry["file"]: entry["sha256"], **entry["parts"]}
        assert (ROOT / "checkpoints" / entry["file"]).stat().st_size == entry["bytes"]
    assert {str(path.relative_to(ROOT / "checkpoints")): sha256(path) for path in files} == said


def test_tables_of_the_pages_equal_the_zoo(zoo):
    found = [match["name"] for page in PAGES for match in MARK.finditer(page.read_text("utf-8"))]
    assert sorted(found) == sorted(TABLES)
    for page in PAGES:
        text = page.read_text("utf-8")
        assert text == with_tables(text, zoo), f"{page}: run python benchmarks/zoo.py"
        for model in ("conddiff_amo_lite", "convex_hull"):
            scores = zoo["scores"]["sets"]["duts"]["models"][model]["per_object_occluded.occluded"]
            assert f"{scores[0]:.1f}" in text


def test_the_list_of_models_shows_their_scores(zoo):
    notes = {one.name: one.notes for one in describe_models()}
    score = zoo["scores"]["sets"]["photos"]["models"]["conddiff_amo_tiny"]["per_object_occluded.full"]
    shown = f"{score[0]:.1f} [{score[1]:.1f}, {score[2]:.1f}]"
    assert shown in notes["conddiff_amo_tiny"]["score on photos"]
    assert len([key for key in notes["conddiff_amo_lite"] if key.startswith("score on ")]) == len(SETS)


def test_scores_of_too_few_sets_or_without_a_commit_are_refused(zoo, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/metrics.json").write_text('{"results": []}')
    (tmp_path / "photos/objects.csv").write_text("")
    before = ZOO.read_bytes()
    assert main([str(tmp_path / "photos")]) == 2
    assert "--commit" in capsys.readouterr().err
    assert ZOO.read_bytes() == before
    with pytest.raises(ValueError):
        take_scores(zoo, [tmp_path / "photos"], "abc")


def test_no_file_of_weights_contains_a_local_path():
    files = [*(ROOT / "checkpoints").rglob("*.safetensors"), *(ROOT / "checkpoints").rglob("*.json")]
    assert len(files) > 5
    for path in files:
        if path.suffix == ".json":
            known = json.loads(path.read_text())
        else:
            with safe_open(path, "numpy") as file:
                known = {key: _parsed(value) for key, value in (file.metadata() or {}).items()}
        assert list(folders_named(known)) == [], path


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text
