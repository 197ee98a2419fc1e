"""The ML backend in ``integrations/label_studio``, without Label Studio, whose requests are simulated here."""

import base64
import json
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

from amodalseg import UserError, __version__, load_model
from amodalseg.types import stable_seed
from tests.worlds import disc, photo

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "integrations/label_studio"))
import brush  # noqa: E402
import complete  # noqa: E402
import photos  # noqa: E402
import project  # noqa: E402
import serve  # noqa: E402

CONFIG = (ROOT / "integrations/label_studio/labels.xml").read_text()
NAMED = f"convex_hull {__version__}"
SIZE = 60, 80
MODAL = disc(*SIZE, 40, 30, 22, 18) & ~disc(*SIZE, 52, 30, 8, 40)


@pytest.fixture(scope="module")
def graph():
    return load_model(ROOT / "checkpoints/conddiff_amo_lite.onnx")


@pytest.fixture(scope="module")
def picture():
    return photo(np.random.default_rng(0), *SIZE)


def brushed(mask=MODAL, name="r1", **changes) -> dict:
    value = {"format": "rle", "rle": brush.encode(mask), "brushlabels": ["object"]}
    return {"id": name, "from_name": "modal", "to_name": "image", "type": "brushlabels", "image_rotation": 0,
            "original_height": mask.shape[0], "original_width": mask.shape[1], "value": value} | changes  # fmt: skip


def task(*regions, image="/data/1.png", **more) -> dict:
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(regions)}]} | more


def completed(picture, *regions, config=CONFIG, model="convex_hull", **more) -> dict:
    model = load_model(model) if isinstance(model, str) else model
    return complete.complete_task(task(*regions, **more), config, model, lambda _: picture, seed=3)


@pytest.mark.parametrize(
    "mask",
    [MODAL, ~MODAL, np.zeros((3, 5), bool), np.ones((150, 150), bool), np.eye(9, dtype=bool), np.ones((1, 1), bool)],
)
def test_brush_encoding_round_trips(mask):
    found = brush.decode(brush.encode(mask), *mask.shape)
    assert found.dtype == bool and (found == mask).all()


def test_a_hand_written_brush_is_decoded():
    """Bits by hand: 4-bit values, non-default widths, a literal block, then a repeated one."""
    bits = f"{8:032b}" + f"{3:05b}" + f"{1:04b}{1:04b}{2:04b}{15:04b}"
    with pytest.raises(ValueError, match="cut off"):
        brush.decode(packed(bits), 1, 2)
    bits = f"{8:032b}" + f"{7:05b}" + f"{1:04b}{1:04b}{2:04b}{15:04b}"
    bits += "0" + "00" + "11" + f"{9:08b}{8:08b}{7:08b}{200:08b}"  # four values; the last one is the alpha
    bits += "1" + "10" + "011" + f"{100:08b}"  # four times 100: below half
    assert brush.decode(packed(bits), 1, 2).tolist() == [[True, False]]


def packed(bits: str) -> list[int]:
    return [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]


def test_brush_encoding_equals_that_of_the_sdk():
    theirs = pytest.importorskip("label_studio_sdk.converter.brush", reason="needs label-studio-sdk")
    assert (brush.decode([int(byte) for byte in theirs.mask2rle(MODAL * np.uint8(255))], *SIZE) == MODAL).all()
    found = np.array(theirs.decode_rle(brush.encode(MODAL))).reshape(*SIZE, 4)
    assert (found[..., 3] == MODAL * 255).all()


@pytest.mark.parametrize(
    ("rle", "said"),
    [
        (brush.encode(MODAL)[:-3], "cut off"), (brush.encode(MODAL)[:3], "cut off"), ([], "cut off"),
        (brush.encode(MODAL[:-1]), "values"), ([*brush.encode(MODAL), 256], "bytes"), ("AAAA", "bytes"),
        (packed(f"{4 * MODAL.size:032b}" + f"{7:05b}" + "1111" * 4 + "1" + "11" + "1" * 16 + "0" * 8), "more values"),
    ],
)  # fmt: skip
def test_damaged_brush_is_refused(rle, said):
    with pytest.raises(ValueError, match=said):
        brush.decode(rle, *SIZE)


def test_objects_are_completed(graph, picture):
    found = completed(picture, brushed(), brushed(disc(*SIZE, 20, 20, 9, 9), "r2"), model=graph)
    wanted = graph.predict(picture, MODAL, seed=stable_seed("region", 3, "r1"))
    first = found["result"][0]
    mask = brush.decode(first["value"]["rle"], *SIZE)
    assert (mask == wanted.amodal).all() and (mask & ~MODAL).any()
    assert [region["from_name"] for region in found["result"]] == ["amodal"] * 2
    assert first["value"]["brushlabels"] == ["object"] and first["to_name"] == "image"
    assert first["score"] == pytest.approx(wanted.score)
    assert found["score"] == min(region["score"] for region in found["result"])


def test_a_polygon_is_accepted_as_a_modal_mask():
    points = [[10, 20], [50, 20], [50, 70], [10, 70]]  # percent
    region = brushed(type="polygonlabels", value={"points": points, "polygonlabels": ["object"]})
    wanted = np.zeros(SIZE, bool)
    wanted[12:42, 8:40] = True
    assert (complete.modal_mask(region) == wanted).all()


