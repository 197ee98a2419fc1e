"""Imports point downwards, each heavy library is imported in one place, and importing the package is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "amodalseg").rglob("*.py"))
LAYERS = [
    {"errors"}, {"ranks"}, {"atomic"}, {"lock"}, {"masks", "probabilities"}, {"types"}, {"predictions"}, {"config"},
    {"data", "diffusion", "metrics"}, {"models"}, {"report", "export"}, {"engine"}, {"integrations", "demo"}, {"cli"},
]  # fmt: skip
ONLY_IN = {
    "pycocotools": ["masks.py"],
    "albumentations": ["data/augment.py"],
    "lightning": ["data/data_module.py", "models/training.py", "engine/"],
    "timm": ["models/conddiff_amo/pvt.py", "models/conddiff_amo/lite.py"],
    "wandb": [],
    "onnx_ir": ["export/"],
    "onnxscript": ["export/"],
    "onnxruntime": ["models/exported.py"],
    "openvino": ["models/openvino.py"],
    "diffusers": ["models/inpainting/"],
    "transformers": ["models/inpainting/"],
    "peft": ["models/inpainting/"],
    "ray": ["integrations/"],
    "gradio": ["demo/page.py", "demo/serve.py"],
}


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def layer(part: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if part in names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "amodalseg")))
def test_imports_of_one_file(path):
    inside = path.relative_to(ROOT / "amodalseg")
    own = inside.parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if (
            parts[0] == "amodalseg"
            and own not in ("__init__", "__main__")
            and len(parts) > 1
            and parts[1] != "__init__"
        ):
            assert parts[1] == own or layer(parts[1]) < layer(own), f"{inside} imports upwards: {name}"
            if own == "models" and parts[1] == "models" and len(inside.parts) > 2 and len(parts) > 2:
                methods = {folder.name for folder in (ROOT / "amodalseg/models").iterdir() if folder.is_dir()}
                assert parts[2] not in methods - {inside.parts[1]}, f"{inside} imports another method: {name}"
        places = ONLY_IN.get(parts[0])
        if places is not None:
            assert any(str(inside).startswith(place) for place in places), f"{inside} must not import {parts[0]}"


def test_diffusion_imports_no_network_and_no_framework():
    for path in (ROOT / "amodalseg/diffusion").glob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] in {"__future__", "math", "collections", "torch", "amodalseg"}, (path, name)
            assert not name.startswith(("amodalseg.models", "amodalseg.data", "torch.nn.Module"))


def test_every_module_is_imported_somewhere():
    programs = [ROOT / "train.py", ROOT / "eval.py", *(ROOT / "benchmarks").glob("*.py")]
    everywhere = {name for path in [*FILES, *programs] for name in imports(path)}
    lazily = (ROOT / "amodalseg/__init__.py").read_text()
    documented = "".join(
        page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md")
    )  # bridges, which users import
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if path.name not in ("__init__.py", "__main__.py"):
            known = module in everywhere or f'"{module}"' in lazily
            assert known or ("integrations" in module and f"from {module} import" in documented), (
                f"nobody imports {module}"
            )


def test_importing_the_package_is_quick_and_without_side_effects():
    code = (
        "import sys, os, time; before = dict(os.environ); start = time.perf_counter(); import amodalseg; "
        "print(time.perf_counter() - start); assert dict(os.environ) == before; "
        "heavy = {'torch', 'numpy', 'lightning', 'cv2', 'wandb', 'timm', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy; assert 'load_model' in dir(amodalseg)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
