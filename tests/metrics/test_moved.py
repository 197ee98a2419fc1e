"""Photos after a move against the true ones: counts and figures by a slow transcription, and the ends of the scale."""

import math

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.metrics.counts import count_object, read_rows, write_rows
from amodalseg.metrics.moved import AREAS, MOVED_COLUMNS, compare_moved
from amodalseg.metrics.protocols import score, summarize
from amodalseg.predictions import Prediction
from amodalseg.report.table import main_tables
from amodalseg.types import AmodalRecord, Move

HEIGHT, WIDTH = 17, 21


def grey(pixel):
    return 0.299 * float(pixel[0]) + 0.587 * float(pixel[1]) + 0.114 * float(pixel[2])


def slow_ssim(one, other, y, x):
    """SSIM in a Gaussian window of 11 x 11 pixels; the picture is mirrored at its edge, edge pixel included."""

    def mirrored(place, size):
        return -1 - place if place < 0 else (2 * size - 1 - place if place >= size else place)

    weights, a, b = [], [], []
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            place = mirrored(y + dy, HEIGHT), mirrored(x + dx, WIDTH)
            weights.append(math.exp(-(dy * dy + dx * dx) / (2 * 1.5**2)))
            a.append(grey(one[place]))
            b.append(grey(other[place]))
    total = sum(weights)

    def mean(values):
        return sum(w * v for w, v in zip(weights, values, strict=True)) / total

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean([v * v for v in a]) - mean_a**2, mean([v * v for v in b]) - mean_b**2
    both = mean([v * w for v, w in zip(a, b, strict=True)]) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def slow(source, truth, modal, there, moved, moved_mask):
    """The counts, pixel by pixel in plain Python."""
    found = dict.fromkeys(MOVED_COLUMNS, 0)
    of = {}
    for y in range(HEIGHT):
        for x in range(WIDTH):
            area = "target" if there[y, x] else "origin" if modal[y, x] else "rest"
            of.setdefault(area, []).append((y, x))
            found["moved_inter"] += int(there[y, x] and moved_mask[y, x])
            found["moved_union"] += int(there[y, x] or moved_mask[y, x])
    for area, places in of.items():
        shown = truth.astype(float)
        for place in places:
            shown[place] = moved[place]
        found[f"moved_{area}_pixels"] = len(places)
        found[f"moved_{area}_squared"] = sum(
            (int(a) - int(b)) ** 2 for place in places for a, b in zip(moved[place], truth[place], strict=True)
        )
        unlike = sum(max(0.0, 1 - slow_ssim(shown, truth.astype(float), *place)) for place in places)
        found[f"moved_{area}_unlike"] = 1000 * unlike
    for place in of.get("origin", []):
        before, after, now = ([int(v) for v in picture[place]] for picture in (source, truth, moved))
        if max(abs(a - b) for a, b in zip(before, after, strict=True)) >= 24:
            found["moved_changes"] += 1
            to_before = sum((a - b) ** 2 for a, b in zip(now, before, strict=True))
            to_after = sum((a - b) ** 2 for a, b in zip(now, after, strict=True))
            found["moved_stays"] += int(to_before < to_after)
    return found


def case(seed):
    """source, truth, modal, there, moved, moved_mask: a true move, and an inaccurate one."""
    rng = np.random.default_rng(seed)
    source, truth, moved = rng.integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    truth[:, ::3] = source[:, ::3] // 2 + 60  # changes of all sizes
    truth[3, 1:8] = source[3, 1:8] ^ 15  # changes below the threshold
    moved[::2] = (truth[::2].astype(int) * 3 + source[::2]) // 4
    modal, there, moved_mask = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    modal[2:9, 1:8], there[5:12, 6:15], moved_mask[6:13, 4:14] = True, True, True
    return source, truth, modal, there, moved, moved_mask


@pytest.mark.parametrize("seed", range(2))
def test_counts_equal_a_slow_transcription(seed):
    given = case(seed)
    found, expected = compare_moved(*given), slow(*given)
    assert list(found) == MOVED_COLUMNS and all(type(value) is int for value in found.values())
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=0.6 if name.endswith("unlike") else 0), name
    assert 0 < found["moved_stays"] < found["moved_changes"] <= found["moved_origin_pixels"]


