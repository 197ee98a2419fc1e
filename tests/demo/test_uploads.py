"""Uploads from a browser: checked against limits before decoding, and read upright."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from amodalseg.demo import uploads
from amodalseg.demo.uploads import read_masks, read_photo
from amodalseg.errors import UserError
from tests.worlds.drawing import disc, photo, write_photo


def upload(folder, pixels=None, name="photo.png"):
    path = folder / name
    write_photo(path, photo(np.random.default_rng(0), 40, 60) if pixels is None else pixels)
    return path


def huge_png(path, width, height):
    """A small file whose header declares a large picture."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    return path


def test_a_photo_is_read_upright(tmp_path):
    pixels = photo(np.random.default_rng(0), 40, 60)
    assert np.array_equal(read_photo(upload(tmp_path, pixels)), pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "turned.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jpg", b"", "a.jpg is broken, or not a picture: the demo takes BMP, JPEG, PNG, TIFF, WebP"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg is broken, or not a picture"),
        ("<b>.png", b"\x89PNG\r\n\x1a\nxx", "<b>.png is broken, or not a picture"),
        ("a.zip", b"PK\3\4", "a.zip is broken, or not a picture"),
    ],
)
def test_invalid_pictures_are_refused_in_one_line_without_server_paths(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_photo(tmp_path / name)
    assert str(tmp_path) not in str(error.value)


def test_photos_are_limited_in_pixels_bytes_and_file_types(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has 900 megapixels; the demo takes 50"):
        read_photo(huge_png(tmp_path / "bomb.png", 30_000, 30_000))
    Image.new("P", (9, 9)).save(tmp_path / "a.gif")
    with pytest.raises(UserError, match=r"a.gif is a GIF file: the demo takes BMP, JPEG"):
        read_photo(tmp_path / "a.gif")
    path = upload(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"the image photo.png ends too early"):
        read_photo(path)
    monkeypatch.setattr(uploads, "MEGABYTES", 0)
    with pytest.raises(UserError, match=r"photo.png has 0 MB; the demo takes 0"):
        read_photo(upload(tmp_path))
    with pytest.raises(UserError, match="has been deleted: uploads are kept for an hour"):
        read_photo(tmp_path / "gone.png")


def test_a_mask_file_yields_its_objects_and_must_match_the_photo(tmp_path):
    shown = upload(tmp_path)
    one, other = disc(40, 60, 15, 20, 9, 9), disc(40, 60, 45, 20, 9, 9)
    found, note = read_masks(upload(tmp_path, one.astype(np.uint8) * 255, "one.png"), shown)
    assert len(found) == 1 and np.array_equal(found[0], one) and not note
    labels = one + 2 * other.astype(np.uint8)
    found, _ = read_masks(upload(tmp_path, labels.astype(np.uint8), "labels.png"), shown)
    assert len(found) == 2 and np.array_equal(found[0], one) and np.array_equal(found[1], other)
    assert "inverted" in read_masks(upload(tmp_path, (~one).astype(np.uint8) * 255, "not.png"), shown)[1]
    np.save(tmp_path / "one.npy", one)
    assert np.array_equal(read_masks(tmp_path / "one.npy", shown)[0][0], one)
    with pytest.raises(UserError, match=r"the mask small.png is 60x39 and the photo 60x40"):
        read_masks(upload(tmp_path, one[1:].astype(np.uint8) * 255, "small.png"), shown)
    with pytest.raises(UserError, match=r"the mask none.png is empty"):
        read_masks(upload(tmp_path, np.zeros((40, 60), np.uint8), "none.png"), shown)
    many = np.repeat(np.arange(10, dtype=np.uint8), 6)[None].repeat(40, 0)
    with pytest.raises(UserError, match=r"many.png holds \d+ objects; the demo takes 8"):
        read_masks(upload(tmp_path, many, "many.png"), shown)
