"""Mask files as tools write them: read as intended, or refused in one line."""

import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from amodalseg.data.mask_files import holds_label, mask_labels, read_mask_file
from amodalseg.errors import UserError
from tests.worlds import disc, photo

SHAPE = (48, 64)
DISC, BAR = disc(*SHAPE, 24, 26, 12, 12), np.zeros(SHAPE, bool)
BAR[4:12, 40:60] = True
DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, *[7] * 12, 200, 100, 50]
PHOTO = photo(np.random.default_rng(3), *SHAPE)


def indexed(values, palette=DAVIS, transparent=None):
    picture = Image.fromarray(values.astype(np.uint8), "P")
    picture.putpalette(palette + [0] * (768 - len(palette)))
    if transparent is not None:
        picture.info["transparency"] = transparent
    return picture


def coloured(colour, ground=(0, 0, 0)):
    return np.where(DISC[..., None], np.uint8(colour), np.uint8(ground)).astype(np.uint8)


def rgba(colours, alpha):
    return Image.fromarray(np.dstack([colours, alpha.astype(np.uint8)]), "RGBA")


def labels(*values):
    return np.select([DISC, BAR], values[:2], 0).astype(np.uint8)


def soft(sigma, top=255):
    return cv2.GaussianBlur(DISC.astype(np.float32) * top, (0, 0), sigma)


