"""The web page as a visitor uses it: in a browser, on one server. Skipped without a browser.

AMODALSEG_SCREENSHOTS names a folder for screenshots of the page.
"""

import os
import re
import shutil
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import cv2
import numpy as np
import pytest

from amodalseg.cli import main
from amodalseg.data.images import load_image
from amodalseg.data.mask_files import read_mask_file
from amodalseg.demo.examples import draw_examples
from amodalseg.demo.marks import brushed
from amodalseg.demo.serve import serving
from amodalseg.errors import UserError
from amodalseg.models import load_model
from tests.demo.test_uploads import huge_png

pytest.importorskip("gradio", reason="the demo's page needs gradio: pip install 'amodalseg[demo]'")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LITE = str(Path(__file__).parents[2] / "checkpoints/conddiff_amo_lite.onnx")
"""The model without PyTorch, whose import would take longer than all answers."""
SLOW = 180_000
"""Milliseconds until an answer that does not come is called one."""
VASE = (130, 180)
"""A pixel of the object in the first example, 320 x 320."""


@pytest.fixture(scope="module")
def server():
    models = {"conddiff_amo_lite": load_model(LITE, "cpu"), "convex_hull": load_model("convex_hull")}
    with serving(models) as page:
        yield page


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("the browser tests need chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(server, browser):
    """Opens the page in a new browser context that may send requests to the server only."""
    contexts, asked = [], set()

    def opened(**options):
        usual = {"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"}
        contexts.append(browser.new_context(**{**usual, **options}))
        contexts[-1].set_default_timeout(SLOW)
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(server.local_url)
        page.get_by_role("button", name="Complete").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert asked and all(url.startswith((server.local_url, "data:", "blob:")) for url in asked), asked


@pytest.fixture(scope="module")
def vase(tmp_path_factory):
    return draw_examples(tmp_path_factory.mktemp("photo"))[0]


def said(page, step, words):
    """Wait until the status text of a step contains these words, and return it."""
    line = page.locator(f"#{step}_status").get_by_text(re.compile(words))
    line.wait_for()
    return line.inner_text()


def give_photo(page, path, words="Now click"):
    remove = page.locator("#photo").get_by_role("button", name="Remove Image")
    if remove.is_visible():
        remove.click()
        said(page, "photo", "No photo yet")
    page.locator("#photo input[type=file]").set_input_files(path)
    return said(page, "photo", words)


def click(page, x, y, width, height, how="click"):
    """Click the pixel (x, y) of a photo."""
    picture = page.locator("#canvas img")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    place = {"x": (x + 0.5) / width * box["width"], "y": (y + 0.5) / height * box["height"]}
    getattr(picture, how)(position=place)


def download(page, name, folder):
    with page.expect_download() as started:
        page.locator("#files").get_by_role("row", name=re.compile(f"^{name}")).get_by_role("link").click()
    started.value.save_as(folder / name)
    return folder / name


def keep_picture(page, name):
    if folder := os.environ.get("AMODALSEG_SCREENSHOTS"):
        page.wait_for_timeout(1000)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def check_names(page):
    """Assert that every control of the page has an accessible name."""
    for role in ("button", "textbox", "spinbutton", "combobox", "radio", "tab"):
        nameless = page.get_by_role(role).evaluate_all(
            "all => all.filter(e => !(e.innerText || e.ariaLabel || e.title || (e.labels && e.labels.length &&"
            " e.labels[0].innerText) || (e.querySelector('img') && e.querySelector('img').alt) || '').trim())"
            ".map(e => e.outerHTML)"
        )
        assert not nameless
        assert page.get_by_role(role).count(), f"no {role} is on the page"


def test_a_click_completes_an_object_as_predict_does(visit, vase, tmp_path):
    page = visit()
    assert "320 x 320" in give_photo(page, vase)
    click(page, *VASE, 320, 320)
    said(page, "object", "pixels marked")
    x, y = map(int, page.get_by_label("Points").input_value().split(","))
    assert abs(x - VASE[0]) <= 1 and abs(y - VASE[1]) <= 1
    page.get_by_label("Seed").fill("3")
    page.get_by_role("button", name="Complete").click()
    assert "pixels visible" in said(page, "answer", "hidden")
    amodal, modal = download(page, "amodal.png", tmp_path), download(page, "modal.png", tmp_path)
    command = f"predict {LITE} --image {vase} --mask {modal} --seed 3 --upright --out {tmp_path}/same.png"
    assert main(command.split()) == 0
    assert (tmp_path / "same.png").read_bytes() == amodal.read_bytes()
    assert cv2.imread(str(download(page, "cutout.png", tmp_path)), cv2.IMREAD_UNCHANGED).shape[2] == 4
    keep_picture(page, "click")


def test_keyboard_use_boxes_the_order_of_two_objects_and_names_of_controls(visit, vase, tmp_path):
    page = visit()
    page.get_by_role("button", name="Example 1").press("Enter")
    said(page, "photo", "320 x 320")
    page.get_by_label("Corner of a box").press("Space")
    for corner in ((84, 70), (176, 240)):
        click(page, *corner, 320, 320)
        said(page, "object", "opposite corner" if corner[0] == 84 else "pixels marked")
    numbers = [int(number) for number in page.get_by_label("Box:").input_value().split(",")]
    assert np.abs(np.subtract(numbers, (84, 70, 177, 241))).max() <= 1
    page.get_by_label("Points").fill("130,180 20,20,0")
    page.get_by_label("Points").press("Enter")
    page.get_by_role("button", name="mark another").press("Enter")
    said(page, "object", "1 other object is kept")
    playwright.expect(page.get_by_label("Points")).to_have_value("")
    page.get_by_label("Points").fill("500,0")
    page.get_by_label("Points").press("Enter")
    said(page, "object", "500,0 lies outside the photo of 320x320")
    page.get_by_label("Points").fill("")
    page.get_by_label("Box:").fill("35,205,270,320")
    page.get_by_label("Box:").press("Enter")
    said(page, "object", "pixels marked. 1 other object")
    page.get_by_role("button", name="Complete").press("Enter")
    assert "Objects from far to near: " in said(page, "answer", "Object 2: ")
    assert read_mask_file(download(page, "amodal_2.png", tmp_path)).any()
    check_names(page)
    keep_picture(page, "order")


def test_a_brushed_mask_has_the_photos_size(visit, tmp_path, monkeypatch):
    from amodalseg.demo import page as layout

    layers = []
    monkeypatch.setattr(layout, "brushed", lambda given, *size: layers.extend(given) or brushed(given, *size))
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((300, 1000, 3), 200, np.uint8))
    page = visit()
    give_photo(page, tmp_path / "wide.png")
    page.get_by_role("tab", name="Brush").click()
    page.get_by_role("button", name="Use the brushed area").click()
    said(page, "object", "nothing is painted yet")
    page.wait_for_timeout(500)
    box = page.locator("#editor canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=8)
    page.mouse.up()
    page.get_by_role("button", name="Use the brushed area").click()
    said(page, "object", "pixels marked")
    keep_picture(page, "brush")
    page.get_by_label("Model").click()
    page.get_by_role("option", name="convex_hull").click()
    page.get_by_role("button", name="Complete").click()
    said(page, "answer", "pixels visible")
    modal = read_mask_file(download(page, "modal.png", tmp_path))
    painted = layers[-1][..., 3] > 127
    assert painted.shape == (300, 1000) and np.array_equal(modal, painted)
    assert modal[150].any() and 60 < modal.any(axis=0).sum() < 500 and not modal[:, :400].any()


def test_invalid_files_are_refused_in_one_line_and_the_next_photo_is_accepted(visit, vase, tmp_path):
    page = visit()
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    assert "a.png is broken, or not a picture" in give_photo(page, tmp_path / "a.png", "broken")
    assert "900 megapixels" in give_photo(page, huge_png(tmp_path / "bomb.png", 30_000, 30_000), "megapixels")
    page.get_by_role("button", name="Complete").click()
    said(page, "answer", "give a photo first")
    give_photo(page, vase)
    page.get_by_role("button", name="Complete").click()
    said(page, "answer", "mark an object first")
    page.get_by_role("tab", name="Mask file").click()
    small, right = np.zeros((319, 320), np.uint8), np.zeros((320, 320), np.uint8)
    small[100:200, 100:200] = right[100:200, 140:180] = 255
    cv2.imwrite(str(tmp_path / "small.png"), small)
    cv2.imwrite(str(tmp_path / "right.png"), right)
    page.locator("#mask_file input[type=file]").set_input_files(tmp_path / "small.png")
    said(page, "object", "the mask small.png is 320x319 and the photo 320x320")
    page.locator("#mask_file").get_by_role("button", name=re.compile("Clear|Remove")).first.click()
    page.locator("#mask_file input[type=file]").set_input_files(tmp_path / "right.png")
    said(page, "object", "4,000 pixels marked")


def test_a_photo_of_40_megapixels(visit, tmp_path):
    photo = np.full((5000, 8000, 3), (160, 120, 60), np.uint8)
    cv2.circle(photo, (3000, 2500), 900, (40, 40, 220), -1)
    cv2.imwrite(str(tmp_path / "large.jpg"), photo)
    page = visit()
    assert "8000 x 5000" in give_photo(page, tmp_path / "large.jpg")
    click(page, 3000, 2500, 8000, 5000)
    said(page, "object", "pixels marked")
    page.get_by_role("button", name="Complete").click()
    said(page, "answer", "pixels visible")
    mask = read_mask_file(download(page, "amodal.png", tmp_path))
    disc = np.pi * 900**2
    assert mask.shape == (5000, 8000) and 0.9 * disc < mask.sum() < 1.3 * disc


def test_two_concurrent_visitors_get_separate_results_also_on_a_phone(visit, vase, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    cv2.imwrite(str(tmp_path / "plain.png"), cv2.circle(np.full((200, 260, 3), 220, np.uint8), (90, 99), 40, 0, -1))
    one, other = visit(**phone), visit()
    give_photo(one, vase)
    give_photo(other, tmp_path / "plain.png")
    click(one, *VASE, 320, 320, "tap")
    click(other, 90, 99, 260, 200)
    for page in (one, other):
        said(page, "object", "pixels marked")
    for page in (one, other):
        page.get_by_role("button", name="Complete").click()
    for page in (one, other):
        said(page, "answer", "pixels visible")
    assert load_image(download(other, "modal.png", tmp_path), grey=True).shape == (200, 260)
    assert load_image(download(one, "modal.png", tmp_path), grey=True).shape == (320, 320)
    keep_picture(one, "phone")
    assert one.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("Complete", "Use the brushed area", "Start over", "Keep, mark another"):
        button = one.get_by_role("button", name=name, include_hidden=True)
        assert name == "Use the brushed area" or button.bounding_box()["height"] >= 40
    one.get_by_role("tab", name="Brush").tap()
    assert one.locator("#editor").bounding_box()["width"] > 300


def test_the_server_limits_requests_and_leaves_no_files(tmp_path, monkeypatch):
    from amodalseg.demo import serve

    monkeypatch.setattr(serve, "draw_examples", lambda folder: [])
    monkeypatch.setattr(serve, "MEGABYTES", 1)
    before = {name for name in os.environ if name.startswith("GRADIO")}
    models = {"modal": load_model("modal")}
    with serving(models) as page:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        numbers = [block for block in page.blocks.values() if block.get_block_name() == "number"]
        assert [field.preprocess("x") for field in numbers] == ["x"] * 3, "a line refuses them, not gradio"
        upload = f"{page.local_url}gradio_api/upload"

        def answered(size):
            body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n%s\r\n--x--\r\n'
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            try:
                return urllib.request.urlopen(urllib.request.Request(upload, body % bytes(size), kind)).status
            except HTTPError as error:
                return error.code

        assert answered(1000) == 200 and any(folder.rglob("a.png"))
        assert answered(2**21) == 413 and answered(2**22) == 413
        monkeypatch.setattr(serve, "GIGABYTES", 0)
        assert answered(10) == 507
        with (
            pytest.raises(UserError, match=f"the port {page.server_port} is in use"),
            serving(models, page.server_port),
        ):
            pass
    assert not folder.exists()
    assert {name for name in os.environ if name.startswith("GRADIO")} == before
