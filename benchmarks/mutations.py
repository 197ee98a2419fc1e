"""Damage to files: to bytes of any file, and to content that a format protects by checksums, lengths and brackets."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

NASTY: list[Any] = [
    None, True, [], {}, "", "x", "1", "\0", "\ud800", "../outside.png", "/etc/passwd", "..\\..\\x.png",
    "${oc.env:HOME}",
    -1, 0, 1, 0.5, -0.0, 1e308, 1e-320, 2**31, 2**63, -(2**70), 10**400, float("nan"), float("inf"), [[]], [[[]]],
    [1], [1, 2], [1, 2, 3, 4, 5, 6], ["a"] * 6, {"size": [4, 4], "counts": "0"}, {"size": [10**9, 10**9], "counts": []},
    {"size": [8, 8], "counts": [64]}, {"size": [-1, 2], "counts": "P@"}, "é" * 300, "a" * 10_000, [0] * 10_000,
]  # fmt: skip
"""Invalid values to replace others with."""
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


def mutate(data: bytes, ending: str, rng: random.Random) -> bytes:
    """A damaged version of a file's bytes.

    Args:
        data: of an intact file.
        ending: of its name, which determines the additional kinds of damage.
        rng: determines the damage, reproducibly.
    """
    deep = FORMATS.get(ending)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if deep is not None and rng.random() < 0.7:
            try:
                data = deep(data, rng)
                continue
            except Exception:
                pass  # earlier damage has destroyed the format
        data = _bytes(data, rng)
    return data


def _bytes(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(64)))
    place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 16, 100, 1000))
    kind = rng.randrange(8)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place + length :]
    if kind == 2:
        return data[:place] + data[max(0, place - length) : place] * rng.choice((2, 3, 50)) + data[place:]
    if kind == 3:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 3, 20))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 4:
        return data[:place] + rng.randbytes(length) + data[place + length :]
    if kind == 5:
        return data[:place] + b"\0" * length + data[place + length :]
    if kind == 6:
        size = rng.choice((1, 2, 4, 8))
        number = (rng.choice(NUMBERS) & (1 << 8 * size) - 1).to_bytes(size, rng.choice(("little", "big")))
        return data[:place] + number + data[place + size :]
    return b"" if rng.random() < 0.2 else data + rng.randbytes(length)


def _json(data: bytes, rng: random.Random) -> bytes:
    content = json.loads(data)
    changed = _change(content, rng)
    if rng.random() < 0.05:
        depth = rng.choice((50, 500, 100_000))
        return b'{"a": ' + b"[" * depth + b"]" * rng.choice((0, depth)) + b"}"
    text = json.dumps(changed)
    if rng.random() < 0.1:  # a duplicate key
        text = text.replace('"id"', '"image_id"', 1)
    return text.encode(errors="surrogatepass")


def _change(node: Any, rng: random.Random) -> Any:
    """Replace, remove or rename one node of a tree."""
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        chance = rng.random()
        if chance < 0.1:
            return {name: value for name, value in node.items() if name != key}
        if chance < 0.15:
            return {(f"{name}x" if name == key else name): value for name, value in node.items()}
        return {**node, key: _change(node[key], rng)}
    if isinstance(node, list) and node and rng.random() < 0.85:
        place = rng.randrange(len(node))
        if rng.random() < 0.1:
            return [*node, node[place]]
        return [*node[:place], _change(node[place], rng), *node[place + 1 :]]
    return rng.choice(NASTY)


def _yaml(data: bytes, rng: random.Random) -> bytes:
    import yaml

    content = yaml.safe_load(data)
    if rng.random() < 0.2:
        return data + rng.choice([
            b"\na: &a [*a]\n", b"\nbase: ../../../etc/passwd\n", b"\nbase: [/dev/zero]\n", b"\nout: ${out}\n",
            b"\nseed: !!python/object/apply:os.system ['touch executed']\n", b"\n? [1, 2]\n: 3\n", b"\n1: 2\n",
            b"\nb: &b [x, x]\nc: [*b, *b]\n", b"\nseed: 1_000\n", b"\nseed: 0x1F\n", b"\n%YAML 9.9\n---\n",
        ])  # fmt: skip
    return json.dumps(_change(content, rng)).encode(errors="surrogatepass")


def _png(data: bytes, rng: random.Random) -> bytes:
    """Damage inside a chunk, with its checksum corrected; or to pixels, which are then compressed again."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    chance = rng.random()
    if chance < 0.1:
        del chunks[index]
    elif chance < 0.2:
        chunks.insert(index, chunks[rng.randrange(len(chunks))])
    elif kind == b"IDAT" and chance < 0.6:
        chunks[index] = kind, zlib.compress(_bytes(zlib.decompress(body), rng))
    else:
        chunks[index] = kind, _bytes(body, rng)
    packed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return data[:8] + b"".join(packed)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """Damage in the header, with its length corrected; options inside it are json in a string."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.5 and "__metadata__" in header:
        key = rng.choice(list(header["__metadata__"]))
        value = header["__metadata__"][key]
        if value.startswith("{"):
            value = _json(value.encode(), rng).decode(errors="replace")
        header["__metadata__"][key] = value if rng.random() < 0.9 else rng.choice(NASTY)
    else:
        header = _change(header, rng)
    text = json.dumps(header).encode(errors="surrogatepass")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _zip(data: bytes, rng: random.Random) -> bytes:
    """Damage in a member, with its checksum corrected: pickles of checkpoints, arrays of .npz files."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    small = [place for place, (_, content) in enumerate(members) if len(content) < 100_000]
    place = max(small, key=lambda i: len(members[i][1])) if rng.random() < 0.5 else rng.randrange(len(members))
    name, content = members[place]
    members[place] = name, _bytes(content, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def _npy(data: bytes, rng: random.Random) -> bytes:
    """Change the type or shape in the header to another of the same length."""
    start, end = data.index(b"{"), data.index(b"\n")
    header = data[start:end]
    old, new = rng.choice([
        (b"False", b"True"), (b"|b1", b"|O8"), (b"|u1", b"|O8"), (b"'<", b"'>"), (b"(", b"(99999999999,"),
        (b"(", b"(-1,"), (b"(", b"("), (b"descr", b"decsr"),
    ])  # fmt: skip
    header = header.replace(old, new, 1).rstrip()
    return data[:start] + header.ljust(end - start)[: end - start] + data[end:]


def _lines(data: bytes, rng: random.Random) -> bytes:
    """Damage one line of json."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    lines[place] = _json(lines[place], rng)
    return b"\n".join(lines)


FORMATS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": _json, ".yaml": _yaml, ".png": _png, ".safetensors": _safetensors, ".ckpt": _zip, ".npz": _zip,
    ".npy": _npy, ".jsonl": _lines,
}  # fmt: skip
