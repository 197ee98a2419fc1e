"""COCO json as tools write it: crowds, degenerate polygons, ids, paths, no images; one bad entry never ends a run."""

import json

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.cli import main
from amodalseg.config.load import build
from amodalseg.config.schema import DataOnly
from amodalseg.data.open import open_source
from amodalseg.errors import UserError
from tests.worlds import compressed, disc, photo, run_lengths, write_photo

SIZE = 48, 64
RING = [10, 16, 24, 11, 25, 11, 25, 41, 24, 41, 12, 36]
PIECES = disc(*SIZE, 15, 20, 5, 8) | disc(*SIZE, 35, 20, 4, 8)


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "sub/c"):
        write_photo(tmp_path / f"images/{name}.png", photo(np.random.default_rng(1), *SIZE))
    return tmp_path


def image(key, name="a.png"):
    return {"id": key, "file_name": name, "height": SIZE[0], "width": SIZE[1]}


def entry(key, image_id, segmentation, **more):
    return {"id": key, "image_id": image_id, "category_id": 1, "segmentation": segmentation, **more}


def coco(*entries, images=None, **more):
    return {"images": images or [image(1), image(2, "b.png")], "categories": [], "annotations": list(entries), **more}


def predict(folder, content, *more, given=("--images",)):
    """Returns: the exit code and the written annotations."""
    (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    places = {"--images": folder / "images", "--image": folder / "images/a.png"}
    code = main(["predict", "convex_hull", f"--coco={folder / 'a.json'}", f"--out={out}",
                 *(f"{option}={places[option]}" for option in given), *more])  # fmt: skip
    found = json.loads(out.read_text()) if out.exists() else []
    return code, found["annotations"] if isinstance(found, dict) else found


CROWD = [(run_lengths(PIECES), 1), (compressed(PIECES), True), (run_lengths(PIECES), "1")]


@pytest.mark.parametrize(("mask", "mark"), CROWD)
def test_crowds_are_reported_and_completed_on_request(folder, capsys, mask, mark):
    content = coco(entry(1, 1, mask, iscrowd=mark), entry(2, 1, [RING], iscrowd=0), entry(3, 2, [RING], iscrowd="0"))
    code, found = predict(folder, content)
    assert code == 0 and found[0]["segmentation"] == mask
    assert "1 of 3 annotations are marked as crowds (iscrowd=1) and kept unchanged" in capsys.readouterr().err
    code, found = predict(folder, content, "--crowd=complete")
    assert code == 0 and found[0]["area"] > PIECES.sum() + 50 and found[0]["iscrowd"] == mark
    assert "crowd" not in capsys.readouterr().err


def source(folder, content, **options):
    (folder / "a.json").write_text(json.dumps(content))
    plain = {"name": "coco", "annotations": [str(folder / "a.json")], "images": [str(folder / "images")], **options}
    return open_source(build(DataOnly, [("test", {"data": plain})]).data).records


def test_crowds_in_training_are_reported_and_used_on_request(folder, caplog):
    content = coco(entry(1, 1, run_lengths(PIECES), iscrowd=1), entry(2, 1, [RING]))
    with caplog.at_level("INFO", "amodalseg"):
        assert ["crowd" in record.flags for record in source(folder, content)] == [True, False]
    assert "1 of 2 objects are marked as crowds" in caplog.text and "data.crowd=complete" in caplog.text
    assert not any("crowd" in record.flags for record in source(folder, content, crowd="complete"))


SCRAPS = [[32.0, 24.0], [5, 5, 20, 20], [], [1]]


def test_degenerate_polygons_beside_valid_ones_are_ignored_and_counted(folder, capsys, caplog):
    content = coco(entry(0, 1, [RING]), *(entry(1 + n, 2, [RING, scrap]) for n, scrap in enumerate(SCRAPS)))
    code, found = predict(folder, content)
    assert code == 0 and len({json.dumps(one["segmentation"]) for one in found}) == 1 and len(found) == 5
    assert "4 annotations have polygons of two points or fewer beside valid ones" in capsys.readouterr().out
    with caplog.at_level("INFO", "amodalseg"):
        assert len({record.modal_rle["counts"] for record in source(folder, content)}) == 1
    assert "4 annotations have polygons of two points" in caplog.text


ALONE = [
    [[32.0, 24.0]],
    [[5, 5, 20, 20]],
    [[]],
    [],
    None,
    [["10", "16", "24", "11", "25", "41"]],
    [[1, 2, 3, 4, 5, 6, 7]],
]


def test_invalid_masks_are_listed_and_the_rest_is_predicted(folder, capsys):
    content = coco(entry(0, 1, [RING]), *(entry(10 + n, 2, mask) for n, mask in enumerate(ALONE)))
    code, found = predict(folder, content)
    assert code == 1 and [one["id"] for one in found] == [0]
    assert capsys.readouterr().err.count("failed: annotation") == len(ALONE)
    with pytest.raises(UserError, match=r"\(7 of 8 annotations, ids 10, 11, 12, 13, 14, 15, 16\)"):
        source(folder, content)
    with pytest.warns(UserWarning, match=r"\(7 of 8 annotations.*: left out"):
        assert [record.object_id for record in source(folder, content, skip_broken=True)] == ["0"]


NAMES = ["a\0.png", "\ud800.png", "", "..", "/etc/passwd", "../images/a.png", "C:\\x\\a.png", "\\\\server\\a.png"]


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_file_name_does_not_end_the_run(folder, capsys, name):
    content = coco(entry(1, 1, [RING]), entry(2, 2, [RING]), images=[image(1), image(2, name)])
    code, found = predict(folder, content)
    assert code == 1 and [one["id"] for one in found] == [1]
    error = capsys.readouterr().err
    assert "failed: annotation 2: the photo" in error and "Traceback" not in error
    with pytest.raises(UserError, match=r"\(1 such images, ids 2\).*data.skip_broken=true"):
        source(folder, content)
    with pytest.warns(UserWarning, match="their objects are left out"):
        assert [record.object_id for record in source(folder, content, skip_broken=True)] == ["1"]


def test_file_names_outside_the_folder_are_read_on_request(folder, capsys):
    write_photo(folder / "other/a.png", photo(np.random.default_rng(2), *SIZE))
    names = ["../other/a.png", str(folder / "other/a.png")]
    content = coco(
        entry(1, 1, [RING]), entry(2, 2, [RING]), images=[image(n + 1, name) for n, name in enumerate(names)]
    )
    assert predict(folder, content)[0] == 1
    assert capsys.readouterr().err.count("--outside") == 2
    code, found = predict(folder, content, "--outside", "--overwrite", f"--overlay={folder / 'shown/deep'}")
    assert code == 0 and len(found) == 2
    assert {path.relative_to(folder / "shown").parts[0] for path in (folder / "shown").rglob("*.png")} == {"deep"}
    assert len(source(folder, content, outside=True)) == 2


@pytest.mark.parametrize("name", ["sub\\c.png", "images/a.png", "images\\a.png", "images\\sub/c.png", "./a.png"])
def test_file_names_with_folders_and_backslashes(folder, name):
    content = coco(entry(1, 1, [RING]), images=[image(1, name)])
    assert predict(folder, content)[0] == 0
    assert source(folder, content)[0].image.is_file()


def test_a_file_name_that_contains_a_backslash(folder):
    write_photo(folder / "images/x.png", photo(np.random.default_rng(2), *SIZE))
    (folder / "images/x.png").rename(folder / "images/odd\\name.png")
    assert predict(folder, coco(entry(1, 1, [RING]), images=[image(1, "odd\\name.png")]))[0] == 0


def test_ids_given_as_text_match_numeric_ids(folder, capsys):
    content = coco(entry(1, "1", [RING]), entry(2, 2, [RING]))
    content["categories"] = [{"id": "1", "name": "cup"}]
    code, found = predict(folder, content)
    assert code == 0 and [one["image_id"] for one in found] == ["1", 2]
    assert "a text as image_id of annotations, a whole number as id of images ('1' and 1)" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="1 image ids are treated as the same"):
        assert [(record.image_id, record.category) for record in source(folder, content)] == [
            ("1", "cup"),
            ("2", "cup"),
        ]
    code, _ = predict(folder, coco(entry(1, "01", [RING])))
    assert code == 2 and "annotation without image" in capsys.readouterr().err
    code, _ = predict(folder, coco(entry(1, 1, [RING]), images=[image(1), image("1", "b.png")]))
    assert code == 2 and "occur both as a number and as text: 1" in capsys.readouterr().err


