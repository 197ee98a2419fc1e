"""Photos after an edit against the true ones: counts and figures by a slow transcription, and the ends of the scale."""

import math

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.metrics.counts import count_object, read_rows, write_rows
from amodalseg.metrics.edited import EDIT_AREAS, EDITED_COLUMNS, compare_edited
from amodalseg.metrics.protocols import bootstrap, score, summarize
from amodalseg.predictions import Prediction
from amodalseg.report.table import main_tables
from amodalseg.types import AmodalRecord, Edit, EditRequest, Region
from tests.metrics.test_moved import HEIGHT, WIDTH, slow_ssim

REQUEST = EditRequest((Region("a wall", "a wall"), Region("a cup", None, (0.3, 0.3, 0.7, 0.7))), "a cup", "a wall")


def slow(source, truth, kept, edited):
    """The counts, pixel by pixel in plain Python."""
    found = dict.fromkeys(EDITED_COLUMNS, 0)
    of = {area: [] for area in EDIT_AREAS}
    for y in range(HEIGHT):
        for x in range(WIDTH):
            before, after, now = ([int(v) for v in picture[y, x]] for picture in (source, truth, edited))
            area = "region" if before != after else "kept" if kept[y, x] else "rest"
            of[area].append((y, x))
            if area == "region" and max(abs(a - b) for a, b in zip(before, after, strict=True)) >= 24:
                found["edited_changes"] += 1
                to_before = sum((a - b) ** 2 for a, b in zip(now, before, strict=True))
                to_after = sum((a - b) ** 2 for a, b in zip(now, after, strict=True))
                found["edited_stays"] += int(to_before < to_after)
    for area, places in of.items():
        shown = truth.astype(float)
        for place in places:
            shown[place] = edited[place]
        found[f"edited_{area}_pixels"] = len(places)
        found[f"edited_{area}_squared"] = sum(
            (int(a) - int(b)) ** 2 for place in places for a, b in zip(edited[place], truth[place], strict=True)
        )
        unlike = sum(max(0.0, 1 - slow_ssim(shown, truth.astype(float), *place)) for place in places)
        found[f"edited_{area}_unlike"] = 1000 * unlike
    return found


def case(seed):
    """source, truth, kept, edited: a true edit, and an inaccurate one."""
    rng = np.random.default_rng(seed)
    source, edited = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    truth = source.copy()
    truth[5:12, 6:15] = truth[5:12, 6:15] // 2 + 60  # changes of all sizes
    truth[5, 6:15] = source[5, 6:15] ^ 15  # changes below the threshold
    edited[::2] = (truth[::2].astype(int) * 3 + source[::2]) // 4
    edited[1::4] = (truth[1::4].astype(int) + source[1::4] * 3) // 4
    kept = np.zeros((HEIGHT, WIDTH), bool)
    kept[2:9, 1:8] = True  # partly in the region, like a soft outline
    return source, truth, kept, edited


def test_counts_equal_a_slow_transcription():
    found, expected = compare_edited(*case(0)), slow(*case(0))
    assert list(found) == EDITED_COLUMNS and all(type(value) is int for value in found.values())
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=0.6 if name.endswith("unlike") else 0), name
    assert 0 < found["edited_stays"] < found["edited_changes"] < found["edited_region_pixels"]


def test_areas_are_counted_independently():
    source, truth, kept, edited = case(3)
    region = (source != truth).any(axis=-1)
    for name, where in zip(EDIT_AREAS, (kept & ~region, region, ~(kept | region)), strict=True):
        found = compare_edited(source, truth, kept, np.where(where[..., None], edited, truth))
        assert found[f"edited_{name}_squared"] == compare_edited(*case(3))[f"edited_{name}_squared"] > 0
        for other in set(EDIT_AREAS) - {name}:
            assert found[f"edited_{other}_squared"] == found[f"edited_{other}_unlike"] == 0


