"""Which weights of an ONNX file hold NaN or infinity, or lie in other files, without the library ``onnx``.

The file is a protocol buffer; of it only tensors are looked at. Field numbers are those of ``onnx.proto``:
``ModelProto.graph`` 7; ``GraphProto.node`` 1, ``initializer`` 5; ``NodeProto.attribute`` 5; ``AttributeProto.t`` 5,
``g`` 6; ``TensorProto.data_type`` 2, ``float_data`` 4, ``name`` 8, ``raw_data`` 9, ``double_data`` 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
"""``TensorProto.DataType`` -> how NumPy reads it."""
BFLOAT16 = 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def bad_weights(data: bytes) -> list[str]:
    """Names of the tensors in an ONNX file's bytes that hold NaN, or infinity among other numbers.

    A single infinity is a constant of some operations; weights are never one number that is infinite. Bytes that are no
    protocol buffer end the search: whoever runs the file says so.
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

    The key of such a place is ``location``. Wherever that word stands behind a byte that is no character, as the length
    of a text is, the file counts as one that has some.
    """
    return re.search(rb"[\x00-\x1f\x80-\xff]location", data) is not None


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
    """(number, value) of all fields of a message. Raises IndexError or ValueError where it is none."""
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
    raise ValueError("a number without an end")
