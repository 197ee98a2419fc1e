"""Statements of the documentation are true of the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "amodalseg").rglob("README.md")),
    *sorted((ROOT / "checkpoints").glob("*.md")),
    ROOT / "examples/README.md",
    ROOT / "examples/browser/README.md",
    *sorted((ROOT / "integrations").rglob("README.md")),
]
NOT_OURS = ("outputs", ".git", "data")  # at the top level, like environments, .venv*
SOURCES = [
    path
    for pattern in ("*.py", "*.md", "*.yaml", "*.toml", "*.txt", "*.ipynb", "*.html", "*.mjs")
    for path in ROOT.rglob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith(".venv")
    and path.relative_to(ROOT).parts[0] not in NOT_OURS
    and "node_modules" not in path.parts
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_have_targets(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_named_files_and_configurations_exist(path):
    text = path.read_text()
    for name in re.findall(r"configs/[\w/]+\.yaml", text):
        assert "NAME" in name or (ROOT / name).is_file(), f"{path.name}: {name}"
    for name in re.findall(r"`((?:data|diffusion|models|metrics|report|engine|config)/[\w/]+\.py)", text):
        assert (ROOT / "amodalseg" / name).is_file(), f"{path.name}: {name}"


def test_the_readme_lists_exactly_the_folders():
    named = set(re.findall(r"\[`amodalseg/(\w+)/`\]", (ROOT / "README.md").read_text()))
    folders = {p.name for p in (ROOT / "amodalseg").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert named == folders


def test_make_commands_of_the_readme_are_targets_and_ci_runs_the_tests():
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    for command in ("demo", "test", "lint"):
        assert re.search(rf"^{command}:", makefile, re.M)
    assert "make demo" in readme and "make test" in readme
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_every_experiment_is_in_the_training_page():
    text = (ROOT / "docs/training.md").read_text()
    for path in (ROOT / "configs/experiment").glob("*.yaml"):
        if "_recipe" not in path.name:
            assert f"`{path.stem}`" in text, path.name


def test_every_data_set_and_protocol_is_documented():
    from amodalseg.config.schema import DATA
    from amodalseg.metrics.detection import DETECTION
    from amodalseg.metrics.protocols import PROTOCOLS

    data, protocols = (ROOT / "docs/data.md").read_text(), (ROOT / "docs/protocols.md").read_text()
    assert all(f"| `{name}` |" in data for name in DATA)
    assert set(re.findall(r"^\| `(\w+)` \|", protocols, re.M)) == {*PROTOCOLS, *DETECTION}


def test_every_model_and_inpainting_model_is_in_the_models_page():
    from amodalseg.config.schema import MODELS
    from amodalseg.models import MODELS as RULES
    from amodalseg.models.inpainting.backends.hub_models import HUB_IDS

    text = (ROOT / "docs/models.md").read_text()
    for name in {*MODELS, *RULES, *HUB_IDS, "embedded"} - {"inpainting_prior"}:
        assert f"`{name}`" in text, name
    for name in HUB_IDS.values():
        assert f"`{name}`" in text, name


def test_dotted_options_in_the_documents_exist():
    from amodalseg.config.load import load_config
    from amodalseg.config.schema import MODELS, TrainConfig
    from amodalseg.models.conddiff_amo.model import CondDiffAMO

    def there(value, parts):
        for part in parts:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True

    sections = set(TrainConfig.__dataclass_fields__) - {"data", "val", "out", "seed", "init"}
    config = load_config(TrainConfig, ROOT / "configs/experiment/photos_tiny.yaml")
    models = [CondDiffAMO, *(kind() for kind in MODELS.values())]  # an option of any method or of a loaded model
    for path in DOCUMENTS:
        for option in re.findall(r"`((?:\w+\.)+\w+)(?:=[^`]*)?`", path.read_text()):
            head, *rest = option.split(".")
            if head in sections and not option.endswith((".py", ".yaml", ".safetensors", ".pt2", ".onnx")):
                found = any(there(model, rest) for model in models) if head == "model" else there(config, [head, *rest])
                assert found, f"{path.name}: {option}"


def test_constraints_cover_every_dependency():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^\s+"([A-Za-z0-9_-]+)[>=!<]', text, re.M) + re.findall(r'["[]"?([a-z0-9-]+)>=', text)
    assert {name.lower().replace("_", "-") for name in wanted} - {"requires-python"} <= pinned
    # pillow must stay below 13 so that the demo's library can be installed too
    version = next(line for line in lines if line.startswith("pillow=="))
    assert int(version.split("==")[1].split(".")[0]) < 13


def test_files_stay_short():
    for path in (ROOT / "amodalseg").rglob("*.py"):
        if path.name != "schema.py":  # all options are in one file, however long
            assert len(path.read_text().splitlines()) <= 320, path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_project_speaks_only_of_itself(path):
    text = path.read_text()
    for word in ("/work" + "/", "/opt" + "/", "/root" + "/", "H2" + "00"):
        assert word not in text, f"{path}: {word}"
