"""``amodalseg.select`` and ``predict --point --box --text``: GrabCut, tiny random SAMs, one line per mistake."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import amodalseg
from amodalseg import UserError
from amodalseg.cli import main
from amodalseg.engine.prediction.select import open_selector
from amodalseg.models.inpainting.parts.detector import open_detector
from tests.models.inpainting.tiny_hub import save_grounding_dino, save_sam, save_sam2
from tests.worlds import disc, write_photo

HEIGHT, WIDTH = 90, 120


def scene(scale=1):
    """A red ball and a separate blue one on grey noise: photo, both masks."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 130, (HEIGHT, WIDTH, 3), np.uint8)
    red, blue = disc(HEIGHT, WIDTH, 40, 45, 20, 24), disc(HEIGHT, WIDTH, 95, 30, 14, 14)
    image[red], image[blue] = (200, 40, 50), (30, 40, 210)
    if scale == 1:
        return image, red, blue
    size = (WIDTH * scale, HEIGHT * scale)
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), *(
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for mask in (red, blue)
    )


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize(
    "prompt", [{"points": [(40, 45)]}, {"box": (20, 21, 61, 70)}, {"box": (10, 12, 74, 80), "points": (40, 45)}]
)
def test_grabcut_finds_what_differs_in_colour(prompt):
    image, red, _ = scene()
    mask = amodalseg.select(image, **prompt)
    assert mask.dtype == bool and mask.shape == (HEIGHT, WIDTH) and iou(mask, red) > 0.9
    assert np.array_equal(mask, amodalseg.select(image, **prompt))


def test_background_points_exclude_pixels():
    image, red, blue = scene()
    image[40:50, 60:110] = (200, 40, 50)  # a bar in the ball's colour
    both = amodalseg.select(image, points=[(40, 45)])
    assert both[45, 90]
    one = amodalseg.select(image, points=[(40, 45), (75, 45, 0), (90, 45, 0), (104, 45, 0)])
    assert not one[45, [75, 90, 104]].any() and iou(one, red) > 0.8 and not (one & blue).any()


def test_the_mask_lies_inside_the_box_and_contains_each_point():
    rng = np.random.default_rng(3)
    for _ in range(4):
        image = rng.integers(0, 256, (40, 50, 3), np.uint8)  # noise without any object
        x, y = int(rng.integers(12, 38)), int(rng.integers(10, 30))
        box = (x - 11, y - 9, x + 12, y + 8)
        mask = amodalseg.select(image, points=[(x, y)], box=box)
        assert mask[y, x]
        mask[box[1] : box[3], box[0] : box[2]] = False
        assert not mask.any()


def test_a_large_photo_gives_the_mask_of_the_small_one():
    image, red, _ = scene(scale=12)
    mask = amodalseg.select(image, points=[(40 * 12, 45 * 12)])
    assert mask.shape == image.shape[:2] and iou(mask, red) > 0.9


def test_a_box_of_uniform_colour_gives_its_middle():
    mask = amodalseg.select(np.full((40, 50, 3), 90, np.uint8), box=(10, 10, 30, 30))
    assert mask[20, 20] and not mask[:10].any() and not mask[:, 30:].any()
    image, red, _ = scene()
    everything = amodalseg.select(image[:, :80], box=(0, 0, 80, HEIGHT))
    assert iou(everything, red[:, :80]) > 0.9, "without surroundings too"


def test_an_empty_selection_is_refused():
    nothing = SimpleNamespace(side=64, select=lambda picture, *_: np.zeros(picture.shape[:2], bool))
    with pytest.raises(UserError, match="no object is found in the box: give points on the object too"):
        amodalseg.select(scene()[0], box=(10, 10, 30, 30), model=nothing)
    with pytest.raises(UserError, match="no object is found at the points"):
        amodalseg.select(scene()[0], points=(10, 10), model=nothing)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    return SimpleNamespace(
        sam=str(save_sam(folder / "sam")),
        sam2=str(save_sam2(folder / "sam2")),
        dino=str(save_grounding_dino(folder / "d")),
    )


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_sam_gets_points_labels_and_box_at_its_input_size(hub, kind):
    selector = open_selector(getattr(hub, kind), "cpu")
    image, _, _ = scene()
    mask = amodalseg.select(image, points=[(40, 45), (90, 30, 0)], box=(20, 21, 61, 70), model=selector)
    assert mask.dtype == bool and mask.shape == (HEIGHT, WIDTH)
    seen, model = {}, selector.model

    def spy(**inputs):
        seen.update(inputs)
        return model(**inputs)

    selector.model = spy
    selector.side = 60  # as if the photo were larger than the input size
    again = amodalseg.select(image, points=[(40, 45), (90, 30, 0)], box=(20, 21, 61, 70), model=selector)
    assert again.shape == (HEIGHT, WIDTH)
    assert seen["input_labels"].flatten().tolist() == [1, 0]
    across, down = (64 / 60, 64 / 45) if kind == "sam2" else (64 / 60, 64 / 60)  # for the picture of 60 x 45 pixels
    np.testing.assert_allclose(seen["input_points"].flatten().numpy(), [20 * across, 22 * down, 45 * across, 15 * down])
    np.testing.assert_allclose(seen["input_boxes"].flatten().numpy(), [10 * across, 10 * down, 31 * across, 35 * down])


