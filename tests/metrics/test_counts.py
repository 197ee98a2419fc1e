import csv
import math

import cv2
import numpy as np
import pytest

from amodalseg import masks
from amodalseg.errors import UserError
from amodalseg.metrics import counts
from amodalseg.metrics.counts import COLUMNS, count_object, read_rows, row_key, write_rows
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord

SIZE = (17, 23)


def blob(rng, fill=0.5):
    """A random mask inside a random box, so that masks differ in place, size and shape."""
    mask = np.zeros(SIZE, bool)
    y, x = rng.integers(0, 12), rng.integers(0, 16)
    part = mask[y : y + rng.integers(1, 12), x : x + rng.integers(1, 14)]
    part[:] = rng.random(part.shape) < fill
    return mask


def record_of(amodal, modal=None, given=None, name="0", **rest):
    """modal: the annotated one (default: the amodal mask). given: the predicted one that replaces it."""
    image = np.zeros((*amodal.shape, 3), np.uint8)
    modal = masks.encode(amodal if modal is None else modal)
    if given is not None:
        rest |= {"gt_modal_rle": modal, "modal_source": "pred:net"}
    return AmodalRecord(
        "d", "val", f"im{name}", name, image, modal if given is None else masks.encode(given), masks.encode(amodal),
        category="cup", **rest,
    )  # fmt: skip


def awkward_cases():
    rng = np.random.default_rng(3)
    empty, full = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    dot = empty.copy()
    dot[0, 0] = True
    amodal, modal = blob(rng, 0.9), blob(rng, 0.9)
    cases = {
        "nothing predicted": (amodal, amodal & modal, empty),
        "identical": (amodal, amodal, amodal),
        "modal outside amodal": (amodal, modal, modal),
        "one pixel": (dot, dot, dot),
        "whole image": (full, dot, full),
        "wrong place": (dot, dot, ~dot),
        "empty truth": (empty, dot, dot),
        "all empty": (empty, empty, empty),
    }
    cases |= {f"random {i}": (blob(rng), blob(rng), blob(rng)) for i in range(12)}
    as_annotated = {name: (*masks_, masks_[1]) for name, masks_ in cases.items()}
    predicted = {f"{name}, other given mask": (*masks_, blob(rng, 0.9)) for name, masks_ in cases.items()}
    predicted["given inside annotated"] = (full, modal, amodal, modal & amodal)
    return [
        pytest.param(*masks_, union, id=f"{name}, {union}")
        for name, masks_ in (as_annotated | predicted).items()
        for union in (0, 1)
    ]


