"""Layered pictures: the file follows the format's rules, read with independent code."""

import io
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from amodalseg import UserError
from amodalseg.report.openraster import Layer, flattened, write_layers

GROUND = np.full((300, 400, 3), (10, 20, 30), np.uint8)
OBJECT = np.dstack([np.full((50, 60, 3), (200, 100, 0), np.uint8), np.full((50, 60), 255, np.uint8)])
OBJECT[:10, :, 3] = 0
OBJECT[10:20, :, 3] = 128


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "new" / "photo.ora"
    layers = [Layer("ground", GROUND), Layer("a <dog> & ü", OBJECT, 280, -20), Layer("off", GROUND, visible=False)]
    write_layers(path, layers, 300, 400)
    with zipfile.ZipFile(path) as opened:
        yield opened


def picture(archive, name):
    return np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGBA"))


def test_the_archive_has_the_files_required_by_the_format(archive):
    first = archive.infolist()[0]
    assert first.filename == "mimetype" and first.compress_type == zipfile.ZIP_STORED and first.header_offset == 0
    assert archive.read("mimetype") == b"image/openraster" and archive.testzip() is None
    image = ElementTree.fromstring(archive.read("stack.xml"))
    assert (image.get("w"), image.get("h")) == ("400", "300")
    layers = image.findall("stack/layer")
    assert [layer.get("name") for layer in layers] == ["off", "a <dog> & ü", "ground"], "the nearest first"
    assert [layer.get("visibility") for layer in layers] == ["hidden", "visible", "visible"]
    assert (layers[1].get("x"), layers[1].get("y")) == ("-20", "280")
    assert np.array_equal(picture(archive, layers[1].get("src")), OBJECT)
    assert max(picture(archive, "Thumbnails/thumbnail.png").shape) == 256


def test_the_merged_picture_equals_the_visible_layers(archive):
    seen = picture(archive, "mergedimage.png")
    assert seen.shape == (300, 400, 4) and (seen[..., 3] == 255).all()
    assert (seen[:290, :, :3] == GROUND[0, 0]).all() and (seen[:, 40:, :3] == GROUND[0, 0]).all()
    half = np.array([10, 20, 30]) + (np.array([200, 100, 0]) - (10, 20, 30)) * 128 / 255
    assert np.abs(seen[290:300, :40, :3] - half).max() <= 1


def test_nothing_visible_is_transparent():
    assert not flattened([Layer("off", GROUND, visible=False)], 4, 5).any()


@pytest.mark.parametrize("name", ["photo.png", "photo"])
def test_another_file_extension_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"ends in \.ora"):
        write_layers(tmp_path / name, [], 4, 5)
    assert not list(tmp_path.iterdir())
