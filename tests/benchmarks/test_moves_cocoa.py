"""The cases of DiffOOM's paper: how they are sampled, and the script from a COCOA folder to a table."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from amodalseg import UserError, masks, read_dataset
from amodalseg.masks import box_xyxy
from amodalseg.types import AmodalRecord
from tests.models.inpainting.tiny_hub import save_clip, save_dino
from tests.worlds import cocoa_world

pytest.importorskip("transformers")
ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("benchmark_moves_cocoa", ROOT / "benchmarks/moves_cocoa.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def record(photo, number, side, hidden, stuff=False):
    """A square in a photo of 40 x 50 pixels, with some of its columns occluded."""
    amodal = np.zeros((40, 50), bool)
    amodal[5 : 5 + side, 8 : 8 + side] = True
    modal = amodal.copy()
    modal[:, 8 : 8 + hidden] = False
    return AmodalRecord(
        "cocoa", "val", str(photo), str(number), Path(f"{photo}.jpg"), masks.encode(modal), masks.encode(amodal),
        is_stuff=stuff,
    )  # fmt: skip


def records():
    found = []
    for photo in range(10):
        found += [record(photo, 0, 12, 3), record(photo, 1, 14, 5), record(photo, 2, 6, 2), record(photo, 3, 12, 0),
                  record(photo, 4, 12, 11), record(photo, 5, 12, 3, stuff=True)]  # fmt: skip
    return found


def test_large_occluded_things_are_sampled_first_one_per_photo():
    cases = bench.draw_cases(records(), images=8, objects=11, targets=5, seed=1)
    assert len(cases) == 11 and {key.rsplit("/", 1)[1] for key in cases} <= {"0", "1"}
    photos = [key.split("/")[2] for key in cases]
    assert len(set(photos[:8])) == 8 and set(photos) == set(photos[:8])
    by_key = {one.key: one for one in records()}
    for key, targets in cases.items():
        x0, y0, x1, y1 = box_xyxy(by_key[key].modal)
        assert len({tuple(to) for to in targets}) == 5
        for x, y in targets:
            dx, dy = x - (x0 + x1) // 2, y - (y0 + y1) // 2
            assert (dx, dy) != (0, 0) and min(x0 + dx, y0 + dy) >= 0 and x1 + dx <= 50 and y1 + dy <= 40
    assert cases == bench.draw_cases(records()[::-1], images=8, objects=11, targets=5, seed=1)
    assert cases != bench.draw_cases(records(), images=8, objects=11, targets=5, seed=2)


def test_too_few_suitable_objects_are_reported():
    with pytest.raises(UserError, match="20 objects of 10 photos are large and occluded by 10% to 70%, and 150 of 120"):
        bench.draw_cases(records())


def test_from_cocoa_to_a_table(tmp_path, capsys):
    root, hub = cocoa_world(tmp_path / "cocoa"), tmp_path / "hub"
    dino, clip = save_dino(hub / "dino"), save_clip(hub / "clip")
    read = read_dataset("cocoa", root, split="val")
    fit = [r for r in read if bench.is_large(r) and 0.1 <= r.occlusion_rate <= 0.7]
    photos = len({str(r.image) for r in fit})
    arguments = [str(root), "--models", "nothing", "hull_in_occluders", f"--dino={dino}", f"--clip={clip}",
                 "--splits", "val", f"--objects={photos}", f"--images={photos}", "--targets=2",
                 "--device=cpu"]  # fmt: skip
    bench.main([*arguments, f"--out={tmp_path / 'out'}"])
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "out/figures.json").read_text())
    assert figures["nothing"]["dino_op"] == pytest.approx(1, abs=1e-5)
    assert figures["hull_in_occluders"]["dino_op"] < 0.9999
    assert f"{figures['hull_in_occluders']['dino_tp']:.3f}" in printed and "DINO-OP" in printed
    cases = tmp_path / "out/cases.json"
    assert len(json.loads(cases.read_text())) == photos
    bench.main([*arguments, f"--cases={cases}", "--seed=9", f"--out={tmp_path / 'again'}"])
    assert (tmp_path / "again/cases.json").read_text() == cases.read_text()
    cases.write_text(json.dumps({"cocoa/val/none/0": [[1, 1]]}))
    with pytest.raises(UserError, match="names 1 objects that are not in"):
        bench.main([*arguments, f"--cases={cases}", f"--out={tmp_path / 'again'}"])


def test_complete_objects_are_cropped_on_white():
    photo = np.full((40, 50, 3), 90, np.uint8)
    whole = record(0, 3, 12, 0)
    whole.image = photo
    (found,) = bench.shown_whole([whole, record(0, 0, 12, 3)], 5, 0)
    assert found.shape == (12, 12, 3) and (found == 90).all()
