"""``amodalseg scene`` and ``amodalseg.order``: completed, ordered and layered, with the convex hull as model."""

import json
import zipfile
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

import amodalseg
from amodalseg import UserError, masks
from amodalseg.cli import main
from tests.worlds import write_photo

FAR, MIDDLE, NEAR = (slice(10, 50), slice(10, 50)), (slice(25, 45), slice(22, 34)), (slice(30, 40), slice(30, 60))
"""A square, in front of it a post inside of it, in front of both a bar that leaves the square to its right."""


def world(folder):
    """Two photos: the first with three objects in front of each other, the second with a crowd and a broken mask."""
    places = np.zeros((3, 60, 80), bool)
    for mask, place in zip(places, (FAR, MIDDLE, NEAR), strict=True):
        mask[place] = True
    modal = np.stack([mask & ~places[place + 1 :].any(axis=0) for place, mask in enumerate(places)])
    photo = np.full((60, 80, 3), 30, np.uint8)
    for mask, color in zip(places, ((200, 0, 0), (0, 200, 0), (0, 0, 200)), strict=True):
        photo[mask] = color
    write_photo(folder / "photos/street/one.png", photo)
    write_photo(folder / "photos/two.png", photo)
    rles = [masks.encode(mask) for mask in modal]
    annotations = [
        {"id": 7 - place, "image_id": 1, "category_id": 3, "segmentation": {**rle, "counts": rle["counts"].decode()}}
        for place, rle in enumerate(rles)
    ]
    annotations += [
        {**annotations[0], "id": 20, "image_id": 2, "iscrowd": 1}, {**annotations[0], "id": 21, "image_id": 2},
        {"id": 22, "image_id": 2, "segmentation": [[1, 2, 3]]},
    ]  # fmt: skip
    images = [{"id": 1, "file_name": "street/one.png"}, {"id": 2, "file_name": "two.png"}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "box"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return photo, modal, places


@pytest.fixture
def given(tmp_path):
    arguments = ["scene", "convex_hull", f"--coco={tmp_path / 'instances.json'}", f"--images={tmp_path / 'photos'}"]
    return [*arguments, f"--out={tmp_path / 'out'}"], *world(tmp_path)


def test_the_order_of_a_photo(given):
    _, photo, modal, places = given
    found = amodalseg.order(photo, modal, model="convex_hull")
    assert np.argwhere(found.order.hides).tolist() == [[1, 0], [2, 0], [2, 1]]
    assert found.order.far_to_near == [0, 1, 2] and not found.order.dropped
    assert np.array_equal(found.predictions.amodal[0], places[0])
    assert not amodalseg.order(photo, modal, model="modal").order.hides.any(), "what is not completed hides nothing"
    with pytest.raises(UserError, match="an order needs several objects"):
        amodalseg.order(photo, modal[0], model="modal")


def test_photos_of_a_file(given, tmp_path, capsys):
    arguments, _, _, places = given
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "annotation 22: its mask cannot be read" in said.err and "2 of 2 photos are in" in said.out
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("[!.]*.*")) == [
        "street/one.json", "street/one.ora", "street/one.png", "two.json", "two.ora", "two.png",
    ]  # fmt: skip
    found = json.loads((tmp_path / "out/street/one.json").read_text())
    assert [one["id"] for one in found["annotations"]] == [7, 6, 5] and found["cycles"] == []
    assert [one["hides"] for one in found["annotations"]] == [[], [7], [7, 6]]
    assert [one["hidden_by"] for one in found["annotations"]] == [[6, 5], [5], []]
    whole = found["annotations"][0]
    assert np.array_equal(masks.decode(masks.from_segmentation(whole["segmentation"], 60, 80)), places[0])
    assert whole["category_id"] == 3 and whole["area"] == places[0].sum()
    assert [one["id"] for one in json.loads((tmp_path / "out/two.json").read_text())["annotations"]] == [21]


def test_layers_merge_to_the_photo(given, tmp_path):
    arguments, photo, *_ = given
    main(arguments)
    with zipfile.ZipFile(tmp_path / "out/street/one.ora") as archive:
        layers = ElementTree.fromstring(archive.read("stack.xml")).findall("stack/layer")
        assert [layer.get("name") for layer in layers] == ["photo", "box 5", "box 6", "box 7", "background"]
        merged = cv2.imdecode(np.frombuffer(archive.read("mergedimage.png"), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        box = cv2.imdecode(np.frombuffer(archive.read(layers[3].get("src")), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.abs(merged.astype(int) - photo).max() <= 3, "the ground that is filled in is even"
    assert box.shape == (40, 40, 4) and (box[..., 3] == 255).all()
    assert np.abs(box[..., :3].astype(int) - (0, 0, 200)).max() <= 3, "all of it red"


def test_existing_outputs_are_kept(given, tmp_path, capsys):
    arguments, *_ = given
    main(arguments)
    kept = (tmp_path / "out/two.json").stat().st_mtime_ns
    (tmp_path / "out/street/one.json").unlink()
    assert main(arguments) == 0
    assert "1 of 2 photos are done and kept" in capsys.readouterr().out
    assert (tmp_path / "out/two.json").stat().st_mtime_ns == kept and (tmp_path / "out/street/one.json").is_file()
    arguments[1] = "box"
    assert main(arguments) == 2 and "other weights or options" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 1


def test_crowds_and_mistakes(given, tmp_path, capsys):
    arguments, *_ = given
    assert main([*arguments, "--crowd=complete"]) == 1
    assert [one["id"] for one in json.loads((tmp_path / "out/two.json").read_text())["annotations"]] == [20, 21]
    (tmp_path / "file").write_text("")
    assert main([*arguments[:-1], f"--out={tmp_path / 'file'}"]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err


def test_two_photos_of_equal_name_are_refused(given, tmp_path, capsys):
    arguments, photo, *_ = given
    write_photo(tmp_path / "photos/street/one.jpg", photo)
    content = json.loads((tmp_path / "instances.json").read_text())
    content["images"][1]["file_name"] = "street/one.jpg"
    (tmp_path / "instances.json").write_text(json.dumps(content))
    assert main(arguments) == 2
    assert "two photos would both be written to" in capsys.readouterr().err and not list((tmp_path / "out").glob("*/*"))
