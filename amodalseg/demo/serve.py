"""A server for the page: local unless it is shared, without telemetry, and with limits."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amodalseg.demo.examples import draw_examples
from amodalseg.demo.uploads import MEGABYTES
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel

FONT = ("system-ui", "sans-serif")
"""System fonts, so that none is downloaded."""
GIGABYTES = 4
"""Maximum total size of all files of an hour; beyond it, uploads are refused."""


def serve(models: Mapping[str, AmodalModel], port: int | None = None, share: bool = False) -> None:
    """Serve the page until Ctrl-C or until the process is terminated.

    Args:
        models: by the names that the page displays.
        port: None: the first free one from 7860.
        share: also serve through a public gradio link, for three days.

    Raises:
        UserError: gradio is not installed, or the port is in use.
    """
    with serving(models, port, share) as page:
        print(f"open {page.share_url or page.local_url} in a browser; Ctrl-C ends", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # removes the temporary files in this case too
        threading.Event().wait()


@contextlib.contextmanager
def serving(models: Mapping[str, AmodalModel], port: int | None = None, share: bool = False) -> Iterator[Any]:
    """A running server, as gradio's ``Blocks`` with its ``local_url``; all its files are removed when the block ends.

    Args and Raises: as ``serve``.
    """
    with tempfile.TemporaryDirectory(prefix="amodalseg-demo-") as folder, _gradio_configured(folder) as kept:
        try:
            from amodalseg.demo import page as layout
        except ImportError as error:
            raise UserError(f"the demo needs gradio 6: pip install 'amodalseg[demo]' ({error})") from error
        import gradio as gr

        page = layout.build_page(models, draw_examples(kept))
        try:
            page.launch(
                server_port=port, share=share, prevent_thread_lock=True, quiet=True, inbrowser=False, css=layout.CSS,
                theme=gr.themes.Default(font=FONT, font_mono=FONT), footer_links=[], run_history=False,
                enable_monitoring=False, ssr_mode=False, pwa=False, mcp_server=False, max_threads=8,
                max_file_size=MEGABYTES * 2**20, state_session_capacity=200,
                app_kwargs={"middleware": [(BodyLimit, (MEGABYTES * 2**20 + 2**16, Path(folder)), {})]},
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"the port {port or 'from 7860 to 7959'} is in use: give another --port") from error
        try:
            yield page
        finally:
            page.close(verbose=False)


@contextlib.contextmanager
def _gradio_configured(folder: str) -> Iterator[Path]:
    """Set gradio's folder for files and switch off its telemetry; it reads both from the environment.

    Returns:
        The folder. Aborted uploads leave nothing behind either: they are removed with ``folder``.

    Results for a visitor are first written to another folder: gradio does not copy what is already in its own folder,
    and the files would be gone by the time the visitor fetches them.
    """
    kept, made = Path(folder, "kept"), Path(folder, "made")
    kept.mkdir()
    made.mkdir()
    told = {"GRADIO_TEMP_DIR": str(kept), "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    usual, tempfile.tempdir = tempfile.tempdir, str(made)
    try:
        yield kept
    finally:
        tempfile.tempdir = usual
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _TooLarge(Exception):
    """The request has more bytes than allowed."""


class BodyLimit:
    """Rejects requests of more than ``limit`` bytes (gradio limits only each file), and uploads to a full folder.

    Args:
        app: the wrapped ASGI application.
        limit: in bytes.
        folder: of all uploads and results; it may hold up to ``GIGABYTES``.
    """

    def __init__(self, app: Any, limit: int, folder: Path) -> None:
        self.app, self.limit, self.folder = app, limit, folder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"].endswith("/upload") and _bytes_in(self.folder) > GIGABYTES * 2**30:
            await _refuse(send, 507, "the server holds too many files: try again in an hour")
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limit:
            await _drain(receive, 8 * self.limit)
            await self._refuse_size(send)
            return
        taken, begun = 0, False

        async def counted() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limit:
                raise _TooLarge
            return message

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except _TooLarge:
            if not begun:
                await self._refuse_size(send)

    async def _refuse_size(self, send: Any) -> None:
        await _refuse(send, 413, f"more than {self.limit // 2**20} MB in one request: make the file smaller")


async def _drain(receive: Any, most: int) -> None:
    """Receive and discard up to ``most`` further bytes, because a client does not read a response while it sends."""
    taken, more = 0, True
    while more and taken < most:
        message = await receive()
        taken += len(message.get("body", b""))
        more = message.get("more_body", False)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a file may vanish meanwhile
            total += path.stat().st_size
    return total


async def _refuse(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
