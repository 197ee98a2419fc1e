"""The weights of an ONNX file, without the library ``onnx``: detection of NaN, and weights stored in another file.

The file is a protocol buffer, of which only tensors are parsed. Field numbers are those of ``onnx.proto``:
``ModelProto.graph`` 7; ``GraphProto.node`` 1, ``initializer`` 5; ``NodeProto.attribute`` 5; ``AttributeProto.t`` 5,
``g`` 6; ``TensorProto.data_type`` 2, ``float_data`` 4, ``name`` 8, ``raw_data`` 9, ``double_data`` 10,
``external_data`` 13, whose entries are ``key`` 1 and ``value`` 2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from amodalseg.atomic import read_regular
from amodalseg.errors import UserError

FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
"""``TensorProto.DataType`` -> how NumPy reads it."""
BFLOAT16 = 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
PREFIX = "network."
"""Prefix of a weight's name in a graph, before its key in the model file."""


def bad_weights(data: bytes) -> list[str]:
    """Names of the tensors in an ONNX file's bytes that contain NaN, or infinity among other numbers.

    A single infinity is a constant of some operations; weights are never a single infinite number. Bytes that are not a
    protocol buffer end the search; running the file reports them.
    """
    found = []
    try:
        for graph in _parts(memoryview(data), 7):
            found += _of_graph(graph)
    except (IndexError, ValueError):
        pass
    return found


def holds_external_data(data: bytes) -> bool:
    """Whether a tensor of an ONNX file's bytes lies in another file, which may be any file of the machine.

    Such a reference has the key ``location``. A file in which that word follows a byte that is not a character, such as
    a text's length, counts as having one.
    """
    return _places(data) > 0


def _places(data: bytes) -> int:
    found = (match.start() for match in re.finditer(b"location", data))  # a plain word is found ten times as fast
    return sum(place > 0 and not 0x20 <= data[place - 1] < 0x80 for place in found)


def weights_beside(path: Path, data: bytes) -> tuple[dict[str, np.ndarray], str]:
    """The weights of a graph whose tensors are stored in the model file beside it.

    Args:
        path: of the ONNX file.
        data: its bytes, which refer to external data.

    Returns:
        float32 arrays by the names of the graph's tensors; and the SHA-256 of the model file, in hexadecimal.

    Raises:
        UserError: a tensor is stored anywhere but in one ``.safetensors`` file in the same folder; that file is
            missing, damaged, or lacks a tensor.
    """
    try:
        found = {name: place for graph in _parts(memoryview(data), 7) for name, place in _external(graph)}
    except (IndexError, ValueError):
        found = {}
    places = {*found.values()}
    place = places.pop() if len(places) == 1 else ""
    if len(found) != _places(data) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", place):
        raise UserError(f"{path} refers to other files for its weights, which are not read; export the model again")
    beside = path.parent / place
    try:
        state, digest = read_state(beside)
    except OSError as error:
        raise UserError(f"{path} needs its weights, {beside}: {error.strerror}; put the two into one folder") from error
    weights = {}
    for name in found:
        key = name.removeprefix(PREFIX)
        if key not in state:
            raise UserError(f"{beside} has no weights '{key}', which {path} needs; export the model again")
        weights[name] = np.asarray(state[key], np.float32)
        if not np.isfinite(weights[name]).all():
            raise UserError(f"{beside} is damaged: '{key}' holds NaN or infinity; copy it again")
    return weights, digest


def read_state(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of a model file, and its SHA-256 in hexadecimal. Raises OSError, and UserError: it is damaged."""
    content = read_regular(path)
    try:
        return load(content), hashlib.sha256(content).hexdigest()
    except SafetensorError as error:
        raise UserError(f"{path} is not a complete safetensors file ({error}); copy it again") from error


def _external(graph: memoryview) -> Iterator[tuple[str, str]]:
    """(name, location) of the initializers stored in other files."""
    for tensor in _parts(graph, 5):
        fields = [(number, bytes(value)) for number, value in _fields(tensor) if not isinstance(value, int)]
        name = next((value for number, value in fields if number == 8), b"").decode(errors="replace")
        for entry in (value for number, value in fields if number == 13):
            texts = {number: bytes(value) for number, value in _fields(memoryview(entry)) if not isinstance(value, int)}
            if texts.get(1) == b"location":
                yield name, texts.get(2, b"").decode(errors="replace")


def _of_graph(graph: memoryview) -> list[str]:
    found = [name for tensor in _parts(graph, 5) for name in _of_tensor(tensor)]
    for node in _parts(graph, 1):
        for attribute in _parts(node, 5):
            found += [name for tensor in _parts(attribute, 5) for name in _of_tensor(tensor)]
            found += [name for inner in _parts(attribute, 6) for name in _of_graph(inner)]
    return found


def _of_tensor(tensor: memoryview) -> list[str]:
    name, kind, raw = "a constant", 0, b""
    for number, value in _fields(tensor):
        if number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and not isinstance(value, int):
            name = bytes(value).decode(errors="replace")
        elif number in (4, 9, 10) and not isinstance(value, int):
            raw = bytes(value)
    if kind == BFLOAT16:
        numbers = (np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in FLOATS:
        size = np.dtype(FLOATS[kind]).itemsize
        numbers = np.frombuffer(raw[: len(raw) // size * size], FLOATS[kind])
    else:
        return []
    bad = np.isnan(numbers).any() or (numbers.size > 1 and not np.isfinite(numbers).all())
    return [name] if bad else []


def _parts(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The messages under one field number."""
    for number, value in _fields(data):
        if number == wanted and not isinstance(value, int):
            yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of all fields of a message. Raises IndexError or ValueError if it is not a message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(wire, 0)
        if wire == BYTES:
            length, place = _varint(data, place)
        elif not length:
            raise ValueError(f"no wire type {wire}")
        if place + length > len(data):
            raise ValueError("cut off")
        yield number, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("an unterminated number")
