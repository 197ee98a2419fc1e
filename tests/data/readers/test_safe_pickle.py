import bz2
import collections
import gzip
import io
import lzma
import os
import pickle
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from amodalseg.data.readers.safe_pickle import load_pickle
from amodalseg.errors import UserError

PLAIN = {
    "none": None, "bools": (True, False), "ints": [0, -1, 255, 256, 65535, 2**31, -(2**40), 2**100], 5: "five",
    "floats": [1.5, -0.0, float("inf"), 1e300], "text": "häß\n'\"\\ \u20ac", "bytes": b"\x00\xff\n", "empty": b"",
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], "sets": {1, "a"}, "frozen": frozenset({3}), "nested": [[{}]],
    "ordered": collections.OrderedDict([("x", 1), ("y", [2])]), "default": collections.defaultdict(list, {"k": [1]}),
    "long": list(range(2500)), "array of bytes": bytearray(b"xyz"),
    "scalars": [np.int64(-5), np.float64(0.25), np.float32(0.1), np.bool_(True), np.uint8(200), np.float16(2)],
    "texts": [np.str_("häß\u20ac"), np.str_("ab"), np.bytes_(b"xyz")],
    "arrays": [
        np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 3), np.uint8),
        np.array(3), np.ones((2, 2), bool), np.arange(4, dtype=">i4"),
    ],
}  # fmt: skip


class Command:
    def __reduce__(self):
        return os.system, (f"touch {os.environ['AMODALSEG_TRAP']}",)


class Thing:
    def __init__(self):
        self.value = 1


class OldDict(dict):
    pass


def same(found, wanted):
    if isinstance(wanted, dict):
        return type(found) is dict and list(found) == list(wanted) and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, (list, tuple)):
        return type(found) is type(wanted) and len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, np.ndarray):
        kind = (found.dtype.newbyteorder("="), found.shape) if isinstance(found, np.ndarray) else None
        return kind == (wanted.dtype.newbyteorder("="), wanted.shape) and np.array_equal(found, wanted)
    if isinstance(wanted, np.generic):
        wanted = wanted.item()
    if isinstance(wanted, (frozenset, bytearray)):
        wanted = {frozenset: set, bytearray: bytes}[type(wanted)](wanted)
    return type(found) is type(wanted) and found == wanted and repr(found) == repr(wanted)


@pytest.fixture
def read(tmp_path):
    def read(data):
        path = tmp_path / "file.pkl"
        path.write_bytes(data)
        return load_pickle(path)

    return read


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol(read, protocol):
    assert same(read(pickle.dumps(PLAIN, protocol)), PLAIN)
    if protocol < 5:  # Python's pure pickler cannot write empty arrays with protocol 5
        assert same(read(pickle._dumps(PLAIN, protocol)), PLAIN)


def test_pickles_of_python_2_and_older_numpy(read):
    # a protocol 2 pickle of {"a": numpy.int64(7), "b": [1L]} by Python 2: texts are bytes there
    scalar = (
        b"cnumpy.core.multiarray\nscalar\nq\x01cnumpy\ndtype\nq\x02U\x02i8q\x03K\x00K\x01\x87q\x04Rq\x05(K\x03U\x01<"
    )
    scalar += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + b"U\x08\x07\x00\x00\x00\x00\x00\x00\x00\x86R"
    assert read(b"\x80\x02}(U\x01a" + scalar + b"U\x01b]\x8a\x01\x01au.") == {"a": 7, "b": [1]}
    assert read(b"(dp1\nS'a'\np2\nI5\nsS'b'\nL12L\nsS'c'\nI01\ns.") == {"a": 5, "b": 12, "c": True}
    now = pickle.dumps([np.float64(0.5), np.arange(3)], 2)
    before = now.replace(b"numpy._core", b"numpy.core")
    assert same(read(before), [0.5, np.arange(3)]) and same(read(now), [0.5, np.arange(3)])


def test_shared_objects_stay_shared(read):
    part = {"a": 1}
    found = read(pickle.dumps([part, part, np.float64(2), np.float64(2)]))
    assert found == [part, part, 2.0, 2.0] and found[0] is found[1]


