"""``amodalseg.move`` and ``amodalseg move``: files, pictures, and one line for each mistake."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import amodalseg
from amodalseg import Query, UserError, load_model
from amodalseg.cli import main
from amodalseg.config.schema import NaiveOutpaintConfig, SquareConfig, StepsConfig
from amodalseg.models import bars, moving
from amodalseg.models.geometric.model import HullInOccluders
from amodalseg.models.inpainting.methods.outpaint import NaiveOutpaint
from tests.models.inpainting.fake_backends import GaussianBackend
from tests.worlds import disc, write_photo

POST = (slice(None), slice(30, 37))


def scene():
    """A ball behind a post: photo, modal, amodal, post."""
    rng = np.random.default_rng(0)
    ball, post = disc(60, 90, 30, 30, 18, 18), np.zeros((60, 90), bool)
    post[POST] = True
    image = rng.integers(60, 110, (60, 90, 3), np.uint8)
    image[ball], image[post] = (200, 40, 50), (20, 20, 220)
    return image, ball & ~post, ball, post


@pytest.fixture
def files(tmp_path):
    image, modal, _, post = scene()
    write_photo(tmp_path / "photo.png", image)
    for name, mask in (("mask", modal), ("post", post), ("empty", modal & False), ("small", modal[:-1])):
        write_photo(tmp_path / f"{name}.png", mask.astype(np.uint8) * 255)
    return tmp_path


def arguments(files, *more, mask="mask", to="66,28", out="new/moved.png", model="hull_in_occluders"):
    return ["move", model, f"--image={files}/photo.png", f"--mask={files}/{mask}.png", f"--to={to}",
            f"--out={files}/{out}", *more]  # fmt: skip


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_the_command_equals_the_python_call(files, capsys):
    overlay = files / "overlay"
    assert main(arguments(files, f"--occluder={files}/post.png", f"--overlay={overlay}")) == 0
    image, modal, amodal, post = scene()
    prediction = amodalseg.move(image, modal, (66, 28), occluder=post, model="hull_in_occluders")
    assert np.array_equal(read(files / "new/moved.png"), prediction.moved)
    query = Query(image, modal, 0, post, None, (66, 28))
    (same,) = HullInOccluders().predict_batch([query])
    assert np.array_equal(same.moved, prediction.moved) and np.array_equal(same.moved_mask, prediction.moved_mask)
    dx, dy = moving.shift_of(modal, (66, 28))
    assert np.array_equal(np.roll(prediction.amodal, (dy, dx), (0, 1)), prediction.moved_mask)
    assert (prediction.amodal & amodal).sum() > 0.95 * amodal.sum()
    pair = read(overlay / "photo.png")
    assert pair.shape[1] > 2 * 640 and pair.shape[0] > 420
    line = capsys.readouterr().out
    assert f"{modal.sum()} visible and {prediction.occluded.sum()} completed pixels moved to 66,28" in line
    assert line.count("\n") == 1 and "lie outside" not in line and "nothing hidden" not in line


def test_advice_is_printed_in_the_same_line(files, capsys):
    assert main(arguments(files, to="0,0", model="modal")) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "nothing hidden was completed" in line and "--occluder" in line
    image, modal, *_ = scene()
    prediction = amodalseg.move(image, modal, (0, 0), model="modal")
    assert f"{modal.sum() - prediction.moved_mask.sum()} of its pixels lie outside the photo" in line


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"to": "90,10"}, ["the target 90,10 lies outside the photo of 90x60", "x from 0 to 89 and y from 0 to 59"]),
        ({"to": "10"}, ["'10' is not a pixel of a photo", "420,300"]),
        ({"to": "10,2.5"}, ["'10,2.5' is not a pixel"]),
        ({"mask": "empty"}, ["the modal mask is empty"]),
        ({"mask": "small"}, ["image and modal mask differ in size: 90x60 and 90x59"]),
        ({"mask": "none"}, ["none.png"]),
        ({"out": "moved.jpg"}, ["ends in .png"]),
        ({"out": "mask.png"}, ["would overwrite an input"]),
        ({"model": "conddif"}, ["there is no model 'conddif'"]),
    ],
)
def test_each_mistake_is_one_line(files, capsys, changes, parts):
    before = sorted(files.rglob("*"))
    assert main(arguments(files, **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert all(part in error for part in parts), error
    assert sorted(files.rglob("*")) == before, "nothing is written"


def test_an_occluder_of_another_size_and_an_output_over_an_input_are_refused(files, capsys):
    assert main(arguments(files, f"--occluder={files}/small.png")) == 2
    assert "occluder and modal mask differ in size: 90x59 and 90x60" in capsys.readouterr().err
    assert main(arguments(files, f"--occluder={files}/post.png", out="post.png")) == 2
    assert "would overwrite" in capsys.readouterr().err


def test_objects_and_occluders_of_label_files(files, capsys):
    assert main(arguments(files, f"--occluder={files}/post.png")) == 0
    expected = read(files / "new/moved.png")
    _, modal, _, post = scene()
    write_photo(files / "labels.png", modal.astype(np.uint8) + 2 * post.astype(np.uint8))
    both = [f"--occluder={files}/labels.png", "--label=1", "--occluder-label=2"]
    assert main(arguments(files, *both, mask="labels")) == 0
    assert np.array_equal(read(files / "new/moved.png"), expected)
    capsys.readouterr()
    assert main(arguments(files, mask="labels")) == 2 and "choose one by --label" in capsys.readouterr().err
    assert main(arguments(files, *both[:2], mask="labels")) == 2
    assert "choose the occluder by --occluder-label" in capsys.readouterr().err
    for name in ("mask", "post"):
        write_photo(files / f"{name}.png", 255 - read(files / f"{name}.png"))
    assert main(arguments(files, f"--occluder={files}/post.png", "--invert")) == 0
    assert np.array_equal(read(files / "new/moved.png"), expected)


def test_out_of_memory_is_reported_in_one_line(files, capsys, monkeypatch):
    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr(HullInOccluders, "move", short)
    assert main(arguments(files)) == 2
    error = capsys.readouterr().err
    assert "runs out of memory on one object alone (photo of 90x60 pixels)" in error and error.count("\n") == 1


def test_a_category_needs_a_model_with_text():
    image, modal, *_ = scene()
    with pytest.warns(UserWarning, match="'modal' reads no text: category has no effect"):
        amodalseg.move(image, modal, (60, 30), category="ball", model="modal")

    class Reader(GaussianBackend):
        abilities = replace(GaussianBackend.abilities, text=True)

    for backend, reads in ((GaussianBackend(), False), (Reader(), True)):
        assert NaiveOutpaint(NaiveOutpaintConfig(), backend).reads_text is reads


def test_invalid_calls_are_refused():
    image, modal, *_ = scene()
    with pytest.raises(UserError, match="one object is moved at a time"):
        amodalseg.move(image, np.stack([modal, modal]), (3, 3), model="modal")
    with pytest.raises(UserError, match="seed must be a whole number"):
        amodalseg.move(image, modal, (3, 3), model="modal", seed=-1)
    grey = amodalseg.move(image[..., 0], modal, (60, 30), model=load_model("modal"))
    assert grey.moved.shape == (60, 90, 3)


def test_an_occluder_takes_the_forms_of_the_modal_mask():
    image, modal, _, post = scene()
    expected = amodalseg.move(image, modal, (60, 30), occluder=post, model="hull_in_occluders").moved
    top, bottom = POST[1].start, POST[1].stop
    outline = [[top, 0, bottom, 0, bottom, 60, top, 60]]
    for occluder in (torch.from_numpy(post), outline):
        found = amodalseg.move(image, modal, (60, 30), occluder=occluder, model="hull_in_occluders")
        assert np.array_equal(found.moved, expected)
    for occluder in (post.astype(np.uint8) * 255, post.astype(np.float32), post[None]):
        with pytest.raises(UserError, match=r"the occluder must be a bool array \(H, W\), not"):
            amodalseg.move(image, modal, (60, 30), occluder=occluder, model="modal")
    with pytest.raises(UserError, match=r"the occluder must be a bool array .* not list"):
        load_model("modal").predict_batch([Query(image, modal, occluder=outline)])


def test_progress_bars_are_shown_only_on_request(monkeypatch):
    seen = []

    def bar(items, **options):
        seen.append(options["desc"])
        return items

    monkeypatch.setattr(bars, "tqdm", bar)
    config = NaiveOutpaintConfig(window=SquareConfig(size=8), sampler=StepsConfig(steps=2), origin="model")
    model = NaiveOutpaint(config, GaussianBackend())
    image, modal, *_ = scene()
    torch.manual_seed(0)
    quiet = amodalseg.move(image, modal, (60, 30), model=model)
    assert seen == []
    with bars.shown():
        loud = amodalseg.move(image, modal, (60, 30), model=model)
    assert seen == ["drawing", "drawing"], "the object, and its place"
    assert np.array_equal(quiet.moved, loud.moved)
    assert list(bars.steps([1, 2], "nobody asks")) == [1, 2] and len(seen) == 2
