"""Pickles read without executing them: a fixed list of names yields plain data, and every other name is refused.

What a pickle may hold: None, bool, int, float, str, bytes, list, tuple, dict, set, numpy scalars and arrays of bool,
integer and float types, and numpy scalars of text. A numpy scalar becomes the Python one, a bytearray bytes.

The reader is the pure-Python unpickler of the ``pickle`` module: it looks names up in ``CALLS`` and nowhere else. The C
unpickler has the same ``find_class``, but hashes keys before they can be checked (deeply nested tuples overflow the
stack) and allocates as many memo entries as a file announces. numpy's own functions are not called,
because a ``dtype`` accepts any flags from its pickled state, and with them could access foreign memory.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
import struct
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from amodalseg.errors import UserError

COMPRESSED = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd",
}  # fmt: skip
DEPTH = 50
KEYS = {type(None), bool, int, float, str, bytes}
"""Key types of dicts and sets. Not tuples: Python hashes nested ones by recursion, and crashes on deep ones."""
CUT = "was it copied completely?"


def load_pickle(path: Path) -> Any:
    """Read a pickle of any protocol (0 to 5).

    Memory is proportional to the file: at most about 70 times its size.

    Args:
        path: the file, not compressed.

    Returns:
        Its content; nested at most 50 deep.

    Raises:
        UserError: the file is missing, compressed, damaged, not a pickle, or holds more than plain data; the message
            names the file, the byte before which the problem was found, and the problem.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if not size:
                raise UserError(f"{path} is empty; {CUT}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for magic, name in COMPRESSED.items():
                    if data[: len(magic)] == magic:
                        raise UserError(f"{path} is compressed ({name}): unpack it first")
                return _read(data, size, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _read(data: mmap.mmap, size: int, path: Path) -> Any:
    try:
        if size < 1 << 25:
            return _Reader(data, size).load_plain()
        with tqdm.wrapattr(data, "read", size, desc=f"reading {path.name}") as shown:
            return _Reader(shown, size).load_plain()
    except _Refused as error:
        text = f"{error}; only plain data is read from a pickle"
    except EOFError:
        text = f"the file ends before the pickle does; {CUT}"
    except Exception as error:  # pickle documents no fixed set of exceptions for damaged data
        detail = f" ({error!s:.80})" if isinstance(error, (pickle.UnpicklingError, ValueError)) else ""
        text = f"not a pickle, or a damaged one{detail}"
    raise UserError(f"{path}, before byte {data.tell()}: {' '.join(text.split())}; nothing in it was executed")


class _Refused(Exception):
    """The reason why a pickle is not read."""


class _Global:
    """A name that a pickle refers to, and may call."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if name not in CALLS:
            raise _Refused(f"it refers to {name!r:.80}")
        self.name = name

    def __call__(self, *args: Any) -> Any:
        make = CALLS[self.name]
        if make is None:
            raise _Refused(f"it calls {self.name}")
        try:
            return make(*args)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise _Refused(f"{self.name} has arguments that yield no plain data") from error


class Dtype:
    """A numpy type of numbers or texts. Its byte order follows in a later opcode."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[<>=|]?([biu]1|[iuf][248]|[US][1-9][0-9]{0,3})", code):
            raise _Refused(f"values of the numpy type {code!r:.40}")
        self.dtype = np.dtype(code)

    def set_order(self, state: Any) -> None:
        if type(state) is not tuple or state[2:5] != (None, None, None) or state[1] not in ("<", ">", "=", "|"):
            raise _Refused("a numpy type that is neither numeric nor text")
        self.dtype = self.dtype.newbyteorder(state[1])

    def scalar(self, data: bytes | str) -> Any:
        """The Python number or text. Raises ValueError if the bytes do not encode one."""
        if len(data) != self.dtype.itemsize:
            raise ValueError
        return np.frombuffer(_raw(data), self.dtype)[0].item()

    def check_array(self, data: bytes | str, shape: Any) -> None:
        if self.dtype.kind in "US" or type(shape) is not tuple or any(type(n) is not int or n < 0 for n in shape):
            raise _Refused("an array without a numeric type or a valid shape")
        needed = math.prod(shape) * self.dtype.itemsize
        if len(data) != needed or len(shape) > 32:
            raise _Refused(f"an array of the shape {shape!r:.60} needs {needed} bytes, but has {len(data)}")


def _raw(data: bytes | str) -> bytes:
    return data.encode("latin-1") if isinstance(data, str) else data  # str: written by Python 2


def _unfilled(*_: Any) -> np.ndarray:
    """An array whose content follows in a later opcode; until then of a type that is refused."""
    return np.ndarray(0, "V1")


def _array(data: bytes, dtype: Dtype, shape: Any, order: Any) -> np.ndarray:
    dtype.check_array(data, shape)
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def _bytes(text: bytes | str = b"", encoding: str = "") -> bytes:
    if isinstance(text, bytes):
        return text
    if encoding not in ("latin1", "latin-1"):
        raise ValueError
    return text.encode("latin-1")


def _checked_keys(keys: Sequence[Any]) -> Sequence[Any]:
    if not KEYS.issuperset(map(type, keys)):
        raise _Refused("a key of a dict or set that is neither text nor number")
    return keys


def _pairs(items: list[Any] | tuple[Any, ...] = ()) -> dict[Any, Any]:
    return dict(zip(_checked_keys([key for key, _ in items]), [value for _, value in items], strict=True))


def _set(items: list[Any] | tuple[Any, ...] = ()) -> set[Any]:
    return set(_checked_keys(items))


CALLS: dict[str, Callable[..., Any] | None] = {
    "numpy.dtype": Dtype,
    "numpy.ndarray": None,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": lambda *_: {},
}
"""Name -> function that makes plain data of its arguments; None: the name may occur, but not be called."""
for _module in ("numpy.core", "numpy._core"):
    CALLS[f"{_module}.multiarray.scalar"] = Dtype.scalar
    CALLS[f"{_module}.multiarray._reconstruct"] = _unfilled
    CALLS[f"{_module}.numeric._frombuffer"] = _array
for _module in ("builtins", "__builtin__"):
    CALLS |= {f"{_module}.set": _set, f"{_module}.frozenset": _set, f"{_module}.bytes": _bytes}
    CALLS |= {f"{_module}.bytearray": _bytes, f"{_module}.list": None, f"{_module}.dict": None, f"{_module}.int": None}


class _Reader(pickle._Unpickler):
    """The unpickler, restricted to the names in ``CALLS``.

    ``room``: containers and dict items that may still be created. Small masks need only 6 bytes each, and such a
    file must not be refused; a dict with one item takes 232 bytes of memory.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[Any]
    read: Any
    pop_mark: Any

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, encoding="latin-1")
        self.room, self.values = 100_000 + size // 5, 1000 + 16 * size

    def load_plain(self) -> Any:
        found = self.load()
        self.check(found)
        if self.stack or self.metastack:
            raise _Refused("values are left on its stack")
        return found

    def find_class(self, module: Any, name: Any) -> Any:
        return _Global(f"{module}.{name}")

    def spend(self, count: int) -> None:
        self.room -= count
        if self.room < 0:
            raise _Refused("it creates far more objects than a file of its size can describe")

    def load_reduce(self) -> None:
        for value in self.stack[-1]:  # otherwise repeated references to one long value could allocate endless copies
            if type(value) in (str, bytes, list, tuple):
                self.spend(len(value) // (100 if type(value) in (str, bytes) else 4))
        super().load_reduce()  # type: ignore[misc]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is Dtype:
            target.set_order(state)
        elif type(target) is np.ndarray and type(state) is tuple and len(state) == 5 and type(state[2]) is Dtype:
            _, shape, dtype, columns_first, data = state
            dtype.check_array(data, shape)
            self.spend(len(data) // 100)
            target.__setstate__((1, shape, dtype.dtype, bool(columns_first), _raw(data)))  # type: ignore[arg-type]
        else:
            raise _Refused("a state for an object that is neither a numpy type nor an array")

    def load_frame(self) -> None:
        self.read(8)  # the frame's size, which is not needed

    def load_bytearray8(self) -> None:
        self.stack.append(self.read(struct.unpack("<Q", self.read(8))[0]))  # the base allocates the stated size

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.stack.append(set(items))

    def load_ext1(self) -> None:
        raise _Refused("it refers to the extension registry")

    load_ext2 = load_ext4 = load_ext1

    def check(self, value: Any, depth: int = 0) -> None:
        """Refuse what is not plain, nested too deeply, or has far too many values by sharing parts."""
        kind = type(value)
        if kind is int and value.bit_length() > 128:
            raise _Refused(f"a number of {value.bit_length()} bits")
        if kind in KEYS or (kind is np.ndarray and value.dtype.kind != "V"):
            return
        if kind not in (list, tuple, dict, set):
            raise _Refused(f"it holds {value.name if kind is _Global else f'an unfinished {kind.__name__}'}")
        self.values -= 1 + len(value)
        if self.values < 0:
            raise _Refused("it expands to far too many values by repeating its parts")
        if depth == DEPTH:
            raise _Refused(f"it is nested more than {DEPTH} deep, or contains itself")
        for item in chain(value, value.values() if kind is dict else ()):
            self.check(item, depth + 1)


def _checked_opcode(load: Callable[[Any], None], keys: slice | None, cost: int) -> Callable[[Any], None]:
    """Wrap an opcode: first check the keys on the stack and count the objects that it creates."""

    def run(reader: _Reader) -> None:
        reader.spend(cost if keys is None else cost + len(_checked_keys(reader.stack[keys])))
        load(reader)

    return run


for _name in ("REDUCE", "BUILD", "FRAME", "BYTEARRAY8", "FROZENSET", "EXT1", "EXT2", "EXT4"):
    _Reader.dispatch[getattr(pickle, _name)[0]] = getattr(_Reader, f"load_{_name.lower()}")
for _names, _keys, _cost in (
    ("SETITEM", slice(-2, -1), 0), ("SETITEMS DICT", slice(None, None, 2), 1), ("ADDITEMS", slice(None), 0),
    ("FROZENSET", slice(None), 2), ("EMPTY_SET", None, 2),
    ("EMPTY_DICT EMPTY_LIST LIST TUPLE TUPLE1 TUPLE2 TUPLE3 REDUCE GLOBAL STACK_GLOBAL INST OBJ", None, 1),
):  # fmt: skip
    for _name in _names.split():
        _code = getattr(pickle, _name)[0]
        _Reader.dispatch[_code] = _checked_opcode(_Reader.dispatch[_code], _keys, _cost)
