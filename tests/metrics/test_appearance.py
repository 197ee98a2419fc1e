"""Completed pictures against the true ones: counts, figures, and their printed form."""

import math

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.metrics.appearance import compare_hidden
from amodalseg.metrics.counts import count_object, read_rows, write_rows
from amodalseg.metrics.paired import Difference, differences, pair_rows, tally
from amodalseg.metrics.protocols import score, summarize
from amodalseg.predictions import Prediction
from amodalseg.report.comparison import Part, main_table
from amodalseg.report.table import all_figures, main_tables, plain_table, to_markdown
from amodalseg.types import AmodalRecord

SIZE = (24, 31)
HIDDEN = {
    "inside": (slice(9, 15), slice(12, 20)),
    "corner": (slice(0, 4), slice(0, 5)),
    "far corner": (slice(20, 24), slice(28, 31)),
    "one pixel": (slice(7, 8), slice(30, 31)),
    "all": (slice(None), slice(None)),
}


def mask(name):
    found = np.zeros(SIZE, bool)
    found[HIDDEN[name]] = True
    return found


def pictures(seed):
    return np.random.default_rng(seed).integers(0, 256, (2, *SIZE, 3), np.uint8)


def slow_ssim(one, other, y, x):
    """SSIM of grey values in the window around one pixel; the image is mirrored at its edge, edge pixel included."""
    a, b = (0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2] for image in (one, other))
    steps = range(-5, 6)
    total = sum(math.exp(-(dy * dy + dx * dx) / 4.5) for dy in steps for dx in steps)

    def mirrored(place, size):
        return -1 - place if place < 0 else (2 * size - 1 - place if place >= size else place)

    def mean(values):
        return sum(
            math.exp(-(dy * dy + dx * dx) / 4.5) * values[mirrored(y + dy, SIZE[0]), mirrored(x + dx, SIZE[1])]
            for dy in steps
            for dx in steps
        ) / total  # fmt: skip

    c1, c2, mean_a, mean_b = 2.55**2, 7.65**2, mean(a), mean(b)
    var_a, var_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    return (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


@pytest.mark.parametrize("name", HIDDEN)
def test_counts_equal_a_slow_transcription(name):
    hidden, (picture, whole) = mask(name), pictures(3)
    found = compare_hidden(picture, whole, hidden)
    error = [abs(int(p) - int(w)) for p, w in zip(picture[hidden].ravel(), whole[hidden].ravel(), strict=True)]
    assert found["hidden_pixels"] == hidden.sum() and found["hidden_absolute"] == sum(error)
    assert found["hidden_squared"] == sum(value * value for value in error)
    pasted = np.where(hidden[..., None], picture, whole)
    places = list(zip(*np.nonzero(hidden), strict=True))
    if name != "all":  # 744 windows take a second
        unlike = 1000 * sum(1 - slow_ssim(pasted.astype(float), whole.astype(float), y, x) for y, x in places)
        assert found["hidden_unlike"] == pytest.approx(unlike, abs=0.6)
    assert all(type(value) is int for value in found.values())


def test_pixels_outside_the_hidden_part_do_not_count():
    hidden, (picture, whole) = mask("inside"), pictures(4)
    before = compare_hidden(picture, whole, hidden)
    assert compare_hidden(np.where(hidden[..., None], picture, 7).astype(np.uint8), whole, hidden) == before
    same = compare_hidden(whole.copy(), whole, hidden)
    assert same == {"hidden_pixels": 48, "hidden_squared": 0, "hidden_absolute": 0, "hidden_unlike": 0}


def test_nothing_is_compared_without_picture_ground_truth_or_hidden_part():
    picture, whole = pictures(5)
    cases = [(None, whole, mask("all")), (picture, None, mask("all")), (picture, whole, np.zeros(SIZE, bool))]
    assert all(set(compare_hidden(*case).values()) == {0} for case in cases)


def row(number, model, offset):
    """A half hidden box whose picture is ``offset`` levels too bright; None: no picture."""
    amodal, modal = mask("inside"), mask("inside")
    modal[:, 16:] = False
    whole = np.full((*SIZE, 3), 100, np.uint8)
    record = AmodalRecord("d", "val", str(number), "0", whole, masks.encode(modal), masks.encode(amodal))
    prediction = Prediction(modal, amodal[None], seconds=2.5, evaluations=20)
    prediction.image = None if offset is None else whole + np.uint8(offset)
    return count_object(record, prediction, model, whole, peak_memory=512)


@pytest.fixture(scope="module")
def rows():
    return {
        "near": [row(number, "near", number) for number in range(4)],
        "far": [row(number, "far", 20 + number) for number in range(4)],
        "blind": [row(number, "blind", None) for number in range(4)],
    }


def test_figures_are_means_over_objects_and_undefined_without_pictures(rows):
    found = score(rows["near"])["appearance"]
    each = [10 * math.log10(255**2 / max(offset**2, 1 / 12)) for offset in range(4)]
    assert found["psnr"] == pytest.approx(sum(each) / 4) and each[0] == pytest.approx(58.92, abs=0.01)
    assert found["mae"] == pytest.approx(1.5) and found["num_objects"] == 4 and 0.9 < found["ssim"] < 1
    assert score(rows["far"])["appearance"]["mae"] == pytest.approx(21.5)
    assert score(rows["blind"])["appearance"] == {"psnr": None, "mae": None, "ssim": None, "num_objects": 0}
    some = [*rows["near"][:2], *(one | {"model": "near"} for one in rows["blind"][2:])]
    assert score(some)["appearance"]["mae"] == pytest.approx(0.5)


def test_rows_keep_the_counts(rows, tmp_path):
    every = [one for found in rows.values() for one in found]
    write_rows(tmp_path / "rows.csv", every)
    assert read_rows(tmp_path / "rows.csv") == every
    assert {(one["evaluations"], one["peak_memory"]) for one in every} == {(20, 512)}


def test_tables_print_each_figure_in_its_unit(rows):
    every = [one for found in rows.values() for one in found]
    results = summarize(every)
    (table,) = main_tables(results, every)
    assert table.header[6:8] == ["appearance · psnr, dB", "appearance · ssim"]
    assert table.header[-3:] == ["seconds / object, median", "peak memory, MB", "evaluations / object"]
    near, far, blind = table.lines
    value = score(rows["near"])["appearance"]["psnr"]
    assert near[6].text == f"{value:.1f}" and near[6].best and not far[6].best and blind[6].text == "–"
    assert near[7].text == f"{score(rows['near'])['appearance']['ssim']:.3f}"
    assert near[6].note.split(" – ")[1] == f"{results[0]['intervals']['appearance']['psnr'][1]:.1f}"
    assert [cell.text for cell in near[-3:]] == ["2.5", "512", "20"]
    lines = {line[0].text: line[1:] for line in all_figures(results)[0].lines}
    levels = lines["appearance · mae, levels"]
    assert [cell.text for cell in levels] == ["1.5", "21.5", "–"]
    assert [cell.best for cell in levels] == [True, False, False], "lower is better"
    assert [cell.text for cell in lines["appearance · num_objects"]] == ["4", "4", "0"]
    assert "psnr, dB" in plain_table(results) and "psnr, dB" in to_markdown(table)
    (without,) = main_tables(summarize(rows["blind"]), rows["blind"])
    assert not any("appearance" in name for name in without.header)
    unmeasured = [one | {"peak_memory": 0} for one in rows["blind"]]
    assert main_tables(summarize(unmeasured), unmeasured)[0].lines[0][-2].text == "–"


def test_a_comparison_prints_each_figure_in_its_unit(rows):
    pairs = pair_rows(rows["near"], rows["far"])["d", "val"]
    found = differences(pairs)
    table = main_table("d / val", Part(pairs, found, tally(pairs), [], []))
    lines = {line[0].text: [cell.text for cell in line[1:]] for line in table.lines}
    a, b = (score(rows[name])["appearance"]["psnr"] for name in ("near", "far"))
    assert lines["appearance · psnr, dB"] == [f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}", "A is higher"]
    assert lines["per_object · full"][:3] == ["100.0", "100.0", "+0.0"]
    mae = next(d for d in found if d.figure == "mae")
    assert isinstance(mae, Difference) and (mae.a, mae.b) == pytest.approx((1.5, 21.5))
    one_side = differences(pair_rows(rows["near"], rows["blind"])["d", "val"])
    assert not any(d.protocol == "appearance" for d in one_side)
