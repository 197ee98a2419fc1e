"""Photos of Label Studio's tasks, from the server that holds them."""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np

from amodalseg import UserError
from amodalseg.data.images import load_image

TIMEOUT, MAX_BYTES = 30, 200_000_000
"""Seconds to wait for an answer, and maximum size of a photo in bytes."""


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect, which could send the token to another server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def authorization(url: str, token: str) -> dict[str, str]:
    """The authorization header for a user's token.

    Args:
        url: of Label Studio, with a slash at its end.
        token: an access token, from which one valid for some minutes is requested; a legacy token; or empty.

    Raises:
        UserError: the server does not accept the token, or no longer.
    """
    if token.count(".") != 2:
        return {"Authorization": f"Token {token}"} if token else {}
    asked = Request(f"{url}api/token/refresh/", json.dumps({"refresh": token}).encode())
    asked.add_header("Content-Type", "application/json")
    return {"Authorization": f"Bearer {json.loads(_get(asked))['access']}"}


def _get(asked: Request) -> bytes:
    """An answer. Raises UserError."""
    try:
        with build_opener(_NoRedirect).open(asked, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(MAX_BYTES + 1)
    except OSError as error:  # includes URLError
        raise UserError(f"{asked.full_url}: {error}; is LABEL_STUDIO_API_KEY a token of its user?") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{asked.full_url} has more than {MAX_BYTES} bytes")
    return data


class Photos:
    """Reads photos from one Label Studio server only.

    Args:
        url: of the server.
        token: of one of its users, as the account page shows it: an access token, which renews itself, or a legacy
            token. Empty: photos are requested without one.
    """

    def __init__(self, url: str, token: str = ""):
        self.url = url.rstrip("/") + "/"
        self.token = token

    def read(self, value: str) -> np.ndarray:
        """A photo as a browser shows it, rotated according to its EXIF data.

        Args:
            value: of the image in a task's data: an address on the server, with or without its name, or a data URI.

        Returns:
            uint8 (H, W, 3) RGB.

        Raises:
            UserError: it is on another server, or cannot be read.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photo"
            path.write_bytes(self._bytes(value))
            try:
                return load_image(path, upright=True)
            except UserError as error:
                raise UserError(f"{value:.100}: {error}".replace(str(path), "the photo")) from error

    def _bytes(self, value: str) -> bytes:
        if value.startswith("data:"):
            try:
                return base64.b64decode(value.partition(";base64,")[2], validate=True)
            except binascii.Error as error:
                raise UserError(f"the data URI of a photo is damaged: {error}") from error
        full = urljoin(self.url, value)
        if not full.startswith(self.url):
            raise UserError(f"{value:.100} is not on {self.url}: import the photo there, or give --label-studio")
        return _get(Request(full, headers=authorization(self.url, self.token)))