def test_nothing_is_executed(read, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    monkeypatch.setenv("AMODALSEG_TRAP", str(trap))
    for protocol in range(6):
        data = pickle.dumps({"annotations": [1, Command()]}, protocol)
        with pytest.raises(
            UserError, match=r"file\.pkl, before byte \d+: it refers to '(posix|nt|os)\.system'.*nothing .* executed"
        ):
            read(data)
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists(), "the trap works"


REFUSED = [
    (b"cos\nsystem\n(S'id'\ntR.", r"before byte 11: it refers to 'os\.system'"),
    (b"c__builtin__\neval\n(S'1'\ntR.", r"'__builtin__\.eval'"),
    (b"(ios\nsystem\n.", r"before byte 12: it refers to 'os\.system'"),
    (b"(cos\nsystem\no.", r"'os\.system'"),
    (b"\x80\x02cnumpy\nload\n.", r"'numpy\.load'"),
    (b"Pnumber\n.", "unsupported persistent id"),
    (b"]\x82\x01.", "it refers to the extension registry"),
    (b"\x80\x05\x97.", "out-of-band data"),
    (b"\x80\x02c__builtin__\nlist\n)\x81.", "not a pickle, or a damaged one"),
    (b"c__builtin__\nlist\n.", r"it holds __builtin__\.list;"),
    (b"c__builtin__\nlist\n)R.", r"it calls __builtin__\.list;"),
    (b"K\x01)R.", "not a pickle, or a damaged one"),
    (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", r"values of the numpy type 'O8'"),
    (b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.", r"values of the numpy type 'V8'"),
    (b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR.", "it holds an unfinished Dtype"),
    (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'abc'\ntR.", "scalar has arguments"),
    (b"cnumpy.core.multiarray\nscalar\n(K\x01S'abc'\ntR.", "scalar has arguments"),
    (b"cnumpy.core.multiarray\n_reconstruct\n(tR.", "it holds an unfinished ndarray"),
    (b"](K\x01K\x02e}b.", "a state for an object that is"),
    (b"c_codecs\nencode\n(Vab\nVrot13\ntR.", r"_codecs\.encode has arguments"),
    (b"}]K\x01s.", "a key of a dict"),
    (b"\x80\x04\x8f(]\x90.", "a key of a dict or set"),
    (b"\x80\x63N.", "unsupported pickle protocol: 99"),
    (b"r\xff\xff\xff\x7f.", "not a pickle, or a damaged one"),
    (b"h\x05.", "Memo value not found at index 5"),
    (b"K\x01a.", "not a pickle, or a damaged one"),
    (b"](K\x01u.", "not a pickle, or a damaged one"),
    (b"t.", "not a pickle, or a damaged one"),
    (b"\x86.", "not a pickle, or a damaged one"),
    (b".", "not a pickle, or a damaged one"),
    (b"X\x04\x00\x00\x00\xff\xff\xff\xff.", "not a pickle, or a damaged one"),
    (b"I12x\n.", "not a pickle, or a damaged one"),
    (b"I" + b"9" * 100_000 + b"\n.", "not a pickle, or a damaged one"),
    (b"\x8b\x00\x00\x00\x40" + bytes(1000), "the file ends before the pickle does; was it copied completely"),
    (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "BINBYTES8 exceeds system"),
    (b"B\xff\xff\xff\xffabc", "the file ends before the pickle does; was it copied completely"),
    (b"c" + b"o" * 1000 + b"\nx\n.", "it refers to 'oooo"),
    (b"\x93.", "not a pickle, or a damaged one"),
    (b"NN\x93.", "STACK_GLOBAL requires str"),
    (bytes(1000), r"before byte 1: not a pickle, or a damaged one"),
    (b'{"images": []}', r"before byte \d: "),
    (b"\x80\x04\xfe.", "before byte 3: not a pickle, or a damaged one"),
    (b"\x8e\xff\xff\xff\xff\xff\xff\x00\x00", "the file ends before the pickle does"),
    (b"\x96\xff\xff\xff\xff\xff\xff\x00\x00", "the file ends before the pickle does"),
    (b"\x8a\x20" + b"\x01" * 32 + b".", "a number of 249 bits"),
    (b"}(\x8a\x20" + b"\x01" * 32 + b"Nu.", "a number of 249 bits"),
    (b"NN.", "values are left on its stack"),
    (b"", "is empty"),
]


@pytest.mark.parametrize(("data", "text"), REFUSED)
def test_everything_else_is_refused(read, data, text):
    with pytest.raises(UserError, match=rf"file\.pkl.*{text}") as error:
        read(data)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("protocol", range(6))
def test_classes_are_refused(read, protocol):
    for value in (Thing(), OldDict(a=1), np.array([object()], object), np.array(["text"]), np.datetime64(5, "s"), 1j):
        with pytest.raises(UserError, match="nothing in it was executed"):
            read(pickle.dumps({"a": [value]}, protocol))


def test_arrays_must_have_the_bytes_of_their_shape(read):
    good = pickle.dumps(np.arange(6, dtype=np.int16).reshape(2, 3), 4)
    assert good.count(b"K\x02K\x03\x86") == 1
    for shape in (b"K\x02K\x04\x86", b"K\x02J\xff\xff\xff\xff\x86", b"K\x02N\x86", b"K\x02M\xff\xff\x86"):
        with pytest.raises(UserError, match="array"):
            read(good.replace(b"K\x02K\x03\x86", shape))


def test_truncation_at_any_byte_is_refused(read):
    data = pickle.dumps(PLAIN, 4)
    for cut in range(0, len(data), 29):
        with pytest.raises(UserError):
            read(data[:cut])


def test_randomly_damaged_pickles_are_read_or_refused(read):
    rng = random.Random(0)
    refused = 0
    for protocol in (0, 2, 4, 5):
        data = pickle.dumps(PLAIN, protocol)
        for _ in range(100):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(data))] = rng.randrange(256)
            try:
                read(bytes(damaged))
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 200


def test_compressed_files_are_refused_by_name(read):
    zeros, packed = bytes(10_000), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.pkl", zeros)
    files = {
        "gzip": gzip.compress(zeros),
        "bzip2": bz2.compress(zeros),
        "xz": lzma.compress(zeros),
        "zip": packed.getvalue(),
    }
    for name, data in files.items():
        with pytest.raises(UserError, match=rf"file\.pkl is compressed \({name}\): unpack it first"):
            read(data)


def doubled(times):
    """A list that contains a list twice, which contains a list twice, ...: few bytes, 2 ** times lists."""
    value = []
    for _ in range(times):
        value = [value, value]
    return value


def itself():
    value = []
    value.append(value)
    return value


WIDE = b"".join(
    b"](" + bytes([104, place]) * 1000 + b"e\x94" for place in range(9)
)  # each repeats the previous one 1000 times
EXPLAINS = "more objects than a file of its size can describe"
LARGE = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"q\x000"  # a string, put into the memo and popped
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85Rq\x010"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\x00\x00\x10\x00\x85h\x01Nh\x00tb"
BOMBS = {
    "doubled": (pickle.dumps(doubled(40)), "too many values by repeating its parts"),
    "wide": (b"\x80\x04]\x94(" + b"N" * 1000 + b"e" + WIDE + b".", "too many values by repeating its parts"),
    "itself": (pickle.dumps(itself()), "nested more than 50 deep, or contains itself"),
    "deep": (b"]" * 100_000 + b"a" * 99_999 + b".", "nested more than 50 deep"),
    "deep tuples": (b")" + b"\x85" * 90_000 + b".", "nested more than 50 deep"),
    "deep key": (b"})" + b"\x85" * 90_000 + b"Ns.", "a key of a dict"),
    "dicts": (b"]" + (b"(" + b"}" * 1000 + b"e") * 500 + b".", "more objects than a file of its size can describe"),
    "sets": (b"]" + (b"(" + b"\x8f" * 1000 + b"e") * 500 + b".", "more objects than a file of its size can describe"),
    "stack": (b"N" * 350_000 + b".", "values are left on its stack"),
    "marks": (b"(" * 350_000 + b".", "not a pickle, or a damaged one"),
    "texts": (LARGE + b"](" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000 + b"e.", EXPLAINS),
    "lists": (b"](" + b"N" * 500_000 + b"eq\x000](" + b"c__builtin__\nset\nh\x00\x85R" * 100 + b"e.", EXPLAINS),
    "arrays": (LARGE + DTYPE + b"](" + ARRAY * 1000 + b"e.", EXPLAINS),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_within_limited_memory(read, name):
    data, text = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=text):
            read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6 + 12 * len(data)


def test_a_large_memo_index_allocates_no_large_memo(read):
    tracemalloc.start()
    assert read(b"Nr\xff\xff\xff\x7f.") is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_flags_of_a_dtype_are_not_taken_from_the_file(read):
    """With numpy's own ``__setstate__``, an integer type can claim to hold references to objects."""
    array, state = pickle.dumps(np.arange(3), 2), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK%ct"
    assert array.count(state % 0) == 1
    found = read(array.replace(state % 0, state % 63))
    assert found.tolist() == [0, 1, 2] and found.dtype == np.int64 and not found.dtype.hasobject


def test_many_small_masks_are_not_refused_as_a_bomb(read):
    """The size of a barely visible fish in FishBowl's prepared form: a few bytes per container and item."""
    masks = [{"size": [320, 480], "counts": b"PPY4" + number.to_bytes(4, "big")} for number in range(12_000)]
    frames = {
        number: {
            "FM": [mask], "VM": [dict(mask)], "FM_bx": [1, 2, 300, 4], "VM_bx": [1, 2, 300, 4], "OCC_R": 0.3,
            "IoU": 0.5, "loss_mask_weight": 0.2, "fish_type": "a",
        }
        for number, mask in enumerate(masks)
    }  # fmt: skip
    assert read(pickle.dumps({"0_0": frames}, 4)) == {"0_0": frames}


def test_a_gigabyte_of_zeros(tmp_path):
    path = tmp_path / "zeros.pkl"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a sparse file, which takes no disk space
    tracemalloc.start()
    with pytest.raises(UserError, match="not a pickle, or a damaged one"):
        load_pickle(path)
    with path.open("r+b") as file:
        file.write(b"\x80\x04")
    with pytest.raises(UserError, match="not a pickle, or a damaged one"):
        load_pickle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e7


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.pkl: No such file"):
        load_pickle(tmp_path / "none.pkl")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        load_pickle(tmp_path)