def test_the_ends_of_the_scale():
    """Outside the region source and truth are equal: SSIM to the truth is SSIM to the source, as SSIM-i and SSIM-e."""
    source, truth, kept, _ = case(4)
    nothing = compare_edited(source, truth, kept, source)
    assert nothing["edited_stays"] == nothing["edited_changes"] > 0
    assert not any(nothing[f"edited_{area}_{count}"] for area in ("kept", "rest") for count in ("squared", "unlike"))
    perfect = compare_edited(source, truth, kept, truth)
    assert perfect["edited_stays"] == 0 < perfect["edited_changes"]
    assert not any(perfect[f"edited_{area}_{count}"] for area in EDIT_AREAS for count in ("squared", "unlike"))
    assert set(compare_edited(source, truth, kept, None).values()) == {0}


def row(seed, model, kind=None):
    source, truth, kept, edited = case(seed)
    modal = np.zeros_like(kept)
    modal[2:9, 1:8] = True
    record = AmodalRecord(
        "edits", "test", str(seed), "0", source, masks.encode(modal), masks.encode(modal),
        edit=Edit(REQUEST, truth, masks.encode(kept)),
    )  # fmt: skip
    prediction = Prediction(modal, modal[None])
    prediction.edited = {None: None, "bad": edited, "true": truth, "nothing": source}[kind]
    return count_object(record, prediction, model, None, 0, source, None, truth)


def test_figures_are_means_over_edited_photos():
    rows = [row(seed, "m", "bad") for seed in range(4)]
    found = score(rows)["edited"]
    assert found["num_objects"] == 4
    for area in EDIT_AREAS:
        errors = [r[f"edited_{area}_squared"] / r[f"edited_{area}_pixels"] / 3 for r in rows]
        assert found[f"{area}_psnr"] == pytest.approx(sum(10 * math.log10(65025 / error) for error in errors) / 4)
        likes = [1 - r[f"edited_{area}_unlike"] / 1000 / r[f"edited_{area}_pixels"] for r in rows]
        assert found[f"{area}_ssim"] == pytest.approx(sum(likes) / 4)
    assert found["stays"] == pytest.approx(sum(r["edited_stays"] / r["edited_changes"] for r in rows) / 4)
    low, high = bootstrap(rows, "edited", "kept_psnr")
    assert low <= found["kept_psnr"] <= high and low < high
    perfect = score([row(seed, "m", "true") for seed in range(4)])["edited"]
    assert perfect["stays"] == 0 and perfect["region_ssim"] == perfect["rest_ssim"] == 1
    assert perfect["region_psnr"] == pytest.approx(58.92, abs=0.01)
    nothing = score([row(seed, "m", "nothing") for seed in range(4)])["edited"]
    assert nothing["stays"] == nothing["kept_ssim"] == 1 > nothing["region_ssim"]
    without = score([row(seed, "m") for seed in range(4)])["edited"]
    assert without.pop("num_objects") == 0 and set(without.values()) == {None}


def test_rows_keep_the_counts(tmp_path):
    rows = [row(seed, "m", "bad") for seed in range(3)]
    write_rows(tmp_path / "rows.csv", rows)
    assert read_rows(tmp_path / "rows.csv") == rows


def test_tables_have_columns_of_edits_only_with_edits():
    rows = [row(seed, model, model) for model in ("bad", "true") for seed in range(3)]
    (table,) = main_tables(summarize(rows), rows)
    shown = [name for name in table.header if name.startswith("edited")]
    assert shown == [
        "edited · region_psnr, dB", "edited · kept_psnr, dB", "edited · kept_ssim", "edited · rest_ssim",
        "edited · stays, %",
    ]  # fmt: skip
    bad, true = (line[table.header.index("edited · stays, %")] for line in table.lines)
    assert true.text == "0.0" and true.best and not bad.best, "lower is better"
    still = [row(seed, "still") for seed in range(3)]
    assert not any(name.startswith("edited") for name in main_tables(summarize(still), still)[0].header)
