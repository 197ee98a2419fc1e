"""Serve an amodalseg model to Label Studio: ``python serve.py --label-studio http://localhost:8080``.

The interface is that of https://labelstud.io/guide/ml_create: GET /health, POST /setup, /predict and /webhook.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from complete import complete_task
from photos import Photos

import amodalseg
from amodalseg import UserError
from amodalseg.models.base import AmodalModel

MAX_BYTES = 200_000_000
"""Maximum size of a request, bytes."""


class Backend(ThreadingHTTPServer):
    """The HTTP server: one thread per request; only one predicts at a time."""

    def __init__(self, address: tuple[str, int], model: AmodalModel, photos: Photos, seed: int = 0):
        super().__init__(address, Answer)
        self.model, self.photos, self.seed = model, photos, seed
        self.version = f"{model.name} {amodalseg.__version__}"
        self.turn = Lock()

    def answer(self, path: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a request. Raises UserError if it cannot be answered."""
        if path in ("/", "/health"):
            return 200, {"status": "UP", "model_class": self.version}
        if path == "/setup":
            return 200, {"model_version": self.version}
        if path == "/webhook":
            return 201, {"status": "nothing is trained here"}
        if path == "/predict":
            with self.turn:
                return 200, {"results": self._results(request), "model_version": self.version}
        return 404, {"error": f"there is no {path}"}

    def _results(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """A prediction for each task; for a task that fails, an empty one and a line on standard error."""
        found, failures = [], []
        for task in request["tasks"]:
            prediction: dict[str, Any] = {"result": [], "score": None}
            try:
                prediction = complete_task(task, request["label_config"], self.model, self.photos.read, self.seed)
            except UserError as error:
                failures.append(f"task {task.get('id')}: {error}")
                print(failures[-1], file=sys.stderr, flush=True)
            found.append({**prediction, "model_version": self.version})
        if failures and len(failures) == len(found):
            raise UserError("; ".join(failures))
        return found


class Answer(BaseHTTPRequestHandler):
    """One request: json in, json out."""

    server: Backend

    def do_GET(self) -> None:
        self._send(*self.server.answer(self.path, {}))

    def do_POST(self) -> None:
        try:
            size = int(self.headers.get("Content-Length", 0))
            if not 0 <= size <= MAX_BYTES:
                self._send(413, {"error": f"a request has at most {MAX_BYTES} bytes, not {size}"})
                return
            self._send(*self.server.answer(self.path, json.loads(self.rfile.read(size) or b"{}")))
        except UserError as error:
            self._send(400, {"error": str(error)})
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # not the json of Label Studio
            self._send(400, {"error": f"not a Label Studio request: {error!r}"})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="An ML backend for Label Studio; LABEL_STUDIO_API_KEY is its token.")
    parser.add_argument("model", nargs="?", default="conddiff_amo_lite", help="as amodalseg.load_model takes it")
    parser.add_argument("--label-studio", default="http://localhost:8080", metavar="URL", help="where the photos are")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    photos = Photos(given.label_studio, os.environ.get("LABEL_STUDIO_API_KEY", ""))
    try:
        server = Backend((given.host, given.port), amodalseg.load_model(given.model), photos, given.seed)
    except (UserError, OSError) as error:
        sys.exit(str(error))
    print(f"{server.version} at http://{given.host}:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
