"""A Label Studio project of photos and their modal masks: ``python project.py instances.json --images photos``.

It uses Label Studio's documented API (https://api.labelstud.io) to create a project, upload the photos, add the masks
of the COCO file as annotations, connect the backend of ``serve.py``, and request predictions from it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlencode
from urllib.request import Request, urlopen
from xml.sax.saxutils import quoteattr

import brush
from photos import authorization

from amodalseg import UserError, masks
from amodalseg.data.images import image_size
from amodalseg.engine.prediction.coco_input import CocoInput, read_coco_input

TIMEOUT = 300
"""Seconds to wait for Label Studio, whose answers may include predictions."""


class Server:
    """Client of Label Studio. Args: its address, and a user's token, as for ``photos.Photos``."""

    def __init__(self, url: str, token: str):
        self.url, self.token = url.rstrip("/") + "/", token

    def call(self, path: str, content: Any = None, kind: str = "application/json", **query: object) -> Any:
        """The response to a GET or, with content (json, or bytes of another type), to a POST. Raises UserError."""
        body = json.dumps(content).encode() if kind == "application/json" and content is not None else content
        asked = Request(f"{self.url}api/{path}?{urlencode(query)}", body)
        asked.headers = authorization(self.url, self.token) | {"Content-type": kind}
        try:
            with urlopen(asked, timeout=TIMEOUT) as answer:
                return json.loads(answer.read() or b"{}")
        except URLError as error:
            said = error.read()[:500].decode(errors="replace") if hasattr(error, "read") else ""
            raise UserError(f"{asked.full_url}: {error} {said}") from error

    def upload(self, project: int, photo: Path) -> None:
        """Add a task for a photo."""
        border = uuid.uuid4().hex
        head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{photo.name}"\r\n\r\n'
        body = head.encode() + photo.read_bytes() + f"\r\n--{border}--\r\n".encode()
        self.call(f"projects/{project}/import", body, f"multipart/form-data; boundary={border}")

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """All tasks of a project."""
        page = 1
        while True:
            found = self.call("tasks", project=project, page=page, page_size=100, fields="all")
            yield from found["tasks"]
            if page * 100 >= found["total"]:
                return
            page += 1


def configuration(labels: list[str]) -> str:
    """``labels.xml`` with other labels."""
    lines = []
    for line in Path(__file__).with_name("labels.xml").read_text().splitlines():
        lines += [line.replace('"object"', quoteattr(label)) for label in labels] if "<Label " in line else [line]
    return "\n".join(lines)


def annotation(given: CocoInput, keys: list[str], labels: dict[Any, str]) -> list[dict[str, Any]]:
    """The modal masks of a photo as brush regions."""
    height, width = image_size(given.paths[given.image_of[keys[0]]], upright=True)
    regions = []
    for key in keys:
        entry = given.entries[key]
        mask = masks.decode(masks.from_segmentation(entry["segmentation"], height, width))
        value = {"format": "rle", "rle": brush.encode(mask), "brushlabels": [labels[entry.get("category_id")]]}
        regions.append(
            {"id": f"coco-{key}", "from_name": "modal", "to_name": "image", "type": "brushlabels", "value": value,
             "original_height": height, "original_width": width, "image_rotation": 0}
        )  # fmt: skip
    return regions


def make(server: Server, given: CocoInput, title: str, backend: str) -> int:
    """Create the whole project. Returns: its id."""
    names = {entry["id"]: entry["name"] for entry in given.content.get("categories", [])}
    labels = {
        category: names.get(category, "object") for category in {e.get("category_id") for e in given.entries.values()}
    }
    config = configuration(sorted(set(labels.values())))
    project = server.call("projects", {"title": title, "label_config": config, "show_collab_predictions": True})["id"]
    server.call("ml", {"url": backend, "project": project, "title": "amodalseg"})
    for path in given.paths.values():
        server.upload(project, path)
    for task in server.tasks(project):
        name = unquote(task["data"]["image"]).rpartition("/")[2]  # Label Studio's prefix ends with a dash
        keys = [key for key, image in given.image_of.items() if name.endswith(f"-{given.paths[image].name}")]
        if keys:
            server.call(f"tasks/{task['id']}/annotations", {"result": annotation(given, keys, labels)})
    everything = {"selectedItems": {"all": True, "excluded": []}}
    server.call("dm/actions", everything, id="retrieve_tasks_predictions", project=project)
    return project


def main() -> None:
    """Read the command line, create the project and print its address."""
    parser = argparse.ArgumentParser(
        description="Import a COCO file into Label Studio as a project; LABEL_STUDIO_API_KEY is the token."
    )
    parser.add_argument("coco", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--title", default="amodalseg")
    parser.add_argument("--label-studio", default="http://localhost:8080", metavar="URL")
    parser.add_argument("--backend", default="http://localhost:9090", metavar="URL", help="where serve.py listens")
    given = parser.parse_args()
    server = Server(given.label_studio, os.environ.get("LABEL_STUDIO_API_KEY", ""))
    try:
        project = make(server, read_coco_input(given.coco, given.images), given.title, given.backend)
    except UserError as error:
        sys.exit(str(error))
    found = [len(task["predictions"]) for task in server.tasks(project)]
    print(f"{server.url}projects/{project}/data: {len(found)} tasks, {sum(found)} predictions")


if __name__ == "__main__":
    main()
