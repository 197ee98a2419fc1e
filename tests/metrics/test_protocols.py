from typing import NamedTuple

import numpy as np
import pytest

from amodalseg import masks
from amodalseg.metrics.counts import count_object
from amodalseg.metrics.protocols import PROTOCOLS, bootstrap, score, summarize
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord, Edit, EditRequest, Move

SHAPE = (20, 30)  # 600 pixels: one hidden pixel is a rate below 1 %


def make(number, amodal, modal, raw, union=True, model="m", image=None, given=None, track=None):
    """An object as its masks and as its row. given: the predicted modal mask, if it replaces the annotated one."""
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    shown = modal if given is None else given
    record = AmodalRecord(
        "d", "val", str(image or number // 3), str(number), pixels, masks.encode(shown), masks.encode(amodal),
        gt_modal_rle=None if given is None else masks.encode(modal),
        group=None if track is None else {"video": track[0], "track": track[1], "frame": number},
    )  # fmt: skip
    final = raw | shown if union else raw
    whole, picture = np.random.default_rng(number).integers(0, 256, (2, *SHAPE, 3), np.uint8)
    prediction = Prediction(shown, raw[None], union_visible=union)
    prediction.image = None if number % 4 == 1 else picture  # some predictions have no picture
    if number % 4 != 2:  # and some objects are not moved
        there = np.roll(amodal, 3, axis=1)
        record.move = Move((4, 4), whole, masks.encode(there))
        prediction.moved, prediction.moved_mask = picture, np.roll(final, 3, axis=1)
    after = pixels.copy()
    after[:, : SHAPE[1] // 2] = whole[:, : SHAPE[1] // 2]
    if number % 4 != 3:  # nor edited
        record.edit = Edit(EditRequest((), "", ""), after, masks.encode(modal))
        prediction.edited = picture
    row = count_object(record, prediction, model, whole, 0, pixels, whole, after)
    return Thing(amodal, modal, shown, raw, final, track), row


class Thing(NamedTuple):
    """a: amodal, v: annotated modal, g: given modal, raw, p: the final prediction; track: (video, track) or None."""

    a: np.ndarray
    v: np.ndarray
    g: np.ndarray
    raw: np.ndarray
    p: np.ndarray
    track: tuple[str, int] | None


def world(seed=0, count=40, union=False, predicted=False):
    """Objects of all occlusion rates, including all special cases; two of three belong to one of five tracks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    cases = []
    for _ in range(count):
        amodal = ((x - rng.integers(8, 22)) / rng.integers(3, 14)) ** 2 + ((y - 10) / rng.integers(3, 10)) ** 2 <= 1
        modal = amodal & (x >= np.quantile(x[amodal], rng.choice([0, 0, 0.05, 0.1, 0.3, 0.5, 0.8])))
        cases.append((amodal, modal, (amodal ^ (rng.random(SHAPE) < 0.1)) & (rng.random(SHAPE) < 0.97)))
    whole, empty = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    nearly, corner, shifted = whole.copy(), empty.copy(), whole & (x >= 2)
    nearly[0, :3] = False  # a rate of 0.005
    corner[:3, :3] = True
    half = whole & (x < 28)
    dot = corner & (x == 1) & (y == 1)
    cases += [
        (whole, nearly, nearly),  # rate in (0, .01)
        (whole, whole, empty),  # nothing predicted, nothing hidden
        (corner, corner, whole),  # false positives around an unoccluded object
        (half, shifted, whole),  # |V - A| = |A - V|: the signed sum is 0
        (corner, half, half),  # V exceeds A and nothing is hidden: the signed sum is not 0
        (empty, corner, empty),  # empty ground truth
        (dot, dot, dot),  # a single pixel, predicted exactly
        (whole, corner, empty),  # nothing predicted, much hidden
    ]
    objects = []
    for number, (amodal, modal, raw) in enumerate(cases):
        given = (modal ^ (rng.random(SHAPE) < 0.05)) if predicted else None
        track = None if number % 3 == 2 else (f"v{number % 2}", number % 5)
        objects.append(make(number, amodal, modal, raw, union, given=given, track=track))
    return [item[0] for item in objects], [item[1] for item in objects]


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def iou(p, a):
    union = (p | a).sum()
    return (p & a).sum() / union if union else 1.0


def ratio(pairs):
    pairs = list(pairs)
    union = sum((p | a).sum() for p, a in pairs)
    return sum((p & a).sum() for p, a in pairs) / union if union else None


def slow_scores(things, rows):
    """The protocols from masks of the full image, as literally described."""
    hidden = [t for t in things if (t.a & ~t.v).any()]
    rates = [(t.a & ~t.v).sum() / max(1, t.a.sum()) for t in things]
    expected = {
        "pooled": {
            "full": ratio((t.p, t.a) for t in things),
            "occluded": ratio((t.p & ~t.v, t.a & ~t.v) for t in things),
            "full_of_occluded": ratio((t.p, t.a) for t in hidden),
            "occluded_of_occluded": ratio((t.p & ~t.v, t.a & ~t.v) for t in hidden),
        },
        "per_object": {
            "full": mean(iou(t.p, t.a) for t in things),
            "occluded": mean(iou(t.p & ~t.v, t.a & ~t.v) for t in hidden),
        },
        "per_object_occluded": {
            "full": mean(iou(t.p, t.a) for t in hidden),
            "occluded": mean(iou(t.p & ~t.v, t.a & ~t.v) for t in hidden),
        },
        "mean_bucket": {},
    }
    whole = [(t.a & t.p).sum() and t.a.sum() / (t.a & t.p).sum() <= 1.2 for t in hidden]
    small = [(t.p & ~t.a).sum() / t.a.sum() <= 0.2 for t in hidden]
    both = [bool(one) and bool(other) for one, other in zip(whole, small, strict=True)]
    expected["success"] = {"success": mean(both), "complete": mean(map(bool, whole)), "contained": mean(small)}
    for percent in (50, 40, 30, 20, 10, 5):
        inside = [(rate, iou(t.p, t.a)) for rate, t in zip(rates, things, strict=True) if rate <= percent / 100]
        expected["mean_bucket"][f"le_{percent}"] = mean(value for rate, value in inside if rate > 0)
        expected["mean_bucket"][f"le_{percent}_with_unoccluded"] = mean(value for _, value in inside)

    levels = {"0": [], "1_20": [], "20_40": [], "40_70": [], "70_100": []}
    for rate, t in zip(rates, things, strict=True):
        if rate == 0:
            levels["0"].append(t)
        elif 0.01 <= rate < 0.2:
            levels["1_20"].append(t)
        elif 0.2 <= rate < 0.4:
            levels["20_40"].append(t)
        elif 0.4 <= rate < 0.7:
            levels["40_70"].append(t)
        elif rate >= 0.7:
            levels["70_100"].append(t)
    full = {name: ratio((t.p, t.a) for t in group) for name, group in levels.items()}
    occluded = {name: ratio((t.p & ~t.v, t.a & ~t.v) for t in levels[name]) for name in list(levels)[1:]}
    expected["five_bins"] = {
        "full": mean(value for value in full.values() if value is not None),
        "occluded": mean(value for value in occluded.values() if value is not None),
        "full_of_five": sum(value or 0 for value in full.values()) / 5,
        **{f"full_{name}": value for name, value in full.items()},
        **{f"occluded_{name}": value for name, value in occluded.items()},
        "num_gap": sum(0 < rate < 0.01 for rate in rates),
        "num_bins": sum(value is not None for value in full.values()),
    }
    for name in ("c2f", "c2f_post"):
        total, counted, whole = 0.0, 0, []
        for t in things:
            p = t.raw | t.g if name == "c2f_post" else t.raw
            ph, ah = (p.astype(float) - t.v) > 0.5, (t.a.astype(float) - t.v) > 0.5
            total += (ph & ah).sum() / ((ph | ah).sum() + 1e-6)
            counted += (t.a.astype(int) - t.v.astype(int)).sum() != 0
            whole.append(((p & t.a).sum() + 1e-10) / ((p | t.a).sum() + 1e-10))
        expected[name] = {"full": mean(whole), "occluded": total / counted if counted else None}
    expected["conddiff"] = slow_conddiff(things)
    expected["savos"] = slow_savos(things, rows)
    return expected


def slow_conddiff(things):
    above = below = occ_above = occ_below = 0
    for t in things:
        above += ((t.p == 1) & (t.a == 1)).sum()
        below += ((t.p == 1) | (t.a == 1)).sum()
        if (t.a.astype(int) - t.v.astype(int)).sum() != 0:
            occ_above += ((t.p == 1) & (t.a == 1) & (t.v == 0)).sum()
            occ_below += (((t.p == 1) | (t.a == 1)) & (t.v == 0)).sum()
    return {"full": above / below, "occluded": occ_above / occ_below}


def slow_savos(things, rows):
    found = {}
    for name in ("full", "occluded"):
        every, frames, tracks = [], {}, {}
        for t, row in zip(things, rows, strict=True):
            if not t.a.any() or not 0.1 + 1e-12 < 1 - t.v.sum() / t.a.sum() < 0.7 - 1e-12:
                continue
            p, a = (t.p, t.a) if name == "full" else (t.p & ~t.v, t.a & ~t.v)
            value = ((p & a).sum() + 1e-6) / ((p | a).sum() + 1e-6)
            every.append(value)
            frames.setdefault(row["image_id"], []).append(value)
            if t.track:
                tracks.setdefault(t.track, []).append(value)
        found |= {
            name: mean(every),
            f"{name}_frames": mean(map(mean, frames.values())),
            f"{name}_tracks": mean(map(mean, tracks.values())),
        }
    return found


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_protocols_equal_their_slow_transcription(seed, union, predicted):
    things, rows = world(seed, union=union, predicted=predicted)
    scores, expected = score(rows), slow_scores(things, rows)
    assert set(scores) == set(PROTOCOLS) == {*expected, "boundary_iou", "appearance", "moved", "edited"}
    for name, figures in expected.items():
        assert scores[name].keys() == figures.keys()
        assert scores[name] == pytest.approx(figures, abs=1e-12), name
        assert PROTOCOLS[name](rows) == scores[name]
    bands = [row["boundary_inter"] / row["boundary_union"] if row["boundary_union"] else 1.0 for row in rows]
    assert scores["boundary_iou"] == pytest.approx({
        "full": mean(bands),
        "full_of_occluded": mean(value for value, t in zip(bands, things, strict=True) if (t.a & ~t.v).any()),
    })  # fmt: skip
    drawn = [row for row in rows if row["hidden_pixels"]]
    assert 0 < len(drawn) < sum(bool((t.a & ~t.v).any()) for t in things)
    assert scores["appearance"] == pytest.approx({
        "psnr": mean(10 * np.log10(255**2 * 3 * row["hidden_pixels"] / row["hidden_squared"]) for row in drawn),
        "mae": mean(row["hidden_absolute"] / row["hidden_pixels"] / 3 for row in drawn),
        "ssim": mean(1 - row["hidden_unlike"] / row["hidden_pixels"] / 1000 for row in drawn),
        "num_objects": len(drawn),
    })  # fmt: skip
    for kind, areas in (("moved", ("origin", "target", "rest")), ("edited", ("kept", "region", "rest"))):
        done = [row for row in rows if row[f"{kind}_{areas[1]}_pixels"]]
        assert 0 < len(done) < len(rows)
        figures = {"num_objects": len(done)}
        for area in areas:
            of = [[row[f"{kind}_{area}_{count}"] for count in ("pixels", "squared", "unlike")] for row in rows]
            of = [counts for counts in of if counts[0]]
            figures[f"{area}_psnr"] = mean(10 * np.log10(255**2 * 3 * pixels / squared) for pixels, squared, _ in of)
            figures[f"{area}_ssim"] = mean(1 - unlike / pixels / 1000 for pixels, _, unlike in of)
        figures["stays"] = mean(row[f"{kind}_stays"] / row[f"{kind}_changes"] for row in rows if row[f"{kind}_changes"])
        if kind == "moved":
            figures["iou"] = mean(row["moved_inter"] / row["moved_union"] for row in done)
        assert scores[kind] == pytest.approx(figures)
    assert all(value is not None for name in scores for value in scores[name].values())  # every figure is covered


def test_no_object_and_no_hidden_part_give_none_and_never_nan():
    assert all(value is None or name.startswith("num_") for f in score([]).values() for name, value in f.items())
    square = np.zeros(SHAPE, bool)
    square[5:10, 5:10] = True
    scores = score([make(0, square, square, square)[1]])
    assert scores["pooled"] == dict.fromkeys(["full", "occluded", "full_of_occluded", "occluded_of_occluded"]) | {
        "full": 1.0
    }
    assert set(scores["savos"].values()) == {None}
    assert scores["per_object_occluded"] == {"full": None, "occluded": None}
    assert scores["c2f"]["occluded"] is None
    assert scores["mean_bucket"]["le_50"] is None and scores["mean_bucket"]["le_50_with_unoccluded"] == 1.0
    assert (scores["five_bins"]["full"], scores["five_bins"]["occluded"], scores["five_bins"]["num_bins"]) == (
        1.0,
        None,
        1,
    )
    nothing = make(0, square & False, square & False, square & False)[1]
    assert score([nothing])["pooled"]["full"] is None  # no pixel at all
    assert score([nothing])["per_object"]["full"] == 1.0  # two empty masks agree


def test_c2f_signed_sum_skips_an_object_whose_differences_cancel():
    amodal, modal = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    amodal[0, :10], modal[0, 2:12] = True, True  # two pixels hidden, two modal pixels outside
    found = make(0, amodal, modal, amodal)[1]
    assert (found["occluded_area"], found["modal_outside"]) == (2, 2)
    assert score([found])["c2f"]["occluded"] is None  # predicted perfectly, but no object counts
    assert score([found])["per_object"]["occluded"] == 1.0
    other = np.zeros(SHAPE, bool)
    other[5, :10] = True
    missed = make(1, other, other & (np.arange(30) < 5), other & False)[1]
    # its IoU is in the sum, but it is not in the number of objects: 1 / 1 instead of 1 / 2
    assert score([found, missed])["c2f"]["occluded"] == pytest.approx(1.0, abs=1e-5)
    assert score([found, missed])["per_object"]["occluded"] == 0.5


def test_c2f_counts_an_unoccluded_object_whose_modal_mask_exceeds_the_amodal_one():
    amodal = np.zeros(SHAPE, bool)
    amodal[0, :10] = True
    wider = np.zeros(SHAPE, bool)
    wider[0, :12] = True
    half = make(1, amodal, amodal & (np.arange(30) < 5), amodal)[1]
    rows = [make(0, amodal, wider, wider)[1], half]
    assert score(rows)["c2f"]["occluded"] == pytest.approx(0.5, abs=1e-5)
    assert score(rows)["per_object"]["occluded"] == 1.0


def test_c2f_uses_the_raw_mask_and_c2f_post_the_union():
    amodal = np.zeros(SHAPE, bool)
    amodal[0, :10] = True
    row = make(0, amodal, amodal & (np.arange(30) < 5), amodal & (np.arange(30) >= 5), union=True)[1]
    assert score([row])["c2f"]["full"] == pytest.approx(0.5)
    assert score([row])["c2f_post"]["full"] == pytest.approx(1.0)
    assert score([row])["per_object"]["full"] == 1.0  # the model's prediction is the union


def strip(pixels, start=0):
    mask = np.zeros(SHAPE, bool)
    mask[0, start : start + pixels] = True
    return mask


def test_pooled_occluded_counts_false_positives_around_unoccluded_objects():
    half_found = make(0, strip(10), strip(4), strip(7))[1]  # 3 of 6 hidden pixels
    too_much = make(1, strip(10), strip(10), strip(16))[1]  # 6 pixels that do not exist
    scores = score([half_found, too_much])
    assert scores["pooled"]["occluded"] == pytest.approx(3 / 12)
    assert scores["pooled"]["occluded_of_occluded"] == scores["conddiff"]["occluded"] == pytest.approx(3 / 6)
    assert scores["pooled"]["full"] == scores["conddiff"]["full"] == pytest.approx(17 / 26)
    assert scores["pooled"]["full_of_occluded"] == pytest.approx(7 / 10)


def test_conddiff_signed_sum_skips_an_object_whose_differences_cancel():
    cancelled = make(0, strip(10), strip(10, 2), strip(10))[1]  # two pixels hidden, two modal pixels outside
    outside = make(1, strip(10), strip(14), strip(18))[1]  # nothing hidden, but it counts: 0 of 4
    assert score([cancelled])["conddiff"]["occluded"] is None
    assert score([cancelled])["pooled"]["occluded_of_occluded"] == 1.0
    assert score([cancelled, outside])["conddiff"]["occluded"] == 0.0


def test_unions_use_the_predicted_modal_mask_and_hidden_parts_the_annotated_one():
    """As in the evaluation on KINS: the prediction is united with the given mask, the annotated one is subtracted."""
    row = make(0, strip(10), strip(4), strip(2, 8), given=strip(6))[1]
    assert (row["given_area"], row["modal_area"], row["occluded_area"]) == (6, 4, 6)
    scores = score([row])
    assert scores["c2f"]["occluded"] == pytest.approx(2 / 6, abs=1e-6)
    assert scores["c2f_post"]["occluded"] == pytest.approx(4 / 6, abs=1e-6)
    assert (scores["c2f"]["full"], scores["c2f_post"]["full"]) == pytest.approx((0.2, 0.8))


def test_savos_takes_rates_strictly_between_10_and_70_percent_of_signed_areas():
    def figures(modal, amodal=10):
        return score([make(0, strip(amodal), modal, strip(amodal))[1]])["savos"]["full"]

    assert figures(strip(9)) is None and figures(strip(3)) is None  # 10 and 70 % themselves
    assert figures(strip(8)) == figures(strip(4)) == 1.0
    assert figures(strip(9, 4)) is None  # 4 of 10 pixels are hidden, but the areas differ by 1 of 10


def test_savos_averages_over_rows_frames_and_tracks():
    found, missed, track = strip(10), strip(5), ("v", 1)
    rows = [
        make(0, strip(10), strip(5), found, image="f1", track=track)[1],
        make(1, strip(10), strip(5), found, image="f1", track=("v", 2))[1],
        make(2, strip(10), strip(5), missed, image="f2", track=track)[1],
        make(3, strip(10), strip(5), missed, image="f3", track=track)[1],
    ]
    figures = score(rows)["savos"]
    assert figures["full"] == pytest.approx(mean([1, 1, 0.5, 0.5]))
    assert figures["full_frames"] == pytest.approx(mean([1, 0.5, 0.5]))
    assert figures["full_tracks"] == pytest.approx(mean([mean([1, 0.5, 0.5]), 1]))
    assert score(rows[:1])["savos"]["occluded"] == pytest.approx(1.0)
    assert score([row | {"track": ""} for row in rows])["savos"]["full_tracks"] is None


def test_five_bins_of_five_counts_an_empty_bin_as_0():
    figures = score([make(0, strip(10), strip(10), strip(10))[1], make(1, strip(10), strip(5), strip(5))[1]])[
        "five_bins"
    ]
    assert figures["full"] == pytest.approx((1 + 0.5) / 2)
    assert figures["full_of_five"] == pytest.approx((1 + 0.5) / 5)


def test_five_bins_excludes_and_reports_rates_between_0_and_1_percent():
    whole = np.ones(SHAPE, bool)
    nearly = whole.copy()
    nearly[0, :5] = False
    assert score([make(0, whole, nearly, whole)[1]])["five_bins"]["num_gap"] == 1
    assert score([make(0, whole, nearly, whole)[1]])["five_bins"]["full"] is None
    nearly[0, 5] = False  # 6 of 600 is 1 %: inside
    figures = score([make(0, whole, nearly, whole)[1]])["five_bins"]
    assert (figures["num_gap"], figures["full_1_20"], figures["occluded_1_20"]) == (0, 1.0, 1.0)


def test_bucket_limits_are_exact():
    amodal = np.zeros(SHAPE, bool)
    amodal[0, :10] = True
    row = make(0, amodal, amodal & (np.arange(30) < 7), amodal)[1]  # 3 / 10 is not 0.3 in floating point
    figures = score([row])["mean_bucket"]
    assert figures["le_30"] == 1.0 and figures["le_20"] is None


def test_duplicates_and_mixed_models_are_refused():
    square = np.zeros(SHAPE, bool)
    square[5:10, 5:10] = True
    row = make(0, square, square, square)[1]
    with pytest.raises(ValueError, match="d/val/0/0 is counted more than once for model m"):
        score([row, dict(row)])
    with pytest.raises(ValueError, match="rows of one model, not of m, n"):
        score([row, row | {"model": "n"}])
    assert [entry["model"] for entry in summarize([row, row | {"model": "n"}])] == ["m", "n"]


def test_summary_counts_objects():
    _, rows = world()
    (entry,) = summarize(rows)
    assert (entry["dataset"], entry["split"], entry["num_objects"]) == ("d", "val", len(rows))
    assert entry["num_occluded"] == sum(row["occluded_area"] > 0 for row in rows)
    assert entry["scores"] == score(rows)


@pytest.mark.parametrize("videos", [False, True])
@pytest.mark.parametrize(
    ("protocol", "name"),
    [("pooled", "full"), ("per_object", "occluded"), ("five_bins", "full"), ("five_bins", "full_of_five")],
)
def test_bootstrap_equals_scoring_rows_of_resampled_images(protocol, name, videos):
    """Frames of one video are drawn together."""
    _, rows = world()
    if not videos:
        rows = [row | {"track": ""} for row in rows]
    by_image = {}
    for row in rows:
        by_image.setdefault(row["track"].rpartition("/")[0] or row["image_id"], []).append(row)
    images = [by_image[key] for key in sorted(by_image)]
    assert len(images) == (18 if videos else 16)
    random = np.random.default_rng(7)
    values = []
    for _ in range(30):
        drawn = random.integers(len(images), size=len(images))
        copies = [row | {"object_id": f"{n}-{row['object_id']}"} for n, i in enumerate(drawn) for row in images[i]]
        values.append(score(copies)[protocol][name])
    expected = np.quantile(values, [0.05, 0.95])
    assert bootstrap(rows, protocol, name, samples=30, seed=7, level=0.9) == pytest.approx(tuple(expected))


def test_the_summary_has_the_interval_of_every_figure(monkeypatch):
    rows = [row | {"track": ""} for row in world()[1]]
    (entry,) = summarize(rows)
    for name, figures in entry["scores"].items():
        assert set(entry["intervals"][name]) == {figure for figure in figures if not figure.startswith("num_")}
        for figure, interval in entry["intervals"][name].items():
            assert interval is None or bootstrap(rows, name, figure) == pytest.approx(interval, abs=1e-9), (
                name,
                figure,
            )
            assert interval is not None or figure.endswith("_tracks")
    # in blocks, as with many images: the same resamples
    monkeypatch.setattr("amodalseg.metrics.bootstrap.MAX_CELLS", 16 * 37)
    assert bootstrap(rows, "c2f", "occluded") == pytest.approx(entry["intervals"]["c2f"]["occluded"], abs=1e-12)


def test_bootstrap_excludes_resamples_in_which_a_figure_is_undefined():
    rows = [make(number, strip(10), strip(10), strip(10), image=str(number))[1] for number in range(3)]
    rows += [make(3, strip(10), strip(5), strip(7), image="3")[1]]
    assert score(rows)["per_object"]["occluded"] == pytest.approx(2 / 5)
    assert bootstrap(rows, "per_object", "occluded") is None, "one image alone has a hidden part: nothing to resample"
    assert bootstrap(rows, "per_object", "full") is not None
    rows += [make(4, strip(10), strip(5), strip(7), image="4")[1]]
    assert bootstrap(rows, "per_object", "occluded", samples=50) == pytest.approx((2 / 5, 2 / 5))


def test_the_bootstrap_interval_contains_the_figure_and_needs_two_images():
    rows = [row | {"track": ""} for row in world()[1]]
    for protocol, name in (("pooled", "full"), ("per_object_occluded", "occluded")):
        low, high = bootstrap(rows, protocol, name, samples=200)
        assert 0 <= low < score(rows)[protocol][name] < high <= 1
        assert bootstrap(rows, protocol, name, samples=200) == (low, high)
    assert bootstrap(rows[:3], "pooled", "full") is None
    unoccluded = [row for row in rows if row["occluded_area"] == 0]
    assert bootstrap(unoccluded, "pooled", "occluded_of_occluded", samples=10) is None
    assert bootstrap([], "pooled", "full") is None
