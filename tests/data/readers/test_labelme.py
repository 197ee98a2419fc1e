import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from amodalseg import read_dataset
from amodalseg.cli import main
from amodalseg.data.readers.labelme import read_labelme
from amodalseg.errors import UserError
from tests.worlds import disc, edit_json
from tests.worlds.compare import held
from tests.worlds.labelme import labelme_shape, labelme_world


@pytest.fixture
def folder(tmp_path):
    return labelme_world(tmp_path / "desk")


def filled(x0, y0, x1, y1, size=(90, 120)):
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_groups_form_objects_and_labels_choose_the_mask(folder):
    records = read_labelme(folder, "val")
    assert len(records) == 10 and {record.image_id for record in records} == {"desk 0", "desk 1"}
    cup, plate, lid, shadow, ball = records[:5]
    assert cup.key == "labelme/val/desk 0/g1" and [record.object_id for record in records[2:5]] == ["s4", "s7", "s8"]
    assert [record.category for record in records[:5]] == ["cup", "plate", "lid", "shadow", "ball"]
    assert np.array_equal(cup.modal, filled(10, 20, 20, 50) | filled(30, 20, 40, 50))
    assert np.array_equal(cup.amodal, filled(10, 20, 40, 50)) and cup.flags == frozenset()
    assert np.array_equal(plate.amodal, filled(50, 20, 80, 60)) and np.array_equal(plate.modal, filled(50, 40, 80, 60))
    for whole, mask in ((lid, filled(0, 70, 30, 80)), (shadow, filled(60, 70, 90, 86))):
        assert np.array_equal(whole.modal, mask) and np.array_equal(whole.amodal, mask)
        assert whole.flags == {"fully_visible"}
    assert (ball.modal ^ disc(90, 120, 100, 30, 15, 15)).sum() < 25 and ball.modal.sum() > 600
    assert lid.is_stuff is True and cup.is_stuff is None
    assert cup.image == folder / "desk 0.jpg"


def test_an_amodal_shape_of_only_the_hidden_part_is_united_with_the_visible_shape(folder):
    def change(content):
        content["shapes"] = [
            labelme_shape("cup", [[10, 20], [20, 20], [20, 50], [10, 50]], 1),
            labelme_shape("cup:amodal", [[20, 20], [40, 20], [40, 50], [20, 50]], 1, flags={"crowd": True}),
            labelme_shape("box", [[50, 20], [60, 20], [60, 50]], 2),
            labelme_shape("box:modal", [[70, 20], [80, 20], [80, 50]], 2),
        ]

    edit_json(folder / "desk 0.json", change)
    cup, box = read_labelme(folder)[:2]
    assert np.array_equal(cup.modal, filled(10, 20, 20, 50)) and np.array_equal(cup.amodal, filled(10, 20, 40, 50))
    assert cup.flags == {"crowd"} and box.flags == {"fully_visible"} and box.modal.sum() > 200


def test_optional_image_data_and_sizes_and_windows_paths(folder):
    before = read_labelme(folder)
    (folder / "photos").mkdir()
    (folder / "desk 0.jpg").rename(folder / "photos/desk 0.jpg")

    def change(content):
        for key in ("imageData", "version", "flags"):
            del content[key]
        content.update(imagePath="photos\\desk 0.jpg", imageHeight=None, imageWidth=None)
        for shape in content["shapes"]:
            for key in ("description", "mask", "flags"):
                del shape[key]
            if shape["shape_type"] == "polygon":
                del shape["shape_type"]

    edit_json(folder / "desk 0.json", change)
    after = read_labelme(folder)
    assert [record.amodal_rle for record in after] == [record.amodal_rle for record in before]
    assert after[0].image == folder / "photos/desk 0.jpg"


