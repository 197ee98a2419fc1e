import contextlib
import fcntl
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from amodalseg import masks
from amodalseg.data import images, mask_files, record_pictures
from amodalseg.errors import UserError
from amodalseg.types import AmodalRecord, FilePart
from tests.worlds import photo, write_photo


@pytest.fixture
def pixels():
    return photo(np.random.default_rng(1), 40, 60)


def record_of(image, height, width, flags=()):
    mask = np.zeros((height, width), bool)
    mask[3:9, 4:12] = True
    return AmodalRecord("world", "val", "7", "3", image, masks.encode(mask), flags=frozenset(flags))


def test_rgb_round_trip(tmp_path, pixels):
    images.save_png(tmp_path / "new" / "a.png", pixels)
    loaded = images.load_image(tmp_path / "new" / "a.png")
    assert loaded.dtype == np.uint8 and np.array_equal(loaded, pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), pixels)  # the file itself is RGB
    assert images.image_size(tmp_path / "new" / "a.png") == (40, 60)


def test_grey_is_replicated(tmp_path, pixels):
    images.save_png(tmp_path / "grey.png", pixels[..., 0])
    assert np.array_equal(images.load_image(str(tmp_path / "grey.png")), np.repeat(pixels[..., :1], 3, axis=2))


def test_exif_rotation_is_ignored(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    assert cv2.imread(str(tmp_path / "turned.jpg")).shape == (60, 40, 3), "the file asks to be turned"
    assert images.load_image(tmp_path / "turned.jpg").shape == (40, 60, 3)
    assert images.image_size(tmp_path / "turned.jpg") == (40, 60)


def test_failed_write_leaves_the_old_file(tmp_path, pixels, monkeypatch):
    images.save_png(tmp_path / "a.png", pixels)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="disk full"):
        images.save_png(tmp_path / "a.png", 255 - pixels)
    assert np.array_equal(images.load_image(tmp_path / "a.png"), pixels)