def slow_counts(amodal, modal, raw, given, final):
    """Set arithmetic over pixel coordinates of the full image."""
    a, v, r, g, p = (
        {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
        for mask in (amodal, modal, raw, given, final)
    )
    height, width = amodal.shape
    steps = max(1, round(0.02 * math.sqrt(height**2 + width**2)))

    def band(s):
        near = [(dy, dx) for dy in range(-steps, steps + 1) for dx in range(-steps, steps + 1)]
        return {(y, x) for y, x in s if any((y + dy, x + dx) not in s for dy, dx in near)}

    post = r | g
    expected = {
        "modal_area": len(v), "amodal_area": len(a), "occluded_area": len(a - v), "modal_outside": len(v - a),
        "given_area": len(g), "given_inter": len(g & v), "given_union": len(g | v),
        "union_visible": int(p == post), "occ_inter": len((p & a) - v), "occ_union": len((p | a) - v),
        "raw_occ_inter": len((r & a) - v), "raw_occ_union": len((r | a) - v),
        "post_occ_inter": len((post & a) - v), "post_occ_union": len((post | a) - v),
        "boundary_inter": len(band(p) & band(a)), "boundary_union": len(band(p) | band(a)),
        "occlusion_rate": round(len(a - v) / len(a), 6) if a else 0.0,
    }  # fmt: skip
    for name, s in (("raw", r), ("post", post), ("out", p)):
        expected |= {f"{name}_area": len(s), f"{name}_inter": len(s & a), f"{name}_union": len(s | a)}
    return expected


@pytest.mark.parametrize(("amodal", "modal", "raw", "given", "union"), awkward_cases())
def test_counts_equal_set_arithmetic_over_full_images(amodal, modal, raw, given, union):
    final = raw | given if union else raw
    record = record_of(amodal, modal, None if given is modal else given)
    row = count_object(record, Prediction(given, raw[None], union_visible=union, seconds=0.12346), "m")
    assert list(row) == COLUMNS
    expected = slow_counts(amodal, modal, raw, given, final)
    assert {name: row[name] for name in expected} == expected
    assert row["modal_source"] == ("gt" if given is modal else "pred:net")
    if not (given & ~modal).any():  # as stated below the table of columns
        for part in ("inter", "union"):
            assert row[f"raw_occ_{part}"] == row[f"post_occ_{part}"] == row[f"occ_{part}"]
    assert (row["height"], row["width"], row["seconds"], row["category"]) == (*SIZE, 0.1235, "cup")
    assert row_key(row) == record_of(amodal).key
    assert all(
        type(row[name]) is int for name in COLUMNS[len(counts.TEXT_COLUMNS) :] if name not in counts.FLOAT_COLUMNS
    )


def test_a_given_mask_beyond_the_annotated_one_changes_the_occluded_counts_of_the_union():
    amodal, modal, given, nothing = (np.zeros(SIZE, bool) for _ in range(4))
    amodal[0, :10], modal[0, :4], given[0, :6] = True, True, True
    row = count_object(record_of(amodal, modal, given), Prediction(given, nothing[None]), "m")
    assert (row["occluded_area"], row["modal_area"], row["given_area"]) == (6, 4, 6)
    assert (row["raw_occ_inter"], row["post_occ_inter"], row["occ_inter"]) == (0, 2, 2)


def test_the_name_of_a_track_contains_its_video():
    ones = np.ones(SIZE, bool)
    for group, track in (
        ({"video": "0007", "frame": 3, "track": 12}, "0007/12"),
        ({"annotator": "x"}, ""),
        (None, ""),
    ):
        assert count_object(record_of(ones, group=group), Prediction(ones, ones[None]), "m")["track"] == track


def test_the_boundary_band_equals_the_published_definition():
    """Boundary IoU pads with one line of background, erodes step by step and removes the padding."""
    rng = np.random.default_rng(5)
    for size in ((40, 57), (300, 400), (31, 200)):
        block = np.ones((size[0] // 8 + 1, size[1] // 8 + 1), bool)
        found = [np.kron(rng.random((8, 8)) < 0.7, block)[: size[0], : size[1]] for _ in range(2)]
        steps = max(1, round(0.02 * math.hypot(*size)))
        bands = []
        for mask in found:
            padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
            bands.append(mask & (inner == 0))
        row = count_object(record_of(found[0]), Prediction(found[1] & False, found[1][None]), "m")
        assert row["boundary_inter"] == (bands[0] & bands[1]).sum() > 0
        assert row["boundary_union"] == (bands[0] | bands[1]).sum()


def test_boundary_band_widens_with_the_image():
    mask = np.zeros((300, 400), bool)
    mask[50:250, 50:350] = True  # diagonal 500: the band is 10 pixels wide
    row = count_object(record_of(mask), Prediction(mask, mask[None]), "m")
    assert row["boundary_inter"] == row["boundary_union"] == 200 * 300 - 180 * 280
    mask[:] = True  # background beyond the image's edge
    row = count_object(record_of(mask), Prediction(mask, mask[None]), "m")
    assert row["boundary_union"] == 300 * 400 - 280 * 380


def test_a_prediction_that_differs_from_raw_outside_the_modal_mask_is_a_bug():
    modal, whole = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    modal[0, 0] = True
    prediction = Prediction(modal, modal[None])
    prediction.amodal = whole
    with pytest.raises(AssertionError):
        count_object(record_of(whole), prediction, "m")


def test_data_without_amodal_masks_are_refused():
    record = record_of(np.ones(SIZE, bool))
    record.amodal_rle = None
    ones = np.ones(SIZE, bool)
    with pytest.raises(UserError, match="no amodal mask"):
        count_object(record, Prediction(ones, ones[None]), "m")


def some_rows(count=3):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        raw, modal = blob(rng), blob(rng)
        rows.append(
            count_object(record_of(blob(rng), name=str(number)), Prediction(modal, raw[None], seconds=5e-5), "m")
        )
    return rows


def test_rows_round_trip_through_the_file(tmp_path):
    rows = some_rows()
    rows[0]["category"] = 'cup, "white"\nof tea; café'
    path = tmp_path / "new folder" / "objects.csv"
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert [file.name for file in path.parent.iterdir()] == ["objects.csv"]
    write_rows(path, rows[:1])
    assert read_rows(path) == rows[:1]


def test_additional_columns_are_ignored(tmp_path):
    rows = some_rows()
    write_rows(tmp_path / "a.csv", rows)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join(["note," + lines[0], *("hello," + line for line in lines[1:])]))
    assert read_rows(tmp_path / "a.csv") == rows


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("out_inter", "3.5", "line 3: out_inter must be a whole number"),
        ("out_inter", "-1", "line 3: out_inter must be a whole number"),
        ("raw_area", "", "line 3: raw_area must be a whole number"),
        ("height", "1_0", "line 3: height must be a whole number"),
        ("seconds", "nan", "line 3: seconds must be a number"),
        ("occlusion_rate", "a", "line 3: occlusion_rate must be a number"),
        ("object_id", "0", "line 3: d/val/im1/0 of model m is already on line 2"),
    ],
)
def test_invalid_values_are_refused_with_their_line(tmp_path, column, value, message):
    path = tmp_path / "objects.csv"
    rows = [{name: str(part) for name, part in row.items()} for row in some_rows()]
    rows[0]["image_id"] = "im1"
    rows[1][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_without_the_right_columns_are_refused(tmp_path):
    path = tmp_path / "objects.csv"
    with pytest.raises(UserError, match="no such file"):
        read_rows(path)
    path.write_text("")
    with pytest.raises(UserError, match="line 1: missing columns model, dataset"):
        read_rows(path)
    write_rows(path, some_rows())
    text = path.read_text()
    path.write_text(text.replace("occ_union", "occ"))
    with pytest.raises(UserError, match="line 1: missing columns raw_occ_union, post_occ_union, occ_union;"):
        read_rows(path)
    header, *lines = text.splitlines()  # the format from before modal masks could be predicted
    old = header.replace("given_area,given_inter,given_union,", "").replace("track,", "")
    path.write_text("\n".join([old, *lines]))
    with pytest.raises(UserError, match=r"missing columns track, given_area, .* evaluate again") as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)
    path.write_text(text[: text.rindex(",")])  # a truncated copy
    with pytest.raises(UserError, match="line 4: the line ends before column seconds"):
        read_rows(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a csv file"):
        read_rows(path)
