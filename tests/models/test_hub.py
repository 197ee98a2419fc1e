"""Folders laid out like hub repositories, the shipped weights, and names on the hub; all offline."""

import json
import zipfile
from pathlib import Path

import huggingface_hub.errors
import numpy as np
import pytest
import torch
from test_contract import tiny

import amodalseg
from amodalseg import UserError, load_model, models
from amodalseg.models import hub
from amodalseg.models.conddiff_amo.model import CondDiffAMO

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = tiny()
    model.about = {"data": "drawn", "scores": {"full": 0.5}, "train": {"options": "x" * 600}}
    folder = tmp_path_factory.mktemp("hub") / "repository"
    model.save_pretrained(folder)
    return model, folder


def test_round_trip_through_a_folder(saved):
    model, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = amodalseg.CondDiffAMO.from_pretrained(folder)
    assert isinstance(again, CondDiffAMO) and again.config == model.config and again.about == model.about
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    image, modal = np.full((20, 30, 3), 90, np.uint8), np.eye(20, 30, dtype=bool)
    one, other = (which.predict(image, modal).probability for which in (model, again))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert json.loads((folder / "config.json").read_text())["window"]["size"] == 64
    assert load_model(folder, "cpu").config == model.config


def test_the_model_card(saved):
    card = huggingface_hub.ModelCard.load(saved[1] / "README.md")
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "mask-generation"
    assert card.data.library_name == "amodalseg" and "image-segmentation" in card.data.tags
    assert "- data: drawn" in card.text and '- scores: {"full": 0.5}' in card.text and "xxx" not in card.text


def test_upload_hands_over_the_files(saved, monkeypatch):
    seen = {}

    def upload(self, *, repo_id, folder_path, **_):
        seen.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        return f"commit of {repo_id}"

    class Repository:
        repo_id = "me/mine"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, **_: Repository())
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    assert saved[0].push_to_hub("me/mine") == "commit of me/mine"
    assert set(seen) == {"README.md", "config.json", "model.safetensors"}
    assert b'load_model("hf:me/mine")' in seen["README.md"] and b"# mine" in seen["README.md"]

    def refuse(self, **_):
        raise OSError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"cannot upload to me/mine: no network$"):
        saved[0].push_to_hub("me/mine")


def test_names_on_the_hub(saved, monkeypatch):
    asked = []

    def download(repository, file, **options):
        asked.append((repository, file, options["revision"], options["cache_dir"]))
        return str(saved[1] / file)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert load_model("hf:me/mine@v2", "cpu").name == "hf:me/mine@v2"
    CondDiffAMO.from_pretrained("me/mine", cache_dir="cache")
    assert asked == [("me/mine", "model.safetensors", "v2", None), ("me/mine", "model.safetensors", None, "cache")]


def test_failed_downloads_are_one_line(saved, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        CondDiffAMO.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="neither a folder nor a name on the hub"):
        CondDiffAMO.from_pretrained("a/b/c")
    with pytest.raises(UserError, match="not in the cache, and the hub cannot be reached"):
        CondDiffAMO.from_pretrained("me/mine", cache_dir=tmp_path, local_files_only=True)

    def refuse(*_, **__):
        raise OSError("first line\nsecond line")

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    with pytest.raises(UserError, match=r"cannot load me/mine from the hub: first line$"):
        load_model("hf:me/mine", "cpu")


def test_shipped_weights_are_searched_inside_the_package_first(saved, monkeypatch, tmp_path):
    assert models.CHECKPOINTS == (ROOT / "amodalseg/checkpoints", ROOT / "checkpoints")
    inside, beside = tmp_path / "inside", tmp_path / "beside"
    monkeypatch.setattr(models, "CHECKPOINTS", (inside, beside))
    assert amodalseg.list_models() == [*models.MODELS, *models.METHODS]
    with pytest.raises(UserError, match=r"no model 'conddiff_amo_lite' \(there are modal, box, convex_hull, .*, or"):
        load_model(device="cpu")
    saved[0].save(beside / "conddiff_amo_lite.safetensors", {"from": "beside"})
    saved[0].save(beside / "other.safetensors")
    assert load_model(device="cpu").about == {"from": "beside"}
    saved[0].save(inside / "conddiff_amo_lite.safetensors", {"from": "inside"})
    assert load_model("conddiff_amo_lite", "cpu").about == {"from": "inside"}
    assert amodalseg.list_models()[-2:] == ["conddiff_amo_lite", "other"]


def test_the_wheel_contains_weights_configurations_and_types(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling, which builds wheels")
    parts = ("pyproject.toml", "README.md", "LICENSE", "amodalseg/__init__.py", "amodalseg/py.typed",
             "checkpoints/a.safetensors", "configs/experiment/photos_tiny.yaml")  # fmt: skip
    for part in parts:
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        content = (ROOT / part).read_bytes() if (ROOT / part).is_file() else b"weights"
        (tmp_path / part).write_bytes(content)
    (built,) = wheel.WheelBuilder(str(tmp_path)).build(directory=str(tmp_path / "dist"), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        assert archive.read("amodalseg/checkpoints/a.safetensors") == b"weights"
        assert {"amodalseg/__init__.py", "amodalseg/py.typed"} <= set(archive.namelist())
        shipped = archive.read("amodalseg/configs/experiment/photos_tiny.yaml")
        assert shipped == (ROOT / "configs/experiment/photos_tiny.yaml").read_bytes()
        about = archive.read(f"amodalseg-{amodalseg.__version__}.dist-info/METADATA").decode()
    assert f"Version: {amodalseg.__version__}\n" in about
