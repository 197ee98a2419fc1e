"""``predict --cutout --layers --threshold``: RGBA pictures and OpenRaster files, read with other libraries."""

import io
import json
import zipfile
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from amodalseg import load_model
from amodalseg.cli import main
from amodalseg.models.cutout import cutout
from amodalseg.predictions import Prediction
from tests.worlds import coco_world, disc, write_photo

HEIGHT, WIDTH = 48, 64


def scene():
    """A disc behind a bar: photo, modal mask, the bar."""
    rng = np.random.default_rng(0)
    image, ball = rng.integers(90, 130, (HEIGHT, WIDTH, 3), np.uint8), disc(HEIGHT, WIDTH, 30, 24, 16, 14)
    bar = np.zeros_like(ball)
    bar[:, 26:34] = True
    image[ball], image[bar] = (200, 40, 50), (20, 20, 220)
    return image, ball & ~bar, bar


@pytest.fixture
def files(tmp_path):
    image, modal, _ = scene()
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    write_photo(tmp_path / "images/a.png", image)
    write_photo(tmp_path / "masks/a.png", modal.astype(np.uint8) * 255)
    return tmp_path


def one(files, *more, model="convex_hull", out="out.png"):
    return main(["predict", model, f"--image={files}/images/a.png", f"--mask={files}/masks/a.png",
                 f"--out={files}/{out}", *more])  # fmt: skip


def rgba(path):
    picture = Image.open(path)
    assert picture.mode == "RGBA"
    return np.asarray(picture)


def test_visible_part_and_whole_object(files):
    image, modal, _ = scene()
    assert one(files, f"--cutout={files}/cut") == 0
    assert sorted(path.name for path in (files / "cut").iterdir()) == ["out_amodal.png", "out_modal.png"]
    visible, whole = rgba(files / "cut/out_modal.png"), rgba(files / "cut/out_amodal.png")
    assert np.array_equal(visible[..., 3] == 255, modal) and set(np.unique(visible[..., 3])) == {0, 255}
    assert np.array_equal(visible[modal][:, :3], image[modal])
    amodal = cv2.imread(str(files / "out.png"), cv2.IMREAD_GRAYSCALE) > 0
    assert np.array_equal(whole[..., 3] == 255, amodal) and amodal.sum() > modal.sum()
    assert np.array_equal(whole[modal], visible[modal])
    assert (whole[amodal & ~modal][:, 2] < 100).all(), "nothing of the bar"


def test_options_of_cutouts(files):
    image, modal, _ = scene()
    assert one(files, f"--cutout={files}/cut", "--crop", "--soft=3", "--paint=none") == 0
    prediction = load_model("convex_hull").predict(image, modal)
    for part in ("modal", "amodal"):
        wanted = cutout(image, prediction, part, soft=3, paint="none")
        assert np.array_equal(rgba(files / f"cut/out_{part}.png"), wanted.picture)
    assert one(files, f"--cutout={files}/cut2", "--paint=telea_drawn") == 2  # no such model


def test_cutouts_of_every_object_of_folders_and_coco_files(files, capsys):
    folders = [f"--images={files}/images", f"--masks={files}/masks", f"--out={files}/out", f"--cutout={files}/cut"]
    assert main(["predict", "box", *folders]) == 0
    assert {path.name for path in (files / "cut").iterdir()} == {"a_modal.png", "a_amodal.png"}
    assert main(["predict", "box", *folders, "--crop"]) == 2  # existing files would be mixed with others
    assert "other weights or options" in capsys.readouterr().err
    source, photos = coco_world(files / "coco", 1)
    coco = [f"--coco={source}", f"--images={photos}", f"--out={files}/a.json", f"--cutout={files}/of_coco"]
    assert main(["predict", "box", *coco]) == 0
    ids = [entry["id"] for entry in json.loads(source.read_text())["annotations"] if not entry["iscrowd"]]
    wanted = {f"{number}_{part}.png" for number in ids for part in ("modal", "amodal")}
    assert {path.name for path in (files / "of_coco").iterdir()} == wanted


