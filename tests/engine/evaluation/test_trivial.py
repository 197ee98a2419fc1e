"""Trivial predictions scored from annotations alone, and the command that prints them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from amodalseg.cli import main
from amodalseg.config.schema import CocoaData, SyntheticData, WindowConfig
from amodalseg.data.open import open_source
from amodalseg.data.window import geometry_ceiling
from amodalseg.engine.evaluation.trivial import TRIVIAL, score_trivially, trivial_rows
from amodalseg.metrics.counts import read_rows
from amodalseg.metrics.protocols import score
from tests.worlds import cocoa_world

REAL = Path(os.environ.get("AMODALSEG_DATA", "nowhere")) / "cocoa"


def independent(annotations, sizes):
    """(modal, box, amodal) of each region with a visible pixel, computed by pycocotools without this project."""
    for annotation in annotations:
        height, width = sizes[annotation["image_id"]]
        for region in annotation["regions"]:
            amodal = coco.decode(coco.merge(coco.frPyObjects([region["segmentation"]], height, width))) > 0
            modal = coco.decode(region["visible_mask"]) > 0 if "visible_mask" in region else amodal
            if modal.any():
                rows, columns = np.nonzero(modal)
                box = np.zeros_like(modal)
                box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
                yield modal, box, amodal


def why_it_matters(masks_of):
    """Mean IoU and ratio of sums: all objects, occluded ones; mean IoU up to a rate of 10 %: occluded ones, all."""
    inter = np.array([(p & a).sum() for p, _, a in masks_of])
    union = np.array([(p | a).sum() for p, _, a in masks_of])
    rate = np.array([(a & ~v).sum() / a.sum() for _, v, a in masks_of])
    iou, hidden = inter / union, rate > 0
    return [
        iou.mean(), inter.sum() / union.sum(), iou[hidden].mean(), inter[hidden].sum() / union[hidden].sum(),
        iou[hidden & (rate <= 0.1)].mean() if (hidden & (rate <= 0.1)).any() else None, iou[rate <= 0.1].mean(),
    ]  # fmt: skip


FIGURES = [
    ("per_object", "full"), ("pooled", "full"), ("per_object_occluded", "full"), ("pooled", "full_of_occluded"),
    ("mean_bucket", "le_10"), ("mean_bucket", "le_10_with_unoccluded"),
]  # fmt: skip


def check(path, arguments, rows_file, capsys):
    """Compare the command's rows and table with the independent computation. Returns the figures of ``modal``."""
    contents = [json.loads(one.read_text()) for one in path]
    annotations = [a for content in contents for a in ([content] if "regions" in content else content["annotations"])]
    sizes = {
        annotation["image_id"]: next(r["visible_mask"]["size"] for r in annotation["regions"] if "visible_mask" in r)
        for annotation in annotations
    }
    found = list(independent(annotations, sizes))
    assert main(["data", "protocols", "cocoa", *arguments, "--csv", str(rows_file)]) == 0
    printed = capsys.readouterr().out
    rows = read_rows(rows_file)
    assert len(rows) == len(TRIVIAL) * len(found)
    expected = {
        "modal": why_it_matters([(v, v, a) for v, _, a in found]),
        "box": why_it_matters([(b, v, a) for v, b, a in found]),
    }
    for number, (name, values) in enumerate(expected.items()):
        scores = score([row for row in rows if row["model"] == name])
        assert [scores[protocol][figure] for protocol, figure in FIGURES] == pytest.approx(values), name
        for (protocol, figure), value in zip(FIGURES, values, strict=True):
            (line,) = (line.split() for line in printed.splitlines() if line.startswith(f"{protocol} · {figure} "))
            assert line[3 + number] == ("–" if value is None else f"{100 * value:.1f}")
    return expected["modal"]


def test_the_command_agrees_with_an_independent_computation_without_photos(tmp_path, capsys):
    root = cocoa_world(tmp_path / "cocoa")
    for photo in root.rglob("*.jpg"):
        photo.unlink()
    check([root / "annotations/COCO_amodal_val2014.json"], [str(root), "--split", "val"], tmp_path / "rows.csv", capsys)


def test_bare_records_in_several_files(tmp_path, capsys):
    root = cocoa_world(tmp_path / "cocoa")
    content = json.loads((root / "annotations/COCO_amodal_val2014.json").read_text())
    files = []
    for annotation in content["annotations"]:
        files.append(tmp_path / f"{annotation['id']}.json")
        files[-1].write_text(json.dumps(annotation))
    check(files, list(map(str, files)), tmp_path / "rows.csv", capsys)
    assert main(["data", "protocols", "cocoa", str(files[0]), str(files[0])]) == 0  # given twice, read once
    assert "5 objects" in (printed := capsys.readouterr().out)
    assert "1 objects with no visible pixels are excluded" in printed


def test_mistakes_are_one_line(tmp_path, capsys):
    assert main(["data", "protocols", "cocoa", str(tmp_path / "absent.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{tmp_path / 'absent.json'}: " in error
    root = cocoa_world(tmp_path / "cocoa", num_images=1)
    assert main(["data", "protocols", "cocoa", str(root), "include_stuf=false"]) == 2
    assert "include_stuff" in capsys.readouterr().err


def test_scores_of_windows_equal_the_geometry_ceiling():
    source = open_source(SyntheticData(split="val", num_objects=6, unoccluded=0.4))
    records = [source.get(index) for index in range(len(source))]
    rows, unprompted = score_trivially([SyntheticData(split="val", num_objects=6, unoccluded=0.4)])
    assert unprompted == 0 and rows[: len(TRIVIAL)] != []
    for kind in ("c2f", "square"):
        ceiling = geometry_ceiling(records, WindowConfig(256, kind))
        figures = score([row for row in rows if row["model"] == f"window_{kind}_256"])["per_object"]
        hidden = [item["occluded"] for item in ceiling if item["occluded"] is not None]
        assert figures["full"] == pytest.approx(np.mean([item["full"] for item in ceiling]))
        assert figures["occluded"] == pytest.approx(np.mean(hidden))
    assert [row["model"] for row in trivial_rows(records[0])] == list(TRIVIAL)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs AMODALSEG_DATA with the COCOA annotations")
def test_two_real_photos(tmp_path, capsys):
    found = check(
        [REAL / "annotations/COCO_amodal_val2014.json"], [str(REAL), "--split", "val"], tmp_path / "rows.csv", capsys
    )
    assert found == pytest.approx([0.8759, 0.8049, 0.7311, 0.6352, 0.9240, 0.9905], abs=5e-5)
    rows = [row for row in read_rows(tmp_path / "rows.csv") if row["model"] == "modal"]
    assert len(rows) == 13 and sum(row["occluded_area"] > 0 for row in rows) == 6
    content = json.loads((REAL / "annotations/COCO_amodal_val2014.json").read_text())
    areas = [region["area"] for annotation in content["annotations"] for region in annotation["regions"]]
    assert sorted(row["amodal_area"] for row in rows) == sorted(map(int, areas))


def test_photos_are_not_opened_if_annotations_suffice(tmp_path):
    root = cocoa_world(tmp_path / "cocoa")
    for photo in root.rglob("*.jpg"):
        photo.write_bytes(b"no picture")
    assert len(open_source(CocoaData(root=str(root)), photos=False)) == 12
    with pytest.raises(ValueError, match="broken"):
        open_source(CocoaData(root=str(root)))