def test_areas_are_counted_independently():
    source, truth, modal, there, moved, mask = case(3)
    areas = dict(zip(AREAS, (modal & ~there, there, ~(modal | there)), strict=True))
    for name, where in areas.items():
        only = np.where(where[..., None], moved, truth)
        found = compare_moved(source, truth, modal, there, only, mask)
        assert found[f"moved_{name}_squared"] == compare_moved(*case(3))[f"moved_{name}_squared"] > 0
        for other in set(AREAS) - {name}:
            assert found[f"moved_{other}_squared"] == found[f"moved_{other}_unlike"] == 0


def test_the_ends_of_the_scale():
    source, truth, modal, there, *_ = case(4)
    nothing = compare_moved(source, truth, modal, there, source, modal)
    assert nothing["moved_stays"] == nothing["moved_changes"] > 0
    perfect = compare_moved(source, truth, modal, there, truth, there)
    assert perfect["moved_stays"] == 0 and perfect["moved_inter"] == perfect["moved_union"] == there.sum()
    assert not any(perfect[f"moved_{area}_{count}"] for area in AREAS for count in ("squared", "unlike"))
    assert set(compare_moved(source, truth, modal, there, None, None).values()) == {0}


def test_the_origin_excludes_pixels_of_the_target():
    source, truth, modal, _, moved, mask = case(5)
    found = compare_moved(source, truth, modal, np.ones_like(modal), moved, mask)
    assert found["moved_origin_pixels"] == found["moved_changes"] == found["moved_rest_pixels"] == 0
    assert found["moved_target_pixels"] == HEIGHT * WIDTH


def row(seed, model, kind=None):
    source, truth, modal, there, moved, mask = case(seed)
    amodal = modal.copy()
    amodal[8:12, 1:8] = True
    record = AmodalRecord(
        "moves", "test", str(seed), "0", source, masks.encode(modal), masks.encode(amodal),
        move=Move((10, 8), truth, masks.encode(there)),
    )  # fmt: skip
    prediction = Prediction(modal, amodal[None])
    moves = {None: (None, None), "bad": (moved, mask), "true": (truth, there)}
    prediction.moved, prediction.moved_mask = moves[kind]
    return count_object(record, prediction, model, None, 0, source, truth)


def test_figures_are_means_over_moved_objects():
    rows = [row(seed, "m", "bad") for seed in range(4)]
    found = score(rows)["moved"]
    assert found["num_objects"] == 4
    for area in AREAS:
        errors = [r[f"moved_{area}_squared"] / r[f"moved_{area}_pixels"] / 3 for r in rows]
        assert found[f"{area}_psnr"] == pytest.approx(sum(10 * math.log10(65025 / error) for error in errors) / 4)
        likes = [1 - r[f"moved_{area}_unlike"] / 1000 / r[f"moved_{area}_pixels"] for r in rows]
        assert found[f"{area}_ssim"] == pytest.approx(sum(likes) / 4)
    assert found["stays"] == pytest.approx(sum(r["moved_stays"] / r["moved_changes"] for r in rows) / 4)
    assert found["iou"] == pytest.approx(sum(r["moved_inter"] / r["moved_union"] for r in rows) / 4)
    perfect = score([row(seed, "m", "true") for seed in range(4)])["moved"]
    assert perfect["stays"] == 0 and perfect["iou"] == perfect["rest_ssim"] == 1
    assert perfect["origin_psnr"] == pytest.approx(58.92, abs=0.01)
    without = score([row(seed, "m") for seed in range(4)])["moved"]
    assert without.pop("num_objects") == 0 and set(without.values()) == {None}


def test_rows_keep_the_counts(tmp_path):
    rows = [row(seed, "m", "bad") for seed in range(3)]
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows


def test_tables_have_columns_of_moves_only_with_moves():
    rows = [
        row(seed, model, prediction) for model, prediction in (("bad", "bad"), ("true", "true")) for seed in range(3)
    ]
    (table,) = main_tables(summarize(rows), rows)
    shown = [name for name in table.header if name.startswith("moved")]
    assert shown == [
        "moved · origin_psnr, dB", "moved · target_psnr, dB", "moved · rest_psnr, dB", "moved · stays, %",
        "moved · iou",
    ]  # fmt: skip
    bad, true = (line[table.header.index("moved · stays, %")] for line in table.lines)
    assert true.text == "0.0" and true.best and not bad.best, "lower is better"
    still = [row(seed, "still") for seed in range(3)]
    assert not any(name.startswith("moved") for name in main_tables(summarize(still), still)[0].header)