def test_layers_merge_to_the_photo(files):
    image, modal, _ = scene()
    assert one(files, f"--layers={files}/new/a.ora") == 0
    with zipfile.ZipFile(files / "new/a.ora") as archive:
        stack = ElementTree.fromstring(archive.read("stack.xml"))
        named = {layer.get("name"): layer for layer in stack.iter("layer")}
        assert list(named) == ["photo", "in front", "object 1", "background"]
        shown = np.asarray(Image.open(io.BytesIO(archive.read("mergedimage.png"))).convert("RGB"))
        ground = np.asarray(Image.open(io.BytesIO(archive.read(named["background"].get("src")))).convert("RGB"))
    assert np.array_equal(shown, image), "the object, and the bar before it"
    assert (np.abs(ground[modal].astype(int) - (200, 40, 50)).sum(axis=1) > 60).mean() > 0.9


def test_layers_open_in_another_library(files, tmp_path):
    project = pytest.importorskip("pyora", reason="pyora (pip install pyora) opens OpenRaster files").Project
    assert one(files, f"--layers={files}/a.ora") == 0
    opened = project.load(str(files / "a.ora"))
    names = [layer.name for layer in opened.children]
    assert opened.dimensions == (WIDTH, HEIGHT) and sorted(names) == ["background", "in front", "object 1", "photo"]
    opened.save(str(tmp_path / "again.ora"))
    again = project.load(str(tmp_path / "again.ora"))
    for first, second in zip(opened.children, again.children, strict=True):
        assert (first.name, first.offsets, first.visible) == (second.name, second.offsets, second.visible)
        assert np.array_equal(np.asarray(first.get_image_data(raw=True)), np.asarray(second.get_image_data(raw=True)))


def test_a_higher_threshold_gives_smaller_masks(tmp_path):
    from amodalseg.models.geometric.model import ConvexHull

    class Sure(ConvexHull):
        has_probability = True

        def predict_batch(self, queries, *, num_samples=1, steps=None):
            values = np.linspace(0, 1, WIDTH, dtype=np.float32)
            return [Prediction(query.modal, np.tile(values, (1, HEIGHT, 1))) for query in queries]

    image, modal, _ = scene()
    model = Sure()
    areas = [int(model.predict(image, modal, threshold=value).amodal.sum()) for value in (0.2, 0.5, 0.9)]
    assert areas[0] > areas[1] == model.predict(image, modal).amodal.sum() > areas[2] >= modal.sum()
    made = model.predict(image, modal)
    before = made.amodal.copy()
    lower = made.at(0.2)
    assert np.array_equal(made.amodal, before) and np.array_equal(lower.probability, made.probability)
    assert np.array_equal(lower.amodal, (made.probability > 0.2) | modal)
    assert np.array_equal(model.predict(image, modal[None], threshold=0.2).amodal[0], lower.amodal)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--threshold=1"], "'1' is not a number between 0 and 1"),
        (["--threshold=0.3"], "threshold has no effect on a model that predicts no probability"),
        (["--crop"], "--crop needs --cutout"),
        (["--paint=telea"], "--paint and --soft need --cutout or --layers"),
        (["--soft=-1", "--cutout=c"], "'-1' is not a number of pixels from 0"),
        (["--layers=a.png"], "is not a layered picture file; give a name that ends in .ora"),
        (["--cutout=c", "--paint=box"], "'box' generates no picture"),
    ],
)
def test_mistakes_are_one_line(files, more, message, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert one(files, *more) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_layers_are_of_one_photo(files, capsys):
    folders = [f"--images={files}/images", f"--masks={files}/masks", f"--out={files}/out", "--layers=a.ora"]
    assert main(["predict", "box", *folders]) == 2
    assert "`amodalseg scene` writes layers of COCO files" in capsys.readouterr().err