def test_unreadable_files_are_named(tmp_path, pixels):
    write_photo(tmp_path / "whole.jpg", pixels)
    whole = (tmp_path / "whole.jpg").read_bytes()
    assert images.load_image(tmp_path / "whole.jpg").shape == (40, 60, 3)
    (tmp_path / "trailing.jpg").write_bytes(whole + b"anything behind the end")
    assert images.load_image(tmp_path / "trailing.jpg").shape == (40, 60, 3)
    cases = {"empty.jpg": b"", "text.jpg": b"hello", "cut.jpg": whole[: len(whole) * 3 // 4], "stub.jpg": whole[:300]}
    images.save_png(tmp_path / "whole.png", pixels)
    cases["cut.png"] = (tmp_path / "whole.png").read_bytes()[:1000]
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            images.load_image(tmp_path / name)
    with pytest.raises(UserError, match=r"cut\.jpg ends too early"):
        images.load_image(tmp_path / "cut.jpg")
    with pytest.raises(UserError, match=r"cut\.png ends too early"):
        images.load_image(tmp_path / "cut.png")
    with pytest.raises(UserError, match=r"absent\.jpg: No such file"):
        images.load_image(tmp_path / "absent.jpg")
    for name in ("absent.jpg", "empty.jpg", "text.jpg"):
        with pytest.raises(UserError, match=name):
            images.image_size(tmp_path / name)


def test_decoders_print_nothing_about_unreadable_files(tmp_path, pixels, capfd):
    images.save_png(tmp_path / "whole.png", pixels)
    whole = (tmp_path / "whole.png").read_bytes()
    for name, data in {"half.png": whole[: len(whole) // 2], "tail.png": whole[:-1], "head.png": whole[:20]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} ends too early"):
            images.load_image(tmp_path / name)
    (tmp_path / "trailing.png").write_bytes(whole + b"anything behind the end")
    assert np.array_equal(images.load_image(tmp_path / "trailing.png"), pixels)
    cv2.imwrite(str(tmp_path / "float.tif"), pixels.astype(np.float32))
    with contextlib.suppress(UserError):  # some versions of OpenCV read it, others do not
        images.load_image(tmp_path / "float.tif")
    assert capfd.readouterr() == ("", "")


def test_png_of_every_kind_becomes_8_bit_rgb(tmp_path, pixels):
    rng = np.random.default_rng(2)
    alpha = Image.fromarray(rng.integers(0, 256, (40, 60), dtype=np.uint8))
    wide = rng.integers(0, 2**16, (40, 60, 3), dtype=np.uint16)
    rgb, grey = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    few, bits = rgb.quantize(64), Image.fromarray(pixels[..., 0] > 127)
    with_alpha, grey_alpha = rgb.copy(), grey.copy()
    with_alpha.putalpha(alpha), grey_alpha.putalpha(alpha)
    for name, picture in {"rgba": with_alpha, "la": grey_alpha, "palette": few, "bits": bits}.items():
        picture.save(tmp_path / f"{name}.png")
    few.save(tmp_path / "holes.png", transparency=3)
    cv2.imwrite(str(tmp_path / "wide.png"), wide[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), wide[..., 0])
    expected = {
        "rgba": pixels, "la": grey.convert("RGB"), "palette": few.convert("RGB"), "holes": few.convert("RGB"),
        "bits": bits.convert("RGB"), "wide": wide >> 8, "grey": np.repeat(wide[..., :1] >> 8, 3, axis=2),
    }  # fmt: skip
    for name, picture in expected.items():
        loaded = images.load_image(tmp_path / f"{name}.png")
        assert loaded.dtype == np.uint8 and loaded.shape == (40, 60, 3), name
        assert np.array_equal(loaded, np.asarray(picture)), name


def test_webp_of_every_kind_becomes_8_bit_rgb(tmp_path, pixels):
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "exact.webp", lossless=True, exif=exif)
    with_alpha = picture.copy()
    with_alpha.putalpha(255)
    with_alpha.save(tmp_path / "alpha.webp", lossless=True)
    picture.save(tmp_path / "lossy.webp", quality=90)
    for name in ("exact.webp", "alpha.webp"):
        assert np.array_equal(images.load_image(tmp_path / name), pixels), name
        assert images.image_size(tmp_path / name) == (40, 60)
    lossy = images.load_image(tmp_path / "lossy.webp")
    assert np.abs(lossy.astype(int) - pixels).mean() < 0.5 * np.abs(lossy[..., ::-1].astype(int) - pixels).mean()
    for name in ("exact.webp", "lossy.webp"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / "cut.webp").write_bytes(whole[: len(whole) * 3 // 4])
        with pytest.raises(UserError, match=r"cut\.webp"):
            images.load_image(tmp_path / "cut.webp")


def test_record_image_from_path_and_pixels(tmp_path, pixels):
    images.save_png(tmp_path / "a.png", pixels)
    assert np.array_equal(record_pictures.record_image(record_of(tmp_path / "a.png", 40, 60)), pixels)
    assert np.array_equal(record_pictures.record_image(record_of(pixels, 40, 60)), pixels)


def test_size_mismatch_is_refused_or_resized(tmp_path, pixels):
    images.save_png(tmp_path / "a.png", pixels)
    with pytest.raises(UserError, match=r"different size: .*a\.png is 60x40.* world/val/7/3 are 30x20"):
        record_pictures.record_image(record_of(tmp_path / "a.png", 20, 30))
    with pytest.raises(UserError, match="the image is 60x40"):
        record_pictures.record_image(record_of(pixels, 20, 30))
    halved = record_pictures.record_image(record_of(tmp_path / "a.png", 20, 30, ["size_mismatch"]))
    blocks = pixels.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - blocks).max() <= 0.5


@pytest.mark.parametrize(("height", "width"), [(20, 30), (20, 180), (120, 20), (40, 15), (80, 60), (160, 240)])
def test_resize_keeps_ramps(height, width):
    rows, columns = np.mgrid[:40, :60] + 0.5
    resized = images.resize((2 * rows + 3 * columns).astype(np.float32), height, width)
    rows, columns = (np.mgrid[:height, :width] + 0.5) * np.array([40 / height, 60 / width])[:, None, None]
    inner = np.s_[2:-2, 2:-2]  # the ramp does not continue beyond the border
    assert resized.shape == (height, width)
    np.testing.assert_allclose(resized[inner], (2 * rows + 3 * columns)[inner], atol=2e-3)


def test_resize_averages_whole_blocks():
    pixels = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    blocks = pixels.reshape(10, 4, 12, 5).mean(axis=(1, 3))
    np.testing.assert_allclose(images.resize(pixels, 10, 12), blocks, atol=1e-6)


def test_resize_averages_only_along_the_axis_that_shrinks():
    stripes = np.tile(np.array([0, 100], np.float32), (10, 20))  # columns alternate
    np.testing.assert_allclose(images.resize(stripes, 30, 20), 50)


def test_bombs_devices_and_pipes_are_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    Image.new("L", (30_000, 30_000)).save(tmp_path / "bomb.png")
    Image.new("1", (30_000, 16_000)).save(tmp_path / "bomb.tif", compression="group4")
    Image.new("L", (15_000, 12_500)).save(tmp_path / "large.png")
    Image.new("L", (22_000, 22_000)).save(tmp_path / "bomb.jpg", quality=1)
    Image.MAX_IMAGE_PIXELS = limit

    def never(*_):
        raise AssertionError("decoded")

    with monkeypatch.context() as patched:
        patched.setattr(cv2, "imdecode", never)
        for name in ("bomb.png", "bomb.tif", "bomb.jpg"):
            for read in (images.load_image, mask_files.read_mask_file):
                with pytest.raises(UserError, match=r"megapixels; the limit is 400: .*AMODALSEG_MAX_MEGAPIXELS"):
                    read(tmp_path / name)
    assert images.image_size(tmp_path / "large.png") == (12_500, 15_000), "above Pillow's own limit"
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv("AMODALSEG_MAX_MEGAPIXELS", "0.001")
    write_photo(tmp_path / "small.png", np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(UserError, match=r"60x40, 0 megapixels; the limit is 0.001"):
        images.load_image(tmp_path / "small.png")
    monkeypatch.setenv("AMODALSEG_MAX_MEGAPIXELS", "many")
    with pytest.raises(UserError, match="is not a number of megapixels"):
        images.load_image(tmp_path / "small.png")
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        for read in (images.load_image, images.image_size, mask_files.read_mask_file):
            with pytest.raises(UserError, match="not a regular file, but a device, a pipe or a socket"):
                read(Path(path))


def test_the_rotation_of_a_png_is_read_without_decoding_it(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")

    def decoded(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decoded)
    assert images.image_turning(tmp_path / "a.png") == 1
    exif = Image.Exif()
    exif[images.EXIF_TURN] = 6
    monkeypatch.undo()
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png", exif=exif)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decoded)
    assert images.image_turning(tmp_path / "b.png") == 6


def test_a_png_chunk_longer_than_its_file_is_refused_before_allocating_memory(tmp_path, monkeypatch):
    Image.new("L", (40, 30), 200).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = b"\xfe\x00\x00\x00"
    (tmp_path / "a.png").write_bytes(data)

    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    with pytest.raises(UserError, match="ends too early"):
        images.load_image(tmp_path / "a.png")
    with pytest.raises(UserError, match="is broken or cut off"):
        mask_files.read_mask_file(tmp_path / "a.png")


def test_part_of_a_file_is_read_where_pread_is_missing(tmp_path, monkeypatch, pixels):
    monkeypatch.delattr(os, "pread", raising=False)  # Windows has none
    images.save_png(tmp_path / "a.png", pixels)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "pack").write_bytes(b"before" + data + b"behind")
    part = FilePart(tmp_path / "pack", 6, len(data), "a.png")
    assert np.array_equal(images.load_image(part), pixels)


def test_files_are_synced_through_a_writable_descriptor(tmp_path, monkeypatch, pixels):
    modes, sync = [], os.fsync

    def asked(descriptor):
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", asked)
    images.save_png(tmp_path / "a.png", pixels)
    assert modes == [os.O_RDWR], "Windows refuses to sync what is open for reading"