def bitmap(mask):
    """A mask as labelme's AI tools store it."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(("x", "y"), [(30, 20), (-3, -2), (110, 80)])
def test_masks_of_ai_tools_and_brushes(folder, x, y):
    drawn = disc(21, 17, 8, 10, 8, 10)
    points = [[x, y], [x + 16, y + 20]]
    entry = labelme_shape("cup", points, None, "mask", mask=bitmap(drawn))
    edit_json(folder / "desk 0.json", lambda content: content.update(shapes=[entry]))
    wide = np.zeros((90 + 80, 120 + 80), bool)
    wide[y + 40 : y + 61, x + 40 : x + 57] = drawn
    assert np.array_equal(read_labelme(folder)[0].modal, wide[40:130, 40:160])


def test_rectangles_of_four_points(folder):
    corners = [[10, 20], [40, 20], [40, 50], [10, 50]]
    for kind in ("rectangle", "rotation"):
        entry = labelme_shape("cup", corners, None, kind)
        edit_json(folder / "desk 0.json", lambda content, entry=entry: content.update(shapes=[entry]))
        assert np.array_equal(read_labelme(folder)[0].modal, filled(10, 20, 40, 50))


def test_shapes_without_area_are_counted_and_left_out(folder):
    before = [(record.key, record.modal_rle) for record in read_labelme(folder)]
    stray = [labelme_shape("note", [[3, 3]], None, "point"), labelme_shape("edge", [[3, 3], [9, 9]], None, "line"),
             labelme_shape("x", [[3, 3], [9, 9], [20, 3]], None, "linestrip"), labelme_shape("y", [[1, 1], [2, 2]]),
             labelme_shape("z", [])]  # fmt: skip
    edit_json(folder / "desk 0.json", lambda content: content["shapes"].extend(stray))
    with pytest.warns(
        UserWarning, match=r"5 shapes enclose no area and are left out \(1 point, 1 line, 1 linestrip, 2"
    ):
        assert [(record.key, record.modal_rle) for record in read_labelme(folder)] == before


def shape(index, **values):
    return lambda content: content["shapes"][index].update(values)


MISTAKES = [
    (shape(1, label="cup:amodel"), "shape 2: the label 'cup:amodel' is not NAME, NAME:modal or NAME:amodal"),
    (shape(1, label=":amodal"), "shape 2: the label ':amodal'"),
    (shape(1, label=" "), "shape 2: the label ' '"),
    (shape(4, label="mug"), "shape 5 is labelled 'mug', but another shape of its group 'cup' .*shape 1"),
    (shape(0, shape_type="line"), "shape 1 is a line; draw objects as polygon, rectangle, circle or mask"),
    (shape(6, label="shadow:amodal"), "shape 7 is the whole of 'shadow', but no shape is its visible part.*group_id"),
    (shape(1, group_id=None), "shape 2 is the whole of 'cup', but no shape is its visible part.*group_id"),
    (shape(7, shape_type="mask", mask="?"), "shape 8: its mask is not a picture in base64"),
    (shape(7, shape_type="mask", mask=None), "shape 8, its mask: it is broken|cannot read the mask .*shape 8"),
    (shape(7, shape_type="mask", mask=bitmap(disc(9, 9, 4, 4, 4, 4))), "shape 8: its mask is 9x9, the box .* 1x16"),
    (shape(0, points=[[1, 2], [3, 4]]), "shape 1: a polygon has 3 or more points"),
    (shape(2, points=[[1, 2], [3, 4], [5, 6]]), "shape 3: a rectangle has 2 or 4 points"),
    (shape(0, points=[[1, 2], [3], [5, 6]]), "shape 1: its points are not x, y pairs"),
    (shape(0, points=[[1, 2], [3, float("nan")], [5, 6]]), "shape 1: its points hold nan"),
    (shape(7, points=[[1, 2], [3, float("inf")]]), "shape 8: its points hold nan or inf"),
    (shape(0, points=[[1, 2], [9e9, 4], [5, 6]]), "shape 1 .* far outside"),
    (shape(0, points=[[5, 5], [5, 5], [5, 5]]), "shape 1 covers no pixel"),
    (shape(0, group_id="a"), "shape 1: 'group_id' must be a whole number or null"),
    (lambda c: c["shapes"].append(7), "shape 9 must be a json object"),
    (lambda c: c["shapes"][3].pop("label"), "shape 4 lacks 'label'"),
    (lambda c: c.update(imageHeight=91), "was drawn on a photo of 120x91, .*desk 0.jpg is 120x90"),
    (lambda c: c.update(imagePath="absent.jpg"), "no photo at .*absent.jpg"),
    (lambda c: c.update(imagePath="/etc/passwd"), "imagePath '/etc/passwd' is absolute"),
    (lambda c: c.pop("shapes"), "desk 0.json lacks 'shapes'"),
]


@pytest.mark.parametrize("change, message", MISTAKES)
def test_invalid_content_is_refused_with_file_and_shape(folder, change, message):
    edit_json(folder / "desk 0.json", change)
    with pytest.raises(UserError, match=message) as error:
        read_labelme(folder)
    assert "desk 0" in str(error.value)


def test_a_photo_with_an_exif_rotation_is_refused(folder):
    with Image.open(folder / "desk 1.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(folder / "desk 1.jpg", exif=exif)
    with pytest.raises(UserError, match=r"desk 1\.jpg is stored rotated"):
        read_labelme(folder)


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no labelme json file"):
        read_labelme(tmp_path)
    with pytest.raises(UserError, match="no labelme json file"):
        read_labelme(tmp_path / "absent")


def test_through_the_command_line(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "convert", "labelme", str(folder), "--out", str(out), "--split", "val"]) == 0
    assert "10 objects in 2 photos" in capsys.readouterr().out
    assert held(read_dataset("coco_amodal", out)) == held(read_labelme(folder, "val"))
    assert json.loads((out / "annotations/val_modal.json").read_text())["images"][0]["file_name"] == "desk 0.jpg"