def test_a_text_prompt_gives_a_mask_for_each_detection(hub):
    image, red, blue = scene()

    class Told:
        def boxes(self, picture, words):
            assert picture.shape == image.shape and words == ["ball", "red cube"]
            # the second is a duplicate of the first
            return np.array([[81, 16, 110, 45], [80, 15, 110, 46], [20, 21, 61, 70]])

    masks = amodalseg.select(image, text="ball. red cube.", detector=Told())
    assert masks.shape == (2, HEIGHT, WIDTH) and iou(masks[0], blue) > 0.8 and iou(masks[1], red) > 0.8


def test_a_text_prompt_with_a_tiny_detector(hub, monkeypatch):
    image, _, _ = scene()
    masks = amodalseg.select(image, text="cat", model=hub.sam2, detector=hub.dino)
    assert masks.ndim == 3 and masks.shape[1:] == (HEIGHT, WIDTH) and masks.any(axis=(1, 2)).all()
    detector = open_detector(hub.dino, "cpu")
    boxes = detector.boxes
    monkeypatch.setattr(detector, "boxes", lambda picture, words: boxes(picture, words, 1.0))
    with pytest.raises(UserError, match="nothing in the photo matches 'cat'"):
        amodalseg.select(image, text="cat", detector=detector)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "say where the object is: give points, a box or text"),
        ({"points": []}, "no point is on the object"),
        ({"points": [(5, 5, 0)]}, "no point is on the object"),
        ({"points": [(120, 5)]}, r"120,5 lies outside the photo of 120x90 \(width x height\): give x from 0 to 119"),
        ({"points": [(5, -1)]}, "the point 5,-1 lies outside the photo"),
        ({"points": [(5, 5, 2)]}, r"a point is \(x, y\), or \(x, y, label\)"),
        ({"points": [("a", 5)]}, r"a point is \(x, y\)"),
        ({"points": 7}, "points are a list of"),
        ({"box": (20, 20, 20, 40)}, "the box 20,20,20,40 is empty in the photo of 120x90"),
        ({"box": (130, 20, 140, 40)}, "is empty in the photo"),
        ({"box": (20, 20, 40)}, "a box is x0, y0, x1, y1"),
        ({"box": (0, 0, 9, float("nan"))}, "a box is x0, y0, x1, y1"),
        ({"box": (20, 20, 40, 40), "points": [(50, 30)]}, "the point 50,30 lies outside the box 20,20,40,40"),
        ({"text": "dog", "box": (1, 1, 9, 9)}, "give text, or points and a box, not both"),
        ({"text": " . "}, "the text is empty"),
        ({"text": "dog", "detector": "no_such"}, "'no_such' is not a folder, not one of grounding_dino"),
        ({"box": (1, 1, 9, 9), "model": "sam3"}, "'sam3' is not a folder, not one of sam, sam_base, sam2"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(prompt, message):
    with pytest.raises(UserError, match=message) as caught:
        amodalseg.select(np.zeros((HEIGHT, WIDTH, 3), np.uint8), device="cpu", **prompt)
    assert "\n" not in str(caught.value)


@pytest.fixture
def files(tmp_path):
    write_photo(tmp_path / "photo.png", scene()[0])
    return tmp_path


def predict(files, *more, out="result.png"):
    return main(["predict", "box", f"--image={files}/photo.png", f"--out={files}/{out}", *more])


def test_a_click_on_the_command_line(files, capsys):
    assert predict(files, "--point=40,45", "--point=95,30,0", "--box=10,12,74,80") == 0
    modal = amodalseg.select(scene()[0], points=[(40, 45), (95, 30, 0)], box=(10, 12, 74, 80))
    wanted = amodalseg.load_model("box").predict(scene()[0], modal).amodal
    assert np.array_equal(cv2.imread(str(files / "result.png"), cv2.IMREAD_GRAYSCALE) > 0, wanted)
    assert f"and {modal.sum()} visible pixels" in capsys.readouterr().out


def test_a_text_prompt_on_the_command_line(files, hub, monkeypatch, capsys):
    monkeypatch.setattr("amodalseg.models.inpainting.parts.detector.Detector.boxes",
                        lambda *_: np.array([[81, 16, 110, 45], [20, 21, 61, 70]]))  # fmt: skip
    words = ["--text=a ball", f"--detector={hub.dino}"]
    assert predict(files, *words, out="new") == 0
    assert sorted(path.name for path in (files / "new").iterdir()) == ["photo_1.png", "photo_2.png"]
    capsys.readouterr()
    for out, message in (("new", "is not empty"), ("new.png", "must be a folder, not a file")):
        assert predict(files, *words, out=out) == 2
        assert message in capsys.readouterr().err
    assert predict(files, *words, "--overwrite", out="new") == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--point=1"], "'1' is not valid; give pixels of the photo: 420,300"),
        (["--box=1,2,3"], "'1,2,3' is not valid; give pixels of the photo: 120,80,420,300"),
        (["--point=1,1", "--mask=m.png"], "replace --mask"),
        (["--select=sam2", "--mask=m.png"], "--select and --detector need --point, --box or --text"),
        (["--point=1,1", "--detector=x"], "--detector needs --text"),
        (["--point=1,1", "--invert"], "--label and --invert need mask files"),
        (["--point=500,1"], "the point 500,1 lies outside the photo"),
    ],
)
def test_mistakes_on_the_command_line(files, more, message, capsys):
    assert predict(files, *more) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (files / "result.png").exists()
