"""Photos stored rotated: reported, read upright on request, with fitting masks; in predict and in data sets."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from amodalseg import masks
from amodalseg.cli import main
from amodalseg.config.load import build
from amodalseg.config.schema import DataOnly
from amodalseg.data.images import image_size, load_image
from amodalseg.data.open import open_source
from amodalseg.data.record_pictures import record_image
from amodalseg.errors import UserError
from tests.worlds import disc, photo, ring

UPRIGHT = photo(np.random.default_rng(5), 64, 48)
MASK = disc(64, 48, 20, 14, 9, 10)
STORED = {
    2: UPRIGHT[:, ::-1], 3: UPRIGHT[::-1, ::-1], 4: UPRIGHT[::-1], 5: UPRIGHT.swapaxes(0, 1), 6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(UPRIGHT, -1),
}  # fmt: skip
"""How a camera stores it -> so that EXIF's orientation turns it upright."""


def save(path, turn, pixels=None):
    exif = Image.Exif()
    exif[0x0112] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(STORED[turn] if pixels is None else pixels)).save(path, exif=exif)
    return path


def grey(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


@pytest.mark.parametrize("turn", STORED)
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_photos_are_read_upright_for_every_exif_rotation(tmp_path, turn, ending):
    path = save(tmp_path / f"a.{ending}", turn)
    upright = load_image(path, upright=True)
    assert upright.shape == UPRIGHT.shape and image_size(path, upright=True) == (64, 48)
    assert np.abs(upright.astype(int) - UPRIGHT).mean() < (30 if ending in ("jpg", "webp") else 1e-9)
    assert image_size(path) == load_image(path).shape[:2]
    assert ending == "tif" or load_image(path).shape == STORED[turn].shape, "TIFF files are always read upright"


def predict(folder, *more):
    return main(["predict", "modal", f"--image={folder / 'a.png'}", f"--mask={folder / 'm.png'}",
                 f"--out={folder / 'out.png'}", *more])  # fmt: skip


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_a_rotated_photo_is_reported_and_read_upright(tmp_path, capsys, turn):
    save(tmp_path / "a.png", turn)
    Image.fromarray(MASK).save(tmp_path / "m.png")
    assert predict(tmp_path) == (0 if turn == 3 else 2)
    said = capsys.readouterr().err
    assert "EXIF" in said and f"orientation {turn}" in said and "--upright" in said and said.count("\n") == 1
    assert predict(tmp_path, "--upright", f"--overlay={tmp_path / 'shown'}") == 0
    assert not capsys.readouterr().err and np.array_equal(grey(tmp_path / "out.png") > 0, MASK)
    assert grey(tmp_path / "shown/a.png").shape == (64, 48)


def test_a_mask_of_the_stored_size_is_rotated_with_its_photo(tmp_path, capsys):
    save(tmp_path / "a.png", 6)
    Image.fromarray(np.rot90(MASK)).save(tmp_path / "m.png")
    assert predict(tmp_path) == 0 and np.array_equal(grey(tmp_path / "out.png") > 0, np.rot90(MASK))
    assert "EXIF" in capsys.readouterr().err
    assert predict(tmp_path, "--upright") == 0 and np.array_equal(grey(tmp_path / "out.png") > 0, MASK)


def coco(folder, said, segmentation):
    for turn in (3, 6, 8):
        save(folder / f"photos/{turn}.png", turn)
    images = [{"id": turn, "file_name": f"{turn}.png", "height": said[0], "width": said[1]} for turn in (3, 6, 8)]
    found = [{"id": turn, "image_id": turn, "segmentation": segmentation} for turn in (3, 6, 8)]
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": found, "categories": []}))
    return [
        "predict",
        "box",
        f"--coco={folder / 'a.json'}",
        f"--images={folder / 'photos'}",
        f"--out={folder / 'o.json'}",
    ]


def test_coco_upright(tmp_path, capsys):
    command = coco(tmp_path, (64, 48), [ring(20, 14, 9, 10)])
    assert main(command) == 1, "two of three fail"
    said = capsys.readouterr().err
    assert said.count("give --upright") == 3 and "3 of 3 photos are stored rotated" in said
    assert main([*command, "--overwrite", "--upright", f"--overlay={tmp_path / 'shown'}"]) == 0
    after = json.loads((tmp_path / "o.json").read_text())
    assert not capsys.readouterr().err
    assert [entry["segmentation"]["size"] for entry in after["annotations"]] == [[64, 48]] * 3
    assert len({json.dumps(entry["segmentation"]) for entry in after["annotations"]}) == 1
    assert {grey(path).shape for path in (tmp_path / "shown").iterdir()} == {(64, 48)}


def test_coco_with_sizes_and_run_lengths_as_stored(tmp_path, capsys):
    rle = masks.encode(np.rot90(MASK))
    command = coco(tmp_path, (48, 64), {"size": rle["size"], "counts": rle["counts"].decode()})
    assert main([*command, "--upright"]) == 1, "photo 3 is stored 64 high"
    after = json.loads((tmp_path / "o.json").read_text())
    assert [entry["id"] for entry in after["annotations"]] == [6, 8]
    found = masks.from_segmentation(after["annotations"][0]["segmentation"], 64, 48)
    assert masks.box_xyxy(masks.decode(found)) == masks.box_xyxy(MASK)
    assert {(image["height"], image["width"]) for image in after["images"] if image["id"] != 3} == {(64, 48)}
    capsys.readouterr()


def source(folder, **options):
    plain = {"name": "coco", "annotations": [str(folder / "a.json")], "images": [str(folder / "photos")], **options}
    return open_source(build(DataOnly, [("test", {"data": plain})]).data)


def test_data_sets_report_rotated_photos_and_read_them_upright(tmp_path):
    coco(tmp_path, (64, 48), [ring(20, 14, 9, 10)])
    with (
        pytest.warns(UserWarning, match=r"3 of 3 photos are stored rotated .*data\.upright=true"),
        pytest.raises(UserError, match=r"\.png is stored rotated by its EXIF data .*data\.upright=true"),
    ):
        source(tmp_path)
    for record in source(tmp_path, upright=True).records:
        assert np.array_equal(record_image(record), UPRIGHT)
    coco(tmp_path, (48, 64), [ring(20, 14, 9, 10)])
    with pytest.raises(UserError, match=r"data\.upright=false|different size"):
        source(tmp_path, upright=True)
