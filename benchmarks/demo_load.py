"""Many simultaneous visitors of the web demo, some of them malicious.

    python benchmarks/demo_load.py --users 20 --requests 200 --seed 0

Starts ``amodalseg demo`` in a separate process. Visitors send photos, marks, completions, and malicious files and
numbers, each in their own order. Prints the outcomes and the server's memory. Exit code 1 if the server terminated, a
request was neither answered nor refused in one line, or a file was left behind.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import httpx
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from benchmarks.machine import memory  # noqa: E402

SILENT = 300
"""Seconds after which a request counts as not answered."""


def main() -> int:
    """Run all visitors and print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="conddiff_amo_lite", help="a name or a file")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder, temporary = Path(name), Path(name) / "server"
        temporary.mkdir()
        files = write_files(folder, np.random.default_rng(options.seed))
        command = [sys.executable, "-m", "amodalseg", "demo", options.model, "--port", str(port)]
        server = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}/"
        try:
            wait_for(url, server)
            before = memory(server.pid, "VmRSS")
            began = time.perf_counter()
            share = -(-options.requests // options.users)
            with ThreadPoolExecutor(options.users) as pool:
                visits = [
                    pool.submit(visit, url, options.model, files, share, options.seed + user)
                    for user in range(options.users)
                ]
                found = [row for one in visits for row in one.result()][: options.requests]
            seconds = time.perf_counter() - began
            ended = server.poll() is not None
            peak = 0.0 if ended else memory(server.pid, "VmHWM")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        left = [str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file()]
    print_table(found)
    silent = sum(what == "silent" for _, what, _, _ in found)
    print(f"\n{len(found)} requests of {options.users} visitors in {seconds:.0f} s")
    print(f"memory {before:.2f} GB at first, {peak:.2f} GB at most{'; it ended' * ended}; {len(left)} files left")
    for file in left:
        print(f"  left behind: {file}")
    for line in sorted({line for _, what, _, line in found if what == "refused"}):
        print(f"  refused: {line:.150}")
    return int(ended or silent > 0 or bool(left))


def write_files(folder: Path, rng: np.random.Generator) -> dict[str, Path]:
    """Write photos, masks, and files that are neither or claim to be huge. Returns: kind -> file."""

    def kept(name: str, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width: int, height: int, data: bytes) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")

    photo = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    cv2.circle(photo, (300, 240), 90, (30, 40, 220), -1)
    jpeg = cv2.imencode(".jpg", photo)[1].tobytes()
    large = cv2.imencode(".jpg", cv2.resize(photo, (8000, 5000)))[1].tobytes()
    mask = np.zeros((480, 640), np.uint8)
    mask[150:330, 210:300] = 255
    return {
        "photo": kept("photo.jpg", jpeg),
        "40 megapixels": kept("large.jpg", large),
        "mask": kept("mask.png", cv2.imencode(".png", mask)[1].tobytes()),
        "bomb": kept("bomb.png", png(60_000, 60_000, zlib.compress(bytes(10**7)))),
        "short bomb": kept("wide.png", png(7000, 7000, zlib.compress(bytes(10**6)))),
        "cut off": kept("cut.jpg", jpeg[: len(jpeg) // 2]),
        "noise": kept("noise.png", b"\x89PNG\r\n\x1a\n" + rng.bytes(5000)),
        "text": kept("page.html", b"<script>alert(1)</script>"),
        "svg": kept("picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        "empty": kept("empty.png", b""),
        "too many bytes": kept("heavy.png", bytes(40 * 2**20)),
    }


def visit(url: str, model: str, files: dict[str, Path], requests: int, seed: int) -> list[tuple[str, str, float, str]]:
    """One visitor. Returns: for each request its kind, outcome, seconds, and the line of a refusal."""
    from gradio_client import Client  # here, because --help must work without the extra

    rng = np.random.default_rng(seed)
    patient = {"timeout": SILENT}
    client = Client(url, verbose=False, download_files=False, analytics_enabled=False, httpx_kwargs=patient)
    wrong = [name for name in files if name not in ("photo", "mask")]
    wild = [(10**9, 1, 0), (0, 10**6, 0), (0, 1, -1), ("x", 1, 0), (0.5, 1, 0)]
    numbers = [("/etc/passwd", 0, 1, 0), *((model, *three) for three in wild)]
    found = []
    for step in range(requests):
        if step < 3 or rng.random() < 0.35:  # the three steps of a regular visitor, repeatedly
            kind = ("photo", "mark", "complete")[step % 3]
        else:
            kind = str(rng.choice([*wrong, "marks", "numbers", "files of the server", "many files", "mask"]))
        began = time.perf_counter()
        try:
            what, line = ask(client, url, model, kind, files, rng, numbers)
        except (httpx.TimeoutException, TimeoutError) as error:
            what, line = "silent", repr(error)
        except Exception as error:  # the class depends on the library; with a message it is a refusal
            what, line = ("refused" if str(error).strip("' ") else "silent"), " ".join(str(error).split())
        found.append((kind, what, time.perf_counter() - began, line))
    client.close()
    return found


def ask(
    client: Any, url: str, model: str, kind: str, files: dict[str, Path], rng: Any, numbers: list[Any]
) -> tuple[str, str]:
    """Send one request. Returns: answered or refused, and the line of a refusal."""
    from gradio_client import handle_file

    if kind == "mark":
        job = client.submit("300,240", "", api_name="/mark")
    elif kind == "complete":
        job = client.submit(model, 0, 1, int(rng.integers(1000)), api_name="/complete")
    elif kind == "marks":
        job = client.submit(str(rng.choice(["9" * 10_000, "1,1 " * 5000, "nan,inf", "0,0,7"])), "", api_name="/mark")
    elif kind == "numbers":
        job = client.submit(*numbers[rng.integers(len(numbers))], api_name="/complete")
    elif kind == "files of the server":
        given = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
        job = client.submit(given, api_name="/photo")
    elif kind == "many files":
        parts = [("files", (f"{place}.png", bytes(2**20))) for place in range(50)]
        answer = httpx.post(f"{url}gradio_api/upload", files=parts, timeout=SILENT)
        return ("answered" if answer.is_success else "refused"), f"{answer.status_code} {answer.text}"
    elif kind == "mask":
        job = client.submit(handle_file(files["mask"]), api_name="/mask_file")
    else:
        job = client.submit(handle_file(files[kind]), api_name="/photo")
    said = [text for text in job.result(timeout=SILENT) if isinstance(text, str) and "<p role=" in text]
    refused = next((text for text in said if "alert" in text), None)
    return ("answered", "") if refused is None else ("refused", refused.partition(">")[2].removesuffix("</p>"))


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        try:
            httpx.get(url, timeout=5)
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise SystemExit("the server does not answer")


def print_table(found: list[tuple[str, str, float, str]]) -> None:
    """Print the outcomes of each kind of request."""
    print("| request | answered | refused | silent | median, s | slowest, s |\n|---|---:|---:|---:|---:|---:|")
    for kind in sorted({row[0] for row in found}):
        rows = [row for row in found if row[0] == kind]
        count, times = Counter(row[1] for row in rows), [row[2] for row in rows]
        counts = " | ".join(str(count[what]) for what in ("answered", "refused", "silent"))
        print(f"| {kind} | {counts} | {median(times):.1f} | {max(times):.1f} |")


if __name__ == "__main__":
    sys.exit(main())
