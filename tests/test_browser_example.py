"""The page of ``examples/browser`` in a browser: it completes an object like the Python library.

It needs ONNX Runtime from npm (``npm install`` in that folder), which tests do not download. AMODALSEG_SCREENSHOTS
names a folder for a screenshot of the page.
"""

import base64
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from amodalseg.config.schema import SyntheticData
from amodalseg.data.draw.synthetic import SyntheticWorld
from amodalseg.data.images import load_image, save_png
from amodalseg.models import load_model
from amodalseg.models.exported_weights import weights_beside
from amodalseg.models.noise import sample_noise

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "examples/browser"
GRAPH = ROOT / "checkpoints/conddiff_amo_lite.onnx"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SLOW = 180_000
"""Milliseconds until something that does not come is called missing."""
ASKED = """async ([photo, mask, noise]) => {
  const { Model } = await import("/amodal.mjs");
  const model = await Model.open(new Uint8Array(await (await fetch("model.onnx")).arrayBuffer()));
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const pixels = new ImageData(new Uint8ClampedArray(bytes(photo.data)), photo.width, photo.height);
  const numbers = new Float32Array(bytes(noise).buffer);
  return Array.from(await model.complete(pixels, bytes(mask), numbers));
}"""
playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
onnx = pytest.importorskip("onnx", reason="the browser test needs onnx")
if not (PAGE / "node_modules/onnxruntime-web").is_dir():
    pytest.skip("the browser test needs onnxruntime-web: npm install in examples/browser", allow_module_level=True)
if CHROMIUM is None:
    pytest.skip("the browser test needs chromium: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory) -> Path:
    """The shipped graph with embedded weights: the output of `amodalseg export`, without a minute of tracing."""
    values, _ = weights_beside(GRAPH, GRAPH.read_bytes())
    model = onnx.load(GRAPH, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    kept = [entry for entry in model.metadata_props if entry.key != "weights_sha256"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def page(whole_file):
    """The page, served by a plain file server, with other requests blocked."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(PAGE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, asked = f"http://127.0.0.1:{server.server_port}/", set()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.set_default_timeout(SLOW)
        page.on("request", lambda request: asked.add(request.url))
        page.route("**/model.onnx", lambda route: route.fulfill(path=whole_file))
        page.goto(url)
        yield page
        browser.close()
    server.shutdown()
    server.server_close()
    assert asked and all(address.startswith((url, "blob:", "data:")) for address in asked), asked


def says(page, words):
    page.get_by_role("status").filter(has_text=words).wait_for()


def test_the_page_completes_an_object_as_python_does(page, whole_file, tmp_path):
    record = SyntheticWorld(SyntheticData(split="demo", size=320, rate_min=0.2, rate_max=0.5)).get(32)
    photo, modal = record.image, record.modal
    model = load_model(whole_file, "cpu")
    wanted = model.predict(photo, modal, seed=3)
    assert wanted.occluded.sum() > 500
    says(page, "Choose a photo.")

    def text(array):
        return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()

    opaque = np.dstack([photo, np.full(modal.shape, 255, np.uint8)])
    noise = sample_noise([3], model.num_noise_maps, model.config.window.size)
    given = [{"data": text(opaque), "width": 320, "height": 320}, text(modal.astype(np.uint8)), text(noise)]
    found = np.array(page.evaluate(ASKED, given), bool).reshape(modal.shape)
    assert (found == wanted.amodal).mean() >= 0.9999

    save_png(tmp_path / "photo.png", photo)
    save_png(tmp_path / "mask.png", modal.astype(np.uint8) * 255)
    save_png(tmp_path / "small.png", np.zeros((9, 9), np.uint8))
    page.get_by_role("button", name="Complete").click()
    says(page, "Error: choose a photo first")
    page.get_by_label("Photo", exact=True).set_input_files(tmp_path / "photo.png")
    says(page, "320 x 320 pixels")
    page.get_by_role("button", name="Complete").click()
    says(page, "Error: mark the visible part of an object first")
    page.get_by_label("Mask", exact=True).set_input_files(tmp_path / "small.png")
    says(page, "Error: the mask has 9 x 9 pixels and the photo 320 x 320")
    page.get_by_label("Mask", exact=True).set_input_files(tmp_path / "mask.png")
    says(page, f"{modal.sum()} pixels are marked")
    page.get_by_role("button", name="Complete").click()
    says(page, f"{modal.sum()} pixels visible, ")
    if folder := os.environ.get("AMODALSEG_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "browser_example.png", full_page=True)
    with page.expect_download() as started:
        page.get_by_role("link", name="Save the mask").click()
    started.value.save_as(tmp_path / "amodal.png")
    own = load_image(tmp_path / "amodal.png", grey=True) > 127  # with its own random noise
    assert own[modal].all() and (own & wanted.amodal).sum() > 0.8 * (own | wanted.amodal).sum()

    page.get_by_role("button", name="Clear").click()
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 100, steps=8)
    page.mouse.up()
    page.get_by_role("button", name="Complete").click()
    says(page, "pixels visible, ")
    marked = int(page.get_by_role("status").inner_text().split()[0])
    assert 0.8 < marked / (np.pi * 10**2 + 40 * 20) < 1.2


def test_a_graph_without_its_weights_is_refused(page):
    page.unroute("**/model.onnx")
    page.route("**/model.onnx", lambda route: route.fulfill(path=GRAPH))
    page.reload()
    says(page, "Error: this file holds the graph without its weights")