def test_duplicate_keys_are_reported(folder, capsys):
    text = json.dumps(coco(entry(1, 1, [RING])))
    assert predict(folder, text.replace('"id": 1, "image_id": 1', '"id": 1, "image_id": 2, "image_id": 1'))[0] == 2
    assert "the key 'image_id' occurs twice in one object, with different values" in capsys.readouterr().err
    assert predict(folder, text.replace('"id": 1, "image_id": 1', '"id": 1, "image_id": 1, "image_id": 1'))[0] == 0


def test_lists_of_mask_generators_and_jsons_of_one_photo(folder, capsys):
    rle = compressed(PIECES)
    generated = [{"segmentation": rle, "area": 5, "predicted_iou": 0.9}, {"segmentation": run_lengths(PIECES)}]
    assert predict(folder, generated)[0] == 2
    assert "2 of 2 masks have no image_id" in (said := capsys.readouterr().err) and "--image PHOTO" in said
    code, found = predict(folder, generated, given=("--image",))
    assert code == 0 and len(found) == 2 and found[0]["predicted_iou"] == 0.9
    of_one = {"image": {"image_id": 7, "file_name": "a.png", "height": 48, "width": 64},
              "annotations": [{"id": 11, "segmentation": rle}]}  # fmt: skip
    code, found = predict(folder, of_one)
    assert code == 0 and found[0]["id"] == 11 and "image" in json.loads((folder / "out.json").read_text())
    named = [{"image_id": "a", "file_name": "a.png", "segmentation": rle, "score": 0.9}]
    assert predict(folder, named)[0] == 0
    two = [{"image_id": 1, "segmentation": rle}, {"image_id": 2, "segmentation": rle}]
    assert predict(folder, two, given=("--image",))[0] == 2
    assert "annotations of 2 images" in capsys.readouterr().err


def test_annotations_without_a_list_of_images(folder, capsys):
    content = {"annotations": [entry(1, 1, [RING])]}
    assert predict(folder, content)[0] == 2
    assert "has annotations, but no images; give a COCO file with --coco-images" in capsys.readouterr().err
    (folder / "listing.json").write_text(json.dumps(coco()))
    assert predict(folder, content, f"--coco-images={folder / 'listing.json'}")[0] == 0


def test_run_lengths_that_were_printed_as_bytes(folder):
    text = masks.encode(PIECES)["counts"]
    content = coco(entry(1, 1, {"size": list(SIZE), "counts": str(text)}))
    code, found = predict(folder, content)
    assert code == 0 and found[0]["area"] > PIECES.sum()
    backslash = masks.encode(disc(300, 300, 150, 150, 149, 120))["counts"]
    tried = next(masks.encode(disc(300, 300, 150, 150, 149, r)) for r in range(20, 149)
                 if b"\\" in masks.encode(disc(300, 300, 150, 150, 149, r))["counts"])  # fmt: skip
    assert backslash and masks.from_segmentation({"size": [300, 300], "counts": str(tried["counts"])}, 1, 1) == tried
