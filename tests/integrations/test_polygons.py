"""``integrations/polygons.py``: run lengths to polygons, lossless except for holes; and rendering in supervision."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from amodalseg import load_model, masks
from tests.worlds import compressed, disc, photo

FOLDER = Path(__file__).parents[2] / "integrations"
SIZE = 60, 80
TWO = disc(*SIZE, 40, 30, 22, 18) & ~disc(*SIZE, 52, 30, 8, 40)
HOLE = disc(*SIZE, 40, 30, 22, 18) & ~disc(*SIZE, 40, 30, 5, 5)


def loaded(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, FOLDER / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mask", [TWO, np.eye(9, dtype=bool), np.ones((4, 6), bool), np.pad([[True]], 3)])
def test_polygons_render_to_the_original_mask(mask):
    rings = loaded("polygons.py").polygons(mask)
    assert (masks.decode(masks.from_segmentation(rings, *mask.shape)) == mask).all()


@pytest.mark.parametrize("modal", [False, True])
def test_file_with_polygons(modal, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "amodal.json", tmp_path / "polygons.json"
    entry = {"id": 5, "image_id": 1, "category_id": 2, "iscrowd": 0, "mine": "kept",
             "segmentation": compressed(HOLE), "modal_segmentation": compressed(TWO)}  # fmt: skip
    image = {"id": 1, "file_name": "1.png", "height": 60, "width": 80}
    source.write_text(json.dumps({"images": [image], "annotations": [entry]}))
    monkeypatch.setattr(sys, "argv", ["polygons.py", str(source), "--out", str(out), *["--modal"] * modal])
    loaded("polygons.py").main()
    found = json.loads(out.read_text())["annotations"][0]
    wanted = TWO if modal else disc(*SIZE, 40, 30, 22, 18)
    assert (masks.decode(masks.from_segmentation(found["segmentation"], *SIZE)) == wanted).all()
    assert found["area"] == wanted.sum() and found["mine"] == "kept" and "modal_segmentation" not in found
    iou = 1 if modal else HOLE.sum() / wanted.sum()
    assert f"the least IoU with the masks is {iou:.4f}" in capsys.readouterr().out


def test_mistakes_end_in_one_line(tmp_path, monkeypatch):
    source = tmp_path / "detections.json"
    source.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1}]}))
    for out in (source, tmp_path / "out.json"):
        monkeypatch.setattr(sys, "argv", ["polygons.py", str(source), "--out", str(out)])
        with pytest.raises(SystemExit, match="overwrite" if out == source else "detections.json"):
            loaded("polygons.py").main()


def test_supervision_draws_both_masks():
    pytest.importorskip("supervision", reason="needs the extra supervision")
    picture = photo(np.random.default_rng(0), *SIZE) // 4
    prediction = load_model("convex_hull").predict(picture, TWO)
    drawn = loaded("supervision/annotate.py").drawn(picture, prediction).astype(int)
    inside = ~disc(*SIZE, 40, 30, 400, 400) | masks.grown(~prediction.amodal, 3) | masks.grown(TWO, 3)
    red, _, blue = (drawn - picture)[~inside].mean(axis=0)
    assert red > 60 > blue  # hidden
    seen = TWO & ~masks.grown(~TWO, 3)
    assert (drawn[seen] - picture[seen])[:, 2].mean() > 40  # visible
