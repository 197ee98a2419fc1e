"""Photos beyond Pillow's 179 megapixels: headers are read everywhere; beyond the package's own limit, one line."""

import json
import struct
import zlib

import pytest

from amodalseg.cli import main

WIDTH, HEIGHT = 15_000, 12_500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aerial")
    rows = zlib.compress(b"\0" * (HEIGHT * (1 + WIDTH // 8)), 1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    packed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    (folder / "aerial.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    roof = {"label": "roof", "points": [[100, 100], [3000, 100], [3000, 2000]], "shape_type": "polygon"}
    content = {"shapes": [roof], "imagePath": "aerial.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (folder / "aerial.json").write_text(json.dumps(content))
    return folder


def test_labelme_and_check_read_only_the_header(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "convert", "labelme", str(folder), "--out", str(out)]) == 0
    assert main(["data", "check", "coco_amodal", str(out), "--subset"]) == 0
    assert "images 1, objects 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["convert", "check", "predict"])
def test_beyond_the_limit_is_one_line(folder, tmp_path, monkeypatch, capsys, command):
    out = tmp_path / "out"
    assert main(["data", "convert", "labelme", str(folder), "--out", str(out)]) == 0
    monkeypatch.setenv("AMODALSEG_MAX_MEGAPIXELS", "100")
    capsys.readouterr()
    modal = str(out / "annotations/train_modal.json")
    code = main({
        "convert": ["data", "convert", "labelme", str(folder), "--out", str(tmp_path / "again")],
        "check": ["data", "check", "coco_amodal", str(out), "--subset"],
        "predict": ["predict", "modal", "--coco", modal, "--images", str(folder), "--out", str(tmp_path / "o.json")],
    }[command])  # fmt: skip
    printed = capsys.readouterr()
    text = " ".join((printed.out + printed.err).split())
    assert code == {"convert": 2, "check": 1, "predict": 1}[command]
    assert "188 megapixels; the limit is 100" in text and "Traceback" not in text