RAMP = [value for grey in range(256) for value in (grey,) * 3]
WHITE = np.uint8(255) * DISC
ONE = {
    "white.png": WHITE,
    "ones.png": DISC.astype(np.uint8),
    "bits.png": Image.fromarray(DISC),
    "bits.tif": Image.fromarray(DISC),
    **{f"grey{value}.png": np.uint8(value) * DISC for value in (2, 38, 127, 128, 200, 254)},
    **{f"deep{value}.png": np.uint16(value) * DISC for value in (1, 7, 255, 256, 30000, 65535)},
    "long.tif": Image.fromarray(np.int32(70000) * DISC),
    "float.tif": Image.fromarray(np.float32(1) * DISC),
    "probability.tif": Image.fromarray(np.float32(0.9) * DISC + np.float32(0.05)),
    "float255.tif": Image.fromarray(np.float32(255) * DISC),
    "palette1.png": indexed(labels(1, 0)),
    "palette8.png": indexed(labels(8, 0)),
    "ramp.png": indexed(labels(38, 0), RAMP),
    "palette_white.png": indexed(labels(1, 0), [0, 0, 0, 255, 255, 255]),
    "white.gif": indexed(labels(1, 0), [0, 0, 0, 255, 255, 255]),
    "palette_swapped.png": indexed(~DISC, [255, 255, 255, 0, 0, 0]),
    "palette_red.png": indexed(~DISC, [255, 0, 0, 0, 0, 0]),
    "palette_on_white.png": indexed(DISC, [255, 255, 255, 255, 0, 0]),
    "palette255.png": indexed(labels(255, 0)),
    "palette_clear.png": indexed(labels(1, 0), DAVIS, transparent=0),
    "clear.gif": indexed(labels(1, 0), DAVIS, transparent=0),
    "black_alpha.png": rgba(np.zeros((*SHAPE, 3), np.uint8), WHITE),
    "white_alpha.png": rgba(np.full((*SHAPE, 3), 255, np.uint8), WHITE),
    "cutout.png": rgba(PHOTO, WHITE),
    "overlay.png": rgba(coloured((255, 0, 0)), np.uint8(120) * DISC),
    "cutout_on_clear.webp": rgba(PHOTO, WHITE),
    "soft_alpha.png": rgba(PHOTO, soft(0.7)),
    "opaque.png": rgba(coloured((255, 255, 255)), np.full(SHAPE, 255)),
    "grey_alpha.png": Image.fromarray(np.dstack([WHITE, WHITE]), "LA"),
    "grey_alpha_white.png": Image.fromarray(np.dstack([WHITE | 255, WHITE]), "LA"),
    "deep_colour.png": np.uint16([65535, 65535, 65535]) * DISC[..., None],
    "deep_colour_ones.png": np.uint16([1, 1, 1]) * DISC[..., None],
    "rgb_ones.png": coloured((1, 1, 1)),
    "rgb_white.png": coloured((255, 255, 255)),
    "red.png": coloured((120, 0, 0)),
    "blue.bmp": coloured((0, 0, 255)),
    "red_on_white.png": coloured((255, 0, 0), (255, 255, 255)),
    "black_green.tif": coloured((0, 255, 0)),
    "bool.npy": DISC,
    "int.npy": DISC.astype(np.int64) * 3,
    "stack.npy": DISC[None],
    "last.npy": DISC[..., None].astype(float),
    "four_bits.png": "four bits",
}
"""Files of one object, exactly."""
BLURRED = {
    "soft.png": soft(1).astype(np.uint8),
    "softer.png": soft(3).astype(np.uint8),
    "deep_soft.png": soft(1, 65535).astype(np.uint16),
    "doubled.png": cv2.resize(WHITE[::2, ::2], SHAPE[::-1], interpolation=cv2.INTER_LINEAR),
    "grey.jpg": WHITE,
    "white.webp": coloured((255, 255, 255)),
    "dim.jpg": np.uint8(128) * DISC,
    "painted_soft.png": (soft(1)[..., None] * np.float32([1, 0, 0])).astype(np.uint8),
    "red_on_white_soft.png": (255 - soft(1)[..., None] * np.float32([0, 1, 1])).astype(np.uint8),
    "quantised.gif": Image.fromarray(soft(1).astype(np.uint8)),
}
"""Files of one object whose edge is soft, or changed by losses."""
SEVERAL = {
    "labels.png": (labels(1, 2), ["1", "2"]),
    "labels.npy": (labels(1, 2), ["1", "2"]),
    "deep_labels.png": (labels(1, 2).astype(np.uint16) * 1000, ["1000", "2000"]),
    "three_tones.png": (labels(255, 128), ["128", "255"]),
    "palette.png": (indexed(labels(1, 2)), ["1", "2"]),
    "palette_void.png": (indexed(np.where(BAR, 255, 3 * DISC) + (np.indices(SHAPE)[1] == 0)), ["1", "3"]),
    "instances.png": (np.arange(48 * 64).reshape(SHAPE) // (64 * 12) * 20 + 3, ["3", "23", "43", "63"]),
    "colours.png": (np.where(BAR[..., None], np.uint8([0, 255, 0]), coloured((255, 0, 0))), ["00ff00", "ff0000"]),
    "colours_on_clear.png": (
        rgba(np.where(BAR[..., None], np.uint8([0, 255, 0]), coloured((255, 0, 0))), 255 * (DISC | BAR)),
        ["00ff00", "ff0000"],
    ),
    "two_colours.png": (coloured((9, 200, 9), (0, 0, 200)), ["0000c8", "09c809"]),
    "floats.npy": (labels(1, 2).astype(np.float32), ["1", "2"]),
}
"""Files of several objects, and their labels."""
NONE = {
    "photo.png": PHOTO,
    "photo.jpg": PHOTO,
    "red_on_photo.png": np.where(DISC[..., None], np.uint8([255, 0, 0]), PHOTO),
    "grey_photo.png": PHOTO[..., 0],
    "photo_on_black.png": PHOTO * DISC[..., None],
    "photo_on_black.jpg": np.uint8(255 - 2 * np.minimum(PHOTO, 127)) * DISC[..., None],
    "translucent.png": rgba(coloured((255, 0, 0)), 127 * DISC.astype(np.uint8) + 128),
    "quantised.png": Image.fromarray(PHOTO).quantize(256),
    "disagrees.png": rgba(coloured((255, 255, 255)), 255 * (np.indices(SHAPE)[1] > 5)),
    "lab.tif": Image.fromarray(PHOTO).convert("CMYK"),
    "nan.tif": Image.fromarray(np.where(DISC, np.nan, 0).astype(np.float32)),
    "negative.npy": -DISC.astype(int),
    "stack.npy": np.stack([DISC, BAR]),
    "objects.npy": np.array([None]),
    "complex.npy": DISC.astype(complex),
    "empty.npy": np.zeros((0, 4)),
    "film.gif": "film",
    "pages.tif": "film",
    "text.png": b"no picture",
    "nothing.png": b"",
    "cut.png": "cut",
    "words.npy": b"no array",
}
"""Files that are no mask."""


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str) and content == "film":
        Image.fromarray(WHITE).save(path, save_all=True, append_images=[Image.fromarray(WHITE[::-1])])
    elif isinstance(content, str) and content == "cut":
        Image.fromarray(WHITE).save(path)
        path.write_bytes(path.read_bytes()[:-40])
    elif isinstance(content, str):
        indexed(DISC * 2, RAMP).save(path, bits=4)
        data = bytearray(path.read_bytes())
        data[25] = 0  # the colour type: grey values of four bits instead of palette indices
        start = bytes(data).index(b"IHDR")
        data[start + 17 : start + 21] = zlib.crc32(bytes(data[start : start + 17])).to_bytes(4, "big")
        place = bytes(data).index(b"PLTE") - 4
        length = int.from_bytes(data[place : place + 4], "big")
        path.write_bytes(bytes(data[:place] + data[place + 12 + length :]))
    elif path.suffix == ".npy":
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, Image.Image):
        content.save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    elif content.dtype == np.uint16 and content.ndim == 3:
        assert cv2.imwrite(str(path), content)
    else:
        Image.fromarray(content if content.dtype in (np.uint8, np.uint16) else content.astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("name", ONE)
def test_one_object_is_read_exactly(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_mask_file(write(tmp_path / name, ONE[name])), DISC)
    assert mask_labels(tmp_path / name) == []


@pytest.mark.parametrize("name", BLURRED)
def test_soft_edges_and_compression_artefacts_are_thresholded(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_mask_file(write(tmp_path / name, BLURRED[name]))
    assert (found & DISC).sum() / (found | DISC).sum() > 0.9


@pytest.mark.parametrize("name", SEVERAL)
def test_several_objects_are_distinguished_by_label(tmp_path, name):
    content, names = SEVERAL[name]
    path = write(tmp_path / name, content)
    assert mask_labels(path) == names
    with pytest.raises(UserError, match=rf"several objects, labelled {', '.join(names)}.*--label") as error:
        read_mask_file(path)
    assert "\n" not in str(error.value)
    found = [read_mask_file(path, label, quiet=True) for label in names]
    assert all(mask.any() for mask in found) and not np.logical_and.reduce(found).any()
    if name in ("labels.png", "palette.png", "deep_labels.png"):
        assert np.array_equal(found[0], DISC) and np.array_equal(found[1], BAR & ~DISC)
    assert holds_label(path, names[0]) and not holds_label(path, "77")
    with pytest.raises(UserError, match=rf"no label 77; it holds {names[0]}"):
        read_mask_file(path, "77")


@pytest.mark.parametrize("name", NONE)
def test_files_that_are_not_masks_are_refused(tmp_path, name):
    path = write(tmp_path / name, NONE[name])
    with pytest.raises(UserError) as error:
        read_mask_file(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [indexed(labels(1, 255)), labels(1, 255)])
def test_void_pixels_are_excluded_with_a_warning(tmp_path, content):
    path = write(tmp_path / "void.png", content)
    with pytest.warns(UserWarning, match="label 255 is read as void"):
        assert np.array_equal(read_mask_file(path), DISC)
    assert read_mask_file(path, "255").sum() == (BAR & ~DISC).sum()


@pytest.mark.parametrize(
    "content", [WHITE ^ 255, coloured((0, 0, 0), (255, 0, 0)), rgba(PHOTO, WHITE ^ 255), ~DISC * np.uint8(1)]
)
def test_an_inverted_mask_causes_a_warning_and_can_be_inverted(tmp_path, content):
    path = write(tmp_path / "inverted.png", content)
    with pytest.warns(UserWarning, match=r"inverted\.png looks inverted: 8\d % .*--invert"):
        assert np.array_equal(read_mask_file(path), ~DISC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_mask_file(path, invert=True), DISC)
        assert np.array_equal(read_mask_file(path, quiet=True), ~DISC)


def test_full_and_empty_masks_are_read_as_they_are(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_mask_file(write(tmp_path / "all.png", WHITE | 255)).all()
        assert not read_mask_file(write(tmp_path / "none.png", WHITE & 0)).any()


def test_a_mask_is_rotated_by_its_own_exif_data(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(WHITE).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_mask_file(tmp_path / "turned.png"), DISC)
    assert np.array_equal(read_mask_file(tmp_path / "turned.png", upright=True), np.rot90(DISC))


def test_an_array_with_a_truncated_header_is_refused(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 12)
    with pytest.raises(UserError, match=r"a\.npy: it is not a complete array of numbers"):
        read_mask_file(tmp_path / "a.npy")
