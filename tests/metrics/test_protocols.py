import numpy as np
import pytest

from amodalseg import masks
from amodalseg.metrics.counts import count_object
from amodalseg.metrics.protocols import PROTOCOLS, bootstrap, score, summarize
from amodalseg.types import AmodalRecord, Prediction

SHAPE = (20, 30)  # 600 pixels: a single hidden one is a rate below 1 %


def make(number, amodal, modal, raw, union=True, model="m", image=None):
    """An object as its masks and as its row."""
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    record = AmodalRecord(
        "d", "val", str(image or number // 3), str(number), pixels, masks.encode(modal), masks.encode(amodal)
    )
    answer = raw | modal if union else raw
    return (amodal, modal, raw, answer), count_object(record, Prediction(answer, modal, raw), model)


def world(seed=0, count=40, union=False):
    """Objects of all occlusion rates, among them every awkward one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    cases = []
    for _ in range(count):
        amodal = ((x - rng.integers(8, 22)) / rng.integers(3, 14)) ** 2 + ((y - 10) / rng.integers(3, 10)) ** 2 <= 1
        modal = amodal & (x >= np.quantile(x[amodal], rng.choice([0, 0, 0.05, 0.1, 0.3, 0.5, 0.8])))
        cases.append((amodal, modal, (amodal ^ (rng.random(SHAPE) < 0.1)) & (rng.random(SHAPE) < 0.97)))
    whole, empty = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    nearly, corner, shifted = whole.copy(), empty.copy(), whole & (x >= 2)
    nearly[0, 0] = False
    corner[:3, :3] = True
    half = whole & (x < 28)
    cases += [
        (whole, nearly, nearly),  # rate in (0, .01)
        (whole, whole, empty),  # nothing predicted, nothing hidden
        (corner, corner, whole),  # false positives around an unoccluded object
        (half, shifted, whole),  # V leaves A by as many pixels as A leaves V: the signed sum is 0
        (corner, half, half),  # V leaves A, nothing hidden: the signed sum is not 0
        (empty, corner, empty),  # no truth
    ]
    objects = [make(number, *case, union) for number, case in enumerate(cases)]
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


def slow_scores(objects):
    """The protocols once more, from masks of the full image, in the words of their descriptions."""
    every = [(p, a) for a, v, raw, p in objects]
    hidden = [(p & ~v, a & ~v, p, a) for a, v, raw, p in objects if (a & ~v).any()]
    rated = [((a & ~v).sum() / max(1, a.sum()), a, v, p) for a, v, raw, p in objects]
    expected = {
        "pooled": {"full": ratio(every), "occluded": ratio((ph, ah) for ph, ah, _, _ in hidden)},
        "per_object": {"full": mean(iou(*o) for o in every), "occluded": mean(iou(ph, ah) for ph, ah, _, _ in hidden)},
        "per_object_occluded": {
            "full": mean(iou(p, a) for _, _, p, a in hidden),
            "occluded": mean(iou(ph, ah) for ph, ah, _, _ in hidden),
        },
        "buckets": {},
        "five_bins": {},
    }
    for percent in (50, 40, 30, 20, 10, 5):
        inside = [(rate, iou(p, a)) for rate, a, v, p in rated if rate <= percent / 100]
        expected["buckets"][f"le_{percent}"] = mean(value for rate, value in inside if rate > 0)
        expected["buckets"][f"le_{percent}_with_unoccluded"] = mean(value for _, value in inside)

    limits = {"0": (0, 0), "1_20": (0.01, 0.2), "20_40": (0.2, 0.4), "40_70": (0.4, 0.7), "70_100": (0.7, 2)}
    bins = {
        name: [(a, v, p) for rate, a, v, p in rated if (rate == 0 if high == 0 else low <= rate < high)]
        for name, (low, high) in limits.items()
    }
    full = {name: ratio((p, a) for a, v, p in group) for name, group in bins.items()}
    occluded = {name: ratio((p & ~v, a & ~v) for a, v, p in group) for name, group in bins.items() if name != "0"}
    expected["five_bins"] = {
        "full": mean(value for value in full.values() if value is not None),
        "occluded": mean(value for value in occluded.values() if value is not None),
        **{f"full_{name}": value for name, value in full.items()},
        **{f"occluded_{name}": value for name, value in occluded.items()},
        "num_gap": sum(0 < rate < 0.01 for rate, *_ in rated),
        "num_bins": sum(value is not None for value in full.values()),
    }
    for name in ("c2f", "c2f_post"):
        answers = [(raw | v if name == "c2f_post" else raw, a, v) for a, v, raw, _ in objects]
        total, counted = 0.0, 0
        for p, a, v in answers:
            ph, ah = (p.astype(float) - v) > 0.5, (a.astype(float) - v) > 0.5
            total += (ph & ah).sum() / ((ph | ah).sum() + 1e-6)
            counted += (a.astype(int) - v.astype(int)).sum() != 0
        expected[name] = {
            "full": mean(((p & a).sum() + 1e-10) / ((p | a).sum() + 1e-10) for p, a, _ in answers),
            "occluded": total / counted if counted else None,
        }
    return expected


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_protocols_equal_their_slow_transcription(seed, union):
    objects, rows = world(seed, union=union)
    scores, expected = score(rows), slow_scores(objects)
    assert set(scores) == set(PROTOCOLS) == {*expected, "boundary"}
    for name, figures in expected.items():
        assert scores[name].keys() == figures.keys()
        assert scores[name] == pytest.approx(figures, abs=1e-12), name
        assert PROTOCOLS[name](rows) == scores[name]
    assert scores["boundary"]["full"] == pytest.approx(
        mean(row["boundary_inter"] / row["boundary_union"] if row["boundary_union"] else 1.0 for row in rows)
    )


def test_no_object_and_no_hidden_part_give_none_and_never_nan():
    assert all(value is None or name.startswith("num_") for f in score([]).values() for name, value in f.items())
    square = np.zeros(SHAPE, bool)
    square[5:10, 5:10] = True
    scores = score([make(0, square, square, square)[1]])
    assert scores["pooled"] == {"full": 1.0, "occluded": None}
    assert scores["per_object_occluded"] == {"full": None, "occluded": None}
    assert scores["c2f"]["occluded"] is None
    assert scores["buckets"]["le_50"] is None and scores["buckets"]["le_50_with_unoccluded"] == 1.0
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
    assert score([found])["c2f"]["occluded"] is None  # found in full, and yet no object counts
    assert score([found])["per_object"]["occluded"] == 1.0
    other = np.zeros(SHAPE, bool)
    other[5, :10] = True
    missed = make(1, other, other & (np.arange(30) < 5), other & False)[1]
    # its hit is in the sum, not in the number of objects: 1 / 1 instead of 1 / 2
    assert score([found, missed])["c2f"]["occluded"] == pytest.approx(1.0, abs=1e-5)
    assert score([found, missed])["per_object"]["occluded"] == 0.5


def test_c2f_counts_an_object_that_hides_nothing_where_modal_leaves_amodal():
    amodal = np.zeros(SHAPE, bool)
    amodal[0, :10] = True
    wider = np.zeros(SHAPE, bool)
    wider[0, :12] = True
    half = make(1, amodal, amodal & (np.arange(30) < 5), amodal)[1]
    rows = [make(0, amodal, wider, wider)[1], half]
    assert score(rows)["c2f"]["occluded"] == pytest.approx(0.5, abs=1e-5)
    assert score(rows)["per_object"]["occluded"] == 1.0


def test_c2f_takes_the_raw_mask_and_c2f_post_the_united_one():
    amodal = np.zeros(SHAPE, bool)
    amodal[0, :10] = True
    row = make(0, amodal, amodal & (np.arange(30) < 5), amodal & (np.arange(30) >= 5), union=True)[1]
    assert score([row])["c2f"]["full"] == pytest.approx(0.5)
    assert score([row])["c2f_post"]["full"] == pytest.approx(1.0)
    assert score([row])["per_object"]["full"] == 1.0  # the model's own answer has it united


def test_five_bins_leaves_rates_between_0_and_1_percent_out_and_says_so():
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
    figures = score([row])["buckets"]
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


@pytest.mark.parametrize(("protocol", "name"), [("pooled", "full"), ("per_object", "occluded"), ("five_bins", "full")])
def test_bootstrap_equals_scoring_rows_of_drawn_images(protocol, name):
    _, rows = world()
    by_image = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row)
    images = [by_image[key] for key in sorted(by_image)]
    random = np.random.default_rng(7)
    values = []
    for _ in range(30):
        drawn = random.integers(len(images), size=len(images))
        copies = [row | {"object_id": f"{n}-{row['object_id']}"} for n, i in enumerate(drawn) for row in images[i]]
        values.append(score(copies)[protocol][name])
    expected = np.quantile(values, [0.05, 0.95])
    assert bootstrap(rows, protocol, name, samples=30, seed=7, level=0.9) == pytest.approx(tuple(expected))


def test_bootstrap_holds_the_figure_and_needs_two_images():
    _, rows = world()
    for protocol, name in (("pooled", "full"), ("per_object_occluded", "occluded")):
        low, high = bootstrap(rows, protocol, name, samples=200)
        assert 0 <= low < score(rows)[protocol][name] < high <= 1
        assert bootstrap(rows, protocol, name, samples=200) == (low, high)
    assert bootstrap(rows[:3], "pooled", "full") is None
    unoccluded = [row for row in rows if row["occluded_area"] == 0]
    assert bootstrap(unoccluded, "pooled", "occluded", samples=10) is None
