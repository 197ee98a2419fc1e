"""The folder of the Hugging Face Space is consistent with the project."""

import runpy
from pathlib import Path

import pytest
import tomllib
import yaml
from packaging.requirements import Requirement

import amodalseg
from amodalseg.demo import serve

ROOT = Path(__file__).parents[2]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
LINES = (ROOT / "spaces/requirements.txt").read_text().split()


def test_pinned_versions_equal_the_tested_ones():
    wheel, *pins = LINES
    assert wheel == f"amodalseg-{amodalseg.__version__}-py3-none-any.whl"
    found = dict(line.split("==") for line in pins)
    assert {name: PINNED[name] for name in found} == found
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    assert {Requirement(text).name for text in needed} == set(found)
    about = yaml.safe_load((ROOT / "spaces/README.md").read_text().split("---")[1])
    assert about["sdk_version"] == found["gradio"] and about["license"] in project["license"].lower()
    assert (ROOT / "spaces" / about["app_file"]).is_file() and len(about["short_description"]) <= 60


def test_the_program_serves_the_small_models(monkeypatch):
    served = []
    monkeypatch.setattr(serve, "serve", lambda models, port, share: served.append((list(models), port, share)))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "spaces/app.py"), run_name="__main__")
    assert ended.value.code == 0 and served == [(["conddiff_amo_lite", "convex_hull"], None, False)]