def test_the_last_annotation_is_used(picture):
    old = {"result": [brushed()], "updated_at": "2026-01-01T00:00:00Z"}
    new = {"result": [brushed(name="new")], "updated_at": "2026-01-02T00:00:00Z"}
    cancelled = {"result": [brushed(name="no")], "updated_at": "2026-01-03T00:00:00Z", "was_cancelled": True}
    found = completed(picture, annotations=[new, old, cancelled])
    assert [region["id"] for region in found["result"]] == ["new-amodal"]
    assert found["score"] is None and found["result"][0]["score"] is None  # the convex hull has no probability
    assert completed(picture, annotations=[]) == {"result": [], "score": None}
    assert completed(picture, brushed(from_name="amodal"))["result"] == []  # amodal masks are not completed


@pytest.mark.parametrize(
    ("region", "config", "said"),
    [
        (brushed(), "<View/>", "no <BrushLabels"), (brushed(), "<View", "not XML"),
        (brushed(to_name="other"), CONFIG, "not of the image 'other'"),
        (brushed(), CONFIG.replace('"object"', '"thing"'), "no label 'object'"),
        (brushed(MODAL[:-2]), CONFIG, "is of a picture of"), (brushed(image_rotation=90), CONFIG, "is turned"),
        (brushed(value={"rle": [1], "brushlabels": ["object"]}), CONFIG, "region r1: .* cut off"),
        (brushed(type="polygonlabels", value={"points": [[1, 2]], "polygonlabels": ["object"]}), CONFIG, "three"),
        (brushed(original_height=10**6, original_width=10**6), CONFIG, "region r1 is a picture of .* the limit is"),
    ],
)  # fmt: skip
def test_mistakes_are_reported(region, config, said, picture):
    with pytest.raises(UserError, match=said):
        completed(picture, region, config=config)


@pytest.fixture
def backend():
    server = serve.Backend(("127.0.0.1", 0), load_model("convex_hull"), photos.Photos("http://localhost:1"))
    with serving(server) as address:
        yield address


class serving:
    def __init__(self, server):
        self.server = server

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def asked(address: str, content=None) -> tuple[int, dict]:
    body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    try:
        with urlopen(Request(address, body)) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_backend_answers_as_documented(backend, picture, capsys):
    assert asked(f"{backend}/health") == (200, {"status": "UP", "model_class": NAMED})
    assert asked(f"{backend}/setup", {"project": "1.2", "schema": CONFIG})[1] == {"model_version": NAMED}
    uri = "data:image/png;base64," + base64.b64encode(png(picture)).decode()
    tasks = [task(brushed(), image=uri), task(brushed(), image="http://elsewhere/1.png")]
    status, found = asked(f"{backend}/predict", {"tasks": tasks, "label_config": CONFIG})
    assert status == 200 and [len(entry["result"]) for entry in found["results"]] == [1, 0]
    assert "task 7: http://elsewhere/1.png is not on" in capsys.readouterr().err
    wanted = load_model("convex_hull").predict(picture, MODAL).amodal
    assert (brush.decode(found["results"][0]["result"][0]["value"]["rle"], *SIZE) == wanted).all()
    status, found = asked(f"{backend}/predict", {"tasks": tasks[1:], "label_config": CONFIG})
    assert status == 400 and "elsewhere" in found["error"]  # all tasks fail
    assert asked(f"{backend}/webhook", {"action": "ANNOTATION_CREATED"})[0] == 201
    assert asked(f"{backend}/train", {})[0] == 404
    for length, status in (("-1", 413), ("10000000000", 413), ("many", 400)):
        connection = HTTPConnection(*backend.removeprefix("http://").split(":"), timeout=20)
        connection.request("POST", "/predict", headers={"Content-Length": length})
        assert connection.getresponse().status == status, length
        connection.close()
    assert asked(f"{backend}/predict", b"{")[0] == asked(f"{backend}/predict", {})[0] == 400


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_photos_are_fetched_from_label_studio_only(picture):
    seen = []

    class Studio(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            self.send_response(302 if self.path == "/away.png" else 200)
            self.send_header("Location", "/data/1.png")
            self.end_headers()
            self.wfile.write(png(picture))

        def do_POST(self):
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"access": f"access to {given['refresh']}"}).encode())

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Studio)) as address:
        assert (photos.Photos(address, "secret").read("/data/1.png") == picture).all()
        assert (photos.Photos(address, "a.b.c").read(f"{address}/data/1.png") == picture).all()
        assert seen == ["Token secret", "Bearer access to a.b.c"]
        for value in ("http://elsewhere/1.png", f"{address}.evil/1.png", "//elsewhere/1.png", "file:///etc/hosts"):
            with pytest.raises(UserError, match="is not on"):
                photos.Photos(address, "secret").read(value)
        with pytest.raises(UserError, match="302"):  # redirections are not followed with the token
            photos.Photos(address, "secret").read("/away.png")
    for value, said in (("data:image/png;base64,?", "damaged"), ("data:image/png;base64,AAAA", "the photo")):
        with pytest.raises(UserError, match=said):
            photos.Photos("http://localhost:1").read(value)


def test_a_configuration_with_custom_labels():
    config = project.configuration(["cat & dog", 'a "b" <c>'])
    labels, fields = complete.controls(config)
    assert labels == {"cat & dog", 'a "b" <c>'} and fields == {"image": "image"}
