"""Files that an installed package, a release and continuous integration depend on."""

import ast
import re
import sys
from pathlib import Path

import yaml

import amodalseg

ROOT = Path(__file__).parents[1]
MODULES = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
"""Modules whose distribution has another name."""
OPTIONAL = {"simple_lama_inpainting"}
"""Used where a user has installed it; the package asks for it by name (``removal=lama``)."""
PYPROJECT = (ROOT / "pyproject.toml").read_text()
CITATION = (ROOT / "CITATION.cff").read_text()


def test_every_library_that_is_imported_is_declared():
    named = re.findall(r'"([A-Za-z0-9_-]+)(?:\[\w+\])?[><=!]=?[0-9]', PYPROJECT)
    declared = {name.lower().replace("_", "-") for name in named}
    known = {*sys.stdlib_module_names, *OPTIONAL, "amodalseg"}
    for path in (ROOT / "amodalseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for module in {name.partition(".")[0] for name in names} - known:
                assert MODULES.get(module, module).lower().replace("_", "-") in declared, f"{path}: {module}"


def test_the_version_has_one_source():
    assert 'dynamic = ["version"]' in PYPROJECT and 'path = "amodalseg/__init__.py"' in PYPROJECT
    assert not re.search(r"^version\s*=", PYPROJECT, re.M) and "version:" not in CITATION.replace("cff-version:", "")
    assert (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1].startswith(amodalseg.__version__)


def test_citation_and_workflow_are_valid_and_up_to_date():
    about = yaml.safe_load(CITATION)
    assert about["title"] == "amodalseg" and about["authors"] and about["license"] in PYPROJECT
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    used = set(re.findall(r"3\.\d+", str(workflow["jobs"])))
    declared = set(re.findall(r"Python :: (3\.\d+)", PYPROJECT))
    assert used == declared == {"3.10", "3.11", "3.12", "3.13"}
    makefile = (ROOT / "Makefile").read_text()
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    for target in re.findall(r"make (\w+)", " ".join(commands)):
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert {"lint", "test", "lowest"} <= set(re.findall(r"make (\w+)", " ".join(commands)))


def test_container_images_have_the_tested_versions_by_hash():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    for target, extras in {"cpu": ["demo"], "cuda": ["train", "track", "inpaint", "export", "demo"]}.items():
        entries = re.split(r"\n(?=\S)", (ROOT / f"docker/{target}.txt").read_text().strip())
        locked = dict(entry.split(" ")[0].split("==") for entry in entries)
        assert all("--hash=sha256:" in entry for entry in entries)
        assert {name: version for name, version in locked.items() if pinned.get(name, version) != version} == {}
        wanted = re.findall(r"^dependencies = \[(.*?)^\]", PYPROJECT, re.M | re.S)
        wanted += [re.findall(rf"^{extra} = \[(.*?)\]$", PYPROJECT, re.M | re.S)[0] for extra in extras]
        names = {name.lower() for name in re.findall(r'"([A-Za-z0-9_-]+)[><=!]', "".join(wanted))}
        assert len(names) >= 10 and {name.replace("_", "-") for name in names} <= locked.keys(), target


def test_the_dockerfile_copies_existing_files():
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.M)
    for source in re.findall(r"^COPY (?!--from)(\S+) ", text, re.M):
        assert (ROOT / source).exists(), source
    assert {*re.findall(r"--from=(\S+)", text)} <= {*stages} and stages[-1] == "cpu"
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["demo"]
    assert service["build"]["target"] in stages and service["command"][0] == "demo"
