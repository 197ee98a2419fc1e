"""No option of ``predict``, ``move`` and ``scene`` writes over a photo, a mask, a json file or another output."""

import json

import numpy as np
import pytest

from amodalseg.cli import main
from tests.worlds import disc, photo, ring, write_photo

SIZE = 30, 40


@pytest.fixture
def files(tmp_path):
    """A folder with photos/a.png and b.png, masks/a.png, b.png and a_modal.png, in.json, and images.json alone."""
    for number, name in enumerate("ab"):
        write_photo(tmp_path / f"photos/{name}.png", photo(np.random.default_rng(number), *SIZE))
    for name in ("a", "b", "a_modal"):
        write_photo(tmp_path / f"masks/{name}.png", disc(*SIZE, 15, 15, 7, 7).astype(np.uint8) * 255)
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [ring(15, 15, 7, 7)]} for n in (1, 2)]
    content = {"images": images, "categories": [{"id": 1, "name": "disc"}], "annotations": annotations}
    (tmp_path / "photos/in.json").write_text(json.dumps(content))
    (tmp_path / "list.json").write_text(json.dumps(annotations))
    (tmp_path / "images.json").write_text(json.dumps({"images": images}))
    return tmp_path


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name}


ONE = "predict modal --image photos/a.png --mask masks/a.png --out"
FOLDERS = "predict modal --images photos --masks masks --out out"
MOVE = "move modal --image photos/a.png --mask masks/a.png --to 20,15 --out"
COCO = "predict modal --coco photos/in.json --images photos --out out.json"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{ONE} whole.png --overlay photos", "--overlay would overwrite photos/a.png; give another folder"),
        (f"{ONE} out/a.png --overlay out", "--overlay would overwrite out/a.png"),
        (
            "predict modal --image photos/a.png --mask masks/a_modal.png --out whole/a.png --cutout masks",
            "--cutout would overwrite masks/a_modal.png",
        ),
        (f"{ONE} out/a.png --cutout new --overlay out", "--overlay would overwrite out/a.png"),
        (f"{MOVE} moved.png --overlay photos", "--overlay would overwrite photos/a.png"),
        (f"{MOVE} out/a.png --overlay out", "--overlay would overwrite out/a.png"),
        (f"{FOLDERS} --overlay photos", "--overlay photos must be another folder than --images, --masks and --out"),
        (f"{FOLDERS} --overlay ./masks", "must be another folder"),
        (f"{FOLDERS} --cutout out", "--cutout out must be another folder"),
        (f"{COCO} --overlay photos", "--overlay would overwrite photos/a.png"),
        ("scene modal --coco photos/in.json --images photos --out photos", "--out would overwrite photos/a.png"),
        (
            "predict modal --coco list.json --coco-images images.json --images photos --out images.json --overwrite",
            "--out 'images.json' would overwrite an input",
        ),
    ],
)
def test_an_input_or_another_output_is_kept(files, monkeypatch, capsys, command, message):
    monkeypatch.chdir(files)
    before = content_of(files)
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert content_of(files) == before


def test_two_photos_with_one_overlay_are_refused(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    content = json.loads((files / "photos/in.json").read_text())
    content["images"][1]["file_name"] = "a.jpg"
    (files / "in.json").write_text(json.dumps(content))
    assert main([*COCO.replace("photos/in", "in").split(), "--overlay", "shown"]) == 2
    assert "two photos would both be drawn in shown/a.png; rename one of them" in capsys.readouterr().err


def test_overlays_and_cutouts_may_share_a_new_folder(files, monkeypatch):
    monkeypatch.chdir(files)
    assert main([*FOLDERS.split(), "--overlay", "new", "--cutout", "new"]) == 0
    assert main([*ONE.split(), "one/whole.png", "--overlay", "one", "--cutout", "one"]) == 0
    assert sorted(path.name for path in (files / "one").iterdir()) == [
        "a.png", "whole.png", "whole_amodal.png", "whole_modal.png"
    ]  # fmt: skip
